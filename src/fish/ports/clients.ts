import { FairShare } from './fair-share.ts';
import { IPV6, isTcp, isUdp } from '../packet/packet.ts';
import { SeededHash } from '../tables/seeded-hash.ts';
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

const NOWHERE = -1;
const TCP_FLOWS = 0;
const UDP_FLOWS = 1;
const ECHO_FLOWS = 2;
const kindOf = (protocol: number): number => (isTcp(protocol) ? TCP_FLOWS : isUdp(protocol) ? UDP_FLOWS : ECHO_FLOWS);

/**
 * The clients (see `Subscribers`) that have flows, each with what it has, how fast it may begin more, and the leased address that it uses (RFC 4787
 * REQ-2, "paired"). A client is there from its first flow until its last one's row is free again; nothing of it outlives
 * the process, because all of it but the tokens can be counted anew from the flows.
 *
 * Open addressing at most half full: a client that ends is closed over by those behind it.
 */
export class Clients {
  readonly #limits: ClientLimits;
  readonly #subscribers: Pick<Subscribers, 'of'>;
  readonly share: FairShare;
  readonly #flowsMax: Readonly<Uint32Array>;
  readonly #mask: number;
  readonly #hash: SeededHash;
  readonly #client: Uint32Array;
  readonly #family: Uint8Array;
  /** Three a client: TCP, UDP, echo. A client has one at least; 0 in all of them is an empty place. */
  readonly #flows: Uint32Array;
  readonly #total: Uint32Array;
  readonly #placeholders: Uint32Array;
  readonly #peers: Uint32Array;
  /** Three a client, as the flows; 0: none yet. */
  readonly #leased: Uint32Array;
  readonly #tokens: Float32Array;
  readonly #refilledMs: Float64Array;
  #count = 0;

