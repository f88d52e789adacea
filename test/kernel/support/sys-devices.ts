import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { AF_UNIX, SOCK_STREAM } from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { libc } from '../../../src/sys/libc.ts';
import { setOption } from '../../../src/sys/socket-options.ts';
import { deviceMtu, openTun, queueLength, readInto, removeTun, writeFrom } from '../../../src/sys/tun.ts';
import { drainEventFd, notify, openEventFd, waitReadable } from '../../../src/sys/wait.ts';
import { heapPerRound, openDescriptors, plainSocket } from './sys-sockets.ts';

/** TUN devices and waiting, for a test that works inside a namespace. */
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

export const deviceOperations = {
  queueLength: (name: string, set?: number) => queueLength(name, set),
  deviceMtu: (name: string, set?: number) => deviceMtu(name, set),
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
    const [refused] = (await once(worker, 'message')) as string[];
    const early = waitReadable(Int32Array.of(outbox), 1, 100);
    notify(inbox);
    const answered = waitReadable(Int32Array.of(outbox), 1, 5000);
    await once(worker, 'exit');
    for (const fd of [inbox, outbox]) closeFd(fd);
    return { refused, early, answered };
  },

  /** Bytes of heap that one round of a packet's calls takes: wait, read nothing, write, wake and be woken. */
  heapOfPacketCalls(name: string): number {
    const { fd } = tunOf(name);
    const eventFd = openEventFd();
    const fds = Int32Array.of(fd, eventFd);
    const packet = new Uint8Array(new ArrayBuffer(2048));
    const grown = heapPerRound(() => {
      notify(eventFd);
      waitReadable(fds, 2, 0);
      drainEventFd(eventFd);
      readInto(fd, packet);
      writeFrom(fd, packet, 40);
    });
    closeFd(eventFd);
    return grown;
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
    libc().socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    closeFd(pair[1] ?? -1);
    const hungUp = waitReadable(pair, 1, 1000);
    closeFd(pair[0] ?? -1);
    return { hungUp, closed: errnoName(waitReadable(pair, 1, 1000)) };
  },
};
