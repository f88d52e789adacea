import { has, largest, least, lengthOf, unwrapped, wrapped, type Segment } from './segment.ts';

/** States of RFC 9293 3.3.2; `listen` is what a closed end of a server is. */
export type EndState =
  | 'closed'
  | 'syn-sent'
  | 'syn-received'
  | 'established'
  | 'fin-wait-1'
  | 'fin-wait-2'
  | 'close-wait'
  | 'closing'
  | 'last-ack'
  | 'time-wait';

export type EndSettings = Readonly<{
  /** The first sequence number, of 32 bits. */
  initial: number;
  segmentBytes_max: number;
  /** What it offers to receive, and by how much that is scaled if both sides scale. */
  window: number;
  scale: number | null;
}>;

type Emit = (segment: Segment) => void;

const retransmissions_max = 5;
const firstTimeout_s = 3;
const timeWait_s = 60;

/**
 * One end of a TCP connection, in a host that keeps to RFC 9293 with the answers of RFC 5961 to what is out of place. It
 * sends zeros, so data is a count. Time is in whole seconds.
 */
export class HostEnd {
  readonly #settings: EndSettings;
  readonly #emit: Emit;
  state: EndState = 'closed';
  /** As RFC 9293 3.3.1 calls them, but without end. */
  readonly iss: bigint;
  irs: bigint | null = null;
  #una: bigint;
  #nxt: bigint;
  #sendWindow = 0n;
  #sendWindow_max = 0n;
  #rcvNxt = 0n;
  #otherScale: number | null = null;
  /** Out of order, and its FIN. */
  #ahead: (readonly [from: bigint, to: bigint])[] = [];
  #finOfOther: bigint | null = null;
  /** Behind the last byte that there is to send. */
  #written: bigint;
  #finishes = false;
  #isPaused = false;
  #timeoutAt = Infinity;
  #tries = 0;
  #challengedAt = -1;
  #nowS = 0;

  constructor(settings: EndSettings, emit: Emit) {
    this.#settings = settings;
    this.#emit = emit;
    this.iss = BigInt(settings.initial);
    this.#una = this.iss;
    this.#nxt = this.iss;
    this.#written = this.iss + 1n;
  }

  /** Of an end that is there for the other: it has all its numbers from, and gives all of its own to, just that one. */
  isConnectedTo(other: HostEnd): boolean {
    return this.irs !== null && other.irs !== null && same(this.irs, other.iss) && same(other.irs, this.iss);
  }

  connect(nowS: number): void {
    this.#nowS = nowS;
    this.state = 'syn-sent';
    this.#nxt = this.iss + 1n;
    this.#sendSyn('S');
    this.#wait();
  }

