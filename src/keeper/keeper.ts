import { EAGAIN, EBADF, EINTR } from '../sys/constants.ts';
import { closeFd, raiseDescriptorLimit, setNonBlocking } from '../sys/descriptors.ts';
import { SysError } from '../sys/errno.ts';
import { peerCredentials } from '../sys/peer.ts';
import { receiveDescriptors, sendDescriptors } from '../sys/scm.ts';
import { acceptSeqpacket } from '../sys/seqpacket.ts';
import { waitReadable } from '../sys/wait.ts';
import { occupy } from './place.ts';
import {
  connections_max,
  dropsPerMessage_max,
  encodeStatus,
  headerBytes,
  keeperVersion,
  kept_max,
  messageBytes_max,
  noSlot,
  op,
  readCount,
  readWord,
  recordBytes,
  recordsPerMessage_max,
  reserved,
  writeHeader,
  writeWord,
  type RefusalReason,
} from './protocol.ts';
import { KeptTable, type Found } from './table.ts';

/** What comes of a message: it is done, the connection is over (with a word, or without), or so is the keeper. */
type Outcome = 'done' | 'over' | 'end' | RefusalReason;

/**
 * The keeper where neither a built nor a buildable native one is at hand; native/keeper.c is the same in a hundredth of the
 * memory, and both pass the same tests. Blocks its thread until somebody ends it: for a process of its own, which has nothing
 * else to do. Throws SysError when the place is taken.
 */
export function runKeeper(path: string, onReady: () => void): void {
  const limit = raiseDescriptorLimit().hard;
  const place = occupy(path);
  const keeper = new Keeper(place.listener, Math.min(limit - reserved, kept_max));
  try {
    onReady();
    keeper.run();
  } finally {
    place.leave();
  }
}

class Keeper {
  readonly #listener: number;
  readonly #descriptors_max: number;
  readonly #table: KeptTable;
  /** Connections, and whether they have said hello. */
  readonly #connections = new Map<number, boolean>();
  readonly #message = new Uint8Array(new ArrayBuffer(messageBytes_max));
  #puts = 0;
  #drops = 0;

  constructor(listener: number, descriptors_max: number) {
    this.#listener = listener;
    this.#descriptors_max = descriptors_max;
    this.#table = new KeptTable(descriptors_max, closeFd);
  }

