import { FairShare } from './fair-share.ts';
import { IPV6, isTcp, isUdp } from '../packet/packet.ts';
import { KeyedRows, NOWHERE } from '../tables/keyed-rows.ts';
import { TokenBuckets } from '../tables/token-buckets.ts';
import type { Subscribers } from './subscribers.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** What one client may have. */
export type ClientLimits = Readonly<{
  /** Clients with flows at the same time. */
  clientsMax: number;
  /** How much of its IPv6 address makes a client: see `Subscribers`. */
  clientPrefix6Bits: number;
  /** Flows of one client, those that rest included: each has a leased port. */
  tcpFlowsPerClientMax: number;
  udpFlowsPerClientMax: number;
  icmpFlowsPerClientMax: number;
  /** New flows of one client, in bursts of as many. */
  flowsPerSPerClientMax: number;
  /** How much of what all share one client may have: see `FairShare`. */
  clientShare: number;
}>;

const TCP_FLOWS = 0;
const UDP_FLOWS = 1;
const ECHO_FLOWS = 2;
const kindOf = (protocol: number): number => (isTcp(protocol) ? TCP_FLOWS : isUdp(protocol) ? UDP_FLOWS : ECHO_FLOWS);

/**
 * The clients (see `Subscribers`) that have flows, each with what it has, how fast it may begin more, and the leased address that it uses (RFC 4787
 * REQ-2, "paired"). A client is there from its first flow until its last one's row is free again; nothing of it outlives
 * the process, because all of it but the tokens can be counted anew from the flows.
 */
export class Clients {
  readonly #limits: ClientLimits;
  readonly #subscribers: Pick<Subscribers, 'of'>;
  readonly share: FairShare;
  readonly #flowsMax: Readonly<Uint32Array>;
  /** By the number of the client, and its family. */
  readonly #rows: KeyedRows;
  /** Three a client: TCP, UDP, echo. A client has one at least. */
  readonly #flows: Uint32Array;
  readonly #total: Uint32Array;
  readonly #placeholders: Uint32Array;
  readonly #peers: Uint32Array;
  /** Three a client, as the flows; 0: none yet. */
  readonly #leased: Uint32Array;
  readonly #rate: TokenBuckets;

