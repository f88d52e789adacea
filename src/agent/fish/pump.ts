import type { Forwarder } from '../../fish/forwarder.ts';
import { hostErrorBytes_max } from '../../fish/answers/host-errors.ts';
import type { PacketTrace } from '../../fish/log/packet-trace.ts';
import { FORWARD } from '../../fish/verdicts.ts';
import { EAGAIN, EINTR } from '../../sys/constants.ts';
import { SysError } from '../../sys/errno.ts';
import { readInto } from '../../sys/tun.ts';
import { drainEventFd, waitReadable } from '../../sys/wait.ts';
import { machineClockMs, wallOffsetAtStart_ms } from './clock.ts';
import { TunWriter, type Undelivered } from './tun-writer.ts';

/** Packets between two looks at the timers and the requests: with 64 KiB each, some four milliseconds. */
const packetsPerRound_max = 256;
/** Packets between two looks at the clock: it costs less than a hundredth of what they do. */
const packetsPerLook_max = 16;
/** Looks at the clock lie no further apart, unless the host had no time for this thread; then the flow log is told. */
const betweenLooks_ms_max = 4;
/** Ended flows per round, so that ten thousand that are due at once hold no packet up. */
const expiriesPerRound_max = 64;
/** Rows of a former fish's table that are taken over between two looks at the requests: some milliseconds' worth. */
const rowsPerRound_max = 16_384;
/** Flows that are due are found at least this often when no packet comes. */
const idleWait_ms = 250;
/** The offset to the wall clock is kept until it is further off. */
const wallClockTolerance_ms = 5;
/** Two clocks are compared only where there was no time for one of them to run ahead. */
const comparison_ms_max = 0.5;
/** Date.now() cuts the fraction of a millisecond off: on average half of one. */
const wallClockFraction_ms = 0.5;
/** How far the instants of the flow log may be from the host's clock. */
export const clockMargin_ms = wallClockTolerance_ms + comparison_ms_max + wallClockFraction_ms + betweenLooks_ms_max;
/** No packet is longer, its virtio header not included: the length that an IPv6 header tells does not count the header. */
const packetBytes_max = 65_535 + 40;

/** The bits of `waitReadable` for the descriptors behind the first. */
const [WAKE, ERRORS4, ERRORS6] = [2, 4, 8];
/** ICMP errors of the host's own between two rounds of packets. */
const hostErrorsPerRound_max = 16;
/** Over IPv4 what is read begins with the IP header, which has 60 bytes at most. */
const ipv4Header_bytes_max = 60;

/**
 * The loop between the TUN and the forwarder: read until nothing waits, then sleep until a packet or a request comes. It
 * blocks its thread, and allocates nothing per packet.
 */
export class Pump {
  readonly #forwarder: Forwarder;
  readonly #tunFd: number;
  readonly #wakeFd: number;
  readonly #serve: () => boolean;
  readonly #afterRound: () => void;
  readonly #descriptors: Int32Array;
  // Of an ArrayBuffer of its own: small typed arrays move about in memory, and the kernel writes into this one.
  readonly #buffer: Uint8Array;
  readonly #message = new Uint8Array(new ArrayBuffer(ipv4Header_bytes_max + hostErrorBytes_max));
  #isStopping = false;
  /** Requests were left over from the last round: the descriptor that announced them is drained. */
  #hasRequests = false;
  /** Finer than Date.now(), which would leave every instant of the flow log up to a millisecond early. */
  #wallOffsetMs = wallOffsetAtStart_ms;
  /** When it last looked at the clock. */
  #nowMs = machineClockMs();
  #flowChanges = 0;
  /** What it has not been able to write is counted there. */
  readonly writer: TunWriter;
  /** null: nobody wants to know what happens to packets. */
  trace: PacketTrace | null = null;
  waits = 0;
  fullRounds = 0;

