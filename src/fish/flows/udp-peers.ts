import { SeededHash } from '../tables/seeded-hash.ts';
import type { PeerColumns } from './flow-memory.ts';

const NOBODY = -1;
const ignore = (): void => {};

/**
 * Which remotes a UDP client has sent to, for filtering by them (RFC 4787 section 5): a chained hash table of (flow, remote, port
 * or 0) with a second chain through the entries of each flow, by which they go when the flow goes.
 */
export class UdpPeers {
  readonly #buckets: Int32Array;
  readonly #mask: number;
  readonly #hash: SeededHash;
  /** The flow plus one. */
  readonly #owner: PeerColumns['owner'];
  readonly #remote: PeerColumns['remote'];
  readonly #port: PeerColumns['port'];
  readonly #nextInBucket: Int32Array;
  /** Also the chain of free entries. */
  readonly #nextOfFlow: Int32Array;
  readonly #firstOfFlow: Int32Array;
  #free = NOBODY;
  #count = 0;

  /** No entry is free yet, nor anybody's: each is to be adopted. */
  constructor(flowsMax: number, columns: PeerColumns, random: () => number) {
    const peersMax = columns.owner.length;
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, peersMax)));
    this.#buckets = new Int32Array(size).fill(NOBODY);
    this.#mask = size - 1;
    this.#hash = new SeededHash(3, random);
    this.#owner = columns.owner;
    this.#remote = columns.remote;
    this.#port = columns.port;
    this.#nextInBucket = new Int32Array(peersMax);
    this.#nextOfFlow = new Int32Array(peersMax);
    this.#firstOfFlow = new Int32Array(flowsMax).fill(NOBODY);
  }

  /** How many more there is room for. */
  get free(): number {
    return this.#owner.length - this.#count;
  }

  /** `port`: 0 where only the address counts. `remote`: with or without a sign. */
  has(flow: number, remote: number, port: number): boolean {
    // Buckets and chains hold entry numbers, which are rows of every column.
    let entry = this.#buckets[this.#bucketOf(flow, remote, port)]!;
    while (entry !== NOBODY && !this.#is(entry, flow, remote, port)) entry = this.#nextInBucket[entry]!;
    return entry !== NOBODY;
  }

  /** Remembers a peer; false when the table is full. */
  add(flow: number, remote: number, port: number): boolean {
    if (this.has(flow, remote, port)) return true;
    const entry = this.#free;
    if (entry === NOBODY) return false;
    this.#free = this.#nextOfFlow[entry]!;
    this.#remote[entry] = remote;
    this.#port[entry] = port;
    this.#owner[entry] = flow + 1;
    this.#chain(entry);
    return true;
  }

  /** Takes an entry over as it is, if `isOurs` says so of its flow and remote: whose it is. Else it is free, and nobody's: -1. */
  adopt(entry: number, isOurs: (flow: number, remote: number) => boolean): number {
    const flow = this.#owner[entry]! - 1;
    const isFlow = flow >= 0 && flow < this.#firstOfFlow.length;
    const [remote, port] = [this.#remote[entry]!, this.#port[entry]!];
    if (isFlow && !this.has(flow, remote, port) && isOurs(flow, remote)) {
      this.#chain(entry);
      return flow;
    }
    this.#letGo(entry);
    return NOBODY;
  }

  #is(entry: number, flow: number, remote: number, port: number): boolean {
    return this.#owner[entry] === flow + 1 && (this.#remote[entry]! | 0) === (remote | 0) && this.#port[entry] === port;
  }

  #chain(entry: number): void {
    const flow = this.#owner[entry]! - 1;
    const bucket = this.#bucketOfEntry(entry);
    this.#nextInBucket[entry] = this.#buckets[bucket]!;
    this.#buckets[bucket] = entry;
    this.#nextOfFlow[entry] = this.#firstOfFlow[flow]!;
    this.#firstOfFlow[flow] = entry;
    this.#count++;
  }

  #letGo(entry: number): void {
    this.#owner[entry] = 0;
    this.#nextOfFlow[entry] = this.#free;
    this.#free = entry;
  }

  /** Forgets all peers of a flow: how many. `onGone` is told each remote when its entry counts no more. */
  forget(flow: number, onGone: (remote: number) => void = ignore): number {
    const before = this.#count;
    let entry = this.#firstOfFlow[flow]!;
    this.#firstOfFlow[flow] = NOBODY;
    while (entry !== NOBODY) {
      const next = this.#nextOfFlow[entry]!;
      const remote = this.#remote[entry]!;
      this.#unchain(entry);
      this.#letGo(entry);
      onGone(remote);
      this.#count--;
      entry = next;
    }
    return before - this.#count;
  }

  #unchain(entry: number): void {
    const bucket = this.#bucketOfEntry(entry);
    const next = this.#nextInBucket[entry]!;
    let before = this.#buckets[bucket]!;
    if (before === entry) {
      this.#buckets[bucket] = next;
      return;
    }
    while (this.#nextInBucket[before] !== entry) before = this.#nextInBucket[before]!;
    this.#nextInBucket[before] = next;
  }

  #bucketOfEntry(entry: number): number {
    return this.#bucketOf(this.#owner[entry]! - 1, this.#remote[entry]!, this.#port[entry]!);
  }

  #bucketOf(flow: number, remote: number, port: number): number {
    return this.#hash.of3(remote, port, flow) & this.#mask;
  }
}
