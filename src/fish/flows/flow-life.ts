import { NO_ADDRESS, type AddressBook } from '../packet/address-book.ts';
import type { BlockTable } from '../ports/blocks.ts';
import { Clients } from '../ports/clients.ts';
import type { FishConfig } from '../config.ts';
import { Destinations } from '../ports/destinations.ts';
import type { FlowMemory } from './flow-memory.ts';
import { FREE, FlowTable, LIVE, NONE, RESTING } from './flow-table.ts';
import { type FlowLog } from '../log/flow-log.ts';
import { endings, type Ending } from '../log/flow-record.ts';
import { FlowTraffic } from './flow-traffic.ts';
import { needsPeers } from './mapping.ts';
import { IPV6, isTcp, isUdp, NOT_KNOWN, UDP6, type Packet } from '../packet/packet.ts';
import type { PlaceholderBudget } from '../ports/placeholders.ts';
import { SourcePicker } from '../ports/source-picker.ts';
import { Subscribers } from '../ports/subscribers.ts';
import { TcpCalls } from './tcp-calls.ts';
import { needsTcpMappings, TcpMappings } from './tcp-mappings.ts';
import { INWARD, OUTWARD, TcpTracker } from './tcp-state.ts';
import { NOTHING_DUE, NOT_YET, TimingWheel } from '../tables/timing-wheel.ts';
import { UdpPeers } from './udp-peers.ts';
import { YieldingFlows } from './yielding.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** Timers are whole seconds, or some: half a second is early enough to notice that one has passed. */
const TICK_MS = 500;
/** A flow that yields need not be the last to name its addresses: so many are asked for their room. */
const freedForAddress_max = 64;

export type FlowLifeParts = Readonly<{
  config: FishConfig;
  memory: FlowMemory;
  book: AddressBook;
  random: () => number;
  placeholders: PlaceholderBudget;
  blocks: BlockTable;
  log: FlowLog;
}>;

/**
 * How flows begin and end: live → resting → free. Everything that has to happen together happens here, so that a
 * placeholder is closed once, a flow logged once, and a tuple free only after both.
 *
 * The order of what is written matters: the process may be killed between any two stores, and its successor makes do with
 * what the memory holds then. A row counts from its last store on, and no more from the first of its end; what is done to a
 * row that does not count needs no order.
 */
export class FlowLife {
  readonly #parts: FlowLifeParts;
  readonly #wheel: TimingWheel;
  readonly #picker: SourcePicker;
  readonly flows: FlowTable;
  readonly tcp: TcpTracker;
  readonly subscribers: Subscribers;
  readonly clients: Clients;
  readonly destinations: Destinations;
  readonly traffic: FlowTraffic;
  /** null where the mapping is all the filter there is. */
  readonly peers: UdpPeers | null;
  /** null where each TCP connection has a port of its own. */
  readonly mappings: TcpMappings | null;
  /** Those of TCP from outside, as far as there can be any: see `mappings`. */
  readonly calls: TcpCalls;
  readonly yielding: YieldingFlows;
  opened = 0;
  live = 0;
  /** By the index of `endings`. */
  readonly ended = new Float64Array(endings.length);
  /** What to add to the caller's clock to have milliseconds since 1970. */
  wallOffsetMs = 0;