  constructor(limits: ClientLimits, subscribers: Pick<Subscribers, 'of'>, random: () => number) {
    const { clientsMax } = limits;
    this.#limits = limits;
    this.#subscribers = subscribers;
    this.share = new FairShare(limits.clientShare);
    this.#flowsMax = Uint32Array.of(
      limits.tcpFlowsPerClientMax,
      limits.udpFlowsPerClientMax,
      limits.icmpFlowsPerClientMax,
    );
    this.#rows = new KeyedRows(clientsMax, random);
    this.#flows = new Uint32Array(clientsMax * 3);
    this.#total = new Uint32Array(clientsMax);
    this.#placeholders = new Uint32Array(clientsMax);
    this.#peers = new Uint32Array(clientsMax);
    this.#leased = new Uint32Array(clientsMax * 3);
    this.#rate = new TokenBuckets(clientsMax, limits.flowsPerSPerClientMax);
  }

  /** How many there are now. */
  get count(): number {
    return this.#rows.count;
  }

  /** FORWARD if the client may begin a flow of this protocol, of which there are `free` more in the table; or why not. */
  admit(client: number, protocol: number, free: number, nowMs: number): number {
    const row = this.#find(client, protocol);
    if (row === NOWHERE) return this.count < this.#limits.clientsMax ? FORWARD : DROP.clients_full;
    if (!this.#rate.spend(row, nowMs)) return DROP.client_rate;
    return this.#roomAt(row, kindOf(protocol), free);
  }

  /** As `admit`, for a flow that somebody else begins with the client: it costs the client no part of its rate. */
  mayHaveOneMore(client: number, protocol: number, free: number): number {
    const row = this.#find(client, protocol);
    return row === NOWHERE ? FORWARD : this.#roomAt(row, kindOf(protocol), free);
  }

  #roomAt(row: number, kind: number, free: number): number {
    // row is one of every column, and kind one of the three.
    if (this.#flows[row * 3 + kind]! >= this.#flowsMax[kind]!) return DROP.client_flows;
    return this.share.allows(this.#total[row]!, free) ? FORWARD : DROP.table_share;
  }

  /** Whether these addresses count as one client. */
  isSame(a: number, b: number, protocol: number): boolean {
    return a === b || this.#subscribers.of(a, protocol) === this.#subscribers.of(b, protocol);
  }

  flowsOf(client: number, protocol: number): number {
    const row = this.#find(client, protocol);
    return row === NOWHERE ? 0 : this.#flows[row * 3 + kindOf(protocol)]!;
  }

  placeholdersOf(client: number, protocol: number): number {
    const row = this.#find(client, protocol);
    return row === NOWHERE ? 0 : this.#placeholders[row]!;
  }

  /** The leased address that the client used last, for this protocol if it has, else for another; 0 when for none. */
  leasedOf(client: number, protocol: number): number {
    const row = this.#find(client, protocol);
    if (row === NOWHERE) return 0;
    const first = row * 3;
    return (
      this.#leased[first + kindOf(protocol)]! ||
      this.#leased[first + TCP_FLOWS]! ||
      this.#leased[first + UDP_FLOWS]! ||
      this.#leased[first + ECHO_FLOWS]!
    );
  }

  /** A flow has begun, or was taken over. */
  add(client: number, protocol: number, leased: number, hasPlaceholder: boolean, nowMs: number): void {
    let row = this.#find(client, protocol);
    if (row === NOWHERE) {
      // More than there is room for can only be taken over from settings that had more: they are not limited.
      row = this.#begin(client, protocol, nowMs);
      if (row === NOWHERE) return;
    }
    const kind = row * 3 + kindOf(protocol);
    this.#flows[kind] = this.#flows[kind]! + 1;
    this.#total[row] = this.#total[row]! + 1;
    if (hasPlaceholder) this.#placeholders[row] = this.#placeholders[row]! + 1;
    this.#leased[kind] = leased;
  }

  /** A flow's row is free again. */
  remove(client: number, protocol: number, hasPlaceholder: boolean): void {
    const row = this.#find(client, protocol);
    if (row === NOWHERE) return;
    const kind = row * 3 + kindOf(protocol);
    if (this.#flows[kind] === 0) return;
    this.#flows[kind] = this.#flows[kind]! - 1;
    if (hasPlaceholder && this.#placeholders[row]! > 0) this.#placeholders[row] = this.#placeholders[row]! - 1;
    this.#total[row] = this.#total[row]! - 1;
    if (this.#total[row] === 0) this.#rows.release(row);
  }

  /** Whether the client may have one more UDP peer remembered, of `free`. */
  mayHavePeer(client: number, protocol: number, free: number): boolean {
    const row = this.#find(client, protocol);
    return row === NOWHERE || this.share.allows(this.#peers[row]!, free);
  }

  addPeer(client: number, protocol: number): void {
    const row = this.#find(client, protocol);
    if (row !== NOWHERE) this.#peers[row] = this.#peers[row]! + 1;
  }

  /** So many that were added; with its last flow a client's are gone anyhow. */
  removePeers(client: number, protocol: number, peers: number): void {
    const row = this.#find(client, protocol);
    if (row !== NOWHERE) this.#peers[row] = Math.max(0, this.#peers[row]! - peers);
  }

  #begin(address: number, protocol: number, nowMs: number): number {
    const row = this.#rows.take(this.#subscribers.of(address, protocol), protocol & IPV6);
    if (row === NOWHERE) return NOWHERE;
    this.#placeholders[row] = 0;
    this.#peers[row] = 0;
    this.#leased.fill(0, row * 3, row * 3 + 3);
    // Its first flow was one of the burst.
    this.#rate.begin(row, nowMs);
    this.#rate.spend(row, nowMs);
    return row;
  }

  #find(address: number, protocol: number): number {
    return this.#rows.find(this.#subscribers.of(address, protocol), protocol & IPV6);
  }
}