  run(): void {
    for (;;) {
      const watched = Int32Array.of(this.#listener, ...this.#connections.keys());
      const ready = waitReadable(watched, watched.length, -1);
      if (ready < 0) throw new SysError('poll', ready);
      for (let index = 1; index < watched.length; index++) {
        if ((ready & (1 << index)) === 0) continue;
        const connection = watched[index]!;
        const outcome = this.#serve(connection);
        // The connections end with the process: whoever sees that knows that nothing is kept any more, and the place free.
        if (outcome === 'end') {
          this.#table.closeAll();
          return;
        }
        if (outcome !== 'done') this.#hangUp(connection, outcome);
      }
      if ((ready & 1) !== 0) this.#accept();
    }
  }

  #accept(): void {
    let connection: number;
    try {
      connection = acceptSeqpacket(this.#listener);
    } catch (error) {
      // Whoever it was has gone again.
      if (error instanceof SysError) return;
      throw error;
    }
    setNonBlocking(connection);
    this.#connections.set(connection, false);
    const { uid } = peerCredentials(connection);
    if (this.#connections.size > connections_max) this.#hangUp(connection, 5);
    else if (uid !== 0 && uid !== process.geteuid?.()) this.#hangUp(connection, 6);
  }

  #hangUp(connection: number, reason: 'over' | RefusalReason): void {
    if (reason !== 'over') {
      writeHeader(this.#message, op.refusal, 0, 0, reason);
      // Who does not listen need not be told.
      sendDescriptors(connection, this.#message.subarray(0, headerBytes), []);
    }
    this.#connections.delete(connection);
    closeFd(connection);
  }

  #serve(connection: number): Outcome {
    let received: Readonly<{ bytes: number; descriptors: readonly number[] }>;
    try {
      received = receiveDescriptors(connection, this.#message);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      return error.code === 'EMFILE' ? 3 : 2;
    }
    const { bytes, descriptors } = received;
    if (bytes === -EAGAIN || bytes === -EINTR) return 'done';
    if (bytes <= 0) return 'over';
    const outcome = this.#carryOut(connection, bytes, descriptors);
    // What was not taken in must not stay open.
    if (outcome !== 'done') descriptors.forEach(closeFd);
    return outcome;
  }

  #carryOut(connection: number, bytes: number, descriptors: readonly number[]): Outcome {
    const message = this.#message;
    const operation = message[0] ?? 0;
    const count = readCount(message);
    const isPut = operation === op.put;
    if (bytes < headerBytes || (!isPut && descriptors.length > 0)) return 2;
    if (operation === op.hello) {
      if (this.#connections.get(connection) === true || bytes !== headerBytes) return 2;
      // Told even so: whoever speaks another version learns which one this is.
      const isUnderstood = readWord(message, 4) === keeperVersion;
      this.#connections.set(connection, true);
      const told = this.#tellStatus(connection);
      return isUnderstood ? told : 'over';
    }
    if (this.#connections.get(connection) !== true) return 1;
    if (isPut) return this.#put(bytes, count, descriptors);
    if (operation === op.drop) return this.#drop(bytes, count);
    if (bytes !== headerBytes) return 2;
    if (operation === op.take || operation === op.list) return this.#page(connection, operation, count);
    if (operation === op.stats) return this.#tellStatus(connection);
    return operation === op.end ? 'end' : 2;
  }

  #put(bytes: number, count: number, descriptors: readonly number[]): Outcome {
    const message = this.#message;
    const kind = message[1] ?? 0;
    const isWhole = bytes === headerBytes + count * recordBytes && descriptors.length === count && count > 0;
    if (!isWhole || count > recordsPerMessage_max) return 2;
    const table = this.#table;
    for (let index = 0; index < count; index++)
      if (!table.has(kind, readWord(message, headerBytes + index * recordBytes))) return 2;
    if (table.count + count > this.#descriptors_max) return 4;
    for (const [index, fd] of descriptors.entries()) {
      const at = headerBytes + index * recordBytes;
      const slot = readWord(message, at);
      if (table.has(kind, slot)) table.put(kind, slot, message.subarray(at + 4, at + recordBytes), fd);
    }
    this.#puts += count;
    return 'done';
  }

  #drop(bytes: number, count: number): Outcome {
    const message = this.#message;
    const kind = message[1] ?? 0;
    if (bytes !== headerBytes + 4 * count || count === 0 || count > dropsPerMessage_max) return 2;
    for (let index = 0; index < count; index++) {
      const slot = readWord(message, headerBytes + 4 * index);
      if (!this.#table.has(kind, slot)) return 2;
      this.#table.drop(kind, slot);
    }
    this.#drops += count;
    return 'done';
  }

  #page(connection: number, operation: number, most: number): Outcome {
    const message = this.#message;
    const kind = message[1] ?? 0;
    const from = readWord(message, 4);
    if (!this.#table.has(kind, 0) || most === 0 || most > recordsPerMessage_max) return 2;
    const { found, next } = this.#table.page(kind, from, most);
    writeHeader(message, op.records, kind, found.length, next ?? noSlot);
    found.forEach(writeFound.bind(null, message));
    const fds = operation === op.take ? found.map(({ fd }) => fd) : [];
    return this.#answer(connection, message.subarray(0, headerBytes + found.length * recordBytes), fds);
  }

  #tellStatus(connection: number): Outcome {
    const status = encodeStatus({
      version: keeperVersion,
      implementation: 'typescript',
      pid: process.pid,
      descriptors_max: this.#descriptors_max,
      slots_max: this.#descriptors_max,
      connections: this.#connections.size,
      kept: this.#table.countsByKind(),
      puts: this.#puts >>> 0,
      drops: this.#drops >>> 0,
    });
    return this.#answer(connection, status, []);
  }

  /** Whoever asks without reading the answers is hung up on: the others must not wait for it. */
  #answer(connection: number, message: Uint8Array, descriptors: readonly number[]): Outcome {
    const sent = sendDescriptors(connection, message, descriptors);
    if (sent === -EBADF) throw new SysError('sendmsg', sent, 'a descriptor that was kept is closed');
    return sent < 0 ? 'over' : 'done';
  }
}

function writeFound(message: Uint8Array, { slot, record }: Found, index: number): void {
  const at = headerBytes + index * recordBytes;
  writeWord(message, at, slot);
  message.set(record, at + 4);
}
