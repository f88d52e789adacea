import { mkdtempSync, rmSync } from 'node:fs';
import { closeFd, raiseDescriptorLimit, setNonBlocking } from '../../../src/sys/descriptors.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { libc } from '../../../src/sys/libc.ts';
import { peerCredentials } from '../../../src/sys/peer.ts';
import { receiveDescriptors, sendDescriptors } from '../../../src/sys/scm.ts';
import { acceptSeqpacket, connectSeqpacket, listenSeqpacket } from '../../../src/sys/seqpacket.ts';
import { notify, openEventFd, waitReadable } from '../../../src/sys/wait.ts';
import { openDescriptors } from './sys-sockets.ts';

/** Descriptors on the move and their limits, for a test that works inside a namespace. */
/** Two connected SOCK_SEQPACKET sockets, by way of a path in the file system. */
function seqpacketPair(): [number, number] {
  const folder = mkdtempSync('/tmp/fs-seqpacket-');
  const listener = listenSeqpacket(`${folder}/socket`);
  const client = connectSeqpacket(`${folder}/socket`);
  const server = acceptSeqpacket(listener);
  closeFd(listener);
  rmSync(folder, { recursive: true });
  return [client, server];
}

const RLIMIT_NOFILE = 7;
function softLimit(): { soft: number; hard: number } {
  const limits = new BigUint64Array(2);
  libc().getrlimit(RLIMIT_NOFILE, new Uint8Array(limits.buffer));
  return { soft: Number(limits[0]), hard: Number(limits[1]) };
}

/** Runs `inside` under a lower soft limit, which is put back to the hard one. */
function withDescriptorLimit<T>(soft: number, inside: () => T): T {
  const { hard } = softLimit();
  const set = (value: number) =>
    libc().setrlimit(RLIMIT_NOFILE, new Uint8Array(BigUint64Array.of(BigInt(value), BigInt(hard)).buffer));
  set(soft);
  try {
    return inside();
  } finally {
    set(hard);
  }
}

function messageOf(action: () => unknown): string {
  try {
    return JSON.stringify(action());
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

export const passingOperations = {
  /** Passes `count` pipes' ends to itself with a payload; what arrives, whether they are the same files, and the leak. */
  passDescriptors(payload: Uint8Array, count: number) {
    const before = openDescriptors();
    const [client, server] = seqpacketPair();
    const originals = Array.from({ length: count }, openEventFd);
    const sent = sendDescriptors(client, payload, originals);
    const buffer = new Uint8Array(1000);
    const { bytes, descriptors } = receiveDescriptors(server, buffer);
    // A notification through the original shows in the copy: they are one eventfd.
    for (const fd of originals) notify(fd);
    const same = descriptors.filter((fd) => waitReadable(Int32Array.of(fd), 1, 0) === 1).length;
    closeFd(client);
    const end = receiveDescriptors(server, buffer).bytes;
    for (const fd of [...originals, ...descriptors, server]) closeFd(fd);
    return { sent, payload: buffer.slice(0, bytes), same, end, leak: openDescriptors() - before };
  },
  /** Receives ten descriptors with room for three under RLIMIT_NOFILE, and a payload into half the room it needs. */
  loseDescriptors() {
    const before = openDescriptors();
    const [client, server] = seqpacketPair();
    const originals = Array.from({ length: 10 }, openEventFd);
    sendDescriptors(client, new Uint8Array(10), originals);
    const lowestFree = openEventFd();
    closeFd(lowestFree);
    const outcome: string[] = [];
    const limited = withDescriptorLimit(lowestFree + 3, () =>
      messageOf(() => receiveDescriptors(server, new Uint8Array(10))),
    );
    outcome.push(limited);
    sendDescriptors(client, new Uint8Array(10), originals);
    outcome.push(messageOf(() => receiveDescriptors(server, new Uint8Array(5))));
    setNonBlocking(server);
    outcome.push(errnoName(receiveDescriptors(server, new Uint8Array(5)).bytes));
    closeFd(server);
    outcome.push(errnoName(sendDescriptors(client, new Uint8Array(10), [])));
    for (const fd of [...originals, client]) closeFd(fd);
    return { outcome, leak: openDescriptors() - before };
  },
  tooManyDescriptors: (count: number) => sendDescriptors(-1, new Uint8Array(1), new Int32Array(count)),
  connectNowhere: () => connectSeqpacket('/tmp/fs-nobody-listens-here'),
  /** The credentials that each end of a pair sees, and the process's own. */
  credentials() {
    const pair = seqpacketPair();
    const seen = pair.map(peerCredentials);
    pair.forEach(closeFd);
    return { seen, own: { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() } };
  },
  /** Lowers the soft limit, has it raised, and says what it was, what it was raised to, and what it is. */
  raiseDescriptorLimit() {
    const hard = softLimit().hard;
    return withDescriptorLimit(100, () => ({
      lowered: softLimit().soft,
      raised: raiseDescriptorLimit(),
      now: softLimit().soft,
      hard,
    }));
  },
  closeTwice() {
    const fd = openEventFd();
    closeFd(fd);
    closeFd(fd);
  },
};
