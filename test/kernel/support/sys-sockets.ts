import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { readdirSync } from 'node:fs';
import {
  addressFromBigInt,
  addressToBytes,
  ipv4ToNumber,
  parseAddress,
  type Address,
} from '../../../src/net/address.ts';
import * as constants from '../../../src/sys/constants.ts';
import { closeFd, setNonBlocking } from '../../../src/sys/descriptors.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { prepareSocket } from '../../../src/sys/late-socket.ts';
import { libc } from '../../../src/sys/libc.ts';
import { namesOfConnected } from '../../../src/sys/placeholder-check.ts';
import { openBound, openConnected4, openConnected6, openPing, type Binding } from '../../../src/sys/placeholders.ts';
import { sockaddrOf } from '../../../src/sys/sockaddr.ts';
import { localPortOf, setOption, takePortInConnect } from '../../../src/sys/socket-options.ts';

/** Sockets, for a test that works inside a namespace. Addresses travel as text, refusals as names. */
const addressOf = (text: string): Address => {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};
/** 4 or 16 bytes; `::ffff:198.51.100.10` is 16, an IPv6 socket's way to an IPv4 address. */
const bytesOf = (text: string): Uint8Array => {
  const mapped = /^::ffff:([\d.]+)$/.exec(text)?.[1];
  if (mapped === undefined) return addressToBytes(addressOf(text));
  return Uint8Array.of(...new Uint8Array(10), 0xff, 0xff, ...addressToBytes(addressOf(mapped)));
};

const textOf = (bytes: Uint8Array): Address =>
  addressFromBigInt(bytes.length === 4 ? 4 : 6, BigInt(`0x${Buffer.from(bytes).toString('hex')}`));

/** Descriptors opened on request, until `closeAll`. */
const open = new Set<number>();
const servers = new Set<net.Server>();
const sockets = new Set<net.Socket>();
const children = new Set<ChildProcess>();

/** `open` and the descriptor kept, or the name of the refusal. */
function kept(fd: number): string {
  if (fd < 0) return errnoName(fd);
  open.add(fd);
  return 'open';
}

export type Plain = Readonly<{
  address: string;
  port: number;
  protocol?: 'tcp' | 'udp';
  reuse?: boolean;
  ipv6Only?: boolean;
  /** Take the port in connect(), from this range. */
  late?: readonly [number, number];
  remote?: readonly [string, number];
  listen?: boolean;
  /** Send a byte. */
  send?: boolean;
}>;

/** A socket as a proxy or a stranger would open it, by plain system calls; blocking connect. fd or -errno. */
export function plainSocket(o: Plain): number {
  const c = libc();
  const address = bytesOf(o.address);
  const type = o.protocol === 'udp' ? constants.SOCK_DGRAM : constants.SOCK_STREAM;
  const fd = c.socket(address.length === 4 ? constants.AF_INET : constants.AF_INET6, type | constants.SOCK_CLOEXEC, 0);
  if (o.reuse) setOption(fd, constants.SOL_SOCKET, constants.SO_REUSEADDR, 1);
  if (o.ipv6Only) setOption(fd, 41 /* SOL_IPV6 */, 26 /* IPV6_V6ONLY */, 1);
  if (o.late) takePortInConnect(fd, o.late[0], o.late[1]);
  const local = sockaddrOf(address, o.port);
  let failed = c.bind(fd, local, local.length) < 0;
  if (!failed && o.remote) {
    const remote = sockaddrOf(bytesOf(o.remote[0]), o.remote[1]);
    failed = c.connect(fd, remote, remote.length) < 0;
  }
  if (!failed && o.listen) failed = c.listen(fd, 8) < 0;
  if (!failed && o.send) failed = c.send(fd, address, 1, 0) < 0;
  if (!failed) return fd;
  const errno = c.errno();
  c.close(fd);
  return -errno;
}

function connected(address: string, port: number, remote: string, remotePort: number, binding: Binding, mark: number) {
  const [local, far] = [addressOf(address), addressOf(remote)];
  return address.includes(':')
    ? openConnected6(addressToBytes(local), port, addressToBytes(far), remotePort, binding, mark)
    : openConnected4(ipv4ToNumber(local), port, ipv4ToNumber(far), remotePort, binding, mark);
}

