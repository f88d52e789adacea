import type { AddressBook } from './packet/address-book.ts';
import type { PrefixList } from './packet/addresses.ts';
import type { Answers } from './answers/answers.ts';
import type { HostErrors } from './answers/host-errors.ts';
import type { BlockTable } from './ports/blocks.ts';
import type { FishConfig } from './config.ts';
import type { TrafficCounters } from './counters.ts';
import { CallPath } from './call-path.ts';
import { ErrorPath } from './error-path.ts';
import { FlowKeeping } from './flows/flow-keeping.ts';
import type { FlowLife } from './flows/flow-life.ts';
import { LIVE, NONE, RESTING } from './flows/flow-table.ts';
import { FragmentTracker } from './fragments/fragments.ts';
import type { MappingKeys } from './flows/mapping.ts';
import { Identifications } from './packet/identifications.ts';
import { MssClamp } from './packet/mss-clamp.ts';
import { IPV6, isEcho, isTcp, isUdp, Packet, SYN } from './packet/packet.ts';
import { PeerFilter } from './flows/peer-filter.ts';
import { INWARD, isFirstSyn, OUTWARD } from './flows/tcp-state.ts';
import {
  giveBackHop,
  renumber,
  settleHeader,
  translateDestination,
  translateDestination6,
  translateSource,
  translateSource6,
} from './packet/translate.ts';
import { DROP, FORWARD, HELD } from './verdicts.ts';
import { segmentsOf } from './packet/vnet-header.ts';

export type FragmentCounts = Readonly<{
  /** Now: packets of which some, but not all fragments have come, and fragments that wait for the first of theirs. */
  fragmentedPackets: number;
  fragmentsHeld: number;
  /** Of those, all that there ever were. */
  fragmentsHeldEver: number;
}>;

type PathParts = Readonly<{
  config: FishConfig;
  random: () => number;
  book: AddressBook;
  clients: PrefixList;
  blocks: BlockTable;
  life: FlowLife;
  keys: MappingKeys;
  answers: Answers;
  hostErrors: HostErrors;
  traffic: TrafficCounters;
}>;

/** The way of a packet through fish: what it is, whose it is, where it goes. See `Forwarder`, whose tables it works on. */
export class PacketPath {
  readonly #packet: Packet;
  readonly #errors: ErrorPath;
  readonly #calls: CallPath;
  readonly #book: AddressBook;
  readonly #clients: PrefixList;
  readonly #blocks: BlockTable;
  readonly #life: FlowLife;
  readonly #keeping: FlowKeeping;
  readonly #answers: Answers;
  readonly #hostErrors: HostErrors;
  readonly #traffic: TrafficCounters;
  readonly #keys: MappingKeys;
  readonly #peers: PeerFilter;
  readonly #identifications: Identifications;
  readonly mss: MssClamp;
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
  /** No flow begins. */
  isFenced = false;

  constructor(o: PathParts) {
    const { config, random, book, life, keys } = o;
    this.#book = book;
    this.#clients = o.clients;
    this.#blocks = o.blocks;
    this.#life = life;
    this.#keys = keys;
    this.#answers = o.answers;
    this.#hostErrors = o.hostErrors;
    this.#traffic = o.traffic;
    this.#packet = new Packet(config.vnetHeaderBytes, book);
    this.#keeping = new FlowKeeping(config, life, o.traffic);
    this.#calls = new CallPath(life, this.#keeping);
    this.#peers = new PeerFilter(life, book, config.udpFiltering);
    this.#errors = new ErrorPath({ book, flows: life.flows, keys, peers: this.#peers });
    this.#identifications = new Identifications(random);
    this.mss = new MssClamp(config);
    this.#fragments = [this.#trackFragments(OUTWARD, config, random), this.#trackFragments(INWARD, config, random)];
    this.#repliesSkipHop = config.placeholderRepliesSkipHop;
  }

