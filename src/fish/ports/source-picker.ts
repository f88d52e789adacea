import type { BlockTable } from './blocks.ts';
import type { Clients } from './clients.ts';
import type { FishConfig } from '../config.ts';
import type { Destinations } from './destinations.ts';
import { NONE, type FlowTable } from '../flows/flow-table.ts';
import { isTcp, isUdp, type Packet } from '../packet/packet.ts';
import type { PlaceholderBudget } from './placeholders.ts';
import { PortSpace, stepThrough, type Stretch } from './port-space.ts';
import type { TcpMappings } from '../flows/tcp-mappings.ts';
import type { YieldingFlows } from '../flows/yielding.ts';
import { DROP, FORWARD } from '../verdicts.ts';

/** As a parity: both will do. */
const ANY = -1;

export type SourceParts = Readonly<{
  config: FishConfig;
  flows: FlowTable;
  blocks: BlockTable;
  placeholders: PlaceholderBudget;
  clients: Clients;
  destinations: Destinations;
  /** null where each TCP connection has a port of its own. */
  mappings: TcpMappings | null;
  yielding: YieldingFlows;
  random: () => number;
}>;

/**
 * Finds a leased (address, port) that nothing uses toward a remote yet, and in a shared block takes it in the kernel.
 *
 * A client keeps to one leased address as long as that has a port for it (RFC 4787 REQ-2, "paired"); it is drawn at random
 * at first, and so is every port: it cannot be foretold (RFC 6056). With no more ports than `portProbesMax`, all are looked
 * at; with more, a full search of which the share f is taken fails once in f^-probes.
 *
 * Where a client's TCP port keeps its leased one, it gets that toward every remote. If somebody's socket has that very 5-tuple
 * in a shared block, the connection gets another port, because no connection would be worse.
 */
export class SourcePicker {
  readonly #parts: SourceParts;
  /** What was picked, valid after FORWARD. */
  slot = 0;
  address = 0;
  port = 0;
  /** Handle, or NONE in an exclusive block. */
  placeholder = NONE;
  /** The flow that has had this very tuple and placeholder and yields them, or NONE. */
  yielded = NONE;
  /** The first of those that the search has met. */
  #yields = NONE;
  /** Flows that found no port, by protocol. */
  readonly refused = new Float64Array(256);
  /** What is searched for: set by `pick`. */
  #space = new PortSpace([]);
  #protocol = 0;
  #remote = 0;
  #remotePort = 0;
  #mayHold = true;
  /** Whose ports are looked at: null where a port is free toward one remote as long as no flow has it. */
  #mappings: TcpMappings | null = null;
  /** Times the kernel may still be asked for this flow, and why it is not asked any more. */
  #attemptsLeft = 0;
  #refusal: number = FORWARD;

  constructor(parts: SourceParts) {
    this.#parts = parts;
  }