  write(bytes: number, nowS: number): void {
    this.#nowS = nowS;
    if (this.#finishes) return;
    this.#written += BigInt(bytes);
    this.#pump();
  }

  /** No more data from here (a half-close); what comes is still taken. */
  finish(nowS: number): void {
    this.#nowS = nowS;
    if (this.state === 'syn-sent') this.state = 'closed';
    this.#finishes = true;
    this.#pump();
  }

  /** RFC 9293 3.10.5. */
  abort(nowS: number): void {
    this.#nowS = nowS;
    if (!['closed', 'syn-sent', 'time-wait', 'last-ack', 'closing'].includes(this.state)) this.#reset(this.#nxt);
    this.state = 'closed';
  }

  /** Its program reads no more, or again: its window is 0 meanwhile. */
  pause(isPaused: boolean, nowS: number): void {
    this.#nowS = nowS;
    this.#isPaused = isPaused;
    if (!isPaused && this.#isSynchronized()) this.#acknowledge();
  }

  tick(nowS: number): void {
    this.#nowS = nowS;
    if (this.state === 'closed' || this.#timeoutAt > nowS) return;
    if (this.state === 'time-wait' || this.#tries >= retransmissions_max) {
      this.state = 'closed';
      this.#timeoutAt = Infinity;
      return;
    }
    this.#tries++;
    this.#sendAgain();
    this.#wait();
  }

  /** When it next does something by itself. */
  get wakesAt(): number {
    return this.state === 'closed' ? Infinity : this.#timeoutAt;
  }

  /** `listens`: what is closed may be opened by a SYN. */
  receive(segment: Segment, nowS: number, listens: boolean): void {
    this.#nowS = nowS;
    if (this.state === 'closed') this.#receiveClosed(segment, listens);
    else if (this.state === 'syn-sent') this.#receiveSynSent(segment);
    else this.#receiveSynchronized(segment);
    this.#pump();
  }

  /** RFC 9293 3.10.7.1 and 3.10.7.2. */
  #receiveClosed(segment: Segment, listens: boolean): void {
    if (has(segment, 'R')) return;
    if (listens && has(segment, 'S') && !has(segment, 'A')) {
      this.state = 'syn-received';
      this.#takeSyn(segment);
      this.#nxt = this.iss + 1n;
      this.#sendSyn('SA');
      this.#wait();
    } else this.#refuse(segment);
  }

  #refuse(segment: Segment): void {
    if (has(segment, 'A')) {
      const nothing = { acknowledgement: 0, window: 0, bytes: 0, scale: null };
      this.#emit({ flags: 'R', sequence: segment.acknowledgement, ...nothing });
    } else {
      const acknowledgement = wrapped(BigInt(segment.sequence) + lengthOf(segment));
      this.#emit({ flags: 'RA', sequence: 0, acknowledgement, window: 0, bytes: 0, scale: null });
    }
  }

  /** RFC 9293 3.10.7.3. */
  #receiveSynSent(segment: Segment): void {
    const acknowledges = has(segment, 'A');
    const acknowledged = unwrapped(segment.acknowledgement, this.#nxt);
    if (acknowledges && (acknowledged <= this.iss || acknowledged > this.#nxt)) {
      if (!has(segment, 'R')) this.#refuse(segment);
      return;
    }
    if (has(segment, 'R')) {
      if (acknowledges) this.state = 'closed';
      return;
    }
    if (!has(segment, 'S')) return;
    this.#takeSyn(segment);
    if (acknowledges) {
      this.#una = acknowledged;
      this.#done();
      this.state = 'established';
      this.#acknowledge();
    } else {
      this.state = 'syn-received';
      this.#sendSyn('SA');
      this.#wait();
    }
  }

  #takeSyn(segment: Segment): void {
    this.irs = BigInt(segment.sequence);
    this.#rcvNxt = this.irs + 1n;
    this.#otherScale = segment.scale;
    this.#sendWindow = BigInt(segment.window);
    this.#sendWindow_max = this.#sendWindow;
  }

  /** RFC 9293 3.10.7.4. */
  #receiveSynchronized(segment: Segment): void {
    const sequence = unwrapped(segment.sequence, this.#rcvNxt);
    const end = sequence + lengthOf(segment);
    if (!this.#isAcceptable(sequence, end)) {
      if (!has(segment, 'R')) this.#challenge();
      return;
    }
    if (has(segment, 'R')) {
      // RFC 5961 3.2: in window is not enough.
      if (sequence === this.#rcvNxt) this.state = 'closed';
      else this.#challenge();
      return;
    }
    if (has(segment, 'S')) {
      this.#challenge();
      return;
    }
    if (!has(segment, 'A') || !this.#takeAcknowledgement(segment)) return;
    if (segment.bytes > 0 || has(segment, 'F')) this.#takeData(segment, sequence, end);
  }

  #isAcceptable(sequence: bigint, end: bigint): boolean {
    const window = this.#window();
    const isIn = (number: bigint) => this.#rcvNxt <= number && number < this.#rcvNxt + window;
    if (window === 0n) return sequence === end && sequence === this.#rcvNxt;
    return isIn(sequence) || (end > sequence && isIn(end - 1n)) || (end === sequence && sequence === this.#rcvNxt);
  }

  /** Whether what comes with it may be looked at. */
  #takeAcknowledgement(segment: Segment): boolean {
    const acknowledged = unwrapped(segment.acknowledgement, this.#una);
    if (this.state === 'syn-received') {
      if (acknowledged <= this.#una || acknowledged > this.#nxt) {
        this.#refuse(segment);
        return false;
      }
      this.state = 'established';
    }
    // RFC 5961 5.2.
    if (acknowledged > this.#nxt || acknowledged < this.#una - this.#sendWindow_max) {
      this.#challenge();
      return false;
    }
    if (acknowledged > this.#una) {
      this.#una = acknowledged;
      this.#done();
      if (this.#una < this.#nxt) this.#wait();
    }
    this.#sendWindow = BigInt(segment.window) << BigInt(this.#scales() ? this.#otherScale! : 0);
    this.#sendWindow_max = largest(this.#sendWindow, this.#sendWindow_max);
    const isFinAcknowledged = this.#hasSentFin() && this.#una === this.#written + 1n;
    if (isFinAcknowledged) {
      if (this.state === 'fin-wait-1') this.state = 'fin-wait-2';
      else if (this.state === 'closing') this.#beginTimeWait();
      else if (this.state === 'last-ack') this.state = 'closed';
    }
    return this.state !== 'closed';
  }

  #takeData(segment: Segment, sequence: bigint, end: bigint): void {
    if (!['established', 'fin-wait-1', 'fin-wait-2'].includes(this.state)) {
      // It was there before: its acknowledgement was lost.
      if (this.state === 'time-wait') this.#beginTimeWait();
      this.#acknowledge();
      return;
    }
    if (has(segment, 'F')) this.#finOfOther = end - 1n;
    this.#ahead.push([sequence, sequence + BigInt(segment.bytes)]);
    for (let moved = true; moved;) {
      const next = this.#ahead.find(([from, to]) => from <= this.#rcvNxt && to > this.#rcvNxt);
      moved = next !== undefined;
      if (next) this.#rcvNxt = next[1];
    }
    if (this.#finOfOther === this.#rcvNxt) {
      this.#rcvNxt++;
      if (this.state === 'established') this.state = 'close-wait';
      else if (this.state === 'fin-wait-1') this.state = 'closing';
      else this.#beginTimeWait();
    }
    this.#acknowledge();
  }

  #beginTimeWait(): void {
    this.state = 'time-wait';
    this.#timeoutAt = this.#nowS + timeWait_s;
  }

  /** As much as the other end allows, and then the FIN if there is to be one. */
  #pump(): void {
    if (!['established', 'close-wait'].includes(this.state)) return;
    const wasNext = this.#nxt;
    while (this.#nxt < this.#written) {
      const end = least(
        this.#nxt + BigInt(this.#settings.segmentBytes_max),
        this.#written,
        this.#una + this.#sendWindow,
      );
      if (end <= this.#nxt) break;
      this.#send('A', this.#nxt, Number(end - this.#nxt));
      this.#nxt = end;
    }
    if (this.#finishes && this.#nxt === this.#written) {
      this.#send('FA', this.#nxt, 0);
      this.#nxt++;
      this.state = this.state === 'established' ? 'fin-wait-1' : 'last-ack';
    }
    const isBlocked = this.#nxt === wasNext && this.#una === this.#nxt && this.#nxt < this.#written;
    if ((this.#nxt > wasNext || isBlocked) && this.#timeoutAt === Infinity) this.#wait();
  }

  #sendAgain(): void {
    if (this.state === 'syn-sent') this.#sendSyn('S');
    else if (this.state === 'syn-received') this.#sendSyn('SA');
    else if (this.#una < this.#written) {
      // Into a window that is closed, one byte (RFC 9293 3.8.6.1).
      const most = largest(1n, least(BigInt(this.#settings.segmentBytes_max), this.#sendWindow));
      const end = least(this.#una + most, this.#written);
      const withFin = this.#hasSentFin() && end === this.#written;
      this.#send(withFin ? 'FA' : 'A', this.#una, Number(end - this.#una));
      this.#nxt = largest(this.#nxt, end);
    } else if (this.#hasSentFin() && this.#una === this.#written) this.#send('FA', this.#written, 0);
  }

  #hasSentFin(): boolean {
    return this.#nxt === this.#written + 1n;
  }

  #wait(): void {
    this.#timeoutAt = this.#nowS + firstTimeout_s * 2 ** this.#tries;
  }

  /** Something was acknowledged. */
  #done(): void {
    this.#tries = 0;
    this.#timeoutAt = Infinity;
  }

  #isSynchronized(): boolean {
    return !['closed', 'syn-sent', 'syn-received'].includes(this.state);
  }

  #scales(): boolean {
    return this.#settings.scale !== null && this.#otherScale !== null;
  }

  #window(): bigint {
    return this.#isPaused ? 0n : BigInt(this.#windowField()) << BigInt(this.#scales() ? this.#settings.scale! : 0);
  }

  #windowField(): number {
    if (this.#isPaused) return 0;
    return Math.min(65_535, this.#scales() ? this.#settings.window >> this.#settings.scale! : this.#settings.window);
  }

  #sendSyn(flags: 'S' | 'SA'): void {
    const isAnswer = flags === 'SA';
    const scale = isAnswer && this.#otherScale === null ? null : this.#settings.scale;
    const acknowledgement = isAnswer ? wrapped(this.#rcvNxt) : 0;
    const window = Math.min(65_535, this.#settings.window);
    this.#emit({ flags, sequence: wrapped(this.iss), acknowledgement, window, bytes: 0, scale });
  }

  #send(flags: 'A' | 'FA', sequence: bigint, bytes: number): void {
    const numbers = { sequence: wrapped(sequence), acknowledgement: wrapped(this.#rcvNxt) };
    this.#emit({ flags, ...numbers, window: this.#windowField(), bytes, scale: null });
  }

  #acknowledge(): void {
    this.#send('A', this.#nxt, 0);
  }

  /** One a second: RFC 5961 7 has it limited. */
  #challenge(): void {
    if (this.#challengedAt === this.#nowS) return;
    this.#challengedAt = this.#nowS;
    this.#acknowledge();
  }

  #reset(sequence: bigint): void {
    const numbers = { sequence: wrapped(sequence), acknowledgement: wrapped(this.#rcvNxt) };
    this.#emit({ flags: 'RA', ...numbers, window: 0, bytes: 0, scale: null });
  }
}

const same = (a: bigint, b: bigint): boolean => wrapped(a) === wrapped(b);