  constructor(limits: ClientLimits, subscribers: Pick<Subscribers, 'of'>, random: () => number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(8, limits.clientsMax * 2)));
    this.#limits = limits;
    this.#subscribers = subscribers;
    this.share = new FairShare(limits.clientShare);
    this.#flowsMax = Uint32Array.of(
      limits.tcpFlowsPerClientMax,
      limits.udpFlowsPerClientMax,
      limits.icmpFlowsPerClientMax,
    );
    this.#mask = size - 1;
    this.#hash = new SeededHash(2, random);
    this.#client = new Uint32Array(size);
    this.#family = new Uint8Array(size);
    this.#flows = new Uint32Array(size * 3);
    this.#total = new Uint32Array(size);
    this.#placeholders = new Uint32Array(size);
    this.#peers = new Uint32Array(size);
    this.#leased = new Uint32Array(size * 3);
    this.#tokens = new Float32Array(size);
    this.#refilledMs = new Float64Array(size);
  }

  /** How many there are now. */
  get count(): number {
    return this.#count;
  }

  /** FORWARD if the client may begin a flow of this protocol, of which there are `free` more in the table; or why not. */
  admit(client: number, protocol: number, free: number, nowMs: number): number {
    const place = this.#find(client, protocol);
    if (place === NOWHERE) return this.#count < this.#limits.clientsMax ? FORWARD : DROP.clients_full;
    if (!this.#spend(place, nowMs)) return DROP.client_rate;
    return this.#roomAt(place, kindOf(protocol), free);
  }

  /** As `admit`, for a flow that somebody else begins with the client: it costs the client no part of its rate. */
  mayHaveOneMore(client: number, protocol: number, free: number): number {
    const place = this.#find(client, protocol);
    return place === NOWHERE ? FORWARD : this.#roomAt(place, kindOf(protocol), free);
  }

  #roomAt(place: number, kind: number, free: number): number {
    // place is a row of every column, and kind one of the three.
    if (this.#flows[place * 3 + kind]! >= this.#flowsMax[kind]!) return DROP.client_flows;
    return this.share.allows(this.#total[place]!, free) ? FORWARD : DROP.table_share;
  }

  /** Whether these addresses count as one client. */
  isSame(a: number, b: number, protocol: number): boolean {
    return a === b || this.#subscribers.of(a, protocol) === this.#subscribers.of(b, protocol);
  }

  flowsOf(client: number, protocol: number): number {
    const place = this.#find(client, protocol);
    return place === NOWHERE ? 0 : this.#flows[place * 3 + kindOf(protocol)]!;
  }

  placeholdersOf(client: number, protocol: number): number {
    const place = this.#find(client, protocol);
    return place === NOWHERE ? 0 : this.#placeholders[place]!;
  }

  /** The leased address that the client used last, for this protocol if it has, else for another; 0 when for none. */
  leasedOf(client: number, protocol: number): number {
    const place = this.#find(client, protocol);
    if (place === NOWHERE) return 0;
    const first = place * 3;
    return (
      this.#leased[first + kindOf(protocol)]! ||
      this.#leased[first + TCP_FLOWS]! ||
      this.#leased[first + UDP_FLOWS]! ||
      this.#leased[first + ECHO_FLOWS]!
    );
  }

  /** A flow has begun, or was taken over. */
  add(client: number, protocol: number, leased: number, hasPlaceholder: boolean, nowMs: number): void {
    let place = this.#find(client, protocol);
    if (place === NOWHERE) {
      // More than there is room for can only be taken over from settings that had more: they are not limited.
      if (this.#count > this.#mask >>> 1) return;
      place = this.#begin(client, protocol, nowMs);
    }
    const kind = place * 3 + kindOf(protocol);
    this.#flows[kind] = this.#flows[kind]! + 1;
    this.#total[place] = this.#total[place]! + 1;
    if (hasPlaceholder) this.#placeholders[place] = this.#placeholders[place]! + 1;
    this.#leased[kind] = leased;
  }

  /** A flow's row is free again. */
  remove(client: number, protocol: number, hasPlaceholder: boolean): void {
    const place = this.#find(client, protocol);
    if (place === NOWHERE) return;
    const kind = place * 3 + kindOf(protocol);
    if (this.#flows[kind] === 0) return;
    this.#flows[kind] = this.#flows[kind]! - 1;
    if (hasPlaceholder && this.#placeholders[place]! > 0) this.#placeholders[place] = this.#placeholders[place]! - 1;
    this.#total[place] = this.#total[place]! - 1;
    if (this.#total[place] === 0) this.#close(place);
  }

  /** Whether the client may have one more UDP peer remembered, of `free`. */
  mayHavePeer(client: number, protocol: number, free: number): boolean {
    const place = this.#find(client, protocol);
    return place === NOWHERE || this.share.allows(this.#peers[place]!, free);
  }

  addPeer(client: number, protocol: number): void {
    const place = this.#find(client, protocol);
    if (place !== NOWHERE) this.#peers[place] = this.#peers[place]! + 1;
  }

  /** So many that were added; with its last flow a client's are gone anyhow. */
  removePeers(client: number, protocol: number, peers: number): void {
    const place = this.#find(client, protocol);
    if (place !== NOWHERE) this.#peers[place] = Math.max(0, this.#peers[place]! - peers);
  }

  #begin(address: number, protocol: number, nowMs: number): number {
    const client = this.#subscribers.of(address, protocol);
    let place = this.#homeOf(client, protocol & IPV6);
    while (this.#total[place] !== 0) place = (place + 1) & this.#mask;
    this.#client[place] = client;
    this.#family[place] = protocol & IPV6;
    this.#placeholders[place] = 0;
    this.#peers[place] = 0;
    this.#leased.fill(0, place * 3, place * 3 + 3);
    // Its first flow was one of the burst.
    this.#tokens[place] = this.#limits.flowsPerSPerClientMax - 1;
    this.#refilledMs[place] = nowMs;
    this.#count++;
    return place;
  }

  #spend(place: number, nowMs: number): boolean {
    const perS = this.#limits.flowsPerSPerClientMax;
    const gained = ((nowMs - this.#refilledMs[place]!) / 1_000) * perS;
    const tokens = Math.min(perS, this.#tokens[place]! + gained);
    this.#refilledMs[place] = nowMs;
    this.#tokens[place] = tokens < 1 ? tokens : tokens - 1;
    return tokens >= 1;
  }

  #find(address: number, protocol: number): number {
    const client = this.#subscribers.of(address, protocol);
    const family = protocol & IPV6;
    for (let place = this.#homeOf(client, family); this.#total[place] !== 0; place = (place + 1) & this.#mask)
      if (this.#client[place] === client && this.#family[place] === family) return place;
    return NOWHERE;
  }

  /** What stands behind the gap moves into it, unless that would put it before the place where its search begins. */
  #close(emptied: number): void {
    this.#count--;
    let gap = emptied;
    for (let place = (gap + 1) & this.#mask; this.#total[place] !== 0; place = (place + 1) & this.#mask) {
      const home = this.#homeOf(this.#client[place]!, this.#family[place]!);
      if (((place - home) & this.#mask) < ((place - gap) & this.#mask)) continue;
      this.#move(place, gap);
      gap = place;
    }
  }

  #move(from: number, to: number): void {
    this.#client[to] = this.#client[from]!;
    this.#family[to] = this.#family[from]!;
    for (let kind = 0; kind < 3; kind++) {
      this.#flows[to * 3 + kind] = this.#flows[from * 3 + kind]!;
      this.#flows[from * 3 + kind] = 0;
      this.#leased[to * 3 + kind] = this.#leased[from * 3 + kind]!;
    }
    this.#total[to] = this.#total[from]!;
    this.#total[from] = 0;
    this.#placeholders[to] = this.#placeholders[from]!;
    this.#peers[to] = this.#peers[from]!;
    this.#tokens[to] = this.#tokens[from]!;
    this.#refilledMs[to] = this.#refilledMs[from]!;
  }

  #homeOf(client: number, family: number): number {
    return this.#hash.of2(client, family) & this.#mask;
  }
}
