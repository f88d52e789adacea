import type { Forwarder } from '../../fish/forwarder.ts';
import { FORWARD } from '../../fish/verdicts.ts';
import { EAGAIN, EINTR } from '../../sys/constants.ts';
import { SysError } from '../../sys/errno.ts';
import { readInto, writeFrom } from '../../sys/tun.ts';
import { drainEventFd, waitReadable } from '../../sys/wait.ts';

/** Packets between two looks at the clock, the timers and the requests: with 64 KiB each, some four milliseconds. */
const packetsPerRound_max = 256;
/** Ended flows per round, so that ten thousand that are due at once hold no packet up. */
const expiriesPerRound_max = 64;
/** Flows that are due are found at least this often when no packet comes. */
const idleWait_ms = 250;
/** The flow log's instants are this close to the wall clock's. */
const wallClockTolerance_ms = 5;
/** An IPv4 packet is at most this long, its virtio header not included. */
const packetBytes_max = 65_535;

/** The bit of `waitReadable` for the second descriptor. */
const WAKE = 2;

/**
 * The loop between the TUN and the forwarder: read until nothing waits, then sleep until a packet or a request comes. It
 * blocks its thread, and allocates nothing per packet.
 */
export class Pump {
  readonly #forwarder: Forwarder;
  readonly #tunFd: number;
  readonly #wakeFd: number;
  readonly #serve: () => boolean;
  readonly #descriptors: Int32Array;
  // Of an ArrayBuffer of its own: small typed arrays move about in memory, and the kernel writes into this one.
  readonly #buffer: Uint8Array;
  #isStopping = false;
  /** Requests were left over from the last round: the descriptor that announced them is drained. */
  #hasRequests = false;
  /** Finer than Date.now(), which would leave every instant of the flow log up to a millisecond early. */
  #wallOffsetMs = performance.timeOrigin;
  writesFailed = 0;
  writeErrno = 0;
  waits = 0;
  fullRounds = 0;

  /** `serve` answers some requests, if any wait, and says whether there may be more. */
  constructor(
    o: Readonly<{ forwarder: Forwarder; tunFd: number; wakeFd: number; vnetHeaderBytes: number; serve: () => boolean }>,
  ) {
    this.#forwarder = o.forwarder;
    this.#tunFd = o.tunFd;
    this.#wakeFd = o.wakeFd;
    this.#serve = o.serve;
    this.#descriptors = Int32Array.of(o.tunFd, o.wakeFd);
    this.#buffer = new Uint8Array(new ArrayBuffer(o.vnetHeaderBytes + packetBytes_max));
  }

  /** Returns after `stop` was called; throws SysError when the TUN is gone. */
  run(): void {
    while (!this.#isStopping) {
      const nowMs = performance.now();
      this.#followWallClock(nowMs);
      const isBusy = this.#movePackets(nowMs);
      const hasMoreDue = this.#forwarder.expire(nowMs, expiriesPerRound_max) === expiriesPerRound_max;
      if (isBusy) this.fullRounds++;
      else this.waits++;
      this.#wait(isBusy || hasMoreDue || this.#hasRequests ? 0 : idleWait_ms);
    }
  }

  stop(): void {
    this.#isStopping = true;
  }

  /**
   * Follows the wall clock when it is set, and its slow drift, but not the millisecond that it is coarse: a flow's
   * instants should not move between two questions.
   */
  #followWallClock(nowMs: number): void {
    // Date.now() cuts the fraction off: on average half a millisecond.
    const offsetMs = Date.now() + 0.5 - nowMs;
    if (Math.abs(offsetMs - this.#wallOffsetMs) >= wallClockTolerance_ms) this.#wallOffsetMs = offsetMs;
    this.#forwarder.setWallOffset(this.#wallOffsetMs);
  }

  /** One round; whether it ended with more packets waiting. */
  #movePackets(nowMs: number): boolean {
    const forwarder = this.#forwarder;
    const buffer = this.#buffer;
    for (let packet = 0; packet < packetsPerRound_max; packet++) {
      const bytes = readInto(this.#tunFd, buffer);
      if (bytes <= 0) {
        this.#failUnlessEmpty(bytes);
        return false;
      }
      if (forwarder.handle(buffer, bytes, nowMs) === FORWARD) this.#write(buffer, bytes);
      else if (forwarder.replyLength !== 0) this.#write(forwarder.reply, forwarder.replyLength);
    }
    return true;
  }

  #failUnlessEmpty(bytes: number): void {
    if (bytes === -EAGAIN || bytes === -EINTR) return;
    if (bytes === 0) throw new Error('the TUN has ended');
    throw new SysError('read', bytes, 'the TUN');
  }

  #write(buffer: Uint8Array, bytes: number): void {
    const written = writeFrom(this.#tunFd, buffer, bytes);
    if (written >= 0) return;
    // The device is down, memory is short: the packet is lost, as packets are, and the next one may fare better.
    this.writesFailed++;
    this.writeErrno = -written;
  }

  #wait(timeoutMs: number): void {
    const ready = waitReadable(this.#descriptors, 2, timeoutMs);
    if (ready < 0) throw new SysError('poll', ready, `descriptors ${this.#tunFd} and ${this.#wakeFd}`);
    if ((ready & WAKE) !== 0) {
      drainEventFd(this.#wakeFd);
      this.#hasRequests = true;
    }
    if (this.#hasRequests) this.#hasRequests = this.#serve();
  }
}
