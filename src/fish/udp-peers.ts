const NOBODY = -1;

/**
 * Which remote addresses a UDP client has sent to, for address-dependent filtering (RFC 4787 section 5): a chained hash
 * table of (flow, remote) with a second chain through the entries of each flow, by which they go when the flow goes.
 */
export class UdpPeers {
  readonly #buckets: Int32Array;
  readonly #mask: number;
  readonly #flow: Int32Array;
  readonly #remote: Uint32Array;
  readonly #nextInBucket: Int32Array;
  /** Also the chain of free entries. */
  readonly #nextOfFlow: Int32Array;
  readonly #firstOfFlow: Int32Array;
  #free = 0;

  constructor(flowsMax: number, peersMax: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, peersMax)));
    this.#buckets = new Int32Array(size).fill(NOBODY);
    this.#mask = size - 1;
    this.#flow = new Int32Array(peersMax);
    this.#remote = new Uint32Array(peersMax);
    this.#nextInBucket = new Int32Array(peersMax);
    this.#nextOfFlow = Int32Array.from({ length: peersMax }, (_, i) => (i + 1 < peersMax ? i + 1 : NOBODY));
    this.#firstOfFlow = new Int32Array(flowsMax).fill(NOBODY);
  }

  has(flow: number, remote: number): boolean {
    // Buckets and chains hold entry numbers, which are rows of every column.
    let entry = this.#buckets[this.#bucketOf(flow, remote)]!;
    while (entry !== NOBODY && (this.#flow[entry] !== flow || this.#remote[entry] !== remote))
      entry = this.#nextInBucket[entry]!;
    return entry !== NOBODY;
  }

  /** Remembers a peer; false when the table is full. */
  add(flow: number, remote: number): boolean {
    if (this.has(flow, remote)) return true;
    const entry = this.#free;
    if (entry === NOBODY) return false;
    this.#free = this.#nextOfFlow[entry]!;
    const bucket = this.#bucketOf(flow, remote);
    this.#flow[entry] = flow;
    this.#remote[entry] = remote;
    this.#nextInBucket[entry] = this.#buckets[bucket]!;
    this.#buckets[bucket] = entry;
    this.#nextOfFlow[entry] = this.#firstOfFlow[flow]!;
    this.#firstOfFlow[flow] = entry;
    return true;
  }

  /** Forgets all peers of a flow. */
  forget(flow: number): void {
    let entry = this.#firstOfFlow[flow]!;
    this.#firstOfFlow[flow] = NOBODY;
    while (entry !== NOBODY) {
      const next = this.#nextOfFlow[entry]!;
      this.#unchain(entry);
      this.#nextOfFlow[entry] = this.#free;
      this.#free = entry;
      entry = next;
    }
  }

  #unchain(entry: number): void {
    const bucket = this.#bucketOf(this.#flow[entry]!, this.#remote[entry]!);
    const next = this.#nextInBucket[entry]!;
    let before = this.#buckets[bucket]!;
    if (before === entry) {
      this.#buckets[bucket] = next;
      return;
    }
    while (this.#nextInBucket[before] !== entry) before = this.#nextInBucket[before]!;
    this.#nextInBucket[before] = next;
  }

  #bucketOf(flow: number, remote: number): number {
    const hash = Math.imul(remote ^ Math.imul(flow, 0x9e3779b1), 0x85ebca6b);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }
}
