import { err, ok, type Result } from '../net/result.ts';
import { EAGAIN, ECONNRESET, EINTR, EPIPE, ETOOMANYREFS } from '../sys/constants.ts';
import { closeFd } from '../sys/descriptors.ts';
import { errnoName, SysError } from '../sys/errno.ts';
import { receiveDescriptors, sendDescriptors } from '../sys/scm.ts';
import { connectSeqpacket } from '../sys/seqpacket.ts';
import { peerCredentials } from '../sys/peer.ts';
import { setTimeouts } from '../sys/socket-options.ts';
import { waitReadable } from '../sys/wait.ts';
import {
  decodeStatus,
  dropsPerMessage_max,
  headerBytes,
  keeperVersion,
  messageBytes_max,
  noSlot,
  op,
  opaqueBytes,
  readCount,
  readWord,
  recordBytes,
  recordsPerMessage_max,
  refusals,
  statusBytes,
  writeHeader,
  writeWord,
  type KeeperStatus,
  type Kind,
  type RefusalReason,
} from './protocol.ts';
import { processState } from './process-state.ts';

export type KeptRecord = Readonly<{
  slot: number;
  /** 28 bytes, whatever was put beside the descriptor. */
  record: Uint8Array;
}>;
export type KeptDescriptor = KeptRecord & Readonly<{ fd: number }>;

/** How long the calling thread may stand still, waiting for a keeper; one that lets it wait for longer is as good as gone. */
export type Patience = Readonly<{
  /** For one that does nothing meanwhile: stopped, frozen, swapped out. */
  idle_ms: number;
  /** For one that is at work, or would be if the machine let it. */
  busy_ms: number;
}>;

/** For threads that have nothing else to do. */
const longPatience: Patience = { idle_ms: 5_000, busy_ms: 5_000 };
/** For the agent's main thread: its keepalives must not wait for as long as the shortest fence, which is 2 s. */
export const shortPatience: Patience = { idle_ms: 250, busy_ms: 1_500 };
/** For fish's thread: packets wait meanwhile, and nothing else does. */
export const packetPatience: Patience = { idle_ms: 1_000, busy_ms: 5_000 };
/** It closes everything that it keeps. */
const end_ms_max = 5_000;

/** The keeper is gone, or does not answer, or has refused something: nothing more can be done with this client. */
export class KeeperLostError extends Error {
  override readonly name = 'KeeperLostError';
}

/** Connects and says hello. The error is one line for people. */
export function connectKeeper(path: string, patience = longPatience): Result<KeeperClient, string> {
  let socket: number | undefined;
  try {
    // Where too many wait already, nobody may be listening any more.
    socket = connectSeqpacket(path, { wait_ms: patience.idle_ms });
    return ok(new KeeperClient(path, socket, patience));
  } catch (error) {
    if (socket !== undefined && !(error instanceof KeeperLostError)) closeFd(socket);
    if (error instanceof SysError || error instanceof KeeperLostError) return err(error.message);
    throw error;
  }
}

/**
 * One connection to a keeper. All calls block, for microseconds, and no longer than `Patience` says: then, and after any other
 * failure, the client is lost and another has to be made. Works on the main thread and in a worker; one client is one thread's.
 *
 * What is put needs no answer: as soon as `put` returns 0 the descriptor is in the keeper's socket, and outlives this process.
 * Nothing that is put is closed here.
 */
export class KeeperClient {
  readonly path: string;
  /** As the keeper introduced itself. */
  readonly hello: KeeperStatus;
  /**
   * Which process it is, by its pid and when it began; null where that cannot be told from here (another PID namespace).
   * Another one has what this one had only if that was put there anew.
   */
  readonly identity: string | null;
  readonly #socket: number;
  readonly #pid: number;
  readonly #busy_ms: number;
  /** Sent from and received into. */
  readonly #message = new Uint8Array(new ArrayBuffer(messageBytes_max));
  readonly #one = new Int32Array(1);
  #isClosed = false;
  #problem: string | undefined;

