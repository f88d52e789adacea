import { has, largest, lengthOf, unwrapped, type Segment } from './segment.ts';

/** Who sent it, as somebody between the two sees it. */
export type Way = 'out' | 'in';

/**
 * What a segment means to somebody who only sees it go by. `ends`: the connection is over, because both have acknowledged the
 * other's FIN, or because a RST went by that its receiver obeys. `keeps`: it belongs to the connection. `doubts`: a RST that the
 * receiver asks about first (RFC 5961 3.2). `nothing`: whoever sent it may not have been one of the two.
 */
export type Meaning = 'ends' | 'keeps' | 'doubts' | 'nothing';
export type Phase = 'opening' | 'established' | 'closing';

type Syn = Readonly<{ sequence: bigint; end: bigint; window: bigint; scale: number | null }>;
type Said = Readonly<{
  sequence: bigint;
  end: bigint;
  /** null where it is about what counts no more. */
  acknowledged: bigint | null;
  window: bigint;
  isSyn: boolean;
  isFin: boolean;
}>;
type Side = {
  syn: Syn | null;
  /** The other's window when this SYN came. */
  offeredBefore: bigint;
  /** Everything that was believed since its SYN, in order; nothing is ever forgotten. */
  said: Said[];
};

/** Acknowledgements may be older than a small window by as much as is in flight without one. */
const acknowledgementAge_max = 66_000n;
const shift_max = 14;

/**
 * A TCP connection followed by what the documents say, the slow way: it keeps every segment that it believes, with numbers
 * that have no end, and answers each question by looking at all of them.
 */
export class NaiveConnection {
  readonly #sides: Record<Way, Side> = { out: fresh(), in: fresh() };
  /** The last SYN of the client's that this connection has no place for. */
  #another: Segment | null = null;

  constructor(syn: Segment) {
    this.#begin('out', syn);
  }

  get phase(): Phase {
    const { out, in: inward } = this.#sides;
    if (out.said.some(({ isFin }) => isFin) && inward.said.some(({ isFin }) => isFin)) return 'closing';
    return [...out.said, ...inward.said].some(({ isSyn }) => !isSyn) ? 'established' : 'opening';
  }

  /** Nobody remembers what was on its way when the process was restarted. */
  restart(): void {
    this.#another = null;
  }

  /** What it means, without believing it. */
  judge(way: Way, segment: Segment): Meaning {
    if (has(segment, 'R')) return this.#judgeReset(way, segment);
    if (has(segment, 'S'))
      return this.#isSynOf(way, segment) || this.#answersAnother(way, segment) ? 'keeps' : 'nothing';
    return this.#isInWindow(way, segment) ? 'keeps' : 'nothing';
  }

  take(way: Way, segment: Segment): Meaning {
    const meaning = this.judge(way, segment);
    if (has(segment, 'R')) return meaning;
    if (has(segment, 'S')) this.#takeSyn(way, segment);
    else if (meaning === 'keeps') this.#believe(way, segment);
    if (this.#isOver()) return 'ends';
    // A client is who it is: whatever it sends shows that it still wants something.
    if (way === 'out') return 'keeps';
    // The other end may call at the same time (RFC 9293 3.5), but anybody else may as well, without knowing a number.
    return has(segment, 'S') && !has(segment, 'A') ? 'nothing' : meaning;
  }

  #takeSyn(way: Way, segment: Segment): void {
    if (this.#isSynOf(way, segment)) {
      const isAnswer = has(segment, 'A') && this.phase === 'opening';
      if (isAnswer || !this.#isRepeated(way, segment)) {
        if (this.#isAnew(way, segment)) this.#sides.in = fresh();
        this.#begin(way, segment);
      }
      if (has(segment, 'A')) this.#believe(way, segment);
    } else if (this.#answersAnother(way, segment)) {
      // RFC 9293 3.5.1: both ends have forgotten the connection that was, and begin another.
      const opening = this.#another!;
      this.#sides.out = fresh();
      this.#sides.in = fresh();
      this.#another = null;
      this.#begin('out', opening);
      this.#begin('in', segment);
      this.#believe('in', segment);
    } else if (way === 'out' && !has(segment, 'A')) this.#another = segment;
  }

  #begin(way: Way, segment: Segment): void {
    const side = this.#sides[way];
    const sequence = BigInt(segment.sequence);
    const scale = segment.scale === null ? null : Math.min(segment.scale, shift_max);
    side.offeredBefore = this.#windowOf(other(way));
    side.syn = { sequence, end: sequence + lengthOf(segment), window: BigInt(segment.window), scale };
    side.said = [];
    const opposite = this.#sides[other(way)];
    opposite.said = opposite.said.map((each) => ({ ...each, acknowledged: null }));
  }

  #believe(way: Way, segment: Segment): void {
    const isSyn = has(segment, 'S');
    const sequence = unwrapped(segment.sequence, this.#endOf(way));
    this.#sides[way].said.push({
      sequence,
      end: sequence + lengthOf(segment),
      acknowledged: unwrapped(segment.acknowledgement, this.#endOf(other(way))),
      window: BigInt(segment.window) << BigInt(isSyn ? 0 : this.#shiftOf(way)),
      isSyn,
      isFin: has(segment, 'F'),
    });
  }

  /** RFC 9293 3.10.7.3: what acknowledges a SYN acknowledges it, or data that came with it, and nothing else. */
  #acknowledgesSyn(way: Way, segment: Segment): boolean {
    const opposite = this.#sides[other(way)];
    if (opposite.syn === null) return false;
    const acknowledged = unwrapped(segment.acknowledgement, this.#endOf(other(way)));
    return acknowledged >= this.#awaitedBy(way) && acknowledged <= this.#endOf(other(way));
  }

