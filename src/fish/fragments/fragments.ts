import { addressWords_max, copyAddress, hashAddress, isSameAddress } from '../packet/address-words.ts';
import { FragmentCoverage, fragmentsPerPacket_max } from './fragment-coverage.ts';
import { FragmentShares } from './fragment-shares.ts';
import { HashChains } from '../tables/hash-chains.ts';
import { HeldPackets } from './held-packets.ts';
import { IPV6, type Packet } from '../packet/packet.ts';
import { RowLists } from '../tables/row-lists.ts';
import { endOf } from '../flows/tcp-state.ts';
import { translateFragment } from '../packet/translate.ts';
import { DROP, FORWARD, HELD } from '../verdicts.ts';

const NONE = -1;
const FREE = 0;
/** The first fragment has not come: the others wait. */
const WAITING = 1;
/** It has, and what follows is translated as it was. */
const FOLLOWING = 2;
/** Nothing of this packet passes, for the reason that is kept with it. */
const REFUSED = 3;

export type FragmentLimits = Readonly<{
  /** Packets of which some, but not all fragments have been there. */
  packetsMax: number;
  /** For fragments that wait for the first of theirs. */
  bytesMax: number;
  /** After the first that came, whichever it was (RFC 791: 15 s, 8200: 60 s). */
  timeoutMs: number;
}>;

export type FragmentEvents = Readonly<{
  /** One that waited is dropped. */
  dropped: (reason: number) => void;
  /** All of a TCP segment has been there, of a flow that began at `openedMs`. `end`: the sequence number behind it. */
  wholeSegment: (flow: number, openedMs: number, end: number) => void;
}>;

/** Of all there is to have, what one source may: it drives out its own, when it wants more. */
const share = 1 / 4;
/** The only list of those by age. */
const ALL = 0;

/**
 * Fragments of one direction, which cannot drive out those of the other. Only the first of a packet has ports, so it decides what
 * happens to all (RFC 3022 6.3 has it that others are lost): those that come before it wait, those that come after
 * it are translated at once, and nothing is put together. Memory is fixed, whoever sends whatever.
 *
 * Packets are rows: those that are incomplete, in the order in which they began.
 */
export class FragmentTracker {
  readonly #limits: FragmentLimits;
  readonly #events: FragmentEvents;
  readonly #seed: number;
  readonly #coverage: FragmentCoverage;
  readonly #shares: FragmentShares;
  readonly #held: HeldPackets;
  readonly #weightMax: number;
  readonly #index: HashChains;
  readonly #byAge: RowLists;
  readonly #state: Uint8Array;
  /** Why it is refused. */
  readonly #reason: Uint8Array;
  readonly #protocol: Uint8Array;
  readonly #identification: Uint32Array;
  /** Source and destination, as they come in and as they go out. */
  readonly #addresses: Uint32Array;
  readonly #newAddresses: Uint32Array;
  readonly #newIdentification: Uint32Array;
  readonly #deadlineMs: Float64Array;
  /** The fragments that wait, in the order in which they came. */
  readonly #firstHeld: Int32Array;
  readonly #lastHeld: Int32Array;
  readonly #nextHeld: Int32Array;
  /** Of TCP: the flow, when it began, and what has to be added to the whole's bytes for the sequence number behind it. */
  readonly #flow: Int32Array;
  readonly #openedMs: Float64Array;
  readonly #sequenceBase: Uint32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** The row of the fragment that was taken last. */
  #current = NONE;
  /** How many wait now, and how many ever did. */
  held = 0;
  heldEver = 0;

  constructor(limits: FragmentLimits, random: () => number, events: FragmentEvents) {
    const { packetsMax, bytesMax } = limits;
    this.#limits = limits;
    this.#events = events;
    this.#seed = random() | 0;
    this.#coverage = new FragmentCoverage(packetsMax);
    this.#shares = new FragmentShares(packetsMax, random);
    this.#held = new HeldPackets(bytesMax);
    // One packet in as many fragments as it may have fits in any case.
    this.#weightMax = Math.max(fragmentsPerPacket_max + 1, Math.ceil((packetsMax + this.#held.capacity) * share));
    this.#index = new HashChains(packetsMax);
    this.#byAge = new RowLists(1, packetsMax);
    this.#state = new Uint8Array(packetsMax);
    this.#reason = new Uint8Array(packetsMax);
    this.#protocol = new Uint8Array(packetsMax);
    this.#identification = new Uint32Array(packetsMax);
    this.#addresses = new Uint32Array(packetsMax * addressWords_max * 2);
    this.#newAddresses = new Uint32Array(packetsMax * addressWords_max * 2);
    this.#newIdentification = new Uint32Array(packetsMax);
    this.#deadlineMs = new Float64Array(packetsMax);
    this.#firstHeld = new Int32Array(packetsMax).fill(NONE);
    this.#lastHeld = new Int32Array(packetsMax).fill(NONE);
    this.#nextHeld = new Int32Array(this.#held.capacity);
    this.#flow = new Int32Array(packetsMax);
    this.#openedMs = new Float64Array(packetsMax);
    this.#sequenceBase = new Uint32Array(packetsMax);
    this.#free = Int32Array.from({ length: packetsMax }, (_, i) => i);
    this.#freeCount = packetsMax;
  }

