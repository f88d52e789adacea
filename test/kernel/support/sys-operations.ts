import { readdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { addressToBytes, ipv4ToNumber, parseAddress, type Address } from '../../../src/net/address.ts';
import * as constants from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { prepareSocket } from '../../../src/sys/late-socket.ts';
import { libc } from '../../../src/sys/libc.ts';
import { concatKey, NftElements, portField, protocolField, type ElementChange } from '../../../src/sys/nft-elements.ts';
import { openBound, openConnected4, openConnected6, openPing, type Binding } from '../../../src/sys/placeholders.ts';
import { sockaddrOf } from '../../../src/sys/sockaddr.ts';
import { openTun, readInto, removeTun, writeFrom } from '../../../src/sys/tun.ts';
import { drainEventFd, notify, openEventFd, waitReadable } from '../../../src/sys/wait.ts';
import { localPortOf, setOption, takePortInConnect } from '../../../src/sys/socket-options.ts';

/** What a test can ask of a process inside a namespace. Addresses travel as text, refusals as names. */
const addressOf = (text: string): Address => {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};
const bytesOf = (text: string): Uint8Array => addressToBytes(addressOf(text));

/** Descriptors opened on request, until `closeAll`. */
const open = new Set<number>();
const servers = new Set<net.Server>();
const sockets = new Set<net.Socket>();

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
  /** Take the port in connect(), from this range. */
  late?: readonly [number, number];
  remote?: readonly [string, number];
  listen?: boolean;
  /** Send a byte. */
  send?: boolean;
}>;

