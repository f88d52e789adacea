import { prefixFamily } from '../net/prefix.ts';
import { AddressBook } from './packet/address-book.ts';
import { PrefixList } from './packet/addresses.ts';
import { Adoption, type TookOver } from './flows/adoption.ts';
import { Answers } from './answers/answers.ts';
import { HostErrors } from './answers/host-errors.ts';
import { BlockTable, type BlockChange, type LeasedBlock } from './ports/blocks.ts';
import type { FishConfig } from './config.ts';
import { tableCounts, TrafficCounters, type FishCounters } from './counters.ts';
import { FlowLife } from './flows/flow-life.ts';
import type { EndedFlows, FlowAnswer, FlowLog, FlowLogCursor } from './log/flow-log.ts';
import type { Ending } from './log/flow-record.ts';
import { sameSizes, type FlowMemory, type MemorySizes } from './flows/flow-memory.ts';
import type { FlowQuery } from './flows/flow-tuple.ts';
import { FlowViews, whoHad, type FlowFilter, type FlowSnapshot } from './log/flow-views.ts';
import { answerOf } from './log/walk.ts';
import { MappingKeys, needsPeers } from './flows/mapping.ts';
import { PacketPath } from './packet-path.ts';
import { PlaceholderBudget, type Placeholders } from './ports/placeholders.ts';
import { portUse, type PortUse } from './ports/port-use.ts';
import type { MssMax } from './packet/mss-clamp.ts';

/** What a change of the blocks did. `closed`: flows in use that ended; `placeholders`: closed with them or resting. */
export type ClosedSummary = BlockChange & Readonly<{ closed: number; placeholders: number }>;

/** `live`: flows in use. `tookOver`: null as long as that is not done. */
export type LastingFlows = Readonly<{ live: number; tookOver: TookOver | null }>;

/**
 * The translator: clients' packets get a leased source, replies their client back. It works in place, on one packet at a
 * time, and decides by nothing but the packet, its own tables and the time it is told. All times are milliseconds of one
 * clock that never goes back, nor begins anew while the memory lasts: it is the machine's, not the process's.
 */
export class Forwarder {
  readonly #path: PacketPath;
  readonly #answers: Answers;
  readonly #hostErrors: HostErrors;
  readonly #book: AddressBook;
  readonly #blocks: BlockTable;
  readonly #placeholders: PlaceholderBudget;
  readonly #life: FlowLife;
  readonly #log: FlowLog;
  readonly views: FlowViews;
  readonly #adoption: Adoption;
  readonly #traffic = new TrafficCounters();

  /**
   * `config` as `fishConfig` checked it; `random`: 32 bits, unsigned, unforeseeable. `memory`: as large as `memorySizes` says,
   * fresh or somebody else's: what it holds is to be adopted before the first packet.
   */
  constructor(
    o: Readonly<{
      config: FishConfig;
      memory: FlowMemory;
      random: () => number;
      placeholders: Placeholders;
      log: FlowLog;
    }>,
  ) {
    const { config, memory, random, log } = o;
    checkSizes(memory, config);
    const book = new AddressBook(memory.columns.addresses.words, random);
    const blocks = new BlockTable(memory.columns.blocks, book);
    const placeholders = new PlaceholderBudget(o.placeholders, book, config.placeholdersMax);
    const life = new FlowLife({ config, memory, book, blocks, placeholders, random, log });
    const clients = new PrefixList(config.clientPrefixes);
    const keys = new MappingKeys(config.udpMapping);
    this.#adoption = new Adoption({ config, memory, book, blocks, placeholders, clients, life, keys });
    this.#answers = new Answers(config, life.subscribers, random);
    this.#hostErrors = new HostErrors(config);
    const path = {
      config,
      random,
      book,
      clients,
      blocks,
      life,
      keys,
      answers: this.#answers,
      hostErrors: this.#hostErrors,
      traffic: this.#traffic,
    };
    this.#path = new PacketPath(path);
    this.views = new FlowViews(life, book, blocks);
    this.#book = book;
    this.#blocks = blocks;
    this.#placeholders = placeholders;
    this.#life = life;
    this.#log = log;
  }

  /** A packet of fish's own, its virtio header included, when `replyLength` is not 0. */
  get reply(): Uint8Array {
    return this.#answers.buffer;
  }

  /** Bytes of `reply` to be written to the TUN after the last `handle`, most often 0. */
  get replyLength(): number {
    return this.#answers.length;
  }

  /**
   * Takes the packet in the first `length` bytes of `buffer`, its virtio header included. FORWARD: it is translated in
   * place, and the same bytes are to be written back. Otherwise a number of DROP, and the bytes are as they were. Keep to
   * one buffer: another one than last time costs an allocation.
   */
  handle(buffer: Uint8Array, length: number, nowMs: number): number {
    return this.#path.handle(buffer, length, nowMs);
  }

  /**
   * After FORWARD, when the packet has been written: what leaves behind it, because it has waited for it. Writes the next such
   * packet to the start of `buffer`; its length, or 0 when there is no more. Call it until then.
   */
  next(buffer: Uint8Array): number {
    return this.#path.next(buffer);
  }

  /**
   * An ICMP message, from its ICMP header on, by which this host's kernel tells a leased address what has become of a packet: if that
   * was a client's, `hostError` is the packet that tells the client, of so many bytes; 0: it was somebody else's.
   */
  relayHostError(message: Uint8Array, family: 4 | 6): number {
    return this.#path.relayHostError(message, family);
  }

  /** See `relayHostError`. */
  get hostError(): Uint8Array {
    return this.#hostErrors.buffer;
  }

