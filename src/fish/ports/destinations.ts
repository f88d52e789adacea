import { KeyedRows, NOWHERE } from '../tables/keyed-rows.ts';

/** How many destinations have so many flows, by which the largest number is always known. */
class Histogram {
  #counts = new Uint32Array(64);
  largest = 0;

  /** A destination has one flow more, or less, and had `from` of them before. */
  move(from: number, to: number): void {
    // Larger than ever before: it happens as often as a number of ports doubles.
    if (to >= this.#counts.length) {
      const larger = new Uint32Array(this.#counts.length * 2);
      larger.set(this.#counts);
      this.#counts = larger;
    }
    const counts = this.#counts;
    // Both are below the length: `from` was a `to`, or is 0, and they differ by 1.
    if (from > 0) counts[from] = counts[from]! - 1;
    if (to > 0) counts[to] = counts[to]! + 1;
    if (to > this.largest) this.largest = to;
    else if (from === this.largest && counts[from] === 0) this.largest = to;
  }
}

/**
 * The flows toward each destination: (protocol, remote, remote port) as they are in a flow's keys. Each has a leased port
 * of its own there, so of a protocol's ports the busiest destination says how far they are used: when it has them all, the next
 * flow to it finds none, however free they are toward others.
 */
export class Destinations {
  /** By remote, and port and protocol in one. */
  readonly #rows: KeyedRows;
  readonly #flows: Uint32Array;
  readonly #histograms: (Histogram | undefined)[] = new Array<Histogram | undefined>(256).fill(undefined);

  constructor(flowsMax: number, random: () => number) {
    this.#rows = new KeyedRows(flowsMax, random);
    this.#flows = new Uint32Array(flowsMax);
  }

  /** Live and resting: both have a port. */
  flowsToward(protocol: number, remote: number, port: number): number {
    const row = this.#rows.find(remote, portKeyOf(protocol, port));
    return row === NOWHERE ? 0 : this.#flows[row]!;
  }

  /** What the busiest destination of a protocol has. */
  busiest(protocol: number): number {
    return this.#histograms[protocol]?.largest ?? 0;
  }

  /** Up to `max` destinations of a protocol, those with the most flows first: one pass over all of them. */
  busiestOf(protocol: number, max: number): readonly Readonly<{ remote: number; port: number; flows: number }>[] {
    let found: { remote: number; port: number; flows: number }[] = [];
    const sort = () => {
      found = found.sort((a, b) => b.flows - a.flows).slice(0, max);
    };
    for (let row = 0; row < this.#flows.length; row++) {
      // Who has none has no row.
      const flows = this.#flows[row]!;
      const key = this.#rows.second(row);
      if (flows === 0 || (key & 0xff) !== protocol) continue;
      found.push({ remote: this.#rows.first(row), port: key >>> 8, flows });
      if (found.length > max * 2) sort();
    }
    sort();
    return found;
  }

  /** One flow more; there are no more of them than there may be. */
  add(protocol: number, remote: number, port: number): void {
    const found = this.#rows.find(remote, portKeyOf(protocol, port));
    const row = found === NOWHERE ? this.#rows.take(remote, portKeyOf(protocol, port)) : found;
    if (row === NOWHERE) throw new Error('there are more destinations than flows');
    const before = this.#flows[row]!;
    this.#flows[row] = before + 1;
    this.#histogramOf(protocol).move(before, before + 1);
  }

  /** One that was added. */
  remove(protocol: number, remote: number, port: number): void {
    const row = this.#rows.find(remote, portKeyOf(protocol, port));
    if (row === NOWHERE) throw new Error('a destination has fewer flows than none');
    const before = this.#flows[row]!;
    this.#flows[row] = before - 1;
    this.#histogramOf(protocol).move(before, before - 1);
    if (before === 1) this.#rows.release(row);
  }

  #histogramOf(protocol: number): Histogram {
    return (this.#histograms[protocol] ??= new Histogram());
  }
}

const portKeyOf = (protocol: number, port: number): number => (port << 8) | protocol;
