import { writeFrom } from '../../sys/tun.ts';

/** What decides when packets may leave: see `KeptSockets`. */
export type Undelivered = Readonly<{ undelivered: number; deliver: () => void }>;

/** As many packets wait at most; then those of their flows whose placeholders are not in a keeper yet are worth a message. */
const waiting_packets_max = 64;
/** A larger one does not wait, nor does anything before it: packets that begin a flow are small. */
const waitingBytes_max = 512;

/**
 * Writes packets to the TUN, in the order in which they come. The first packet of a flow waits until the flow's placeholder
 * is in its keeper, and everything behind it waits, too: so one message takes many placeholders there.
 */
export class TunWriter {
  readonly #tunFd: number;
  readonly #placeholders: Undelivered;
  // Of ArrayBuffers of their own: small typed arrays move about in memory, and the kernel reads from these.
  readonly #waiting = Array.from(
    { length: waiting_packets_max },
    () => new Uint8Array(new ArrayBuffer(waitingBytes_max)),
  );
  readonly #lengths = new Int32Array(waiting_packets_max);
  #count = 0;
  failed = 0;
  /** Positive, of the last that failed; 0 when there was none. */
  errno = 0;

  constructor(tunFd: number, placeholders: Undelivered) {
    this.#tunFd = tunFd;
    this.#placeholders = placeholders;
  }

  /** Takes the first `bytes` of `buffer`, which may be used again at once. */
  write(buffer: Uint8Array, bytes: number): void {
    if (this.#count === 0 && this.#placeholders.undelivered === 0) {
      this.#writeNow(buffer, bytes);
      return;
    }
    if (bytes > waitingBytes_max) {
      this.flush();
      this.#writeNow(buffer, bytes);
      return;
    }
    // #count is below the length of both: it is flushed when it gets there.
    const slot = this.#waiting[this.#count]!;
    for (let at = 0; at < bytes; at++) slot[at] = buffer[at]!;
    this.#lengths[this.#count++] = bytes;
    if (this.#count === waiting_packets_max) this.flush();
  }

  /** Writes what waits. Before anybody else does something about flows, and whenever no packet comes at once. */
  flush(): void {
    this.#placeholders.deliver();
    const count = this.#count;
    this.#count = 0;
    for (let index = 0; index < count; index++) this.#writeNow(this.#waiting[index]!, this.#lengths[index]!);
  }

  #writeNow(buffer: Uint8Array, bytes: number): void {
    const written = writeFrom(this.#tunFd, buffer, bytes);
    if (written >= 0) return;
    // The device is down, memory is short: the packet is lost, as packets are, and the next one may fare better.
    this.failed++;
    this.errno = -written;
  }
}