  /**
   * `serve` answers some requests, if any wait, and says whether there may be more. `afterRound` is called when a round's
   * packets have been written and its flows ended.
   */
  constructor(
    o: Readonly<{
      forwarder: Forwarder;
      tunFd: number;
      placeholders: Undelivered;
      wakeFd: number;
      /** By family, where this host's ICMP errors to itself are heard; below 0: nowhere. */
      errorFds: Readonly<Record<4 | 6, number>>;
      vnetHeaderBytes: number;
      serve: () => boolean;
      afterRound: () => void;
    }>,
  ) {
    this.#forwarder = o.forwarder;
    this.#tunFd = o.tunFd;
    this.writer = new TunWriter(o.tunFd, o.placeholders);
    this.#wakeFd = o.wakeFd;
    this.#serve = o.serve;
    this.#afterRound = o.afterRound;
    this.#descriptors = Int32Array.of(o.tunFd, o.wakeFd, o.errorFds[4], o.errorFds[6]);
    this.#buffer = new Uint8Array(new ArrayBuffer(o.vnetHeaderBytes + packetBytes_max));
  }

  /** Returns after `stop` was called; throws SysError when the TUN is gone. */
  run(): void {
    this.#takeOver();
    while (!this.#isStopping) {
      this.#nowMs = machineClockMs();
      this.#flowChanges = this.#forwarder.flowChanges;
      this.#followWallClock();
      const isBusy = this.#movePackets();
      this.writer.flush();
      this.#look();
      this.#answerWhatIsDue();
      const hasMoreDue = this.#forwarder.expire(this.#nowMs, expiriesPerRound_max) === expiriesPerRound_max;
      this.#afterRound();
      if (isBusy) this.fullRounds++;
      else this.waits++;
      this.#wait(isBusy || hasMoreDue || this.#hasRequests ? 0 : idleWait_ms);
    }
  }

