import type { FlowColumns } from './flow-memory.ts';
import { TupleIndex } from './tuple-index.ts';

export const FREE = 0;
export const LIVE = 1;
/** Over, but its tuple and its placeholder stay until the rest has passed. */
export const RESTING = 2;

/** In a column where a number of 0 or more stands for something that the flow has. */
export const NONE = -1;

/**
 * The flows, as columns: row n of each is flow n. Fixed capacity, made once; adding and removing allocate nothing. The
 * columns are somebody else's memory, and may outlive this process: `adopt` takes over what they hold.
 *
 * A flow has two keys. Outside, (protocol, leased address and port, remote, remote port) is unique among all flows, live
 * or resting: that is the promise that no 5-tuple is used twice. Inside, (protocol, client address and port, remote,
 * remote port) leads to the one flow that this client's packets belong to; a resting flow that was superseded is not
 * found there any more. Where the mapping ignores a part of the remote, that part is 0 in both keys: the whole remote
 * for UDP, whose mapping is endpoint-independent, the remote's port for ICMP, which has none.
 *
 * Every access below is by a flow number that `take` returned or `adopt` was given, which is a row of all columns.
 */
export class FlowTable {
  readonly capacity: number;
  readonly state: Uint8Array;
  readonly protocol: Uint8Array;
  readonly client: Uint32Array;
  readonly clientPort: Uint16Array;
  readonly leased: Uint32Array;
  readonly leasedPort: Uint16Array;
  readonly remote: Uint32Array;
  readonly remotePort: Uint16Array;
  /** Slot in the block table. */
  readonly block: Uint16Array;
  /** Handle, or NONE. */
  readonly placeholder: Int32Array;
  /** Milliseconds on the caller's clock. */
  readonly openedMs: Float64Array;

  readonly #byClient: TupleIndex;
  readonly #byLeased: TupleIndex;
  /** Whether the client's key still leads to the flow. */
  readonly #attached: FlowColumns['attached'];
  /** The free rows, a stack: the row used last is the one most likely in cache. */
  readonly #free: Int32Array;
  #freeCount = 0;
  #count = 0;

  /**
   * No row is known to be free yet, nor to be used: each is to be adopted or freed (`free`). `random`: 32 bits, unsigned, to
   * seed the hashes.
   */
  constructor(columns: FlowColumns, random: () => number) {
    const capacity = columns.state.length;
    this.capacity = capacity;
    this.state = columns.state;
    this.protocol = columns.protocol;
    this.client = columns.client;
    this.clientPort = columns.clientPort;
    this.leased = columns.leased;
    this.leasedPort = columns.leasedPort;
    this.remote = columns.remote;
    this.remotePort = columns.remotePort;
    this.block = columns.block;
    this.placeholder = columns.placeholder;
    this.openedMs = columns.openedMs;
    this.#attached = columns.attached;
    const { protocol, remote, remotePort } = this;
    const inside = { protocol, address: this.client, port: this.clientPort, remote, remotePort };
    const outside = { protocol, address: this.leased, port: this.leasedPort, remote, remotePort };
    this.#byClient = new TupleIndex(capacity, inside, random);
    this.#byLeased = new TupleIndex(capacity, outside, random);
    this.#free = new Int32Array(capacity);
  }

  get isFull(): boolean {
    return this.#freeCount === 0;
  }

  get count(): number {
    return this.#count;
  }

  /** The flow that a client's packet belongs to, or -1. */
  findByClient(protocol: number, client: number, clientPort: number, remote: number, remotePort: number): number {
    return this.#byClient.find(protocol, client | 0, clientPort, remote | 0, remotePort);
  }

  /** The flow that has this tuple outside, live or resting, or -1. */
  findByLeased(protocol: number, leased: number, leasedPort: number, remote: number, remotePort: number): number {
    return this.#byLeased.find(protocol, leased | 0, leasedPort, remote | 0, remotePort);
  }

  /** Takes a row, not yet in any index: fill its columns, then `publish` it. The table must not be full. */
  take(): number {
    if (this.#freeCount === 0) throw new Error('the flow table is full');
    return this.#free[--this.#freeCount]!;
  }

  /** Makes the flow live, and found by both its keys, neither of which another flow may have. */
  publish(flow: number): void {
    this.#byClient.add(flow);
    this.#byLeased.add(flow);
    this.#attached[flow] = 1;
    this.#count++;
    // Last: from here on the row is a flow, also to whoever finds this memory without us.
    this.state[flow] = LIVE;
  }

  /** Takes over a row as it is, whose keys no other flow has: see `hasRoomFor`. */
  adopt(flow: number): void {
    this.#byLeased.add(flow);
    if (this.#attached[flow] === 1) this.#byClient.add(flow);
    this.#count++;
  }

  /** Whether no flow in the indexes has the keys of this row, which is in none. */
  hasRoomFor(flow: number): boolean {
    const { protocol, remote, remotePort, client, clientPort, leased, leasedPort } = this;
    const [p, r, rp] = [protocol[flow]!, remote[flow]!, remotePort[flow]!];
    if (this.#byLeased.find(p, leased[flow]!, leasedPort[flow]!, r, rp) !== NONE) return false;
    return this.#attached[flow] === 0 || this.#byClient.find(p, client[flow]!, clientPort[flow]!, r, rp) === NONE;
  }

  /** A row that is in no index is free from now on, whatever it holds. */
  free(flow: number): void {
    if (this.state[flow] !== FREE) this.state[flow] = FREE;
    this.#free[this.#freeCount++] = flow;
  }

  /** Lets the client's key go to another flow, while the leased tuple stays taken. */
  detach(flow: number): void {
    if (this.#attached[flow] === 0) return;
    this.#byClient.remove(flow);
    this.#attached[flow] = 0;
  }

  /** Whether the client's packets are still this flow's, and what comes back still the client's. */
  isAttached(flow: number): boolean {
    return this.#attached[flow] === 1;
  }

  /** Gives the row and both keys back. The caller has closed the placeholder. */
  release(flow: number): void {
    // First: what comes after it is nothing to whoever finds this memory without us.
    this.state[flow] = FREE;
    this.detach(flow);
    this.#byLeased.remove(flow);
    this.#count--;
    this.free(flow);
  }
}
