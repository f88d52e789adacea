import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import type { FishConfig, FlowTimers } from '../../src/fish/config.ts';
import type { Endpoint, PacketFields } from './packets.ts';

export type NaiveFlow = {
  protocol: PacketFields['protocol'];
  client: Endpoint;
  /** What the mapping distinguishes of the remote: all of it, its address, nothing. */
  remote: string;
  leased: Endpoint;
  block: LeasedBlock;
  state: 'live' | 'resting';
  /** A resting flow whose client port went on to another. */
  superseded: boolean;
  deadlineS: number;
  /** From then on, having been reset, it yields its tuple to whoever has none else. */
  yieldsS: number;
  /** The remote began it, and the client has not answered. */
  isCall: boolean;
  tcp: { established: boolean; fins: Set<'out' | 'in'>; acknowledged: Set<'out' | 'in'> };
};

export type NaiveVerdict =
  | Readonly<{ drop: string }>
  /** Translate: one side of the packet becomes `to`. */
  | Readonly<{ side: 'source' | 'destination'; to: Endpoint }>
  /** A new flow: any of these will do, one must be taken. Tell by `took`. */
  | Readonly<{ choices: readonly Endpoint[] }>;

export type NaiveTcp = Pick<FishConfig, 'tcpMapping' | 'tcpFiltering'>;

const same = (a: Endpoint, b: Endpoint) => a.address === b.address && a.port === b.port;

/**
 * What fish should do, on plain lists that are searched from end to end. It follows TCP by flags alone, so it is only to be
 * shown connections whose segments are all in order. Time is in whole seconds.
 */
export class NaiveFish {
  readonly #timers: FlowTimers;
  readonly #clientsStartWith: string;
  readonly #tcp: NaiveTcp;
  flows: NaiveFlow[] = [];
  blocks: readonly LeasedBlock[] = [];
  readonly #disputed = new Set<string>();
  #begun: Omit<NaiveFlow, 'leased' | 'block'> | undefined;

  constructor(timers: FlowTimers, clientsStartWith: string, tcp: NaiveTcp) {
    this.#timers = timers;
    this.#tcp = tcp;
    this.#clientsStartWith = clientsStartWith;
  }

  setBlocks(blocks: readonly LeasedBlock[]): void {
    this.blocks = blocks;
    this.flows = this.flows.filter((flow) => blocks.includes(flow.block));
  }

  /** Time has come to `nowS`, and everything due was ended just now. */
  expire(nowS: number): void {
    for (const flow of this.flows.filter((each) => each.state === 'live' && each.deadlineS < nowS))
      this.#end(flow, nowS);
    this.flows = this.flows.filter((flow) => flow.state === 'live' || flow.deadlineS >= nowS);
  }

  handle(packet: PacketFields, nowS: number): NaiveVerdict {
    this.#settleDisputes(nowS);
    const inward = this.blocks.some((block) => block.address === packet.destination);
    return inward ? this.#inward(packet, nowS) : this.#outward(packet, nowS);
  }

  /** The TCP flow from this leased endpoint to this remote. */
  connectionFrom(leased: Endpoint, remote: Endpoint): NaiveFlow | undefined {
    const key = remoteKey('tcp', remote.address, remote.port);
    return this.flows.find((flow) => flow.protocol === 'tcp' && same(flow.leased, leased) && flow.remote === key);
  }

  /** Whether a client has a TCP connection that lasts with this remote, from whatever leased port. */
  isConnected(client: Endpoint, remote: Endpoint): boolean {
    const key = remoteKey('tcp', remote.address, remote.port);
    return this.flows.some(
      (flow) => flow.protocol === 'tcp' && flow.state === 'live' && same(flow.client, client) && flow.remote === key,
    );
  }