  /** Whether a SYN can be that of this side. */
  #isSynOf(way: Way, segment: Segment): boolean {
    const { syn } = this.#sides[way];
    const isAnswer = has(segment, 'A');
    if (isAnswer && !this.#acknowledgesSyn(way, segment)) return false;
    if (syn === null || this.#isRepeated(way, segment)) return true;
    // Until the handshake is over, a side may try anew: one that answers, or that nobody has answered yet of whom it is known
    // that he is the other end.
    return this.phase === 'opening' && (isAnswer || this.#sides[other(way)].syn === null || this.#isAnew(way, segment));
  }

  /** A client begins once more, and who called meanwhile may have been anybody. */
  #isAnew(way: Way, segment: Segment): boolean {
    return way === 'out' && !has(segment, 'A') && !this.#isKnown('in');
  }

  /**
   * The SYN that it sent before, while nothing behind that was acknowledged: later it is a duplicate from long ago. (One that
   * somebody sent with just the number before the awaited one would be none, but nobody who is not there knows that.)
   */
  #isRepeated(way: Way, segment: Segment): boolean {
    const awaited = this.#awaitedBy(other(way));
    return this.#sides[way].syn !== null && unwrapped(segment.sequence, awaited) + 1n === awaited;
  }

  #answersAnother(way: Way, segment: Segment): boolean {
    if (way === 'out' || !has(segment, 'A') || this.#another === null) return false;
    const first = BigInt(this.#another.sequence);
    const acknowledged = unwrapped(segment.acknowledgement, first);
    return acknowledged > first && acknowledged <= first + lengthOf(this.#another);
  }

  /** RFC 9293 3.10.7.4 with RFC 5961 3.2; before anything is known of the sender, RFC 9293 3.10.7.3. */
  #judgeReset(way: Way, segment: Segment): Meaning {
    if (!this.#isKnown(way)) return has(segment, 'A') && this.#acknowledgesSyn(way, segment) ? 'ends' : 'nothing';
    const awaited = this.#awaitedBy(other(way));
    const sequence = unwrapped(segment.sequence, awaited);
    // What the receiver awaits is what it has acknowledged last, or, if that acknowledgement is still to come, all of it.
    if (sequence === awaited || sequence === this.#endOf(way)) return 'ends';
    return sequence > awaited && sequence <= this.#limitOf(way) ? 'doubts' : 'nothing';
  }

  /** The client is; the remote when it knew a number of the client's, or the client has acknowledged its own. */
  #isKnown(way: Way): boolean {
    const { out, in: inward } = this.#sides;
    return way === 'out' || [...out.said, ...inward.said].some(({ acknowledged }) => acknowledged !== null);
  }

  /** The four conditions of "Real Stateful TCP Packet Filtering in IP Filter": neither too new nor too old. */
  #isInWindow(way: Way, segment: Segment): boolean {
    const opposite = other(way);
    if (!has(segment, 'A') || this.#sides[way].syn === null || this.#sides[opposite].syn === null) return false;
    const sequence = unwrapped(segment.sequence, this.#endOf(way));
    const acknowledged = unwrapped(segment.acknowledgement, this.#endOf(opposite));
    const age_max = largest(this.#windowOf(way), acknowledgementAge_max);
    return (
      sequence <= this.#limitOf(way) &&
      sequence + lengthOf(segment) >= this.#endOf(way) - this.#windowOf(opposite) &&
      acknowledged <= this.#endOf(opposite) &&
      acknowledged >= this.#endOf(opposite) - age_max
    );
  }

  #isOver(): boolean {
    return (['out', 'in'] as const).every((way) => {
      const fin = this.#sides[way].said.find(({ isFin }) => isFin);
      const answers = this.#sides[other(way)].said;
      return fin !== undefined && answers.some(({ acknowledged }) => acknowledged !== null && acknowledged >= fin.end);
    });
  }

  /** The number after the last that it sent. */
  #endOf(way: Way): bigint {
    const { syn, said } = this.#sides[way];
    return largest(syn === null ? 0n : syn.end, ...said.map(({ end }) => end));
  }

  /** The next number that this side wants of the other. */
  #awaitedBy(way: Way): bigint {
    const { syn } = this.#sides[other(way)];
    return largest(syn === null ? 0n : syn.sequence + 1n, ...acknowledgedBy(this.#sides[way]));
  }

  /** The largest window that it ever offered; a side that is there at all takes a byte, if only to refuse it. */
  #windowOf(way: Way): bigint {
    const { syn, said } = this.#sides[way];
    return syn === null ? 0n : largest(1n, syn.window, ...said.map(({ window }) => window));
  }

  /** Up to where the other side has ever allowed it to send. */
  #limitOf(way: Way): bigint {
    const { syn, offeredBefore } = this.#sides[way];
    const allowed = this.#sides[other(way)].said
      .filter(({ acknowledged }) => acknowledged !== null)
      .map(({ acknowledged, window }) => acknowledged! + largest(window, 1n));
    return largest((syn === null ? 0n : syn.end) + offeredBefore, ...allowed);
  }

  /** RFC 7323 2.2: windows are scaled if both sides offer it. */
  #shiftOf(way: Way): number {
    const [own, others] = [this.#sides[way].syn?.scale ?? null, this.#sides[other(way)].syn?.scale ?? null];
    return own === null || others === null ? 0 : own;
  }
}

const fresh = (): Side => ({ syn: null, offeredBefore: 0n, said: [] });
const other = (way: Way): Way => (way === 'out' ? 'in' : 'out');
const acknowledgedBy = ({ said }: Side): bigint[] =>
  said.flatMap(({ acknowledged }) => (acknowledged === null ? [] : [acknowledged]));
