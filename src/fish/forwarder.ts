import { prefixFamily } from '../net/prefix.ts';
import { AddressBook } from './packet/address-book.ts';
import { PrefixList } from './packet/addresses.ts';
import { Adoption, type TookOver } from './flows/adoption.ts';
import { BlockTable, type BlockChange, type LeasedBlock } from './ports/blocks.ts';
import type { FishConfig } from './config.ts';
import { TrafficCounters, type FishCounters } from './counters.ts';
import { FlowKeeping } from './flows/flow-keeping.ts';
import { FlowLife } from './flows/flow-life.ts';
import type { EndedFlows, FlowAnswer, FlowLog, FlowLogCursor } from './log/flow-log.ts';
import type { Ending } from './log/flow-record.ts';
import { sameSizes, type FlowMemory, type MemorySizes } from './flows/flow-memory.ts';
import { LIVE, NONE, RESTING } from './flows/flow-table.ts';
import type { FlowQuery } from './flows/flow-tuple.ts';
import { flowSnapshots, FlowViews, whoHad, type FlowFilter, type FlowSnapshot } from './log/flow-views.ts';
import { FragmentTracker } from './fragments/fragments.ts';
import { ErrorPath } from './error-path.ts';
import { ProhibitedReply } from './answers/icmp-prohibited.ts';
import { MappingKeys, needsPeers } from './flows/mapping.ts';
import { Identifications } from './packet/identifications.ts';
import { ACK, IPV6, isEcho, isTcp, isUdp, Packet, SYN } from './packet/packet.ts';
import { PeerFilter } from './flows/peer-filter.ts';
import { PlaceholderBudget, type Placeholders } from './ports/placeholders.ts';
import { portUse, type PortUse } from './ports/port-use.ts';
import { ResetReply } from './answers/reset-reply.ts';
import { INWARD, OUTWARD } from './flows/tcp-state.ts';
import {
  giveBackHop,
  renumber,
  translateDestination,
  translateDestination6,
  translateSource,
  translateSource6,
} from './packet/translate.ts';
import { UnsolicitedSyns } from './answers/unsolicited-syns.ts';
import { DROP, FORWARD, HELD } from './verdicts.ts';
import { segmentsOf } from './packet/vnet-header.ts';

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
  readonly #packet: Packet;
  readonly #errors: ErrorPath;
  readonly #book: AddressBook;
  readonly #clients: PrefixList;
  readonly #blocks: BlockTable;
  readonly #placeholders: PlaceholderBudget;
  readonly #life: FlowLife;
  readonly #keeping: FlowKeeping;
  readonly #log: FlowLog;
  readonly views: FlowViews;
  readonly #adoption: Adoption;
  readonly #prohibited: ProhibitedReply;
  /** null: TCP is refused by ICMP, too. */
  readonly #resets: ResetReply | null;
  /** null: they are dropped. */
  readonly #syns: UnsolicitedSyns | null;
  #replyBuffer: Uint8Array;
  readonly #traffic = new TrafficCounters();
  readonly #keys: MappingKeys;
  readonly #peers: PeerFilter;
  readonly #identifications: Identifications;
  /** By direction: OUTWARD, INWARD. */
  readonly #fragments: readonly [FragmentTracker, FragmentTracker];
  /** The direction from which `next` has more. */
  #nextFrom: FragmentTracker | null = null;
  /** The flow of the last packet, or NONE. */
  #flow = NONE;
  /** Whether the packet that is handled has begun it. */
  #isNew = false;
  readonly #repliesSkipHop: boolean;
  /** Whether that packet came into the TUN without a hop. */
  #skipsHop = false;
  #isFenced = false;
  /** Bytes of `reply` to be written to the TUN after the last `handle`, most often 0. */
  replyLength = 0;

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
    this.#book = new AddressBook(memory.columns.addresses.words, random);
    this.#packet = new Packet(config.vnetHeaderBytes, this.#book);
    this.#clients = new PrefixList(config.clientPrefixes);
    this.#blocks = new BlockTable(memory.columns.blocks, this.#book);
    this.#placeholders = new PlaceholderBudget(o.placeholders, this.#book, config.placeholdersMax);
    this.#keys = new MappingKeys(config.udpMapping);
    this.#repliesSkipHop = config.placeholderRepliesSkipHop;
    const parts = { config, memory, book: this.#book, blocks: this.#blocks, placeholders: this.#placeholders };
    this.#life = new FlowLife({ ...parts, random, log });
    this.#keeping = new FlowKeeping(config, this.#life, this.#traffic);
    this.#adoption = new Adoption({ ...parts, clients: this.#clients, life: this.#life, keys: this.#keys });
    this.#peers = new PeerFilter(this.#life.peers, this.#book, config.udpFiltering);
    this.#errors = new ErrorPath({
      book: this.#book,
      flows: this.#life.flows,
      keys: this.#keys,
      peers: this.#peers,
    });
    this.#log = log;
    this.views = new FlowViews(this.#life, this.#book, this.#blocks);
    this.#prohibited = new ProhibitedReply(config);
    this.#identifications = new Identifications(random);
    this.#fragments = [this.#trackFragments(OUTWARD, config, random), this.#trackFragments(INWARD, config, random)];
    this.#replyBuffer = this.#prohibited.buffer;
    this.#syns =
      config.unsolicitedSyn === 'unreachable'
        ? new UnsolicitedSyns(config.icmpErrorsPerSMax, config.vnetHeaderBytes)
        : null;
    this.#resets =
      config.refuseTcpWith === 'rst' ? new ResetReply(config.icmpErrorsPerSMax, config.vnetHeaderBytes) : null;
  }

  /** A packet of fish's own, its virtio header included, when `replyLength` is not 0. */
  get reply(): Uint8Array {
    return this.#replyBuffer;
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
   * Takes the packet in the first `length` bytes of `buffer`, its virtio header included. FORWARD: it is translated in
   * place, and the same bytes are to be written back. Otherwise a number of DROP, and the bytes are as they were. Keep to
   * one buffer: another one than last time costs an allocation.
   */
  handle(buffer: Uint8Array, length: number, nowMs: number): number {
    this.replyLength = 0;
    this.#nextFrom = null;
    this.#skipsHop = false;
    const packet = this.#packet;
    let verdict = packet.parse(buffer, length);
    if (verdict === FORWARD) {
      const inward = this.#blocks.isLeased(packet.protocol, packet.destination);
      const direction = inward ? INWARD : OUTWARD;
      verdict = packet.isFragment
        ? this.#handleFragment(this.#fragments[direction], packet, inward, buffer, length, nowMs)
        : this.#handleWhole(packet, inward, nowMs);
      if (verdict === FORWARD) {
        this.#countHop(packet);
        this.#traffic.forwarded(direction, packet.end - packet.start);
      }
    }
    if (verdict !== FORWARD && verdict !== HELD) this.#traffic.dropped(verdict);
    return verdict;
  }

  /**
   * After FORWARD, when the packet has been written: what leaves behind it, because it has waited for it. Writes the next such
   * packet to the start of `buffer`; its length, or 0 when there is no more. Call it until then.
   */
  next(buffer: Uint8Array): number {
    const tracker = this.#nextFrom;
    if (tracker === null) return 0;
    const length = tracker.next(buffer);
    if (length === 0) {
      this.#nextFrom = null;
      return 0;
    }
    const packet = this.#packet;
    // It was parsed before, with the same result.
    packet.parse(buffer, length);
    tracker.translate(packet);
    giveBackHop(packet);
    this.#traffic.forwarded(tracker === this.#fragments[INWARD] ? INWARD : OUTWARD, packet.end - packet.start);
    return length;
  }

  /** Into the TUN and out of it is one hop; who came without the first is not given it back. */
  #countHop(packet: Packet): void {
    if (!this.#skipsHop) giveBackHop(packet);
  }

  /** A packet, or the first fragment of one. */
  #handleWhole(packet: Packet, inward: boolean, nowMs: number): number {
    let verdict: number;
    if (packet.isError) verdict = this.#handleError(packet, inward);
    else verdict = inward ? this.#handleInward(packet, nowMs) : this.#handleOutward(packet, nowMs);
    if (verdict === FORWARD && !packet.isAtomic) this.#renumber(packet);
    return verdict;
  }

  #handleFragment(
    tracker: FragmentTracker,
    packet: Packet,
    inward: boolean,
    buffer: Uint8Array,
    length: number,
    nowMs: number,
  ): number {
    const taken = tracker.take(packet, buffer, length, nowMs);
    if (taken !== FORWARD || packet.fragmentOffset !== 0) return taken;
    this.#flow = NONE;
    const verdict = this.#handleWhole(packet, inward, nowMs);
    if (verdict !== FORWARD) tracker.refuse();
    else {
      const flow = isTcp(packet.protocol) ? this.#flow : NONE;
      const hasMore = tracker.admit(packet, flow, flow === NONE ? 0 : this.#life.flows.openedMs[flow]!);
      if (hasMore) this.#nextFrom = tracker;
    }
    return verdict;
  }

  #trackFragments(direction: number, config: FishConfig, random: () => number): FragmentTracker {
    const limits = {
      packetsMax: Math.ceil(config.fragmentedPacketsMax / 2),
      bytesMax: Math.ceil(config.fragmentBytesMax / 2),
      timeoutMs: config.fragmentTimeoutS * 1_000,
    };
    return new FragmentTracker(limits, random, {
      dropped: (reason) => this.#traffic.dropped(reason),
      wholeSegment: (flow, openedMs, end) => {
        const { flows, tcp } = this.#life;
        if (flows.state[flow] === LIVE && flows.openedMs[flow] === openedMs) tcp.extend(flow, direction, end);
      },
    });
  }

  /** What may be cut on its way, or is, has to be told from what others send between the same addresses. */
  #renumber(packet: Packet): void {
    const { view, sourceAt, destinationAt, protocol } = packet;
    const segments = segmentsOf(view, packet.start, packet.end - packet.transport);
    renumber(packet, this.#identifications.take(view, sourceAt, destinationAt - sourceAt, protocol, segments));
  }

  #handleOutward(packet: Packet, nowMs: number): number {
    if (this.#blocks.isLeased(packet.protocol, packet.source)) return DROP.spoofed_source;
    if (!packet.hasRoutableDestination()) return DROP.bad_destination;
    if (isEcho(packet.protocol) && !packet.isEchoRequest()) return DROP.icmp_type_unsupported;
    const flow = this.#flowOut(packet, nowMs);
    if (flow < 0) return -flow;
    this.#sendOut(flow, packet);
    this.#keepOut(flow, packet, nowMs);
    return FORWARD;
  }

  /** The flow by which a client's packet goes out, a new one if need be; or the negated reason why there is none. */
  #flowOut(packet: Packet, nowMs: number): number {
    const { protocol } = packet;
    const { flows } = this.#life;
    const remote = this.#keys.remoteOf(protocol, packet.destination);
    const remotePort = this.#keys.remotePortOf(protocol, packet.destinationPort);
    let flow = flows.findByClient(protocol, packet.source, packet.sourcePort, remote, remotePort);
    this.#isNew = false;
    if (flow !== NONE && flows.state[flow] === RESTING) {
      // The last ACK and what is sent again belong to the flow; whatever begins something new gets a tuple of its own.
      if (isTcp(protocol) && !isFirstSyn(packet)) return flow;
      flows.detach(flow);
      flow = NONE;
    }
    if (flow === NONE) {
      flow = this.#open(packet, remote, remotePort, nowMs);
      this.#isNew = true;
    }
    if (flow >= 0 && isUdp(protocol) && !this.#peers.add(flow, packet)) return -DROP.peers_full;
    return flow;
  }

  #hasFlowOut({ protocol, source, sourcePort, destination, destinationPort }: Packet): boolean {
    const remote = this.#keys.remoteOf(protocol, destination);
    const remotePort = this.#keys.remotePortOf(protocol, destinationPort);
    return this.#life.flows.findByClient(protocol, source, sourcePort, remote, remotePort) !== NONE;
  }

  /** What a packet that went out means for the life of its flow. */
  #keepOut(flow: number, packet: Packet, nowMs: number): void {
    if (isTcp(packet.protocol) && this.#isNew) this.#syns?.forget(packet);
    else if (this.#life.flows.state[flow] === LIVE) this.#keeping.outward(flow, packet, nowMs);
  }

  #handleInward(packet: Packet, nowMs: number): number {
    if (!packet.hasRoutableSource()) return DROP.bad_source;
    if (this.#blocks.isLeased(packet.protocol, packet.source)) return DROP.spoofed_source;
    if (this.#isFromClient(packet)) return this.#handleHairpin(packet, nowMs);
    const { protocol } = packet;
    if (isEcho(protocol) && packet.isEchoRequest()) return DROP.icmp_type_unsupported;
    const { flows } = this.#life;
    const remote = this.#keys.remoteOf(protocol, packet.source);
    const remotePort = this.#keys.remotePortOf(protocol, packet.sourcePort);
    const flow = flows.findByLeased(protocol, packet.destination, packet.destinationPort, remote, remotePort);
    if (flow === NONE) return this.#handleUnsolicited(packet, nowMs);
    if (flows.state[flow] === RESTING) return this.#handleRested(flow, packet);
    if (isUdp(protocol) && !this.#peers.has(flow, packet.source, packet.sourcePort)) return DROP.filtered;
    this.#sendIn(flow, packet);
    this.#keeping.inward(flow, packet, nowMs);
    return FORWARD;
  }

  /**
   * From one client to another, or itself, by their leased ports (RFC 4787 REQ-9, RFC 5382 REQ-8): it goes out and comes in at
   * once, and whom it reaches sees a leased source, as from anybody outside. An echo has no port by which it could be meant
   * for a client. What is not let in has gone out nevertheless: its flow lets the answer in.
   */
  #handleHairpin(packet: Packet, nowMs: number): number {
    const { protocol, destination, destinationPort } = packet;
    if (isEcho(protocol)) return DROP.hairpin_nowhere;
    const { flows } = this.#life;
    if (!this.#hasFlowOut(packet) && !this.#blocks.isLeasedPort(protocol, destination, destinationPort))
      return DROP.hairpin_nowhere;
    const out = this.#flowOut(packet, nowMs);
    if (out < 0) return -out;
    // Flows are rows of every column.
    const [source, sourcePort] = [flows.leased[out]!, flows.leasedPort[out]!];
    this.#keepOut(out, packet, nowMs);
    const remote = this.#keys.remoteOf(protocol, source);
    const remotePort = this.#keys.remotePortOf(protocol, sourcePort);
    const flow = flows.findByLeased(protocol, destination, destinationPort, remote, remotePort);
    if (flow === NONE) return DROP.no_flow;
    const isLive = flows.state[flow] === LIVE;
    if (!isLive && !this.#isRepeated(flow, packet)) return DROP.resting;
    if (isUdp(protocol) && !this.#peers.has(flow, source, sourcePort)) return DROP.filtered;
    this.#life.traffic.count(out, OUTWARD, packet.end - packet.start);
    this.#sendFrom(source, sourcePort, packet);
    this.#sendIn(flow, packet);
    this.#skipsHop = false;
    if (isLive) this.#keeping.inward(flow, packet, nowMs);
    return FORWARD;
  }

  #handleError(packet: Packet, inward: boolean): number {
    if (this.#blocks.isLeased(packet.protocol, packet.source)) return DROP.spoofed_source;
    const isRoutable = packet.hasRoutableSource();
    if (!inward)
      return isRoutable && this.#isFromClient(packet) ? this.#errors.outward(packet) : DROP.source_not_allowed;
    if (!isRoutable) return DROP.bad_source;
    return this.#isFromClient(packet) ? this.#errors.hairpin(packet) : this.#errors.inward(packet);
  }

  #isFromClient({ protocol, source, sourceAt: at, view }: Packet): boolean {
    if (protocol < IPV6) return this.#clients.contains(source);
    const [first, second] = [view.getUint32(at), view.getUint32(at + 4)];
    return this.#clients.contains6(first, second, view.getUint32(at + 8), view.getUint32(at + 12));
  }

  /** The end of a TCP connection is told again when its last ACK was lost; nothing else is for the client any more. */
  #handleRested(flow: number, packet: Packet): number {
    return this.#isRepeated(flow, packet) ? this.#sendIn(flow, packet) : DROP.resting;
  }

  #isRepeated(flow: number, packet: Packet): boolean {
    return isTcp(packet.protocol) && (packet.flags & SYN) === 0 && this.#life.flows.isAttached(flow);
  }

  /** A flow for the first packet of a client, or the negated reason; where ports are the reason, the client is told. */
  #open(packet: Packet, remote: number, remotePort: number, nowMs: number): number {
    if (!packet.hasRoutableSource() || !this.#isFromClient(packet)) return -DROP.source_not_allowed;
    if (isTcp(packet.protocol) && !isFirstSyn(packet)) return -DROP.not_syn;
    const flow = this.#isFenced
      ? -DROP.fenced
      : this.#life.open(packet, remote, remotePort, this.#keeping.firstMsOf(packet.protocol), nowMs);
    if (flow < 0) this.#refuse(packet, nowMs);
    return flow;
  }

  /** Never answered at once, and if at all, only for a SYN to a port of ours: see `due`. */
  #handleUnsolicited(packet: Packet, nowMs: number): number {
    const { protocol, destination, destinationPort } = packet;
    const syns = isTcp(protocol) && isFirstSyn(packet) ? this.#syns : null;
    if (syns !== null && this.#blocks.isLeasedPort(protocol, destination, destinationPort)) syns.hold(packet, nowMs);
    return DROP.no_flow;
  }

  #refuse(packet: Packet, nowMs: number): void {
    const refusal = isTcp(packet.protocol) && this.#resets !== null ? this.#resets : this.#prohibited;
    this.replyLength = refusal.write(packet, nowMs);
    this.#replyBuffer = refusal.buffer;
  }

  #sendOut(flow: number, packet: Packet): number {
    const { flows } = this.#life;
    this.#flow = flow;
    // The flow was just looked up or opened: a row of every column.
    this.#life.traffic.count(flow, OUTWARD, packet.end - packet.start);
    return this.#sendFrom(flows.leased[flow]!, flows.leasedPort[flow]!, packet);
  }

  #sendFrom(leased: number, port: number, packet: Packet): number {
    if (packet.protocol < IPV6) translateSource(packet, leased, port);
    else translateSource6(packet, this.#book.words, leased, port);
    return FORWARD;
  }

  #sendIn(flow: number, packet: Packet): number {
    const { flows } = this.#life;
    this.#flow = flow;
    this.#life.traffic.count(flow, INWARD, packet.end - packet.start);
    // Fragments come by the rules, which put them together first, and by the hop.
    this.#skipsHop = this.#repliesSkipHop && flows.placeholder[flow] !== NONE && !packet.isFragment;
    const [client, port] = [flows.client[flow]!, flows.clientPort[flow]!];
    if (packet.protocol < IPV6) translateDestination(packet, client, port);
    else translateDestination6(packet, this.#book.words, client, port);
    return FORWARD;
  }

  /**
   * Makes these the blocks to send from. Flows of blocks that are gone end at once, without a rest, and their
   * placeholders are closed when this returns. A block is the same only if all of it is.
   */
  setBlocks(wanted: readonly LeasedBlock[], nowMs: number): ClosedSummary {
    this.#isFenced = false;
    return this.#changeBlocks(wanted, 'lease_ended', nowMs);
  }

  /**
   * What was leased may be another machine's by now: no new flow begins until the next `setBlocks`, and those there are end
   * as by `setBlocks` without any.
   */
  fence(nowMs: number): ClosedSummary {
    this.#isFenced = true;
    return this.#changeBlocks([], 'fenced', nowMs);
  }

  #changeBlocks(wanted: readonly LeasedBlock[], ending: Ending, nowMs: number): ClosedSummary {
    while (this.#adoption.isUnderWay) this.adopt(nowMs, rowsAtOnce_max);
    const removed = new Set(this.#blocks.removedBy(wanted));
    // What follows a first fragment would still leave with its source.
    if (removed.size > 0) for (const tracker of this.#fragments) tracker.forgetTranslated();
    const ended = this.#life.endBlocks(removed, nowMs, ending);
    return { ...ended, ...this.#blocks.replace(wanted) };
  }

  /** Gives no new flow a port of these leases, and of no others, until it is told again; those that they have go on. */
  drain(leases: readonly string[]): void {
    this.#blocks.drain(leases);
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
    const syns = this.#syns;
    if (syns === null) return 0;
    this.#replyBuffer = syns.buffer;
    return syns.due(nowMs);
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
    let looked = this.#life.expire(nowMs, max);
    for (const tracker of this.#fragments) looked += tracker.expire(nowMs, max - looked);
    return looked;
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
    const [outward, inward] = this.#fragments;
    return {
      ...this.#traffic.snapshot(
        this.#life,
        this.#placeholders,
        this.#prohibited,
        this.#resets,
        this.#syns,
        this.#blocks,
        this.#adoption,
      ),
      fragmentedPackets: outward.packets + inward.packets,
      fragmentsHeld: outward.held + inward.held,
      fragmentsHeldEver: outward.heldEver + inward.heldEver,
    };
  }

  flows(filter: FlowFilter = {}): Generator<FlowSnapshot> {
    return flowSnapshots(this.#life, this.#book, this.#blocks, filter);
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

/** The SYN that begins a connection, rather than the answer to one. */
const isFirstSyn = (packet: Packet): boolean => (packet.flags & (SYN | ACK)) === SYN;
