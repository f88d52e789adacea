import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import type { FlowTimers } from '../../src/fish/config.ts';
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
  tcp: { established: boolean; fins: Set<'out' | 'in'>; acknowledged: Set<'out' | 'in'> };
};

export type NaiveVerdict =
  | Readonly<{ drop: string }>
  /** Translate: one side of the packet becomes `to`. */
  | Readonly<{ side: 'source' | 'destination'; to: Endpoint }>
  /** A new flow: any of these will do, one must be taken. Tell by `took`. */
  | Readonly<{ choices: readonly Endpoint[] }>;

const same = (a: Endpoint, b: Endpoint) => a.address === b.address && a.port === b.port;

/**
 * What fish should do, on plain lists that are searched from end to end. It follows TCP by flags alone, so it is only to be
 * shown connections whose segments are all in order. Time is in whole seconds.
 */
export class NaiveFish {
  readonly #timers: FlowTimers;
  readonly #clientsStartWith: string;
  flows: NaiveFlow[] = [];
  blocks: readonly LeasedBlock[] = [];
  #begun: Omit<NaiveFlow, 'leased' | 'block'> | undefined;

  constructor(timers: FlowTimers, clientsStartWith: string) {
    this.#timers = timers;
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
    const inward = this.blocks.some((block) => block.address === packet.destination);
    return inward ? this.#inward(packet, nowS) : this.#outward(packet, nowS);
  }

  /** The TCP flow from this leased endpoint to this remote. */
  connectionFrom(leased: Endpoint, remote: Endpoint): NaiveFlow | undefined {
    const key = remoteKey('tcp', remote.address, remote.port);
    return this.flows.find((flow) => flow.protocol === 'tcp' && same(flow.leased, leased) && flow.remote === key);
  }

  /** The choice that was made for the flow that `handle` has just begun. */
  took(leased: Endpoint): void {
    const block = this.blocks.find((each) => isIn(each, this.#begun!.protocol, leased));
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
    if (flow?.state === 'resting' && begins) {
      flow.superseded = true;
      flow = undefined;
    }
    if (flow) {
      if (flow.state === 'live') this.#refresh(flow, 'out', packet, nowS);
      return { side: 'source', to: flow.leased };
    }
    if (!begins) return { drop: 'not_syn' };
    const blocks = this.blocks.filter((block) => block.protocol === packet.protocol);
    if (blocks.length === 0) return { drop: 'no_lease' };
    const all = blocks.flatMap((block) =>
      Array.from({ length: block.ports.last - block.ports.first + 1 }, (_, i) => ({
        address: block.address,
        port: block.ports.first + i,
      })),
    );
    const taken = this.flows.filter((each) => each.protocol === packet.protocol && each.remote === remote);
    const choices = all.filter((endpoint) => !taken.some((each) => same(each.leased, endpoint)));
    if (choices.length === 0) return { drop: 'no_port' };
    const deadlineS = nowS + this.#firstS(packet.protocol);
    const tcp = { established: false, fins: new Set<'out' | 'in'>(), acknowledged: new Set<'out' | 'in'>() };
    this.#begun = { protocol: packet.protocol, client, remote, state: 'live', superseded: false, deadlineS, tcp };
    return { choices };
  }

  #inward(packet: PacketFields, nowS: number): NaiveVerdict {
    const leased = { address: packet.destination, port: destinationPortOf(packet) };
    const remote = remoteKey(packet.protocol, packet.source, sourcePortOf(packet));
    const flow = this.flows.find(
      (each) => each.protocol === packet.protocol && same(each.leased, leased) && each.remote === remote,
    );
    if (!flow) return { drop: 'no_flow' };
    const again = packet.protocol === 'tcp' && !packet.flags.includes('S') && !flow.superseded;
    if (flow.state === 'resting' && !again) return { drop: 'resting' };
    if (flow.state === 'live' && packet.protocol === 'tcp') this.#refresh(flow, 'in', packet, nowS);
    return { side: 'destination', to: flow.client };
  }

  #refresh(flow: NaiveFlow, way: 'out' | 'in', packet: PacketFields, nowS: number): void {
    flow.deadlineS = nowS + this.#firstS(flow.protocol);
    if (packet.protocol !== 'tcp') return;
    const { tcp } = flow;
    const otherWay = way === 'out' ? 'in' : 'out';
    if (packet.flags.includes('R')) {
      this.#end(flow, nowS);
      return;
    }
    if (!packet.flags.includes('S')) tcp.established = true;
    if (tcp.fins.has(otherWay)) tcp.acknowledged.add(otherWay);
    if (packet.flags.includes('F')) tcp.fins.add(way);
    if (tcp.acknowledged.size === 2) this.#end(flow, nowS);
    else if (tcp.established && tcp.fins.size < 2) flow.deadlineS = nowS + this.#timers.tcpEstablishedS;
  }

  #end(flow: NaiveFlow, nowS: number): void {
    const { tcpRestS, udpRestS, icmpRestS } = this.#timers;
    const restS = { tcp: tcpRestS, udp: udpRestS, icmp: icmpRestS }[flow.protocol];
    flow.state = 'resting';
    flow.deadlineS = nowS + restS;
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
