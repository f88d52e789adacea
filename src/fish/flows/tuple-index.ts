/** The columns of the flow table that make up one of its two keys. The rows are flow numbers. */
export type TupleColumns = Readonly<{
  protocol: Uint8Array;
  address: Uint32Array;
  port: Uint16Array;
  remote: Uint32Array;
  remotePort: Uint16Array;
}>;

const EMPTY = -1;

/**
 * From (protocol, address, port, remote, remote port) to a flow number: open addressing with linear probing, at most
 * half full, over columns that somebody else owns. Removing shifts back what follows instead of leaving a tombstone, so
 * that a look-up stays as short after a billion flows as it was at the start.
 *
 * Clients choose most of a tuple, so the hash is seeded: without the seeds one cannot aim at one place.
 */
export class TupleIndex {
  readonly #places: Int32Array;
  readonly #mask: number;
  readonly #columns: TupleColumns;
  /** The hash of each flow that is in the index: removing has to know where its followers belong. */
  readonly #hashes: Uint32Array;
  readonly #seed: number;
  readonly #secondSeed: number;

  constructor(capacity: number, columns: TupleColumns, random: () => number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, capacity * 2)));
    this.#places = new Int32Array(size).fill(EMPTY);
    this.#mask = size - 1;
    this.#columns = columns;
    this.#hashes = new Uint32Array(capacity);
    this.#seed = random() | 0;
    this.#secondSeed = random() | 0;
  }

  /** The flow with this tuple, or -1. */
  find(protocol: number, address: number, port: number, remote: number, remotePort: number): number {
    const hash = this.#hash(protocol, address, port, remote, remotePort);
    const columns = this.#columns;
    for (let place = hash & this.#mask; ; place = (place + 1) & this.#mask) {
      // Every place is below the size, and there is always an empty one to end at.
      const flow = this.#places[place]!;
      if (flow === EMPTY) return EMPTY;
      if (
        this.#hashes[flow] === hash &&
        columns.address[flow] === address &&
        columns.port[flow] === port &&
        columns.remote[flow] === remote &&
        columns.remotePort[flow] === remotePort &&
        columns.protocol[flow] === protocol
      )
        return flow;
    }
  }

  /** Adds a flow whose columns are filled. No flow with the same tuple may be in the index. */
  add(flow: number): void {
    const { protocol, address, port, remote, remotePort } = this.#columns;
    // The caller's flow number is a row of every column.
    const hash = this.#hash(protocol[flow]!, address[flow]!, port[flow]!, remote[flow]!, remotePort[flow]!);
    this.#hashes[flow] = hash;
    let place = hash & this.#mask;
    while (this.#places[place] !== EMPTY) place = (place + 1) & this.#mask;
    this.#places[place] = flow;
  }

  /** Takes a flow out that is in the index; that it is not is a bug, and throws. */
  remove(flow: number): void {
    let gap = this.#placeOf(flow);
    // What stands behind the gap moves into it, unless that would put it before the place where its search begins.
    for (let place = (gap + 1) & this.#mask; ; place = (place + 1) & this.#mask) {
      const follower = this.#places[place]!;
      if (follower === EMPTY) break;
      const home = this.#hashes[follower]! & this.#mask;
      if (((place - home) & this.#mask) < ((place - gap) & this.#mask)) continue;
      this.#places[gap] = follower;
      gap = place;
    }
    this.#places[gap] = EMPTY;
  }

  #placeOf(flow: number): number {
    for (let place = this.#hashes[flow]! & this.#mask; ; place = (place + 1) & this.#mask) {
      const found = this.#places[place]!;
      if (found === flow) return place;
      if (found === EMPTY) throw new Error(`flow ${flow} is not in the index`);
    }
  }

  /** Multiply and shift, one round per 32 bits of the tuple, the constants of MurmurHash3 and of the golden ratio. */
  #hash(protocol: number, address: number, port: number, remote: number, remotePort: number): number {
    let hash = Math.imul(address ^ this.#seed, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ remote, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13) ^ ((port << 16) | remotePort), 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 16) ^ protocol ^ this.#secondSeed, 0x27d4eb2f);
    return (hash ^ (hash >>> 15)) >>> 0;
  }
}
