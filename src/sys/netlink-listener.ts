import {
  AF_NETLINK,
  EAGAIN,
  EINTR,
  ENOBUFS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
  SO_ATTACH_FILTER,
  SO_RCVBUFFORCE,
} from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';
import { nameSocket } from './netlink.ts';
import { messagesIn, type Message } from './netlink-message.ts';
import { setOption } from './socket-options.ts';

/** What the kernel tells everybody about: enum rtnetlink_groups and enum nfnetlink_groups. */
export const routeGroups = {
  link: 1,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
};
export const netfilterGroups = { nftables: 7 };

const NETLINK_ADD_MEMBERSHIP = 1;
const MSG_DONTWAIT = 0x40;
const receiveBytes = 64 * 1024;
/** Room for some ten thousand changes between two readings; what does not fit is told as an overflow. */
const kernelBufferBytes = 8 * 1024 * 1024;
/** A flood must not keep the reader for ever: the rest is read next time. */
const datagramsAtOnce_max = 20_000;

/** One instruction of classic BPF: struct sock_filter. */
export type FilterStep = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

const load32 = 0x20;
const load16 = 0x28;
const load8 = 0x30;
const ifEqual = 0x15;
const answer = 0x06;
const keepAll = 0xffff_ffff;

/**
 * A program that keeps a listener from being woken by what does not concern it: by changes of sockets of its own
 * (`portids`), and by routes of other tables than `routeTables`, of which a router may change thousands in a second. It
 * loads numbers in network order, and netlink writes them in that of the host, which is the other one.
 */
export function listenerFilter(portids: readonly number[], routeTables: readonly number[] = []): FilterStep[] {
  // A table beyond a byte's range says so in an attribute, and 252 in its header.
  const tables = [...new Set(routeTables.map((table) => (table > 255 ? 252 : table)))];
  const routes: FilterStep[] =
    tables.length === 0
      ? []
      : [
          [load16, 0, 0, 4],
          [ifEqual, 1, 0, swap16(RTM_NEWROUTE)],
          [ifEqual, 0, tables.length + 1, swap16(RTM_DELROUTE)],
          [load8, 0, 0, 16 + 4],
          // Any of them keeps it; the last one, where it is not that either, drops it.
          ...tables.map((table, index): FilterStep => {
            const others = tables.length - 1 - index;
            return [ifEqual, others, others === 0 ? 1 : 0, table];
          }),
        ];
  const own = portids.map((portid, index): FilterStep => [
    ifEqual,
    // To the last instruction but one, which drops.
    portids.length - 1 - index + routes.length + 1,
    0,
    swap32(portid),
  ]);
  return [[load32, 0, 0, 12], ...own, ...routes, [answer, 0, 0, keepAll], [answer, 0, 0, 0]];
}

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const swap16 = (value: number): number => ((value & 0xff) << 8) | (value >>> 8);
const swap32 = (value: number): number => ((swap16(value & 0xffff) << 16) | swap16(value >>> 16)) >>> 0;

/**
 * Hears what anybody changes in this network namespace, from the moment it is made. It is asked, not told: Node has no
 * way to wait for such a socket, a look at an empty one costs a microsecond. Throws SysError when it cannot be made.
 */
export class NetlinkListener {
  readonly #fd: number;
  readonly #received = new Uint8Array(new ArrayBuffer(receiveBytes));

  constructor(protocol: number, groups: readonly number[], filter: readonly FilterStep[]) {
    const c = libc();
    this.#fd = c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (this.#fd < 0) throw new SysError('socket', c.errno(), `netlink ${protocol}`);
    setOption(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, kernelBufferBytes);
    this.#attach(filter);
    // The kernel passes a socket without a name over.
    nameSocket(this.#fd);
    for (const group of groups) {
      const refused = setOption(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
      if (refused < 0) throw new SysError('NETLINK_ADD_MEMBERSHIP', refused, `netlink ${protocol} group ${group}`);
    }
  }

  /**
   * Calls `visit` with every message that has come since the last call; the bytes are valid during the call only. True
   * when some are missing: more came than there was room for.
   */
  drain(visit: (message: Message, buffer: Uint8Array) => void): boolean {
    const c = libc();
    let overflowed = false;
    for (let count = 0; count < datagramsAtOnce_max; count++) {
      const bytes = c.recv(this.#fd, this.#received, receiveBytes, MSG_DONTWAIT);
      if (bytes >= 0) {
        for (const message of messagesIn(this.#received, bytes)) visit(message, this.#received);
        continue;
      }
      const errno = c.errno();
      if (errno === EAGAIN) return overflowed;
      if (errno === ENOBUFS) overflowed = true;
      else if (errno !== EINTR) throw new SysError('recv', errno, 'netlink listener');
    }
    return overflowed;
  }

  close(): void {
    closeFd(this.#fd);
  }

  #attach(filter: readonly FilterStep[]): void {
    const c = libc();
    const program = new Uint8Array(new ArrayBuffer(filter.length * 8));
    const steps = new DataView(program.buffer);
    for (const [index, [code, ifTrue, ifFalse, value]] of filter.entries()) {
      steps.setUint16(index * 8, code, true);
      steps.setUint8(index * 8 + 2, ifTrue);
      steps.setUint8(index * 8 + 3, ifFalse);
      steps.setUint32(index * 8 + 4, value, true);
    }
    // struct sock_fprog: a length, and where the program lies.
    const place = new Uint8Array(new ArrayBuffer(16));
    const view = new DataView(place.buffer);
    view.setUint16(0, filter.length, true);
    view.setBigUint64(8, c.addressOf(program), true);
    if (c.setsockopt(this.#fd, SOL_SOCKET, SO_ATTACH_FILTER, place, place.length) < 0)
      throw new SysError('SO_ATTACH_FILTER', c.errno(), 'netlink listener');
  }
}
