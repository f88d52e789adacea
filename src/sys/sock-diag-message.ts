import { ipv4FromNumber } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import { AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP } from './constants.ts';
import {
  eachAttribute,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  type Message,
  type MessageWriter,
} from './netlink-message.ts';

/** The messages of sock_diag(7) about IPv4 and IPv6 sockets (include/uapi/linux/inet_diag.h); no socket here. */
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const INET_DIAG_REQ_BYTECODE = 1;
const INET_DIAG_SKV6ONLY = 11;
const INET_DIAG_MARK = 15;
const INET_DIAG_CGROUP_ID = 21;
const INET_DIAG_SOCKOPT = 22;
const INET_DIAG_BC_S_GE = 2;
const INET_DIAG_BC_S_LE = 3;

/** struct inet_diag_req_v2: 8 bytes, then struct inet_diag_sockid. */
const requestBytes = 56;
/** Ports, addresses, interface and cookie: what names one socket. */
const socketIdBytes = 48;
const answerBytes = 72;

/**
 * States 1 (ESTABLISHED) to 13. The last one, TCPF_BOUND_INACTIVE, is no state of a socket: it asks for TCP sockets that
 * are bound and nothing else, which no other bit lists. They are reported as CLOSE.
 */
const allStates = 0x3ffe;

const stateNames = [
  'established',
  'syn-sent',
  'syn-recv',
  'fin-wait-1',
  'fin-wait-2',
  'time-wait',
  'bound',
  'close-wait',
  'last-ack',
  'listen',
  'closing',
  'new-syn-recv',
] as const;

/**
 * `bound`: a socket that has a port and no connection, of TCP (a placeholder, say) or of UDP. `unknown`: a state that a
 * later kernel made up; it holds its port like any other.
 */
export type SocketState = (typeof stateNames)[number] | 'unknown';

export type SocketInfo = Readonly<{
  /** That of the addresses: an IPv6 socket that carries IPv4 is 4, one that listens for both (`::`) is 6. */
  family: 4 | 6;
  protocol: 'tcp' | 'udp';
  state: SocketState;
  /** Canonical text; `0.0.0.0` or `::` for all addresses. */
  localAddress: string;
  localPort: number;
  /** `0.0.0.0` or `::`, and port 0, without a remote; the last one for a `bound` socket that was destroyed. */
  remoteAddress: string;
  remotePort: number;
  /** Of the user that made the socket. */
  uid: number;
  /** 0 when no process has it any more: TIME_WAIT, and closed with data still on the way. */
  inode: number;
  /** SO_MARK; only seen with CAP_NET_ADMIN. */
  mark?: number;
  /** The number of the cgroup (v2) that it was opened in, which it keeps until it is gone; before Linux 5.8 not told. */
  cgroup?: string;
  /** On an IPv6 socket without a peer: whether it keeps out of IPv4. */
  ipv6Only?: boolean;
  /** IP_BIND_ADDRESS_NO_PORT: its port was, or will be, taken in connect(). Absent where the kernel does not say. */
  bindsLate?: boolean;
  /** Index of the device that it is bound to (SO_BINDTODEVICE); absent for none. */
  device?: number;
  /** Names this very socket in `destroy`; a later socket on the same 5-tuple has another one. */
  cookie: SocketCookie;
}>;

/** The kernel's own name of a socket: its address family and struct inet_diag_sockid. */
export type SocketCookie = Readonly<{ family: number; id: Uint8Array }>;

export type SocketQuery = Readonly<{
  protocol: 'tcp' | 'udp';
  /** AF_INET or AF_INET6 as the sockets were made, which is not always that of their addresses. */
  family: number;
  ports: PortRange;
}>;

const protocolNumber = (protocol: 'tcp' | 'udp'): number => (protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP);

/** Asks for all sockets of a family whose local port lies in a range; the kernel filters. */
export function writeSocketDump(writer: MessageWriter, { protocol, family, ports }: SocketQuery): void {
  const body = new Uint8Array(requestBytes);
  body[0] = family;
  body[1] = protocolNumber(protocol);
  new DataView(body.buffer).setUint32(4, allStates, true);
  writer.begin(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, body);
  writer.attribute(INET_DIAG_REQ_BYTECODE, portFilter(ports));
}

/**
 * `first <= sport && sport <= last` as the kernel's filter code: four bytes an instruction {code, yes, no}, jumps in
 * bytes from the instruction itself. A comparison is followed by a word whose `no` field is the port. To jump exactly to
 * the end accepts; to jump four bytes beyond refuses.
 */