  /** FORWARD and the fields above, or the reason why there is no source. All but the packet's own as in the flow's key. */
  pick({ protocol, sourcePort }: Packet, client: number, remote: number, remotePort: number): number {
    const { config, blocks, clients } = this.#parts;
    this.#searchFor(protocol, client, remote, remotePort);
    const mapping = this.#mappings?.find(protocol, client, sourcePort, remote) ?? NONE;
    if (mapping !== NONE && this.#takeMapped(mapping)) return FORWARD;
    const space = blocks.spaceFor(protocol);
    if (space === undefined) return DROP.no_lease;
    this.#space = space;
    this.#refusal = FORWARD;
    if (!this.#mayHaveOneMore(client)) return DROP.port_share;
    const parity = config.udpPortParity && isUdp(protocol) ? sourcePort & 1 : ANY;
    const isPaired = config.addressPooling !== 'arbitrary' && space.addresses > 1;
    const own = isPaired ? space.ofAddress(clients.leasedOf(client, protocol)) : undefined;
    const stretch = own !== undefined && config.addressPooling === 'paired_strict' ? own : space.whole;
    this.#attemptsLeft = config.placeholderAttemptsMax;
    if (own !== undefined && own.total < stretch.total) {
      // The other addresses must not be out of reach because others' sockets crowd this one.
      const forOthers = this.#attemptsLeft >>> 1;
      this.#attemptsLeft -= forOthers;
      if (this.#search(own, parity)) return FORWARD;
      if (this.#refusal === FORWARD) this.#attemptsLeft += forOthers;
    }
    if (this.#search(stretch, parity) || this.#takeYielded()) return FORWARD;
    if (this.#refusal !== FORWARD) return this.#refusal;
    this.refused[protocol] = this.refused[protocol]! + 1;
    return DROP.no_port;
  }

  /** The port of a mapping, toward one remote more. */
  pickMapped(mapping: number, protocol: number, client: number, remote: number, remotePort: number): number {
    this.#searchFor(protocol, client, remote, remotePort);
    if (this.#takeMapped(mapping)) return FORWARD;
    return this.#refusal === FORWARD ? DROP.no_flow : this.#refusal;
  }

  #searchFor(protocol: number, client: number, remote: number, remotePort: number): void {
    const { clients, placeholders, mappings, config } = this.#parts;
    this.#protocol = protocol;
    this.#remote = remote;
    this.#remotePort = remotePort;
    this.#refusal = FORWARD;
    this.yielded = this.#yields = NONE;
    this.#attemptsLeft = config.placeholderAttemptsMax;
    this.#mayHold = clients.share.allows(clients.placeholdersOf(client, protocol), placeholders.free);
    this.#mappings = isTcp(protocol) ? mappings : null;
  }

  #takeMapped(mapping: number): boolean {
    const { mappings, blocks } = this.#parts;
    this.slot = mappings!.blockOf(mapping);
    this.address = mappings!.leasedOf(mapping);
    this.port = mappings!.leasedPortOf(mapping);
    if (this.#isSelf()) return false;
    if (!this.#isUsedByFlow()) return this.#takeIn(blocks.shared[this.slot] === 1);
    return this.#takeYielded();
  }

  /** The tuple of a flow that yields it, placeholder and all. */
  #takeYielded(): boolean {
    const flow = this.#yields;
    if (flow === NONE) return false;
    const { flows } = this.#parts;
    // flow is a row of every column.
    this.slot = flows.block[flow]!;
    this.address = flows.leased[flow]!;
    this.port = flows.leasedPort[flow]!;
    this.placeholder = flows.placeholder[flow]!;
    this.yielded = flow;
    return true;
  }

  /** Whether the client has its share of the ports toward the remote already: it is looked at only where ports are short. */
  #mayHaveOneMore(client: number): boolean {
    const { clients, destinations, blocks } = this.#parts;
    const [remote, remotePort] =
      this.#mappings === null ? [this.#remote, this.#remotePort] : [this.#mappings.remoteOf(this.#remote), 0];
    const used = destinations.flowsToward(this.#protocol, remote, remotePort);
    const free = blocks.portsOf(this.#protocol) - used;
    if (clients.share.allows(used, free)) return true;
    // Toward everybody, so all its flows count; else those that a search meets. A mapping may have many flows.
    const own = this.#remote === 0 ? clients.flowsOf(client, this.#protocol) : this.#countOwn(client);
    return clients.share.allows(own, free);
  }

  /** How many ports a client has toward the remote: of all, if they are no more than a search looks at, else by a sample. */
  #countOwn(client: number): number {
    const { config, clients } = this.#parts;
    const { total } = this.#space.whole;
    const probes = Math.min(total, config.portProbesMax);
    const step = stepThrough(total, this.#parts.random());
    let at = this.#parts.random() % total;
    let own = 0;
    for (let probe = 0; probe < probes; probe++) {
      this.#pointAt(at);
      const owner = this.#ownerOf();
      if (owner !== NONE && clients.isSame(owner, client, this.#protocol)) own++;
      at += step;
      if (at >= total) at -= total;
    }
    return (own * total) / probes;
  }

  /** The client that has the present port toward the remote, or NONE. */
  #ownerOf(): number {
    const { flows } = this.#parts;
    if (this.#mappings === null) {
      const flow = flows.findByLeased(this.#protocol, this.address, this.port, this.#remote, this.#remotePort);
      return flow === NONE ? NONE : flows.client[flow]!;
    }
    const mapping = this.#mappings.at(this.#protocol, this.address, this.port, this.#remote);
    return mapping === NONE ? NONE : this.#mappings.clientOf(mapping);
  }

  #isUsedByFlow(): boolean {
    const { flows, yielding } = this.#parts;
    const flow = flows.findByLeased(this.#protocol, this.address, this.port, this.#remote, this.#remotePort);
    if (flow !== NONE && this.#yields === NONE && yielding.has(flow)) this.#yields = flow;
    return flow !== NONE;
  }

  /** With a parity: better a port of the other than none (RFC 4787 4.2.2 asks for no more). */
  #search(stretch: Stretch, parity: number): boolean {
    const start = this.#parts.random() % stretch.total;
    const step = stepThrough(stretch.total, this.#parts.random());
    return this.#walk(stretch, start, step, parity) || (parity !== ANY && this.#walk(stretch, start, step, parity ^ 1));
  }

  #walk({ first, total }: Stretch, start: number, step: number, parity: number): boolean {
    const probes = Math.min(total, this.#parts.config.portProbesMax);
    let offset = start;
    for (let probe = 0; probe < probes; probe++) {
      if (this.#take(first + offset, parity)) return true;
      offset += step;
      if (offset >= total) offset -= total;
    }
    return false;
  }

  #take(at: number, parity: number): boolean {
    const { blocks } = this.#parts;
    this.#pointAt(at);
    if (parity !== ANY && (this.port & 1) !== parity) return false;
    const shared = blocks.shared[this.slot] === 1;
    if (shared && this.#attemptsLeft === 0) return false;
    if (this.#isSelf()) return false;
    const isMapped =
      this.#mappings !== null && this.#mappings.at(this.#protocol, this.address, this.port, this.#remote) !== NONE;
    return !isMapped && !this.#isUsedByFlow() && this.#takeIn(shared);
  }

  /** A client that sends to a leased port must not get the same one: nobody talks to himself. */
  #isSelf(): boolean {
    return this.address === this.#remote && this.port === this.#remotePort;
  }

  #takeIn(shared: boolean): boolean {
    this.placeholder = NONE;
    return !shared || this.#hold();
  }

  /** The slot, address and port with this number of the space. */
  #pointAt(at: number): void {
    const { blocks } = this.#parts;
    const index = this.#space.indexOf(at);
    this.slot = this.#space.slotAt(index);
    // Every slot of the space is one of the block table.
    this.address = blocks.address[this.slot]!;
    this.port = blocks.firstPort[this.slot]! + this.#space.offsetIn(index, at);
  }

  /** The flow exists only once the kernel has agreed: the first packet must not leave before. */
  #hold(): boolean {
    const { placeholders, blocks } = this.#parts;
    if (!this.#mayHold) return this.#refuse(DROP.placeholder_share);
    const binding = blocks.bindingOf(this.slot);
    this.#attemptsLeft--;
    this.placeholder = placeholders.open(
      this.#protocol,
      this.address,
      this.port,
      this.#remote,
      this.#remotePort,
      binding,
    );
    return placeholders.refusal === FORWARD ? this.placeholder >= 0 : this.#refuse(placeholders.refusal);
  }

  /** Neither a spent budget nor, say, a missing route gets better by trying another port; exclusive blocks may do. */
  #refuse(reason: number): false {
    this.#refusal = reason;
    this.#attemptsLeft = 0;
    return false;
  }
}