  /**
   * Takes over what the memory holds, looking at no more than `max` rows; how many it looked at: less than `max` means that
   * all is taken over. Nothing else may be asked of fish before, but for its counters and `setBlocks`.
   */
  adopt(nowMs: number, max: number): number {
    if (!this.#adoption.isUnderWay) return 0;
    const looked = this.#adoption.step(nowMs, max);
    // Those that ended before are forgotten, so from here on, and not before, the log knows everything.
    if (looked < max) this.#log.beginAt(this.#life.instantOf(nowMs));
    return looked;
  }

  /**
   * Makes these the blocks to send from. Flows of blocks that are gone end at once, without a rest, and their
   * placeholders are closed when this returns. A block is the same only if all of it is.
   */
  setBlocks(wanted: readonly LeasedBlock[], nowMs: number): ClosedSummary {
    this.#path.isFenced = false;
    return this.#changeBlocks(wanted, 'lease_ended', nowMs);
  }

  /**
   * What was leased may be another machine's by now: no new flow begins until the next `setBlocks`, and those there are end
   * as by `setBlocks` without any.
   */
  fence(nowMs: number): ClosedSummary {
    this.#path.isFenced = true;
    return this.#changeBlocks([], 'fenced', nowMs);
  }

  #changeBlocks(wanted: readonly LeasedBlock[], ending: Ending, nowMs: number): ClosedSummary {
    while (this.#adoption.isUnderWay) this.adopt(nowMs, rowsAtOnce_max);
    const removed = new Set(this.#blocks.removedBy(wanted));
    if (removed.size > 0) this.#path.forgetTranslated();
    const ended = this.#life.endBlocks(removed, nowMs, ending);
    return { ...ended, ...this.#blocks.replace(wanted) };
  }

  /** Gives no new flow a port of these leases, and of no others, until it is told again; those that they have go on. */
  drain(leases: readonly string[]): void {
    this.#blocks.drain(leases);
  }

  /** SYNs announce no more than that from now on. */
  clampMss(max: MssMax): void {
    this.#path.mss.change(max);
  }

  /** How far the leased ports are used. */
  portUse(): PortUse {
    return portUse(this.#life, this.#blocks);
  }

  /**
   * Answers that are due by now, without a packet that would bring them about: writes the next one to `reply`; its length, or 0
   * when there is no more. Call it until then, as often as `expire`.
   */
  due(nowMs: number): number {
    return this.#answers.due(nowMs);
  }

  /** Takes all blocks of a lease away. */
  endLease(lease: string, nowMs: number): ClosedSummary {
    return this.setBlocks(
      this.#blocks.list().filter((block) => block.lease !== lease),
      nowMs,
    );
  }

  /**
   * Ends what has been silent or has rested for long enough, and forgets what has waited for too long, looking at no more than
   * `max` flows and packets: call it often.
   */
  expire(nowMs: number, max: number): number {
    const looked = this.#life.expire(nowMs, max);
    return looked + this.#path.expire(nowMs, max - looked);
  }

  /** What has to be added to the caller's clock for milliseconds since 1970; tell it again whenever that may change. */
  setWallOffset(offsetMs: number): void {
    this.#life.wallOffsetMs = offsetMs;
  }

  /** How often a flow has begun or ended. */
  get flowChanges(): number {
    return this.#life.opened + this.#life.ended.reduce((sum, count) => sum + count, 0);
  }

  /** Between these instants (microseconds since 1970) the caller's clock was not good enough for the flow log. */
  blur(from: number, to: number): void {
    this.#log.blur(from, to);
  }

  /** What somebody who keeps the flow log elsewhere has not read of it: up to `max` flows that have ended. */
  endedFlows(after: FlowLogCursor, max: number): EndedFlows & LastingFlows {
    return { ...this.#log.read(after, max), live: this.#life.live, tookOver: this.#adoption.tookOver };
  }

  counters(): FishCounters {
    return {
      ...this.#traffic.counts(),
      ...this.#answers.counts(),
      ...this.#path.fragmentCounts(),
      ...tableCounts(this.#life, this.#placeholders, this.#blocks),
      hostErrorsRelayed: this.#hostErrors.relayed,
      mssClamped: this.#path.mss.clamped,
      adoption: this.#adoption.counts(),
    };
  }

  /** All at once: see `views.list`. */
  flows(filter: FlowFilter = {}): readonly FlowSnapshot[] {
    return answerOf(this.views.list(filter, Infinity)).flows;
  }

  /** Who had a tuple at an instant: up to `max` matches, and how far the answer is known. */
  whoHad(query: FlowQuery, nowMs: number, max: number): FlowAnswer {
    return whoHad(query, this.#life, this.#book, this.#blocks, this.#log, nowMs, max);
  }
}

/** Rows that are taken over before somebody looks whether that was the last. */
const rowsAtOnce_max = 65_536;

/** How large fish's memory has to be. */
export const memorySizes = (config: FishConfig): MemorySizes => ({
  flowsMax: config.flowsMax,
  blocksMax: config.blocksMax,
  peersMax: needsPeers(config) ? config.udpPeersMax : 0,
  addressesMax: config.clientPrefixes.some((prefix) => prefixFamily(prefix) === 6) ? config.ipv6AddressesMax : 0,
});

function checkSizes(memory: FlowMemory, config: FishConfig): void {
  const [has, wants] = [memory.sizes, memorySizes(config)];
  if (!sameSizes(has, wants))
    throw new RangeError(`a memory for ${JSON.stringify(has)}; ${JSON.stringify(wants)} is needed`);
}