export function portFilter({ first, last }: PortRange): Uint8Array {
  const code = new Uint8Array(16);
  const view = new DataView(code.buffer);
  const compare = (at: number, operation: number, port: number) => {
    view.setUint8(at, operation);
    view.setUint8(at + 1, 8);
    view.setUint16(at + 2, code.length + 4 - at, true);
    view.setUint16(at + 6, port, true);
  };
  compare(0, INET_DIAG_BC_S_GE, first);
  compare(8, INET_DIAG_BC_S_LE, last);
  return code;
}

/** Asks to destroy exactly the socket that a dump has shown. Returns the sequence number to wait for. */
export function writeDestroy(writer: MessageWriter, socket: SocketInfo): number {
  const body = new Uint8Array(requestBytes);
  body[0] = socket.cookie.family;
  body[1] = protocolNumber(socket.protocol);
  new DataView(body.buffer).setUint32(4, allStates, true);
  body.set(socket.cookie.id, 8);
  return writer.begin(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, body);
}

/** One socket of a dump; undefined for a message that is none. */
export function readSocket(buffer: Uint8Array, message: Message, protocol: 'tcp' | 'udp'): SocketInfo | undefined {
  const { from, to } = message;
  if (message.type !== SOCK_DIAG_BY_FAMILY || to - from < answerBytes) return undefined;
  const view = new DataView(buffer.buffer, buffer.byteOffset + from, to - from);
  const family = view.getUint8(0);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const local = readAddress(view, family, 8);
  const remote = readAddress(view, family, 24);
  let mark: number | undefined;
  let cgroup: string | undefined;
  let ipv6Only: boolean | undefined;
  let bindsLate: boolean | undefined;
  const device = view.getUint32(40, true);
  eachAttribute(buffer, from + answerBytes, to, (type, start) => {
    if (type === INET_DIAG_MARK) mark = view.getUint32(start - from, true);
    if (type === INET_DIAG_CGROUP_ID) cgroup = String(view.getBigUint64(start - from, true));
    if (type === INET_DIAG_SKV6ONLY) ipv6Only = buffer[start] === 1;
    // struct inet_diag_sockopt: single bits; bind_address_no_port is the first of its second byte.
    if (type === INET_DIAG_SOCKOPT) bindsLate = ((buffer[start + 1] ?? 0) & 1) === 1;
  });
  return {
    family: local.family,
    protocol,
    state: stateNames[view.getUint8(1) - 1] ?? 'unknown',
    localAddress: local.text,
    localPort: view.getUint16(4),
    remoteAddress: remote.text,
    remotePort: view.getUint16(6),
    uid: view.getUint32(64, true),
    inode: view.getUint32(68, true),
    ...(mark === undefined ? {} : { mark }),
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(ipv6Only === undefined ? {} : { ipv6Only }),
    ...(bindsLate === undefined ? {} : { bindsLate }),
    ...(device === 0 ? {} : { device }),
    cookie: { family, id: buffer.slice(from + 4, from + 4 + socketIdBytes) },
  };
}

/** Whether a socket has, or would take, traffic to `address`: its own, all of its family, or all of both. */
export function coversAddress(socket: SocketInfo, address: string): boolean {
  if (socket.localAddress === address) return true;
  if (socket.localAddress === '0.0.0.0') return !address.includes(':');
  return socket.localAddress === '::' && (address.includes(':') || socket.ipv6Only !== true);
}

function readAddress(view: DataView, family: number, at: number): { family: 4 | 6; text: string } {
  if (family === AF_INET) return { family: 4, text: ipv4FromNumber(view.getUint32(at)) };
  // ::ffff:a.b.c.d, an IPv6 socket on an IPv4 address: the traffic is IPv4, and so are the ports it holds.
  if (view.getUint32(at) === 0 && view.getUint32(at + 4) === 0 && view.getUint32(at + 8) === 0xffff)
    return { family: 4, text: ipv4FromNumber(view.getUint32(at + 12)) };
  return { family: 6, text: ipv6Text(view, at) };
}

/**
 * RFC 5952 section 4, as `Address` in src/net writes it. Not by way of a BigInt: a host with 100,000 sockets has 200,000
 * addresses to write.
 */
export function ipv6Text(view: DataView, at: number): string {
  let [bestFrom, bestLength, from] = [0, 1, 0];
  for (let group = 0; group < 8; group++) {
    if (view.getUint16(at + 2 * group) !== 0) from = group + 1;
    // The longest run of zero groups, the first of equals; a single group is not shortened.
    else if (group + 1 - from > bestLength) [bestFrom, bestLength] = [from, group + 1 - from];
  }
  const groups = (start: number, end: number): string => {
    const texts: string[] = [];
    for (let group = start; group < end; group++) texts.push(view.getUint16(at + 2 * group).toString(16));
    return texts.join(':');
  };
  return bestLength === 1 ? groups(0, 8) : `${groups(0, bestFrom)}::${groups(bestFrom + bestLength, 8)}`;
}