function optionOf(fd: number, level: number, option: number): number {
  const value = new Int32Array(1);
  libc().getsockopt(fd, level, option, value, new Int32Array([4]));
  return value[0] ?? -1;
}

const lastKept = (): number => [...open].at(-1) ?? -1;

export const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

/**
 * Bytes of V8's heap that one round leaves behind: the second smallest of five measurements, because a collection makes
 * one too small, and the compiler at work makes several too large. A real allocation is in all of them.
 */
export function heapPerRound(round: () => void): number {
  const rounds = 2000;
  const grown = Array.from({ length: 5 }, () => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < rounds; i++) round();
    return (process.memoryUsage().heapUsed - before) / rounds;
  });
  return grown.toSorted((a, b) => a - b)[1] ?? Infinity;
}

export const socketOperations = {
  openDescriptors,
  openBound: (address: string, port: number, protocol: 'tcp' | 'udp', mark = 0) =>
    kept(openBound(bytesOf(address), port, protocol, mark)),
  openPing: (address: string, identifier: number) => kept(openPing(bytesOf(address), identifier)),
  openConnected: (address: string, port: number, remote: string, remotePort: number, binding: Binding, mark = 0) =>
    kept(connected(address, port, remote, remotePort, binding, mark)),
  plain: (o: Plain) => kept(plainSocket(o)),

  /** Opens a placeholder of each kind with a mark and reads SO_MARK back. */
  marksOf(mark: number): number[] {
    const fds = [
      openBound(bytesOf('198.51.100.10'), 9500, 'tcp', mark),
      openBound(bytesOf('198.51.100.10'), 9500, 'udp', mark),
      openBound(bytesOf('2001:db8::10'), 9500, 'tcp', mark),
      connected('198.51.100.10', 9501, '203.0.113.1', 80, 'late', mark),
      connected('198.51.100.10', 9502, '203.0.113.1', 80, 'explicit', mark),
      connected('2001:db8::10', 9501, '2001:db8:f::1', 80, 'late', mark),
    ];
    return fds.map((fd) => {
      const read = optionOf(fd, constants.SOL_SOCKET, constants.SO_MARK);
      closeFd(fd);
      return read;
    });
  },

  /** Opens and closes every kind many times, refused ones included; the change in open descriptors. */
  leakOf(rounds: number): number {
    const before = openDescriptors();
    for (let i = 0; i < rounds; i++) {
      const fds = [
        openBound(bytesOf('198.51.100.10'), 9600, 'tcp', 0),
        openBound(bytesOf('198.51.100.10'), 9600, 'tcp', 0),
        openBound(bytesOf('203.0.113.200'), 9600, 'udp', 0),
        openPing(bytesOf('198.51.100.10'), 9600),
        openPing(bytesOf('198.51.100.10'), 9600),
        connected('198.51.100.10', 9601, '203.0.113.1', 80, 'late', 7),
        connected('198.51.100.10', 9601, '203.0.113.1', 80, 'late', 7),
        connected('198.51.100.10', 9602, '203.0.113.1', 80, 'explicit', 0),
        connected('198.51.100.10', 9602, '203.0.113.1', 80, 'explicit', 0),
        connected('2001:db8::10', 9601, '2001:db8:f::1', 80, 'late', 0),
      ];
      for (const fd of fds) if (fd >= 0) closeFd(fd);
    }
    return openDescriptors() - before;
  },

  /** What the owner of the last socket that `plain` opened gets when it reads. */
  readLast(): string {
    const c = libc();
    const bytes = c.recv(lastKept(), new Uint8Array(16), 16, 0x40 /* MSG_DONTWAIT */);
    return bytes < 0 ? errnoName(c.errno()) : `${bytes} bytes`;
  },
  /** The 5-tuple that the last socket holds as a connected placeholder with this mark; null when it is none. */
  namesOfLast(mark: number): string | null {
    const names = namesOfConnected(lastKept(), mark);
    if (!names) return null;
    const { local, port, remote, remotePort } = names;
    return `${textOf(local)} ${port} ${textOf(remote)} ${remotePort}`;
  },
  /** Begins a connection without waiting for it; the socket is kept. */
  beginConnecting(o: Pick<Plain, 'address' | 'port'>, remote: readonly [string, number], mark: number): string {
    const fd = plainSocket(o);
    setNonBlocking(fd);
    setOption(fd, constants.SOL_SOCKET, constants.SO_MARK, mark);
    const to = sockaddrOf(bytesOf(remote[0]), remote[1]);
    const c = libc();
    const errno = c.connect(fd, to, to.length) < 0 ? errnoName(c.errno()) : 'connected';
    return kept(fd) === 'open' ? errno : 'no socket';
  },
  /** Ends the last connection that `plain` opened in the ordinary way. */
  closeLast() {
    const fd = lastKept();
    open.delete(fd);
    closeFd(fd);
  },
  /** Starts a process that has the last socket open as well; its pid. */
  async shareLast(): Promise<number> {
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', lastKept()] });
    children.add(child);
    await once(child, 'spawn');
    return child.pid ?? -1;
  },

  /** Opens connected placeholders on one port, each toward another remote port; how many there are. */
  openMany(address: string, port: number, remote: string, count: number): number {
    let opened = 0;
    for (let i = 0; i < count; i++)
      if (kept(connected(address, port, remote, 10_000 + i, 'late', 7)) === 'open') opened++;
    return opened;
  },

  /** Bytes of heap per round of opening and closing a placeholder of each kind that flows use. */
  heapOfPlaceholders(): number {
    const [address4, remote4] = [bytesOf('198.51.100.10'), ipv4ToNumber(addressOf('203.0.113.1'))];
    const [address6, remote6] = [bytesOf('2001:db8::10'), bytesOf('2001:db8:f::1')];
    const local4 = ipv4ToNumber(addressOf('198.51.100.10'));
    return heapPerRound(() => {
      closeFd(openConnected4(local4, 9610, remote4, 443, 'late', 42));
      closeFd(openConnected4(local4, 9611, remote4, 443, 'explicit', 42));
      closeFd(openConnected6(address6, 9610, remote6, 443, 'late', 42));
      closeFd(openBound(address4, 9612, 'udp', 42));
    });
  },
  /** Sends datagrams of a byte to a port. */
  datagrams(address: string, port: number, count: number) {
    const fd = plainSocket({ address: '203.0.113.1', port: 9620, protocol: 'udp', remote: [address, port] });
    const byte = Uint8Array.of(1);
    for (let i = 0; i < count; i++) libc().send(fd, byte, 1, 0);
    closeFd(fd);
  },

  closeAll() {
    for (const fd of open) closeFd(fd);
    open.clear();
    for (const child of children) child.kill();
    children.clear();
    for (const socket of sockets) socket.resetAndDestroy();
    for (const server of servers) server.close();
    sockets.clear();
    servers.clear();
  },

  /** A listener that accepts and keeps what comes. */
  listen: (address: string, port: number) =>
    new Promise<void>((resolve, reject) => {
      const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => undefined);
      });
      servers.add(server.on('error', reject).listen(port, address, resolve));
    }),

  /** Prepares a socket, lets Node connect it, and says which local port it got or how it was refused. */
  connectPrepared: (
    o: Readonly<{
      address: string;
      first: number;
      last: number;
      binding: Binding;
      port?: number;
      remote: string;
      remotePort: number;
    }>,
  ) => {
    const fd = prepareSocket({
      address: bytesOf(o.address),
      ports: { first: o.first, last: o.last },
      binding: o.binding,
      ...(o.port === undefined ? {} : { port: o.port }),
    });
    if (fd < 0) return { refused: `prepare ${errnoName(fd)}` };
    const before = localPortOf(fd);
    const options: net.SocketConstructorOpts & { manualStart: boolean } = { fd, manualStart: true };
    const socket = new net.Socket(options);
    sockets.add(socket);
    return new Promise<{ before?: number; port?: number; refused?: string }>((resolve) => {
      socket.once('error', (error: NodeJS.ErrnoException) => resolve({ refused: `connect ${error.code}` }));
      socket.connect({ host: o.remote, port: o.remotePort }, () => resolve({ before, port: localPortOf(fd) }));
    });
  },
};
