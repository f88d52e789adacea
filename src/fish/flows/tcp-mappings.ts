import { RowLists } from '../tables/row-lists.ts';
import { SeededHash } from '../tables/seeded-hash.ts';
import type { FishConfig } from '../config.ts';
import { NONE, type FlowTable } from './flow-table.ts';
import { isStricter, type Dependence } from './mapping.ts';
import { TupleIndex } from './tuple-index.ts';

type TcpSettings = Pick<FishConfig, 'tcpMapping' | 'tcpFiltering'>;

/** Whether a client's TCP port keeps its leased one toward more than one remote: only then there is something to remember. */
export const needsTcpMappings = ({ tcpMapping }: TcpSettings): boolean =>
  isStricter('address_and_port_dependent', tcpMapping);

/**
 * Which leased port a client's TCP port has, toward everybody (RFC 5382 REQ-1) or toward one address. Each connection is a flow
 * of its own, with its remote in its keys, so that it is followed by itself; a mapping is what the flows of one client port
 * have in common. It lasts as long as one of them has its row, those that rest included, and nobody else gets its port.
 *
 * Nothing of it is in the memory that outlives the process: a successor makes mappings of the flows that it finds. Their
 * settings may have been others, so a port may turn out to be several clients'. Its flows go on; nothing new joins them.
 */
export class TcpMappings {
  readonly #flows: FlowTable;
  readonly #dependsOnAddress: boolean;
  readonly #filtering: Dependence;
  /** Columns, a row for each mapping; of what the mapping does not look at there is 0. */
  readonly #protocol: Uint8Array;
  readonly #client: Uint32Array;
  readonly #clientPort: Uint16Array;
  readonly #leased: Uint32Array;
  readonly #leasedPort: Uint16Array;
  readonly #remote: Uint32Array;
  readonly #noPort: Uint16Array;
  readonly #block: Uint16Array;
  /** Its flows. 0: the row is free. */
  readonly #count: Uint32Array;
  /** Whether its client's key leads to it. Not that of a second port, which the client got where it could not have the first. */
  readonly #isAttached: Uint8Array;
  readonly #isDisputed: Uint8Array;
  readonly #byClient: TupleIndex;
  readonly #byLeased: TupleIndex;
  readonly #ofFlow: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** Flows by (mapping, remote address), for a filter that asks whom the client knows; null where it does not. */
  readonly #known: RowLists | null;
  readonly #knownMask: number;
  readonly #hash: SeededHash;