  /** Of a connected socket, which becomes this client's. Throws KeeperLostError. See `connectKeeper`. */
  constructor(path: string, socket: number, { busy_ms } = longPatience) {
    this.path = path;
    this.#socket = socket;
    this.#busy_ms = busy_ms;
    this.#pid = peerCredentials(socket).pid;
    const state = this.#pid > 0 ? processState(this.#pid) : undefined;
    this.identity = state === undefined ? null : `${this.#pid} since ${state.startedAt}`;
    writeHeader(this.#message, op.hello, 0, 0, keeperVersion);
    this.hello = this.#askForStatus();
  }

  /** Why this client is lost; undefined while it is not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Keeps a descriptor in a slot, in the place of what was there. `record`: 28 bytes. 0, or -errno when the keeper is lost. */
  put(kind: Kind, slot: number, record: Uint8Array, fd: number): number {
    const message = this.#message;
    writeHeader(message, op.put, kind, 1, 0);
    writeRecord(message, 0, slot, record);
    this.#one[0] = fd;
    return this.#send(headerBytes + recordBytes, this.#one);
  }

  /**
   * As `put`, for the first `count` (up to 253) of slots, of records one behind the other, and of descriptors: one message.
   * Allocates next to nothing.
   */
  putBatch(kind: Kind, count: number, slots: Int32Array, records: Uint8Array, descriptors: Int32Array): number {
    const message = this.#message;
    writeHeader(message, op.put, kind, count, 0);
    for (let index = 0; index < count; index++) {
      const at = headerBytes + index * recordBytes;
      // Both have as many as the caller says.
      writeWord(message, at, slots[index]!);
      for (let byte = 0; byte < opaqueBytes; byte++) message[at + 4 + byte] = records[index * opaqueBytes + byte]!;
    }
    return this.#send(headerBytes + count * recordBytes, descriptors.subarray(0, count));
  }

  /** As `put`, for any number; those of up to 253 travel in one message. After an error some may be there and some not. */
  putMany(kind: Kind, all: readonly KeptDescriptor[]): number {
    const message = this.#message;
    for (let at = 0; at < all.length; at += recordsPerMessage_max) {
      const batch = all.slice(at, at + recordsPerMessage_max);
      writeHeader(message, op.put, kind, batch.length, 0);
      batch.forEach(({ slot, record }, index) => writeRecord(message, index, slot, record));
      const descriptors = Int32Array.from(batch, ({ fd }) => fd);
      const sent = this.#send(headerBytes + batch.length * recordBytes, descriptors);
      if (sent < 0) return sent;
    }
    return 0;
  }

  /** Closes what the keeper has in these slots; an empty slot is fine. 0, or -errno when the keeper is lost. */
  drop(kind: Kind, slots: readonly number[]): number {
    const message = this.#message;
    for (let at = 0; at < slots.length; at += dropsPerMessage_max) {
      const batch = slots.slice(at, at + dropsPerMessage_max);
      writeHeader(message, op.drop, kind, batch.length, 0);
      batch.forEach((slot, index) => writeWord(message, headerBytes + 4 * index, slot));
      const sent = this.#send(headerBytes + 4 * batch.length, none);
      if (sent < 0) return sent;
    }
    return 0;
  }

  /** Everything of a kind, with a descriptor each that is the caller's to close, asked for in pieces. Throws KeeperLostError. */
  *take(kind: Kind): Generator<KeptDescriptor, void, void> {
    for (let from = 0; from !== noSlot;) {
      const { records, descriptors, next } = this.#ask(op.take, kind, recordsPerMessage_max, from);
      yield* records.map((each, index) => ({ ...each, fd: descriptors[index]! }));
      from = next;
    }
  }

  /** As many of a kind as go into one answer, from a slot on, and where to go on: 0 after the last. Throws KeeperLostError. */
  takeSome(kind: Kind, from: number): Readonly<{ found: readonly KeptDescriptor[]; next: number }> {
    const { records, descriptors, next } = this.#ask(op.take, kind, recordsPerMessage_max, from);
    const found = records.map((each, index) => ({ ...each, fd: descriptors[index]! }));
    return { found, next: next === noSlot ? 0 : next };
  }

  /** What is in one slot, with a descriptor of the caller's own; undefined when it is empty. Throws KeeperLostError. */
  takeOne(kind: Kind, slot: number): KeptDescriptor | undefined {
    const { records, descriptors } = this.#ask(op.take, kind, 1, slot);
    const [found] = records;
    const [fd] = descriptors;
    if (!found || fd === undefined) return undefined;
    if (found.slot === slot) return { ...found, fd };
    closeFd(fd);
    return undefined;
  }

  /** What is kept of a kind, without descriptors. Throws KeeperLostError. */
  *list(kind: Kind): Generator<KeptRecord, void, void> {
    for (let from = 0; from !== noSlot;) {
      const { records, next } = this.#ask(op.list, kind, recordsPerMessage_max, from);
      yield* records;
      from = next;
    }
  }

  /** Its answer also means that everything sent before is done. Throws KeeperLostError. */
  stats(): KeeperStatus {
    writeHeader(this.#message, op.stats, 0, 0, 0);
    return this.#askForStatus();
  }

  /** Whether the keeper is still there, as far as can be known without asking it. */
  isAlive(): boolean {
    if (this.#isClosed) return false;
    // Nothing is on its way here but answers, and those have been read: it is the end, or a refusal.
    if (waitReadable(Int32Array.of(this.#socket), 1, 0) !== 0) this.#lose(this.#lastWord());
    return !this.#isClosed;
  }

  /** Has the keeper close everything that it keeps, and end; waits until it is gone. A keeper that is lost is fine. */
  end(): void {
    if (this.#isClosed) return;
    writeHeader(this.#message, op.end, 0, 0, 0);
    setTimeouts(this.#socket, end_ms_max);
    // What comes next is the end of the connection.
    if (this.#send(headerBytes, none) === 0) this.#receive();
    this.#lose('it was ended');
  }

  /** The keeper goes on. Any number of calls will do. */
  close(): void {
    this.#lose('it was closed here');
  }

  #ask(operation: number, kind: Kind, most: number, from: number) {
    writeHeader(this.#message, operation, kind, most, from);
    if (this.#send(headerBytes, none) < 0) throw new KeeperLostError(this.#problem);
    const { bytes, descriptors } = this.#answer();
    const message = this.#message;
    const count = readCount(message);
    const isWhole =
      message[0] === op.records &&
      bytes === headerBytes + count * recordBytes &&
      descriptors.length === (operation === op.take ? count : 0);
    if (!isWhole) {
      descriptors.forEach(closeFd);
      this.#throwLost('its answer made no sense');
    }
    const records = Array.from({ length: count }, (_, index): KeptRecord => {
      const at = headerBytes + index * recordBytes;
      return { slot: readWord(message, at), record: message.slice(at + 4, at + recordBytes) };
    });
    return { records, descriptors, next: readWord(message, 4) };
  }

  #askForStatus(): KeeperStatus {
    if (this.#send(headerBytes, none) < 0) throw new KeeperLostError(this.#problem);
    const { bytes, descriptors } = this.#answer();
    descriptors.forEach(closeFd);
    const isStatus = this.#message[0] === op.stats && bytes > headerBytes;
    // Whatever else they tell, all versions tell their number first.
    const version = isStatus ? readWord(this.#message, headerBytes) : keeperVersion;
    if (version !== keeperVersion)
      this.#throwLost(
        `it speaks version ${version} and this program ${keeperVersion}: ` +
          'end it with the version that started it ("fishery agent down")',
      );
    if (isStatus && bytes === statusBytes) return decodeStatus(this.#message);
    return this.#throwLost('its answer made no sense');
  }

  #send(bytes: number, descriptors: Int32Array): number {
    if (this.#isClosed) return -EPIPE;
    const since = performance.now();
    for (let isRepeated = false; ; isRepeated = true) {
      const sent = sendDescriptors(this.#socket, this.#message.subarray(0, bytes), descriptors);
      if (sent >= 0) return 0;
      if (sent === -EINTR || (sent === -EAGAIN && this.#isPatient(since))) continue;
      // As many descriptors are in flight as this user may have there: they land when the keeper has taken them.
      if (sent === -ETOOMANYREFS && !isRepeated && this.#hasCaughtUp()) continue;
      this.#lose(sent === -EAGAIN ? doesNotAnswer : this.#lastWord(errnoName(sent)));
      return sent;
    }
  }

  /** Waits until the keeper has taken everything in; leaves the message as it was. */
  #hasCaughtUp(): boolean {
    const message = this.#message.slice();
    try {
      this.stats();
      return true;
    } catch (error) {
      if (error instanceof KeeperLostError) return false;
      throw error;
    } finally {
      this.#message.set(message);
    }
  }

  #answer(): Received {
    const received = this.#receive();
    if (received.bytes <= 0) return this.#throwLost(received.bytes === -EAGAIN ? doesNotAnswer : 'it is gone');
    const refused = refusalIn(this.#message);
    if (refused !== undefined) {
      received.descriptors.forEach(closeFd);
      this.#throwLost(`it refused: ${refused}`);
    }
    return received;
  }

  /** Whether a keeper that has let one wait may go on to do so: it is at work, and not for too long. */
  #isPatient(since: number): boolean {
    if (performance.now() - since >= this.#busy_ms) return false;
    // Of another PID namespace nobody here can tell.
    return this.#pid <= 0 || processState(this.#pid)?.letter === 'R';
  }

  #receive(): Received {
    const since = performance.now();
    for (;;) {
      try {
        const received = receiveDescriptors(this.#socket, this.#message);
        // A keeper that hung up before it had read everything: the kernel tells that first, and once.
        const isOver = received.bytes !== -EINTR && received.bytes !== -ECONNRESET;
        if (isOver && !(received.bytes === -EAGAIN && this.#isPatient(since))) return received;
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        // Descriptors that did not fit are gone.
        return this.#throwLost(error.message);
      }
    }
  }

  /** What the keeper said before it closed the connection, if it did. */
  #lastWord(otherwise = 'it is gone'): string {
    if (waitReadable(Int32Array.of(this.#socket), 1, 0) <= 0) return otherwise;
    const { bytes, descriptors } = this.#receive();
    descriptors.forEach(closeFd);
    const refused = bytes > 0 ? refusalIn(this.#message) : undefined;
    return refused === undefined ? 'it is gone' : `it refused: ${refused}`;
  }

  #lose(problem: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#problem = `the keeper at ${this.path} is lost: ${problem}`;
    closeFd(this.#socket);
  }

  #throwLost(problem: string): never {
    this.#lose(problem);
    throw new KeeperLostError(this.#problem);
  }
}

type Received = Readonly<{ bytes: number; descriptors: number[] }>;

const none = new Int32Array(0);
const doesNotAnswer = 'it does not answer';

function writeRecord(message: Uint8Array, index: number, slot: number, record: Uint8Array): void {
  if (record.length !== opaqueBytes) throw new RangeError(`a record has ${opaqueBytes} bytes, not ${record.length}`);
  const at = headerBytes + index * recordBytes;
  writeWord(message, at, slot);
  message.set(record, at + 4);
}

function refusalIn(message: Uint8Array): string | undefined {
  if (message[0] !== op.refusal) return undefined;
  const reason = readWord(message, 4);
  return isKnown(reason) ? refusals[reason] : `reason ${reason}`;
}

const isKnown = (reason: number): reason is RefusalReason => Object.hasOwn(refusals, reason);