  /** A successor does not know what was reset: that rests for what is left of its time, `deadlineOf` says until when. */
  forgetResets(nowS: number, deadlineOf: (flow: NaiveFlow) => number = (flow) => flow.deadlineS): void {
    for (const flow of this.flows) {
      if (flow.state === 'live' || flow.yieldsS === Infinity) continue;
      flow.deadlineS = nowS <= flow.yieldsS ? flow.yieldsS : deadlineOf(flow);
      flow.yieldsS = Infinity;
    }
    // What had yielded may have given its mapped port to another client's meanwhile.
    for (const flow of this.flows)
      if (this.flows.some((other) => this.#isSameMapping(flow, other) && !same(flow.client, other.client)))
        this.#disputed.add(this.#mappingOf(flow));
  }

  #mappingOf(flow: NaiveFlow): string {
    return `${flow.leased.address}:${flow.leased.port} ${this.#mapped(flow.remote)}`;
  }

  #isSameMapping(flow: NaiveFlow, other: NaiveFlow): boolean {
    const [a, b] = [flow.protocol, other.protocol];
    return a === 'tcp' && b === 'tcp' && this.#isMapped('tcp') && this.#mappingOf(flow) === this.#mappingOf(other);
  }

  /** A mapping of two clients is nobody's, for as long as there is anything of it. */
  #isDisputed(flow: NaiveFlow): boolean {
    return this.#disputed.has(this.#mappingOf(flow));
  }

  #settleDisputes(nowS: number): void {
    const left = this.flows.filter((flow) => flow.protocol === 'tcp' && !this.yields(flow, nowS));
    const mappings = new Set(left.map((flow) => this.#mappingOf(flow)));
    for (const each of this.#disputed) if (!mappings.has(each)) this.#disputed.delete(each);
  }

  /** Whoever needs its tuple has it. */
  yields(flow: NaiveFlow, nowS: number): boolean {
    return flow.state === 'resting' && flow.yieldsS < nowS;
  }

  /** A flow of the TCP mapping that has this leased endpoint toward the remote, if any. */
  mappingAt(leased: Endpoint, remote: Endpoint, nowS: number): NaiveFlow | undefined {
    const toward = this.#mapped(remoteKey('tcp', remote.address, remote.port));
    return this.flows.find(
      (flow) =>
        flow.protocol === 'tcp' &&
        same(flow.leased, leased) &&
        this.#mapped(flow.remote) === toward &&
        !this.yields(flow, nowS),
    );
  }

  /** What a TCP mapping looks at of a remote. */
  #mapped(remote: string): string {
    const { tcpMapping } = this.#tcp;
    return tcpMapping === 'endpoint_independent'
      ? 'any'
      : tcpMapping === 'address_dependent'
        ? remote.slice(0, remote.lastIndexOf(':'))
        : remote;
  }

  #isMapped(protocol: string): boolean {
    return protocol === 'tcp' && this.#tcp.tcpMapping !== 'address_and_port_dependent';
  }

  /** The choice that was made for the flow that `handle` has just begun. */
  took(leased: Endpoint): void {
    const block = this.blocks.find((each) => isIn(each, this.#begun!.protocol, leased));
    const { protocol, remote } = this.#begun!;
    // Of two, the one before has yielded its tuple.
    this.flows = this.flows.filter(
      (flow) => flow.protocol !== protocol || flow.remote !== remote || !same(flow.leased, leased),
    );
    this.flows.push({ ...this.#begun!, leased, block: block! });
  }

  #outward(packet: PacketFields, nowS: number): NaiveVerdict {
    if (packet.protocol === 'icmp' && packet.type !== 8 && packet.type !== 128)
      return { drop: 'icmp_type_unsupported' };
    if (!packet.source.startsWith(this.#clientsStartWith)) return { drop: 'source_not_allowed' };
    const client = { address: packet.source, port: sourcePortOf(packet) };
    const remote = remoteKey(packet.protocol, packet.destination, destinationPortOf(packet));
    const begins = packet.protocol !== 'tcp' || packet.flags === 'S';
    let flow = this.flows.find(
      (each) =>
        !each.superseded && each.protocol === packet.protocol && same(each.client, client) && each.remote === remote,
    );
    if (flow && begins && this.#isMapped(packet.protocol) && this.yields(flow, nowS)) {
      this.flows = this.flows.filter((each) => each !== flow);
      flow = undefined;
    }
    if (flow?.state === 'resting' && begins && this.#isMapped(packet.protocol)) {
      this.#beginAnew(flow, false, nowS);
      return { side: 'source', to: flow.leased };
    }
    if (flow?.state === 'resting' && begins) {
      flow.superseded = true;
      flow = undefined;
    }
    if (flow) {
      if (flow.state === 'live') this.#refresh(flow, 'out', packet, nowS);
      return { side: 'source', to: flow.leased };
    }
    if (!begins) return { drop: 'not_syn' };
    const isMapped = this.#isMapped(packet.protocol);
    const toward = isMapped ? this.#mapped(remote) : remote;
    const towardOf = (each: NaiveFlow) => (isMapped ? this.#mapped(each.remote) : each.remote);
    const deadlineS = nowS + this.#firstS(packet.protocol);
    const tcp = { established: false, fins: new Set<'out' | 'in'>(), acknowledged: new Set<'out' | 'in'>() };
    const begun = {
      protocol: packet.protocol,
      client,
      remote,
      state: 'live',
      superseded: false,
      deadlineS,
      yieldsS: Infinity,
      tcp,
    } as const;
    const mapping =
      isMapped &&
      this.flows.find(
        (each) =>
          each.protocol === 'tcp' &&
          same(each.client, client) &&
          towardOf(each) === toward &&
          !this.yields(each, nowS) &&
          !this.#isDisputed(each),
      );
    if (mapping) {
      this.#begun = { ...begun, isCall: false };
      return { choices: [mapping.leased] };
    }
    const blocks = this.blocks.filter((block) => block.protocol === packet.protocol);
    if (blocks.length === 0) return { drop: 'no_lease' };
    const all = blocks.flatMap((block) =>
      Array.from({ length: block.ports.last - block.ports.first + 1 }, (_, i) => ({
        address: block.address,
        port: block.ports.first + i,
      })),
    );
    const isTaken = (endpoint: Endpoint, yielded: boolean) =>
      this.flows.some((each) => {
        if (each.protocol !== packet.protocol || !same(each.leased, endpoint)) return false;
        return this.yields(each, nowS) ? !yielded && each.remote === remote : towardOf(each) === toward;
      });
    const free = all.filter((endpoint) => !isTaken(endpoint, false));
    const choices = free.length > 0 ? free : all.filter((endpoint) => !isTaken(endpoint, true));
    if (choices.length === 0) return { drop: 'no_port' };
    this.#begun = { ...begun, isCall: false };
    return { choices };
  }

  #inward(packet: PacketFields, nowS: number): NaiveVerdict {
    const leased = { address: packet.destination, port: destinationPortOf(packet) };
    const remote = remoteKey(packet.protocol, packet.source, sourcePortOf(packet));
    const flow = this.flows.find(
      (each) => each.protocol === packet.protocol && same(each.leased, leased) && each.remote === remote,
    );
    const called = this.#called(packet, flow, leased, remote, nowS);
    if (called) return called;
    if (!flow) return { drop: 'no_flow' };
    const again = packet.protocol === 'tcp' && !packet.flags.includes('S') && !flow.superseded;
    if (flow.state === 'resting' && !again) return { drop: 'resting' };
    if (flow.state === 'live' && packet.protocol === 'tcp') this.#refresh(flow, 'in', packet, nowS);
    return { side: 'destination', to: flow.client };
  }

  /** What becomes of a SYN to a mapped port, unless its flow lasts. */
  #called(
    packet: PacketFields,
    flow: NaiveFlow | undefined,
    leased: Endpoint,
    remote: string,
    nowS: number,
  ): NaiveVerdict | undefined {
    if (packet.protocol !== 'tcp' || packet.flags !== 'S' || !this.#isMapped('tcp') || flow?.state === 'live')
      return undefined;
    const from = { address: packet.source, port: packet.sourcePort };
    const mapping = this.mappingAt(leased, from, nowS);
    if (!mapping) return undefined;
    const { tcpFiltering } = this.#tcp;
    // What yields its tuple counts for nothing any more.
    const knows = (each: NaiveFlow) =>
      each.remote.startsWith(`${from.address}:`) && same(each.leased, leased) && !this.yields(each, nowS);
    const isLetIn =
      !this.#isDisputed(mapping) &&
      (tcpFiltering === 'endpoint_independent' || (tcpFiltering === 'address_dependent' && this.flows.some(knows)));
    if (!isLetIn) return flow ? undefined : { drop: 'filtered' };
    if (flow && this.yields(flow, nowS)) this.flows = this.flows.filter((each) => each !== flow);
    if (flow && !this.yields(flow, nowS)) this.#beginAnew(flow, true, nowS);
    else {
      const { client, block } = mapping;
      const fresh = { protocol: 'tcp', client, remote, leased, block, state: 'live', superseded: false } as const;
      const tcp = { established: false, fins: new Set<'out' | 'in'>(), acknowledged: new Set<'out' | 'in'>() };
      this.flows.push({ ...fresh, tcp, isCall: true, deadlineS: nowS + this.#firstS('tcp'), yieldsS: Infinity });
    }
    return { side: 'destination', to: mapping.client };
  }

  #beginAnew(flow: NaiveFlow, isCall: boolean, nowS: number): void {
    flow.state = 'live';
    flow.yieldsS = Infinity;
    flow.isCall = isCall;
    flow.tcp = { established: false, fins: new Set(), acknowledged: new Set() };
    flow.deadlineS = nowS + this.#firstS('tcp');
  }

  #refresh(flow: NaiveFlow, way: 'out' | 'in', packet: PacketFields, nowS: number): void {
    flow.deadlineS = nowS + this.#firstS(flow.protocol);
    if (packet.protocol !== 'tcp') return;
    const { tcp } = flow;
    const otherWay = way === 'out' ? 'in' : 'out';
    if (packet.flags.includes('R')) {
      this.#end(flow, nowS, true);
      return;
    }
    if (way === 'out') flow.isCall = false;
    if (!packet.flags.includes('S')) tcp.established = true;
    if (tcp.fins.has(otherWay)) tcp.acknowledged.add(otherWay);
    if (packet.flags.includes('F')) tcp.fins.add(way);
    if (tcp.acknowledged.size === 2) this.#end(flow, nowS);
    else if (tcp.established && tcp.fins.size < 2) flow.deadlineS = nowS + this.#timers.tcpEstablishedS;
  }

  #end(flow: NaiveFlow, nowS: number, wasReset = false): void {
    const { tcpRestS, tcpResetRestS, udpRestS, icmpRestS } = this.#timers;
    const restS = flow.isCall ? 0 : { tcp: tcpRestS, udp: udpRestS, icmp: icmpRestS }[flow.protocol];
    flow.state = 'resting';
    flow.deadlineS = nowS + restS;
    if (wasReset && !flow.isCall) {
      flow.yieldsS = flow.deadlineS;
      flow.deadlineS = nowS + tcpResetRestS;
    }
    if (restS === 0) this.flows = this.flows.filter((each) => each !== flow);
  }

  #firstS(protocol: PacketFields['protocol']): number {
    const { tcpOpeningS, udpS, icmpS } = this.#timers;
    return { tcp: tcpOpeningS, udp: udpS, icmp: icmpS }[protocol];
  }
}

const isIn = (block: LeasedBlock, protocol: string, endpoint: Endpoint) =>
  block.protocol === protocol &&
  block.address === endpoint.address &&
  block.ports.first <= endpoint.port &&
  endpoint.port <= block.ports.last;

const sourcePortOf = (packet: PacketFields) => (packet.protocol === 'icmp' ? packet.identifier : packet.sourcePort);
const destinationPortOf = (packet: PacketFields) =>
  packet.protocol === 'icmp' ? packet.identifier : packet.destinationPort;

function remoteKey(protocol: PacketFields['protocol'], address: string, port: number): string {
  if (protocol === 'udp') return 'any';
  return protocol === 'icmp' ? address : `${address}:${port}`;
}