  /** Before the first packet: one that came between would be a stranger to flows not yet known. The TUN queues them. */
  #takeOver(): void {
    for (let looked = rowsPerRound_max; looked === rowsPerRound_max && !this.#isStopping;) {
      this.#followWallClock();
      looked = this.#forwarder.adopt(machineClockMs(), rowsPerRound_max);
      this.#wait(0);
    }
  }

  stop(): void {
    this.#isStopping = true;
  }

  /**
   * Follows the wall clock when it is set, and its slow drift, but not the millisecond that it is coarse: a flow's
   * instants should not move between two questions.
   */
  #followWallClock(): void {
    const before = machineClockMs();
    const wallMs = Date.now() + wallClockFraction_ms;
    const after = machineClockMs();
    const offsetMs = wallMs - (before + after) / 2;
    const isOff = Math.abs(offsetMs - this.#wallOffsetMs) >= wallClockTolerance_ms;
    if (isOff && after - before < comparison_ms_max) {
      // What is recorded by one offset is not what the other would have called the same instant.
      const then = [this.#wallOffsetMs, offsetMs].map((each) => (before + each) * 1_000);
      this.#forwarder.blur(Math.min(...then), Math.max(...then));
      this.#wallOffsetMs = offsetMs;
    }
    this.#forwarder.setWallOffset(this.#wallOffsetMs);
  }

  /** Looks at the clock again; what was done since the last look bears that look's time. */
  #look(): void {
    const nowMs = machineClockMs();
    const changes = this.#forwarder.flowChanges;
    if (nowMs - this.#nowMs > betweenLooks_ms_max && changes !== this.#flowChanges)
      this.#forwarder.blur((this.#nowMs + this.#wallOffsetMs) * 1_000, (nowMs + this.#wallOffsetMs) * 1_000);
    this.#nowMs = nowMs;
    this.#flowChanges = changes;
  }

  /** One round; whether it ended with more packets waiting. */
  #movePackets(): boolean {
    const forwarder = this.#forwarder;
    const { writer } = this;
    const buffer = this.#buffer;
    for (let packet = 0; packet < packetsPerRound_max; packet++) {
      if (packet > 0 && packet % packetsPerLook_max === 0) this.#look();
      const bytes = readInto(this.#tunFd, buffer);
      if (bytes <= 0) {
        this.#failUnlessEmpty(bytes);
        return false;
      }
      if (this.trace !== null) {
        this.#handleTraced(this.trace, bytes);
        continue;
      }
      if (forwarder.handle(buffer, bytes, this.#nowMs) === FORWARD) {
        writer.write(buffer, bytes);
        for (let more = forwarder.next(buffer); more !== 0; more = forwarder.next(buffer)) writer.write(buffer, more);
      } else if (forwarder.replyLength !== 0) writer.write(forwarder.reply, forwarder.replyLength);
    }
    return true;
  }

  /** As `#movePackets` does, and written down. */
  #handleTraced(trace: PacketTrace, bytes: number): void {
    const forwarder = this.#forwarder;
    const { writer } = this;
    const [buffer, nowMs] = [this.#buffer, this.#nowMs];
    trace.before(buffer, bytes);
    const verdict = forwarder.handle(buffer, bytes, nowMs);
    trace.after(buffer, bytes, verdict, verdict === FORWARD, nowMs);
    if (verdict === FORWARD) {
      writer.write(buffer, bytes);
      for (let more = forwarder.next(buffer); more !== 0; more = forwarder.next(buffer)) {
        trace.left('released', buffer, more, FORWARD, nowMs);
        writer.write(buffer, more);
      }
    } else if (forwarder.replyLength !== 0) {
      trace.left('reply', forwarder.reply, forwarder.replyLength, FORWARD, nowMs);
      writer.write(forwarder.reply, forwarder.replyLength);
    }
    if (trace.isOver(nowMs)) this.trace = null;
  }

  #answerWhatIsDue(): void {
    const forwarder = this.#forwarder;
    let answers = 0;
    for (let bytes = forwarder.due(this.#nowMs); bytes !== 0; bytes = forwarder.due(this.#nowMs)) {
      this.trace?.said(forwarder.reply, bytes, this.#nowMs);
      this.writer.write(forwarder.reply, bytes);
      answers++;
    }
    if (answers > 0) this.writer.flush();
  }

  /** What this host's kernel has told itself of packets that fish sent is for the clients that they are of. */
  #relayHostErrors(family: 4 | 6): void {
    const forwarder = this.#forwarder;
    const message = this.#message;
    for (let read = 0; read < hostErrorsPerRound_max; read++) {
      const bytes = readInto(this.#descriptors[family === 4 ? 2 : 3]!, message);
      if (bytes <= 0) break;
      const icmp = family === 4 ? ((message[0] ?? 0) & 15) * 4 : 0;
      const length = forwarder.relayHostError(message.subarray(icmp, Math.max(icmp, bytes)), family);
      if (length === 0) continue;
      this.trace?.said(forwarder.hostError, length, this.#nowMs);
      this.writer.write(forwarder.hostError, length);
    }
    this.writer.flush();
  }

  #failUnlessEmpty(bytes: number): void {
    if (bytes === -EAGAIN || bytes === -EINTR) return;
    if (bytes === 0) throw new Error('the TUN has ended');
    throw new SysError('read', bytes, 'the TUN');
  }

  #wait(timeoutMs: number): void {
    const ready = waitReadable(this.#descriptors, this.#descriptors.length, timeoutMs);
    if (ready < 0) throw new SysError('poll', ready, `descriptors ${this.#tunFd} and ${this.#wakeFd}`);
    if ((ready & WAKE) !== 0) {
      drainEventFd(this.#wakeFd);
      this.#hasRequests = true;
    }
    if ((ready & ERRORS4) !== 0) this.#relayHostErrors(4);
    if ((ready & ERRORS6) !== 0) this.#relayHostErrors(6);
    if (this.#hasRequests) this.#hasRequests = this.#serve();
  }
}