  constructor(parts: FlowLifeParts) {
    const { config, random, placeholders, blocks } = parts;
    const { columns } = parts.memory;
    this.#parts = parts;
    this.flows = new FlowTable(columns.flows, random);
    this.tcp = new TcpTracker(columns.tcp);
    this.peers = needsPeers(config) ? new UdpPeers(this.flows.capacity, columns.peers, random) : null;
    this.subscribers = new Subscribers(parts.book.words, config.clientPrefix6Bits, random);
    this.clients = new Clients(config, this.subscribers, random);
    this.destinations = new Destinations(this.flows.capacity, random);
    this.traffic = new FlowTraffic(this.flows.capacity);
    this.mappings = needsTcpMappings(config) ? new TcpMappings(this.flows, config, random) : null;
    this.yielding = new YieldingFlows(this.flows.capacity);
    this.calls = new TcpCalls(this.mappings === null ? 0 : this.flows.capacity);
    const { flows, clients, destinations, mappings, yielding } = this;
    this.#picker = new SourcePicker({
      config,
      flows,
      blocks,
      placeholders,
      clients,
      destinations,
      mappings,
      yielding,
      random,
    });
    const longestS = Math.max(...Object.values(config.timers));
    this.#wheel = new TimingWheel(columns.flows.deadlineMs, TICK_MS, longestS * 1_000);
  }

  /**
   * Begins a flow for a client's packet, toward `remote` and its port as they are in the flow's keys. The flow, or the
   * negated reason why there can be none. It lasts for `forMs` unless it is refreshed.
   */
  open(packet: Packet, remote: number, remotePort: number, forMs: number, nowMs: number): number {
    this.#makeRoom();
    if (this.flows.isFull) return -DROP.table_full;
    if (packet.protocol < IPV6) return this.#open(packet, packet.source, remote, remotePort, forMs, nowMs);
    // A flow counts on its client's address and, if its key has it, on its remote's; the leased one is its block's.
    const { book } = this.#parts;
    const client = this.#hold(packet.view, packet.sourceAt);
    const held = remote === NO_ADDRESS ? NO_ADDRESS : this.#hold(packet.view, packet.destinationAt);
    const isFull = client === NO_ADDRESS || (remote !== NO_ADDRESS && held === NO_ADDRESS);
    const flow = isFull ? -DROP.addresses_full : this.#open(packet, client, held, remotePort, forMs, nowMs);
    if (flow >= 0) return flow;
    if (client !== NO_ADDRESS) book.letGo(client);
    if (held !== NO_ADDRESS) book.letGo(held);
    return flow;
  }

  #open(packet: Packet, client: number, remote: number, remotePort: number, forMs: number, nowMs: number): number {
    const admitted = this.clients.admit(client, packet.protocol, this.#freeRows, nowMs);
    if (admitted !== FORWARD) return -admitted;
    const verdict = this.#picker.pick(packet, client, remote, remotePort);
    if (verdict !== FORWARD) return -verdict;
    return this.#begin(OUTWARD, packet, client, packet.sourcePort, remote, remotePort, forMs, nowMs);
  }

  /** Rows that new flows may have, those included that are yielded. */
  get #freeRows(): number {
    return this.flows.capacity - this.flows.count + this.yielding.count;
  }

  /** Of what is all in use, one is taken from who yields it, if anybody does. */
  #makeRoom(): void {
    const { flows, yielding } = this;
    const { placeholders } = this.#parts;
    if (flows.isFull && yielding.count > 0) this.#free(yielding.oldest(false));
    if (placeholders.isSpent && yielding.placeholders > 0) this.#free(yielding.oldest(true));
  }

  /** The number of an IPv6 address, for which those make room who yield; or NO_ADDRESS. */
  #hold(view: DataView, at: number): number {
    const { book } = this.#parts;
    let held = book.hold(view, at);
    for (let freed = 0; held === NO_ADDRESS && this.yielding.count > 0 && freed < freedForAddress_max; freed++) {
      this.#free(this.yielding.oldest(false));
      held = book.hold(view, at);
    }
    return held;
  }

  /**
   * Begins a flow for a TCP connection that a remote begins with a mapped port: it is told as the flow's key has it, or by the
   * packet's source if nobody knows its address yet. The flow, or the negated reason why there can be none. `instead`: one that
   * yields this very tuple, or NONE.
   */
  openCall(
    packet: Packet,
    mapping: number,
    remote: number,
    remotePort: number,
    instead: number,
    forMs: number,
    nowMs: number,
  ): number {
    if (packet.protocol < IPV6) return this.#openCall(packet, mapping, remote, remotePort, instead, forMs, nowMs);
    // Whoever makes room may be the last to know the remote's address, so it is held before.
    const held = this.#holdRemote(packet, remote);
    if (held === NO_ADDRESS) return -DROP.addresses_full;
    const flow = this.#openCall(packet, mapping, held, remotePort, instead, forMs, nowMs);
    if (flow < 0) this.#parts.book.letGo(held);
    return flow;
  }

  #openCall(
    packet: Packet,
    mapping: number,
    remote: number,
    remotePort: number,
    instead: number,
    forMs: number,
    nowMs: number,
  ): number {
    const { flows, clients, calls } = this;
    const mappings = this.mappings!;
    const { protocol } = packet;
    const client = mappings.clientOf(mapping);
    const clientPort = mappings.clientPortOf(mapping);
    if (instead !== NONE) this.#free(instead);
    this.#makeRoom();
    if (flows.isFull) return -DROP.table_full;
    // The client has this port toward the remote by another leased one.
    if (flows.findByClient(protocol, client, clientPort, remote, remotePort) !== NONE) return -DROP.no_flow;
    const admitted = clients.mayHaveOneMore(client, protocol, this.#freeRows) || calls.admit(mapping, nowMs);
    if (admitted !== FORWARD) return -admitted;
    const verdict = this.#picker.pickMapped(mapping, protocol, client, remote, remotePort);
    if (verdict !== FORWARD) return -verdict;
    if (protocol >= IPV6) this.#parts.book.holdRow(client);
    const flow = this.#begin(INWARD, packet, client, clientPort, remote, remotePort, forMs, nowMs);
    calls.begin(flow, mapping);
    return flow;
  }

  #holdRemote(packet: Packet, remote: number): number {
    const { book } = this.#parts;
    if (remote === NOT_KNOWN) return this.#hold(packet.view, packet.sourceAt);
    book.holdRow(remote);
    return remote;
  }

  /** A client connects once more where it has been, by the flow that rests; that, or the negated reason why it may not. */
  reopen(flow: number, packet: Packet, forMs: number, nowMs: number): number {
    const { protocol } = packet;
    const admitted = this.clients.admit(packet.source, protocol, this.#freeRows, nowMs);
    if (admitted !== FORWARD) return -admitted;
    this.restart(flow, OUTWARD, packet, forMs, nowMs);
    return flow;
  }

  /** A flow that rests begins anew, with the SYN of a side and the port that its mapping has. */
  restart(flow: number, direction: number, packet: Packet, forMs: number, nowMs: number): void {
    const { flows } = this;
    flows.openedMs[flow] = nowMs;
    this.traffic.begin(flow);
    this.tcp.open(flow, direction, packet);
    this.setDeadline(flow, nowMs + forMs, nowMs);
    flows.state[flow] = LIVE;
    if (direction === INWARD) this.calls.begin(flow, this.mappings!.ofFlow(flow));
    this.opened++;
    this.live++;
  }

  /** What was picked becomes a flow. `direction`: whose packet it is, the client's or the remote's. */
  #begin(
    direction: number,
    packet: Packet,
    client: number,
    clientPort: number,
    remote: number,
    remotePort: number,
    forMs: number,
    nowMs: number,
  ): number {
    const { flows } = this;
    const picker = this.#picker;
    // Whose tuple it was has had its rest; of its placeholder, if it has one, the new flow is the holder from here on.
    if (picker.yielded !== NONE) this.#free(picker.yielded, true);
    const flow = flows.take();
    flows.protocol[flow] = packet.protocol;
    flows.client[flow] = client;
    flows.clientPort[flow] = clientPort;
    flows.leased[flow] = picker.address;
    flows.leasedPort[flow] = picker.port;
    flows.remote[flow] = remote;
    flows.remotePort[flow] = remotePort;
    flows.block[flow] = picker.slot;
    flows.placeholder[flow] = picker.placeholder;
    flows.openedMs[flow] = nowMs;
    this.traffic.begin(flow);
    if (isTcp(packet.protocol)) this.tcp.open(flow, direction, packet);
    this.setDeadline(flow, nowMs + forMs, nowMs);
    flows.publish(flow);
    this.#countIn(flow, nowMs);
    this.opened++;
    this.live++;
    return flow;
  }

  /** A flow that has just begun, and by which nothing has gone out, is as if it had never been. */
  cancel(flow: number): void {
    this.opened--;
    this.live--;
    this.#free(flow);
  }

  /** Counts in a row that was checked, with what is left of its time. */
  adopt(flow: number, deadlineMs: number, nowMs: number): void {
    this.flows.adopt(flow);
    this.setDeadline(flow, deadlineMs, nowMs);
    this.#countIn(flow, nowMs);
    if (this.flows.state[flow] !== LIVE) return;
    this.live++;
    const isCall = this.mappings !== null && isTcp(this.flows.protocol[flow]!) && this.tcp.awaitsClient(flow);
    if (isCall) this.calls.begin(flow, this.mappings.ofFlow(flow));
  }

  /** New flows of a protocol that found no port. */
  refusedOf(protocol: number): number {
    return this.#picker.refused[protocol] ?? 0;
  }

  /** The flow ends at this time if nothing refreshes it before. */
  setDeadline(flow: number, deadlineMs: number, nowMs: number): void {
    this.#wheel.schedule(flow, deadlineMs, nowMs);
  }

  /** As `setDeadline`, unless it ends sooner. */
  shorten(flow: number, deadlineMs: number, nowMs: number): void {
    this.#wheel.schedule(flow, Math.min(deadlineMs, this.#wheel.deadlineOf(flow)), nowMs);
  }

  /** Ends a live flow: from now on it rests, or is gone when its protocol takes no rest. */
  end(flow: number, ending: Ending, nowMs: number): void {
    this.#logEnd(flow, ending, nowMs);
    // Nothing has passed that could come late, and whoever knocks at ports must not have them all rest.
    const restMs = this.#isUnansweredCall(flow) ? 0 : this.#restMsOf(flow);
    const restsLonger = ending === 'reset' && !this.#isUnansweredCall(flow);
    this.yielding.note(flow, restsLonger);
    if (restMs === 0 && !(restsLonger && this.#yield(flow, nowMs))) {
      this.#free(flow);
      return;
    }
    if (restMs === 0) {
      this.flows.state[flow] = RESTING;
      return;
    }
    this.#wheel.schedule(flow, nowMs + restMs, nowMs);
    this.flows.state[flow] = RESTING;
  }

  /** Ends what is due, looking at no more than `max` flows. Answers how many it looked at: `max` means call again. */
  expire(nowMs: number, max: number): number {
    for (let looked = 0; looked < max; looked++) {
      const flow = this.#wheel.step(nowMs);
      if (flow === NOTHING_DUE) return looked;
      if (flow === NOT_YET) continue;
      if (this.flows.state[flow] === LIVE) this.end(flow, 'idle', nowMs);
      else if (!this.yielding.mayYield(flow) || !this.#yield(flow, nowMs)) this.#free(flow);
    }
    return max;
  }

  /** Ends all flows of these blocks without a rest: their ports are no longer fish's to keep. One pass over the table. */
  endBlocks(
    slots: ReadonlySet<number>,
    nowMs: number,
    ending: Ending = 'lease_ended',
  ): { closed: number; placeholders: number } {
    const { flows } = this;
    let closed = 0;
    let placeholders = 0;
    for (let flow = 0; flow < flows.capacity; flow++) {
      // flow is below the capacity of every column.
      if (flows.state[flow] === FREE || !slots.has(flows.block[flow]!)) continue;
      if (flows.placeholder[flow] !== NONE) placeholders++;
      if (flows.state[flow] === LIVE) {
        closed++;
        this.#logEnd(flow, ending, nowMs);
      }
      this.#free(flow);
    }
    return { closed, placeholders };
  }

  /** The caller's clock as an instant: microseconds since 1970. */
  instantOf(ms: number): number {
    return Math.round((ms + this.wallOffsetMs) * 1_000);
  }

  #logEnd(flow: number, ending: Ending, nowMs: number): void {
    const { log, blocks, book } = this.#parts;
    this.live--;
    const index = endings.indexOf(ending);
    this.ended[index] = this.ended[index]! + 1;
    const { lease } = blocks.at(this.flows.block[flow]!);
    // Both instants by today's offset: if the clock was set meanwhile, it is believed to be right now.
    log.record(
      this.flows,
      flow,
      book,
      lease,
      this.instantOf(this.flows.openedMs[flow]!),
      this.instantOf(nowMs),
      ending,
    );
  }

  /** Has a flow that was reset rest for longer, as long as nobody needs what it has; false when that is no longer. */
  #yield(flow: number, nowMs: number): boolean {
    const { tcpRestS, tcpResetRestS } = this.#parts.config.timers;
    // Since it was to be free, however late that is seen.
    const sinceMs = this.flows.state[flow] === RESTING ? this.#wheel.deadlineOf(flow) : nowMs;
    const untilMs = sinceMs + (tcpResetRestS - tcpRestS) * 1_000;
    if (untilMs <= nowMs) return false;
    const hasPlaceholder = this.flows.placeholder[flow] !== NONE;
    this.#countOut(flow);
    this.yielding.add(flow, hasPlaceholder);
    this.#parts.placeholders.yielding = this.yielding.placeholders;
    this.#wheel.schedule(flow, untilMs, nowMs);
    return true;
  }

  /** A client begins something new by a flow that yields: it is gone. */
  forgetYielding(flow: number): void {
    this.#free(flow);
  }

  #free(flow: number, keepsPlaceholder = false): void {
    const placeholder = this.flows.placeholder[flow]!;
    if (this.yielding.has(flow)) {
      this.yielding.remove(flow, placeholder !== NONE);
      this.#parts.placeholders.yielding = this.yielding.placeholders;
    } else this.#countOut(flow);
    this.#wheel.cancel(flow);
    this.flows.release(flow);
    if (placeholder !== NONE && !keepsPlaceholder) this.#parts.placeholders.close(placeholder);
    const protocol = this.flows.protocol[flow]!;
    this.#forgetPeers(flow, protocol);
    if (protocol >= IPV6) this.#letGoAddresses(flow);
  }

  #forgetPeers(flow: number, protocol: number): void {
    if (this.peers === null || !isUdp(protocol)) return;
    const gone = protocol === UDP6 ? this.peers.forget(flow, this.#letGo) : this.peers.forget(flow);
    // What a row held is there until it is taken again, and so is its client's address.
    this.clients.removePeers(this.flows.client[flow]!, protocol, gone);
  }

  #isUnansweredCall(flow: number): boolean {
    return this.mappings !== null && this.calls.isWaiting(flow);
  }

  /** The client has sent something by this flow. */
  answered(flow: number): void {
    if (this.mappings !== null) this.calls.settle(flow, this.mappings.ofFlow(flow));
  }

  #countIn(flow: number, nowMs: number): void {
    const { flows, clients, destinations } = this;
    const { blocks } = this.#parts;
    // The flow is a row of every column, and its block one of the table.
    const slot = flows.block[flow]!;
    const protocol = flows.protocol[flow]!;
    blocks.flows[slot] = blocks.flows[slot]! + 1;
    clients.add(flows.client[flow]!, protocol, flows.leased[flow]!, flows.placeholder[flow] !== NONE, nowMs);
    if (this.mappings === null || !isTcp(protocol))
      destinations.add(protocol, flows.remote[flow]!, flows.remotePort[flow]!);
    else if (this.mappings.join(flow)) destinations.add(protocol, this.mappings.remoteOf(flows.remote[flow]!), 0);
  }

  #countOut(flow: number): void {
    const { flows, clients, destinations } = this;
    const { blocks } = this.#parts;
    const slot = flows.block[flow]!;
    const protocol = flows.protocol[flow]!;
    blocks.flows[slot] = blocks.flows[slot]! - 1;
    clients.remove(flows.client[flow]!, protocol, flows.placeholder[flow] !== NONE);
    if (this.mappings === null || !isTcp(protocol)) {
      destinations.remove(protocol, flows.remote[flow]!, flows.remotePort[flow]!);
      return;
    }
    this.calls.settle(flow, this.mappings.ofFlow(flow));
    if (this.mappings.leave(flow)) destinations.remove(protocol, this.mappings.remoteOf(flows.remote[flow]!), 0);
  }

  #letGoAddresses(flow: number): void {
    // What a row held is there until it is taken again.
    const remote = this.flows.remote[flow]!;
    this.#letGo(this.flows.client[flow]!);
    if (remote !== NO_ADDRESS) this.#letGo(remote);
  }

  readonly #letGo = (address: number): void => this.#parts.book.letGo(address);

  #restMsOf(flow: number): number {
    const { tcpRestS, udpRestS, icmpRestS } = this.#parts.config.timers;
    const protocol = this.flows.protocol[flow]!;
    return (isTcp(protocol) ? tcpRestS : isUdp(protocol) ? udpRestS : icmpRestS) * 1_000;
  }
}