  /** See `Forwarder.handle`. */
  handle(buffer: Uint8Array, length: number, nowMs: number): number {
    this.#answers.length = 0;
    this.#nextFrom = null;
    this.#skipsHop = false;
    const packet = this.#packet;
    let verdict = packet.parse(buffer, length);
    if (verdict === FORWARD) {
      const inward = this.#blocks.isLeased(packet.protocol, packet.destination | 0);
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

  /** See `Forwarder.next`. */
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
    settleHeader(packet);
    this.#traffic.forwarded(tracker === this.#fragments[INWARD] ? INWARD : OUTWARD, packet.end - packet.start);
    return length;
  }

  /** Into the TUN and out of it is one hop; who came without the first is not given it back. */
  #countHop(packet: Packet): void {
    if (!this.#skipsHop) giveBackHop(packet);
    settleHeader(packet);
  }

  /** A packet, or the first fragment of one. */
  #handleWhole(packet: Packet, inward: boolean, nowMs: number): number {
    let verdict: number;
    if (packet.isError) verdict = this.#handleError(packet, inward);
    else verdict = inward ? this.#handleInward(packet, nowMs) : this.#handleOutward(packet, nowMs);
    if (verdict !== FORWARD) return verdict;
    if (isTcp(packet.protocol) && (packet.flags & SYN) !== 0) this.mss.apply(packet);
    if (!packet.isAtomic) this.#renumber(packet);
    return FORWARD;
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
    if (this.#blocks.isLeased(packet.protocol, packet.source | 0)) return DROP.spoofed_source;
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
    const remote = this.#keys.remoteOf(protocol, packet.destination | 0);
    const remotePort = this.#keys.remotePortOf(protocol, packet.destinationPort);
    let flow = flows.findByClient(protocol, packet.source | 0, packet.sourcePort, remote | 0, remotePort);
    this.#isNew = false;
    if (flow !== NONE && flows.state[flow] === RESTING) {
      // The last ACK and what is sent again belong to the flow; whatever begins something new gets a tuple of its own.
      if (isTcp(protocol) && !isFirstSyn(packet)) return flow;
      if (this.#life.yielding.has(flow) && this.#life.mappings !== null) {
        // Its port may be mapped to another by now.
        this.#life.forgetYielding(flow);
        flow = NONE;
      } else if (isTcp(protocol) && this.#life.mappings !== null) {
        this.#isNew = true;
        const firstMs = this.#keeping.firstMsOf(protocol);
        const reopened = this.isFenced ? -DROP.fenced : this.#life.reopen(flow, packet, firstMs, nowMs);
        return this.#begun(reopened, packet, nowMs);
      } else {
        flows.detach(flow);
        flow = NONE;
      }
    }
    if (flow === NONE) {
      flow = this.#open(packet, remote, remotePort, nowMs);
      this.#isNew = true;
    }
    return flow >= 0 && isUdp(protocol) ? this.#notePeer(flow, packet, nowMs) : flow;
  }

  /** The flow, if whom its client sends to can be remembered for the answer; else the negated reason, which the client is told. */
  #notePeer(flow: number, packet: Packet, nowMs: number): number {
    const noted = this.#peers.add(flow, this.#life.flows.client[flow]!, packet);
    if (noted === FORWARD) return flow;
    if (this.#isNew) this.#life.cancel(flow);
    return this.#begun(-noted, packet, nowMs);
  }

  #hasFlowOut({ protocol, source, sourcePort, destination, destinationPort }: Packet): boolean {
    const remote = this.#keys.remoteOf(protocol, destination | 0);
    const remotePort = this.#keys.remotePortOf(protocol, destinationPort);
    return this.#life.flows.findByClient(protocol, source | 0, sourcePort, remote | 0, remotePort) !== NONE;
  }