  constructor(flows: FlowTable, settings: TcpSettings, random: () => number) {
    const { capacity } = flows;
    this.#flows = flows;
    this.#dependsOnAddress = isStricter(settings.tcpMapping, 'endpoint_independent');
    this.#filtering = settings.tcpFiltering;
    this.#protocol = new Uint8Array(capacity);
    this.#client = new Uint32Array(capacity);
    this.#clientPort = new Uint16Array(capacity);
    this.#leased = new Uint32Array(capacity);
    this.#leasedPort = new Uint16Array(capacity);
    this.#remote = new Uint32Array(capacity);
    this.#noPort = new Uint16Array(capacity);
    this.#block = new Uint16Array(capacity);
    this.#count = new Uint32Array(capacity);
    this.#isAttached = new Uint8Array(capacity);
    this.#isDisputed = new Uint8Array(capacity);
    const toward = { protocol: this.#protocol, remote: this.#remote, remotePort: this.#noPort };
    const inside = { ...toward, address: this.#client, port: this.#clientPort };
    const outside = { ...toward, address: this.#leased, port: this.#leasedPort };
    this.#byClient = new TupleIndex(capacity, inside, random);
    this.#byLeased = new TupleIndex(capacity, outside, random);
    this.#ofFlow = new Int32Array(capacity).fill(NONE);
    this.#free = Int32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.#freeCount = capacity;
    const buckets = 2 ** Math.ceil(Math.log2(Math.max(8, capacity)));
    this.#knownMask = buckets - 1;
    this.#known =
      this.#filtering === 'address_dependent' && !this.#dependsOnAddress ? new RowLists(buckets, capacity) : null;
    this.#hash = new SeededHash(2, random);
  }

  /** What a mapping looks at of a remote: its address, or nothing. */
  remoteOf(remote: number): number {
    return this.#dependsOnAddress ? remote : 0;
  }

  /** The mapping of a client's port, or NONE. */
  find(protocol: number, client: number, clientPort: number, remote: number): number {
    return this.#byClient.find(protocol, client, clientPort, this.remoteOf(remote), 0);
  }

  /** The mapping that has this leased port toward the remote, or NONE. */
  at(protocol: number, leased: number, leasedPort: number, remote: number): number {
    return this.#byLeased.find(protocol, leased, leasedPort, this.remoteOf(remote), 0);
  }

  /** Those of a mapping that there is; its block is a slot of the block table. */
  clientOf(mapping: number): number {
    return this.#client[mapping]!;
  }

  clientPortOf(mapping: number): number {
    return this.#clientPort[mapping]!;
  }

  leasedOf(mapping: number): number {
    return this.#leased[mapping]!;
  }

  leasedPortOf(mapping: number): number {
    return this.#leasedPort[mapping]!;
  }

  blockOf(mapping: number): number {
    return this.#block[mapping]!;
  }

  ofFlow(flow: number): number {
    return this.#ofFlow[flow]!;
  }

  /** Whether a remote may call the client by this mapping: anybody, whoever has an address that the client knows, or nobody. */
  letsIn(mapping: number, remote: number): boolean {
    if (this.#isDisputed[mapping] === 1 || this.#filtering === 'address_and_port_dependent') return false;
    if (this.#known === null) return true;
    for (let flow = this.#known.first(this.#bucketOf(mapping, remote)); flow !== NONE; flow = this.#known.next(flow))
      if (this.#ofFlow[flow] === mapping && this.#flows.remote[flow] === remote) return true;
    return false;
  }

  /** Counts in a flow whose columns are filled; whether it is the first of its mapping. */
  join(flow: number): boolean {
    const { protocol, client, clientPort, leased, leasedPort, remote } = this.#flows;
    // The flow is a row of every column.
    const [number, of, port] = [protocol[flow]!, client[flow]!, clientPort[flow]!];
    let mapping = this.at(number, leased[flow]!, leasedPort[flow]!, remote[flow]!);
    const isFirst = mapping === NONE;
    if (isFirst) mapping = this.#begin(flow);
    else if (this.#client[mapping] !== of || this.#clientPort[mapping] !== port) this.#dispute(mapping);
    this.#count[mapping] = this.#count[mapping]! + 1;
    this.#ofFlow[flow] = mapping;
    this.#known?.push(this.#bucketOf(mapping, remote[flow]!), flow);
    return isFirst;
  }

  /** Counts out a flow that joined; whether it was the last of its mapping. */
  leave(flow: number): boolean {
    const mapping = this.#ofFlow[flow]!;
    this.#known?.remove(this.#bucketOf(mapping, this.#flows.remote[flow]!), flow);
    this.#ofFlow[flow] = NONE;
    const left = this.#count[mapping]! - 1;
    this.#count[mapping] = left;
    if (left > 0) return false;
    this.#detach(mapping);
    this.#byLeased.remove(mapping);
    this.#free[this.#freeCount++] = mapping;
    return true;
  }

  #begin(flow: number): number {
    const flows = this.#flows;
    // There are as many rows as flows, and this flow is in none of the mappings.
    const mapping = this.#free[--this.#freeCount]!;
    const remote = this.remoteOf(flows.remote[flow]!);
    const [protocol, client, clientPort] = [flows.protocol[flow]!, flows.client[flow]!, flows.clientPort[flow]!];
    this.#protocol[mapping] = protocol;
    this.#client[mapping] = client;
    this.#clientPort[mapping] = clientPort;
    this.#leased[mapping] = flows.leased[flow]!;
    this.#leasedPort[mapping] = flows.leasedPort[flow]!;
    this.#remote[mapping] = remote;
    this.#block[mapping] = flows.block[flow]!;
    this.#isDisputed[mapping] = 0;
    this.#isAttached[mapping] = this.#byClient.find(protocol, client, clientPort, remote, 0) === NONE ? 1 : 0;
    if (this.#isAttached[mapping] === 1) this.#byClient.add(mapping);
    this.#byLeased.add(mapping);
    return mapping;
  }

  #dispute(mapping: number): void {
    this.#isDisputed[mapping] = 1;
    this.#detach(mapping);
  }

  #detach(mapping: number): void {
    if (this.#isAttached[mapping] === 0) return;
    this.#byClient.remove(mapping);
    this.#isAttached[mapping] = 0;
  }

  #bucketOf(mapping: number, remote: number): number {
    return this.#hash.of2(mapping, remote) & this.#knownMask;
  }
}
