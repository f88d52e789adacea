import { SeededHash } from '../tables/seeded-hash.ts';

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
 *
 * Open addressing at most half full, as `TupleIndex`, but it counts instead of pointing.
 */
export class Destinations {
  readonly #mask: number;
  readonly #hash: SeededHash;
  readonly #protocol: Uint8Array;
  readonly #remote: Uint32Array;
  readonly #port: Uint16Array;
  /** 0: the place is empty. */
  readonly #flows: Uint32Array;
  readonly #histograms: (Histogram | undefined)[] = new Array<Histogram | undefined>(256).fill(undefined);

  constructor(flowsMax: number, random: () => number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, flowsMax * 2)));
    this.#mask = size - 1;
    this.#hash = new SeededHash(2, random);
    this.#protocol = new Uint8Array(size);
    this.#remote = new Uint32Array(size);
    this.#port = new Uint16Array(size);
    this.#flows = new Uint32Array(size);
  }

  /** Live and resting: both have a port. */
  flowsToward(protocol: number, remote: number, port: number): number {
    // Every place is a row of all columns.
    return this.#flows[this.#placeOf(protocol, remote, port)]!;
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
    for (let place = 0; place <= this.#mask; place++) {
      const flows = this.#flows[place]!;
      if (flows === 0 || this.#protocol[place] !== protocol) continue;
      found.push({ remote: this.#remote[place]!, port: this.#port[place]!, flows });
      if (found.length > max * 2) sort();
    }
    sort();
    return found;
  }

  add(protocol: number, remote: number, port: number): void {
    const place = this.#placeOf(protocol, remote, port);
    const before = this.#flows[place]!;
    if (before === 0) {
      this.#protocol[place] = protocol;
      this.#remote[place] = remote;
      this.#port[place] = port;
    }
    this.#flows[place] = before + 1;
    this.#histogramOf(protocol).move(before, before + 1);
  }

  /** One that was added. */
  remove(protocol: number, remote: number, port: number): void {
    const place = this.#placeOf(protocol, remote, port);
    const before = this.#flows[place]!;
    if (before === 0) throw new Error('a destination has fewer flows than none');
    this.#flows[place] = before - 1;
    this.#histogramOf(protocol).move(before, before - 1);
    if (before === 1) this.#close(place);
  }

  #histogramOf(protocol: number): Histogram {
    return (this.#histograms[protocol] ??= new Histogram());
  }

  /** The place of the destination, or the empty one where it would go. */
  #placeOf(protocol: number, remote: number, port: number): number {
    let place = this.#homeOf(protocol, remote, port);
    while (
      this.#flows[place] !== 0 &&
      (this.#remote[place] !== remote || this.#port[place] !== port || this.#protocol[place] !== protocol)
    )
      place = (place + 1) & this.#mask;
    return place;
  }

  /** What stands behind the gap moves into it, unless that would put it before the place where its search begins. */
  #close(emptied: number): void {
    let gap = emptied;
    for (let place = (gap + 1) & this.#mask; this.#flows[place] !== 0; place = (place + 1) & this.#mask) {
      const home = this.#homeOf(this.#protocol[place]!, this.#remote[place]!, this.#port[place]!);
      if (((place - home) & this.#mask) < ((place - gap) & this.#mask)) continue;
      this.#protocol[gap] = this.#protocol[place]!;
      this.#remote[gap] = this.#remote[place]!;
      this.#port[gap] = this.#port[place]!;
      this.#flows[gap] = this.#flows[place]!;
      this.#flows[place] = 0;
      gap = place;
    }
  }

  #homeOf(protocol: number, remote: number, port: number): number {
    return this.#hash.of2(remote, (port << 8) | protocol) & this.#mask;
  }
}