  /** What a packet that went out means for the life of its flow. */
  #keepOut(flow: number, packet: Packet, nowMs: number): void {
    if (isTcp(packet.protocol) && this.#isNew) this.#answers.forget(packet);
    else if (this.#life.flows.state[flow] === LIVE) this.#keeping.outward(flow, packet, nowMs);
  }

  #handleInward(packet: Packet, nowMs: number): number {
    if (!packet.hasRoutableSource()) return DROP.bad_source;
    if (this.#blocks.isLeased(packet.protocol, packet.source | 0)) return DROP.spoofed_source;
    if (this.#isFromClient(packet)) return this.#handleHairpin(packet, nowMs);
    const { protocol } = packet;
    if (isEcho(protocol) && packet.isEchoRequest()) return DROP.icmp_type_unsupported;
    const { flows } = this.#life;
    const remote = this.#keys.remoteOf(protocol, packet.source | 0);
    const remotePort = this.#keys.remotePortOf(protocol, packet.sourcePort);
    const flow = flows.findByLeased(protocol, packet.destination | 0, packet.destinationPort, remote | 0, remotePort);
    if (flow === NONE || flows.state[flow] === RESTING) return this.#handleUnawaited(flow, packet, nowMs);
    if (isUdp(protocol) && !this.#peers.has(flow, packet.source | 0, packet.sourcePort)) return DROP.filtered;
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
    if (!this.#hasFlowOut(packet) && !this.#blocks.isLeasedPort(protocol, destination | 0, destinationPort))
      return DROP.hairpin_nowhere;
    const out = this.#flowOut(packet, nowMs);
    if (out < 0) return -out;
    // Flows are rows of every column.
    const source = flows.leased[out]!;
    const sourcePort = flows.leasedPort[out]!;
    this.#keepOut(out, packet, nowMs);
    const remote = this.#keys.remoteOf(protocol, source | 0);
    const remotePort = this.#keys.remotePortOf(protocol, sourcePort);
    let flow = flows.findByLeased(protocol, destination | 0, destinationPort, remote | 0, remotePort);
    if (flow === NONE || flows.state[flow] === RESTING) {
      const called = this.#calls.take(flow, packet, source, sourcePort, nowMs);
      if (called >= 0) flow = called;
      else if (flow === NONE) return -called;
    }
    const isLive = flows.state[flow] === LIVE;
    if (!isLive && !this.#isRepeated(flow, packet)) return DROP.resting;
    if (isUdp(protocol) && !this.#peers.has(flow, source | 0, sourcePort)) return DROP.filtered;
    this.#life.traffic.count(out, OUTWARD, packet.end - packet.start);
    this.#sendFrom(source | 0, sourcePort, packet);
    this.#sendIn(flow, packet);
    this.#skipsHop = false;
    if (isLive) this.#keeping.inward(flow, packet, nowMs);
    return FORWARD;
  }

  /** To no flow that lasts: perhaps the beginning of one. */
  #handleUnawaited(flow: number, packet: Packet, nowMs: number): number {
    const called = this.#calls.take(flow, packet, packet.source | 0, packet.sourcePort, nowMs);
    if (called >= 0) return this.#sendIn(called, packet);
    if (flow !== NONE) return this.#handleRested(flow, packet);
    if (called !== -DROP.call_limit) this.#handleUnsolicited(packet, nowMs);
    return -called;
  }

  #handleError(packet: Packet, inward: boolean): number {
    if (this.#blocks.isLeased(packet.protocol, packet.source | 0)) return DROP.spoofed_source;
    // From inside, too, it is a router's on the way as often as a client's: whose flow it is about says whether it may pass.
    if (!packet.hasRoutableSource()) return inward ? DROP.bad_source : DROP.source_not_allowed;
    if (!inward) return this.#errors.outward(packet);
    return this.#isFromClient(packet) ? this.#errors.hairpin(packet) : this.#errors.inward(packet);
  }

  #isFromClient({ protocol, source, sourceAt: at, view }: Packet): boolean {
    if (protocol < IPV6) return this.#clients.contains(source | 0);
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
    const flow = this.isFenced
      ? -DROP.fenced
      : this.#life.open(packet, remote, remotePort, this.#keeping.firstMsOf(packet.protocol), nowMs);
    return this.#begun(flow, packet, nowMs);
  }

  /** The flow that has begun; or the negated reason why none has, which the client is told. */
  #begun(flow: number, packet: Packet, nowMs: number): number {
    if (flow < 0) this.#answers.refuse(packet, nowMs);
    return flow;
  }

  /** Never answered at once, and if at all, only for a SYN to a port of ours: see `due`. */
  #handleUnsolicited(packet: Packet, nowMs: number): void {
    const { protocol, destination, destinationPort } = packet;
    const isSyn = isTcp(protocol) && isFirstSyn(packet);
    if (isSyn && this.#blocks.isLeasedPort(protocol, destination | 0, destinationPort))
      this.#answers.hold(packet, nowMs);
  }

  #sendOut(flow: number, packet: Packet): number {
    const { flows } = this.#life;
    this.#flow = flow;
    // The flow was just looked up or opened: a row of every column.
    this.#life.traffic.count(flow, OUTWARD, packet.end - packet.start);
    return this.#sendFrom(flows.leased[flow]! | 0, flows.leasedPort[flow]!, packet);
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
    const [client, port] = [flows.client[flow]! | 0, flows.clientPort[flow]!];
    if (packet.protocol < IPV6) translateDestination(packet, client, port);
    else translateDestination6(packet, this.#book.words, client, port);
    return FORWARD;
  }

  /** See `Forwarder.relayHostError`. Only what a client has sent is told of, to that client. */
  relayHostError(message: Uint8Array, family: 4 | 6): number {
    const packet = this.#packet;
    const length = this.#hostErrors.wrap(message, family);
    if (length === 0 || packet.parse(this.#hostErrors.buffer, length) !== FORWARD || !packet.isError) return 0;
    if (!this.#blocks.isLeased(packet.protocol, packet.destination | 0) || this.#errors.inward(packet) !== FORWARD)
      return 0;
    this.#hostErrors.relayed++;
    return length;
  }

  /** Forgets how first fragments were translated: what follows them would still leave with their source. */
  forgetTranslated(): void {
    for (const tracker of this.#fragments) tracker.forgetTranslated();
  }

  /** Forgets fragments that have waited for too long, looking at no more than `max` packets; how many it looked at. */
  expire(nowMs: number, max: number): number {
    let looked = 0;
    for (const tracker of this.#fragments) looked += tracker.expire(nowMs, max - looked);
    return looked;
  }

  fragmentCounts(): FragmentCounts {
    const [outward, inward] = this.#fragments;
    return {
      fragmentedPackets: outward.packets + inward.packets,
      fragmentsHeld: outward.held + inward.held,
      fragmentsHeldEver: outward.heldEver + inward.heldEver,
    };
  }
}