/** A socket as a proxy or a stranger would open it, by plain system calls; blocking connect. fd or -errno. */
function plainSocket(o: Plain): number {
  const c = libc();
  const address = bytesOf(o.address);
  const type = o.protocol === 'udp' ? constants.SOCK_DGRAM : constants.SOCK_STREAM;
  const fd = c.socket(address.length === 4 ? constants.AF_INET : constants.AF_INET6, type | constants.SOCK_CLOEXEC, 0);
  if (o.reuse) setOption(fd, constants.SOL_SOCKET, constants.SO_REUSEADDR, 1);
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

let elements: NftElements | undefined;
const nft = (): NftElements => (elements ??= new NftElements('fs_test'));

const tuns = new Map<string, Readonly<{ fd: number; vnetHeaderBytes: number }>>();

/** The first IPv4 packet that a TUN hands out (IPv6 devices chatter by themselves), with its header, if there is one. */
function nextPacket(name: string, withinMs: number): Uint8Array | undefined {
  const { fd, vnetHeaderBytes } = tunOf(name);
  const packet = new Uint8Array(new ArrayBuffer(65_560));
  const end = Date.now() + withinMs;
  for (let left = withinMs; left >= 0; left = end - Date.now()) {
    if (waitReadable(Int32Array.of(fd), 1, left) !== 1) continue;
    const bytes = readInto(fd, packet);
    if (bytes > 0 && (packet[vnetHeaderBytes] ?? 0) >> 4 === 4) return packet.slice(0, bytes);
  }
  return undefined;
}

function tunOf(name: string) {
  const tun = tuns.get(name);
  if (!tun) throw new Error(`no TUN ${name} here`);
  return tun;
}

/** A reply to an IPv4 UDP packet, by swapping both ends: every checksum stays right. */
function turnedRound(packet: Uint8Array, at: number): Uint8Array {
  const reply = packet.slice();
  reply.set(packet.subarray(at + 16, at + 20), at + 12);
  reply.set(packet.subarray(at + 12, at + 16), at + 16);
  reply.set(packet.subarray(at + 22, at + 24), at + 20);
  reply.set(packet.subarray(at + 20, at + 22), at + 22);
  return reply;
}

/** Sends `bytes` from port 9302 to `remote`:53, cut into datagrams of `segment` by the kernel (UDP_SEGMENT) unless 0. */
function sendDatagrams(address: string, remote: string, bytes: number, segment: number): number {
  const [SOL_UDP, UDP_SEGMENT] = [17, 103];
  const socket = plainSocket({ address, port: 9302, protocol: 'udp', remote: [remote, 53] });
  if (segment > 0) setOption(socket, SOL_UDP, UDP_SEGMENT, segment);
  libc().send(socket, new Uint8Array(bytes).fill(0x61), bytes, 0);
  return socket;
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

export const operations = {
  ready: () => process.pid,
  sysctl: (name: string, value: string) => writeFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, value),
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

  openTun(name: string, o: { persist: boolean; offload: boolean }) {
    const tun = openTun(name, o);
    tuns.set(name, tun);
    return { vnetHeaderBytes: tun.vnetHeaderBytes, offloads: tun.offloads };
  },
  closeTun(name: string) {
    closeFd(tunOf(name).fd);
    tuns.delete(name);
  },
  removeTun,
  nextPacket,
  writePacket: (name: string, packet: Uint8Array) => writeFrom(tunOf(name).fd, packet, packet.length),
  writeTooMuch: (name: string) => writeFrom(tunOf(name).fd, new Uint8Array(40), 41),
  /** Closes and re-attaches many times; the change in open descriptors. */
  reopenTun(name: string, rounds: number): number {
    const before = openDescriptors();
    for (let i = 0; i < rounds; i++) {
      closeFd(tunOf(name).fd);
      tuns.set(name, openTun(name, { persist: true, offload: i % 2 === 0 }));
    }
    return openDescriptors() - before;
  },
  /** What reading says when no packet waits. */
  readEmptyTun: (name: string) => errnoName(readInto(tunOf(name).fd, new Uint8Array(2048))),

  /** Sends datagrams into the TUN and returns the packets that it handed out. */
  packetsOf(name: string, address: string, remote: string, bytes: number, segment: number): Uint8Array[] {
    const socket = sendDatagrams(address, remote, bytes, segment);
    const packets: Uint8Array[] = [];
    for (let packet = nextPacket(name, 1000); packet; packet = nextPacket(name, 100)) packets.push(packet);
    closeFd(socket);
    return packets;
  },

  /** Sends datagrams, writes the one packet that comes out of the TUN back turned round, lists the sizes that arrive. */
  roundTrip(name: string, address: string, remote: string, bytes: number, segment: number) {
    const socket = sendDatagrams(address, remote, bytes, segment);
    const { fd, vnetHeaderBytes } = tunOf(name);
    const packet = nextPacket(name, 1000);
    if (!packet) throw new Error('nothing came out of the TUN');
    const written = writeFrom(fd, turnedRound(packet, vnetHeaderBytes), packet.length);
    const sizes: number[] = [];
    const buffer = new Uint8Array(65_536);
    while (waitReadable(Int32Array.of(socket), 1, 200) === 1) sizes.push(libc().recv(socket, buffer, buffer.length, 0));
    closeFd(socket);
    return { read: packet.length, written, sizes };
  },

  /** A thread sleeps in waitReadable; what the main thread sees before and after it calls it. */
  async wakeThread() {
    const [inbox, outbox] = [openEventFd(), openEventFd()];
    const worker = new Worker(new URL('./sys-waker.ts', import.meta.url), { workerData: { inbox, outbox } });
    await once(worker, 'online');
    const early = waitReadable(Int32Array.of(outbox), 1, 100);
    notify(inbox);
    const answered = waitReadable(Int32Array.of(outbox), 1, 5000);
    await once(worker, 'exit');
    for (const fd of [inbox, outbox]) closeFd(fd);
    return { early, answered };
  },

  /** Notifies the chosen ones of `count` eventfds; what waitReadable says then, and once they are drained. */
  readiness(count: number, notified: readonly number[]) {
    const fds = Int32Array.from({ length: count }, openEventFd);
    for (const i of notified) for (let times = 0; times < 3; times++) notify(fds[i] ?? -1);
    const ready = waitReadable(fds, count, 0);
    for (const i of notified) drainEventFd(fds[i] ?? -1);
    const drained = waitReadable(fds, count, 0);
    for (const fd of fds) drainEventFd(fd);
    for (const fd of fds) closeFd(fd);
    return { ready, drained };
  },

  /** What waitReadable says about a socket pair whose other end is closed, and about a closed descriptor. */
  hangUps() {
    const pair = new Int32Array(new ArrayBuffer(8));
    libc().socketpair(constants.AF_UNIX, constants.SOCK_STREAM, 0, pair);
    closeFd(pair[1] ?? -1);
    const hungUp = waitReadable(pair, 1, 1000);
    closeFd(pair[0] ?? -1);
    return { hungUp, closed: errnoName(waitReadable(pair, 1, 1000)) };
  },

  nftAdd: (set: string, keys: Uint8Array[]) => nft().add(set, keys),
  nftRemove: (set: string, keys: Uint8Array[], missing: 'refuse' | 'ignore') => nft().remove(set, keys, { missing }),
  nftRenew: (set: string, key: Uint8Array, timeoutMs: number) => nft().renew(set, key, timeoutMs),
  nftList: (set: string) => nft().list(set),
  nftElements: (set: string) => nft().elements(set),
  nftCommit: (changes: readonly ElementChange[]) => nft().commit(changes),
  nftRefused: (table: string, set: string) => new NftElements(table).list(set),
  /** Floods UDP through a rule that drops when `alive` lacks `key`, renewing all the while; datagrams refused. */
  nftFlood(key: Uint8Array, forMs: number) {
    const socket = plainSocket({ address: '198.51.100.10', port: 9400, protocol: 'udp', remote: ['203.0.113.1', 9] });
    const [c, end] = [libc(), Date.now() + forMs];
    const counts = { sent: 0, dropped: 0, renewals: 0 };
    while (Date.now() < end) {
      nft().renew('alive', key, 2000);
      counts.renewals++;
      for (let i = 0; i < 20; i++) {
        if (c.send(socket, key, key.length, 0) >= 0) counts.sent++;
        else if (c.errno() === constants.EPERM) counts.dropped++;
      }
    }
    closeFd(socket);
    return counts;
  },
  /** Adds `count` blocks of 16 ports, lists them, removes them; how many the kernel had each time, and the leak. */
  nftMany(set: string, count: number) {
    const before = openDescriptors();
    const keys = Array.from({ length: count }, (_, i) =>
      concatKey(Uint8Array.of(10, i >>> 16, i >>> 8, i), protocolField(6), portField((i & 0xfff) << 4)),
    );
    const mine = new NftElements('fs_test');
    mine.add(set, keys);
    const texts = new Set(mine.list(set).map((key) => Buffer.from(key).toString('hex')));
    const found = keys.filter((key) => texts.has(Buffer.from(key).toString('hex'))).length;
    mine.remove(set, keys);
    const left = mine.list(set).length;
    mine.close();
    return { listed: texts.size, found, left, leak: openDescriptors() - before };
  },

  closeAll() {
    for (const fd of open) closeFd(fd);
    open.clear();
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

export type Operations = typeof operations;