  /** How many packets are incomplete now. */
  get packets(): number {
    return this.#limits.packetsMax - this.#freeCount;
  }

  /**
   * Takes in the fragment in the first `length` bytes of `buffer`, which `packet` has parsed. FORWARD: a later fragment is
   * translated; a first one is to be, like any packet, and then `admit` or `refuse` is to be called. HELD: it was copied. Or a
   * reason to drop it.
   */
  take(packet: Packet, buffer: Uint8Array, length: number, nowMs: number): number {
    const isFirst = packet.fragmentOffset === 0;
    let row = this.#find(packet);
    if (row !== NONE && this.#isOver(row, isFirst, nowMs)) {
      this.#end(row, DROP.fragment_timeout);
      row = NONE;
    }
    if (row === NONE) row = this.#begin(packet, nowMs);
    this.#current = row;
    if (this.#state[row] === REFUSED) return this.#reason[row]!;
    const verdict = this.#coverage.add(row, packet);
    if (verdict === DROP.fragment_duplicate) return verdict;
    if (verdict !== FORWARD) {
      this.#refuse(row, verdict);
      return verdict;
    }
    if (isFirst) return FORWARD;
    if (this.#state[row] === WAITING) return this.#hold(row, buffer, length);
    this.#translate(row, packet);
    this.#endIfWhole(row);
    return FORWARD;
  }

  /**
   * The first fragment was translated, and given its identification: the others are to follow it. `flow`, a TCP flow that
   * began at `openedMs`, or -1. Whether there are some that waited: then `next` is to be called until it answers 0.
   */
  admit(packet: Packet, flow: number, openedMs: number): boolean {
    const row = this.#current;
    const { view, sourceAt, destinationAt } = packet;
    const bytes = destinationAt - sourceAt;
    const words = row * addressWords_max * 2;
    copyAddress(view, sourceAt, bytes, this.#newAddresses, words);
    copyAddress(view, destinationAt, bytes, this.#newAddresses, words + addressWords_max);
    this.#newIdentification[row] = packet.identification();
    this.#flow[row] = flow;
    if (flow !== NONE) {
      this.#openedMs[row] = openedMs;
      this.#sequenceBase[row] = endOf(packet) - (packet.end - packet.payloadAt);
    }
    this.#state[row] = FOLLOWING;
    if (this.#firstHeld[row] !== NONE) return true;
    this.#endIfWhole(row);
    return false;
  }

  /** The first fragment was dropped: so are the others, those that come and those that waited. */
  refuse(): void {
    this.#refuse(this.#current, DROP.fragment_refused);
  }

  /** Writes the next of those that waited for the first fragment to the start of `buffer`; its length, or 0. */
  next(buffer: Uint8Array): number {
    const row = this.#current;
    const packet = this.#firstHeld[row]!;
    if (packet === NONE) {
      this.#endIfWhole(row);
      return 0;
    }
    this.#unhold(row, packet);
    return this.#held.take(packet, buffer);
  }

  /** Translates what `next` wrote, and `packet` parsed. */
  translate(packet: Packet): void {
    this.#translate(this.#current, packet);
  }

  /** Forgets what is overdue, looking at no more than `max` packets; how many those were. */
  expire(nowMs: number, max: number): number {
    for (let looked = 0; looked < max; looked++) {
      const oldest = this.#byAge.first(ALL);
      if (oldest === NONE || this.#deadlineMs[oldest]! > nowMs) return looked;
      this.#end(oldest, DROP.fragment_timeout);
    }
    return max;
  }

  /** Lets nothing more follow first fragments that have been translated. */
  forgetTranslated(): void {
    for (let row = this.#byAge.first(ALL); row !== NONE;) {
      const newer = this.#byAge.next(row);
      if (this.#state[row] === FOLLOWING) this.#end(row, DROP.fragment_refused);
      row = newer;
    }
  }

  #find(packet: Packet): number {
    const hash = this.#hashOf(packet);
    let row = this.#index.first(hash);
    while (row !== NONE && !this.#is(row, hash, packet)) row = this.#index.next(row);
    return row;
  }

  #is(row: number, hash: number, packet: Packet): boolean {
    if (this.#index.hash[row] !== hash || this.#identification[row] !== packet.identification()) return false;
    if (this.#protocol[row] !== kindOf(packet)) return false;
    const { view, sourceAt, destinationAt } = packet;
    const bytes = destinationAt - sourceAt;
    const words = row * addressWords_max * 2;
    return (
      isSameAddress(view, sourceAt, bytes, this.#addresses, words) &&
      isSameAddress(view, destinationAt, bytes, this.#addresses, words + addressWords_max)
    );
  }

  #hashOf(packet: Packet): number {
    const { view, sourceAt, destinationAt } = packet;
    const seed = this.#seed ^ Math.imul(packet.identification(), 0x9e3779b1) ^ kindOf(packet);
    return hashAddress(view, sourceAt, (destinationAt - sourceAt) * 2, seed);
  }

  /** A first fragment after one that was refused may fare better: a packet of the same number, sent again. */
  #isOver(row: number, isFirst: boolean, nowMs: number): boolean {
    return this.#deadlineMs[row]! <= nowMs || (isFirst && this.#reason[row] === DROP.fragment_refused);
  }

  #begin(packet: Packet, nowMs: number): number {
    if (this.#freeCount === 0) this.#end(this.#shares.oldestOfHeaviest(), DROP.fragment_evicted);
    const row = this.#free[--this.#freeCount]!;
    const { view, sourceAt, destinationAt } = packet;
    const bytes = destinationAt - sourceAt;
    const words = row * addressWords_max * 2;
    copyAddress(view, sourceAt, bytes, this.#addresses, words);
    copyAddress(view, destinationAt, bytes, this.#addresses, words + addressWords_max);
    this.#identification[row] = packet.identification();
    this.#protocol[row] = kindOf(packet);
    this.#state[row] = WAITING;
    this.#reason[row] = FORWARD;
    this.#deadlineMs[row] = nowMs + this.#limits.timeoutMs;
    this.#coverage.clear(row);
    this.#index.add(row, this.#hashOf(packet));
    this.#byAge.push(ALL, row);
    this.#shares.add(row, view, sourceAt, bytes);
    if (this.#shares.weightBeside(row) > this.#weightMax)
      this.#end(this.#shares.oldestBeside(row), DROP.fragment_evicted);
    return row;
  }

  #hold(row: number, buffer: Uint8Array, length: number): number {
    const chunks = HeldPackets.chunksFor(length);
    if (!this.#makeRoom(row, chunks)) {
      this.#refuse(row, DROP.fragment_evicted);
      return DROP.fragment_evicted;
    }
    const packet = this.#held.put(buffer, length);
    this.#nextHeld[packet] = NONE;
    const last = this.#lastHeld[row]!;
    if (last === NONE) this.#firstHeld[row] = packet;
    else this.#nextHeld[last] = packet;
    this.#lastHeld[row] = packet;
    this.#shares.grow(row, chunks);
    this.held++;
    this.heldEver++;
    return HELD;
  }

  /** Whether there is room without driving out the packet itself. */
  #makeRoom(row: number, chunks: number): boolean {
    while (this.#shares.weightBeside(row) + chunks > this.#weightMax) {
      const victim = this.#shares.oldestBeside(row);
      if (victim === row) return false;
      this.#end(victim, DROP.fragment_evicted);
    }
    while (this.#held.freeChunks < chunks) {
      const victim = this.#shares.oldestOfHeaviest();
      if (victim === row) return false;
      this.#end(victim, DROP.fragment_evicted);
    }
    return true;
  }

  #unhold(row: number, packet: number): void {
    const next = this.#nextHeld[packet]!;
    this.#firstHeld[row] = next;
    if (next === NONE) this.#lastHeld[row] = NONE;
    this.#shares.grow(row, -this.#held.chunksOf(packet));
    this.held--;
  }

  #dropHeld(row: number, reason: number): void {
    for (let packet = this.#firstHeld[row]!; packet !== NONE; packet = this.#firstHeld[row]!) {
      this.#unhold(row, packet);
      this.#held.drop(packet);
      this.#events.dropped(reason);
    }
  }

  #refuse(row: number, reason: number): void {
    this.#dropHeld(row, reason);
    this.#state[row] = REFUSED;
    this.#reason[row] = reason;
  }

  #translate(row: number, packet: Packet): void {
    translateFragment(packet, this.#newAddresses, row * addressWords_max * 2, this.#newIdentification[row]!);
  }

  #endIfWhole(row: number): void {
    if (!this.#coverage.isWhole(row)) return;
    const flow = this.#flow[row]!;
    const end = (this.#sequenceBase[row]! + this.#coverage.totalOf(row)) >>> 0;
    if (flow !== NONE) this.#events.wholeSegment(flow, this.#openedMs[row]!, end);
    this.#end(row, DROP.fragment_refused);
  }

  /** Forgets the packet; `reason` is why those of its fragments are dropped that still wait. */
  #end(row: number, reason: number): void {
    this.#dropHeld(row, reason);
    this.#shares.remove(row);
    this.#index.remove(row);
    this.#byAge.remove(ALL, row);
    this.#state[row] = FREE;
    this.#free[this.#freeCount++] = row;
  }
}

/** IPv4's identifications are one protocol's, IPv6's are not (RFC 8200 4.5): there a later fragment need not tell it. */
const kindOf = ({ protocol }: Packet): number => (protocol < IPV6 ? protocol : IPV6);
