import { fc } from '@fast-check/vitest';
import { expect } from 'vitest';
import { defaultTimers } from '../../src/fish/config.ts';
import type { LeasedBlock } from '../../src/fish/ports/blocks.ts';
import { over6 } from './over6.ts';
import { FREE, LIVE } from '../../src/fish/flows/flow-table.ts';
import { describeTuple, type TupleText } from '../../src/fish/flows/flow-tuple.ts';
import { block, Killed, Pond, shared } from './fish.ts';
import { NaiveFish, type NaiveFlow, type NaiveTcp, type NaiveVerdict } from './naive-fish.ts';
import { translated } from './naive-nat.ts';
import { build, echo, hexOf, read, tcp, udp, type Endpoint, type PacketFields } from './packets.ts';
import { ScriptedTcp, type TcpMove } from './scripted-tcp.ts';

const clients: Endpoint[] = [
  { address: '100.96.0.2', port: 1_000 },
  { address: '100.96.0.2', port: 1_001 },
  { address: '100.96.0.3', port: 1_000 },
];
const remotes: Endpoint[] = [
  { address: '203.0.113.1', port: 443 },
  { address: '203.0.113.1', port: 53 },
  { address: '203.0.113.2', port: 443 },
];
// Few ports, so that they run out; one address in two blocks; blocks that come and go.
const blocks = [
  block('198.51.100.10', 'tcp', 9_000, 9_001, shared('late')),
  block('198.51.100.11', 'tcp', 9_000, 9_000),
  block('198.51.100.10', 'udp', 9_000, 9_001),
  block('198.51.100.10', 'icmp', 9_002, 9_003),
];

const blocks6 = blocks.map((each) => ({ ...each, address: over6(each.address) }));

const who = fc.record({ client: fc.nat({ max: clients.length - 1 }), remote: fc.nat({ max: remotes.length - 1 }) });
const move = fc.constantFrom<TcpMove>('begin', 'answer', 'data', 'acknowledge', 'finish', 'reset');
const way = fc.constantFrom('out' as const, 'in' as const);
/** Segments in a row: by mere chance a connection would hardly ever come to its end. */
type Steps = ['out' | 'in', TcpMove][];
const script = fc.constantFrom<Steps>(
  [
    ['out', 'begin'],
    ['in', 'answer'],
    ['out', 'acknowledge'],
  ],
  [
    ['out', 'begin'],
    ['in', 'answer'],
    ['out', 'data'],
    ['in', 'data'],
  ],
  [
    ['out', 'finish'],
    ['in', 'finish'],
    ['out', 'acknowledge'],
  ],
  [
    ['in', 'finish'],
    ['out', 'acknowledge'],
    ['out', 'finish'],
    ['in', 'acknowledge'],
  ],
  [
    ['out', 'finish'],
    ['in', 'acknowledge'],
    ['in', 'data'],
    ['in', 'finish'],
  ],
  [
    ['in', 'begin'],
    ['out', 'answer'],
    ['in', 'acknowledge'],
  ],
  [
    ['in', 'begin'],
    ['out', 'reset'],
  ],
);
const steps: fc.Arbitrary<Steps> = fc.oneof(
  { weight: 2, arbitrary: script },
  { weight: 1, arbitrary: fc.tuple(way, move).map((step) => [step]) },
);
type Who = { client: number; remote: number };
const eachForItself = {
  tcpMapping: 'address_and_port_dependent',
  tcpFiltering: 'address_and_port_dependent',
} as const;
/** Every way in which TCP can be mapped and filtered. */
export const tcpBehaviour = fc.constantFrom<NaiveTcp>(
  eachForItself,
  { tcpMapping: 'endpoint_independent', tcpFiltering: 'endpoint_independent' },
  { tcpMapping: 'endpoint_independent', tcpFiltering: 'address_dependent' },
  { tcpMapping: 'endpoint_independent', tcpFiltering: 'address_and_port_dependent' },
  { tcpMapping: 'address_dependent', tcpFiltering: 'address_dependent' },
);
export type Command =
  | { do: 'tcp'; who: Who; steps: Steps }
  | { do: 'datagram'; protocol: 'udp' | 'icmp'; who: Who; way: 'out' | 'in' }
  | { do: 'stray'; remote: number; port: number }
  | { do: 'pass'; seconds: number }
  | { do: 'blocks'; members: LeasedBlock[] }
  /** The process is killed between two packets, and its successor takes over. */
  | { do: 'restart' };
export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('tcp' as const), who, steps }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('datagram' as const),
      protocol: fc.constantFrom('udp' as const, 'icmp' as const),
      who,
      way,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('stray' as const),
      remote: fc.nat({ max: remotes.length - 1 }),
      port: fc.integer({ min: 8_999, max: 9_004 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      seconds: fc.constantFrom(1, 5, 30, 61, 121, 250, 301, 7_441),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('blocks' as const), members: fc.subarray(blocks, { minLength: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
);

/** Fish and its model side by side. */
export class World {
  readonly pond: Pond;
  readonly naive: NaiveFish;
  readonly #family: 4 | 6;
  readonly #connections = new Map<string, ScriptedTcp>();
  /** Where each pair was last seen coming from. */
  readonly #seenFrom = new Map<string, Endpoint>();

  constructor(seed: number, family: 4 | 6, settings: ConstructorParameters<typeof Pond>[1] = {}) {
    this.#family = family;
    const tcp = { ...eachForItself, ...settings };
    this.naive = new NaiveFish(defaultTimers, family === 4 ? '100.96.' : '2001:db8:c::', tcp);
    const bare = { icmpErrorsPerSMax: 0, clientShare: 1, fragmentedPacketsMax: 2 } as const;
    this.pond = new Pond(this.#in(blocks), { seed, ...bare, ...settings });
    this.naive.setBlocks(this.#in(blocks));
  }

  /** In the family of this world; the same block is the same object. */
  #in(members: readonly LeasedBlock[]): readonly LeasedBlock[] {
    return this.#family === 4 ? members : members.map((each) => blocks6[blocks.indexOf(each)]!);
  }

  #at<E extends { address: string }>(endpoint: E): E {
    return this.#family === 4 ? endpoint : { ...endpoint, address: over6(endpoint.address) };
  }

  /** How often fish was killed in the middle of something. */
  deaths = 0;
  /** Stores that its successor may carry out while it takes over before it is killed as well. */
  storesOfSuccessor = Infinity;

  get nowS(): number {
    return this.pond.nowMs / 1_000;
  }

  carryOut(command: Command): void {
    if (command.do === 'tcp') {
      for (const [direction, what] of command.steps)
        this.tcp(this.#at(clients[command.who.client]!), this.#at(remotes[command.who.remote]!), direction, what);
    } else if (command.do === 'datagram') {
      const [client, remote] = [clients[command.who.client]!, remotes[command.who.remote]!];
      this.datagram(command.protocol, this.#at(client), this.#at(remote), command.way);
    } else if (command.do === 'stray') {
      // From a port that no client ever talks to.
      const from = this.#at({ ...remotes[command.remote]!, port: 9_999 });
      const to = this.#at({ address: '198.51.100.10', port: command.port });
      this.send(tcp(from, to, 'A', { sequence: 77, acknowledgement: 88 }));
    } else if (command.do === 'pass') {
      this.pass(command.seconds);
    } else if (command.do === 'restart') {
      this.#throughDeath(() => this.pond.restart());
      this.#forgetResets();
    } else {
      this.#throughDeath(() => this.pond.forwarder.setBlocks(this.#in(command.members), this.pond.nowMs));
      this.naive.setBlocks(this.#in(command.members));
    }
  }

  /** Does it; if fish is killed over it, its successor does it once more, as nobody heard that it was done. */
  #throughDeath<T>(act: () => T, onDeath: () => void = () => this.#forgetResets()): T {
    try {
      return act();
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    }
    this.deaths++;
    // The successor may be killed, too, while it takes over; the one after it is not.
    this.pond.storesLeft = this.storesOfSuccessor;
    try {
      this.pond.restart();
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      this.pond.storesLeft = Infinity;
      this.pond.restart();
    }
    this.pond.storesLeft = Infinity;
    onDeath();
    return act();
  }

  /** Fish may find what is due up to half a second late, so no look is taken in the very second of a deadline. */
  pass(seconds: number): void {
    let lengthS = seconds;
    const isDue = (flow: NaiveFlow) => [flow.deadlineS, flow.yieldsS].includes(this.nowS + lengthS);
    while (this.naive.flows.some(isDue)) lengthS++;
    this.pond.nowMs += lengthS * 1_000;
    this.#throughDeath(
      () => this.pond.pass(0),
      () => {
        this.#letHalfEndedLive();
        this.#forgetResets();
      },
    );
    this.naive.expire(this.nowS);
  }

  tcp(client: Endpoint, remote: Endpoint, direction: 'out' | 'in', what: TcpMove): void {
    const pair = `${client.address}:${client.port} ${remote.address}:${remote.port}`;
    const connection = this.#connections.get(pair) ?? new ScriptedTcp(client, remote);
    this.#connections.set(pair, connection);
    const calls = direction === 'in' && what === 'begin';
    const leased = this.#seenFrom.get(calls ? `tcp ${client.address}:${client.port}` : `tcp ${pair}`);
    if (direction === 'in' && leased === undefined) return;
    // A port that is another's by now would have that one called.
    const owner = calls ? this.naive.mappingAt(leased!, remote, this.nowS) : undefined;
    if (calls && this.naive.isConnected(client, remote)) return;
    if (owner && (owner.client.address !== client.address || owner.client.port !== client.port)) return;
    // Out of order for somebody's connection, which the model could not tell: a SYN into a living one of one's own, and
    // what is still sent to a leased tuple that went to another client when blocks were taken away.
    const flow = leased && this.naive.connectionFrom(leased, remote);
    const isOwn = flow?.client.address === client.address && flow.client.port === client.port;
    if (what === 'begin' ? isOwn && flow.state === 'live' : direction === 'in' && flow && !isOwn) return;
    const packet = direction === 'out' ? connection.fromClient(what) : connection.fromRemote(what, leased!);
    if (!packet) return;
    this.send(packet, `tcp ${pair}`);
    const seen = this.#seenFrom.get(`tcp ${pair}`);
    if (calls) this.#seenFrom.set(`tcp ${pair}`, leased!);
    else if (direction === 'out' && seen) this.#seenFrom.set(`tcp ${client.address}:${client.port}`, seen);
  }

  datagram(protocol: 'udp' | 'icmp', client: Endpoint, remote: Endpoint, direction: 'out' | 'in'): void {
    const pair = `${protocol} ${client.address}:${client.port} ${protocol === 'udp' ? '' : remote.address}`;
    const leased = this.#seenFrom.get(pair);
    if (direction === 'in' && leased === undefined) return;
    if (protocol === 'udp') this.send(direction === 'out' ? udp(client, remote) : udp(remote, leased!), pair);
    else if (direction === 'out') this.send(echo(client.address, remote.address, client.port), pair);
    else this.send(echo(remote.address, leased!.address, leased!.port, 0), pair);
  }

  send(packet: PacketFields, pair?: string): void {
    const bytes = build(packet);
    const before = this.naive.flows.map(copyOf);
    let expected = this.naive.handle(packet, this.nowS);
    const sent = this.#throughDeath(
      () => this.pond.send(bytes),
      () => {
        this.#agreeOn(before, expected);
        this.#forgetResets();
        // The packet is lost with the process, and is sent again.
        expected = this.naive.handle(packet, this.nowS);
      },
    );
    const way = 'side' in expected ? expected : this.#settle(expected, sent, bytes);
    if (!way) return;
    expect(sent.verdict).toBe('forward');
    expect(hexOf(sent.bytes)).toBe(hexOf(translated(bytes, way.side, way.to)));
    if (pair !== undefined && way.side === 'source') this.#seenFrom.set(pair, way.to);
  }

  #forgetResets(): void {
    const { flows } = this.pond.memory.columns;
    this.naive.forgetResets(this.nowS, (flow) => {
      const key = naiveKey(flow);
      const row = flows.state.findIndex(
        (state, i) => state !== FREE && key === keyOf(describeTuple(flows, i, this.pond.book)),
      );
      return row < 0 ? 0 : flows.deadlineMs[row]! / 1_000;
    });
  }

  /** A flow that had its rest measured out, and was not yet told to rest, lives for so long instead: longer, never shorter. */
  #letHalfEndedLive(): void {
    const { flows } = this.pond.memory.columns;
    const restS = { tcp: defaultTimers.tcpRestS, udp: defaultTimers.udpRestS, icmp: defaultTimers.icmpRestS };
    for (const flow of this.naive.flows) {
      const key = naiveKey(flow);
      const row = flows.state.findIndex(
        (state, i) => state === LIVE && key === keyOf(describeTuple(flows, i, this.pond.book)),
      );
      const deadlineS = this.nowS + restS[flow.protocol];
      const isHalfEnded = row >= 0 && flow.deadlineS < this.nowS && flows.deadlineMs[row] === deadlineS * 1_000;
      if (isHalfEnded) flow.deadlineS = deadlineS;
    }
  }

  /**
   * Fish was killed over a packet. For every flow either all of what the packet means to it has happened, or nothing, or it
   * happens when the packet is sent again; none is lost, and of a new one there is all or nothing.
   */
  #agreeOn(before: readonly NaiveFlow[], expected: NaiveVerdict): void {
    const found = new Map([...this.pond.forwarder.flows()].map((flow) => [keyOf(flow), flow]));
    const after = new Map(this.naive.flows.map((flow) => [naiveKey(flow), flow]));
    this.naive.flows = before.flatMap((flow) => {
      const key = naiveKey(flow);
      const then = after.get(key);
      const now = found.get(key);
      found.delete(key);
      if (!now) {
        // Only a flow that takes no rest may be gone, or one that has yielded its tuple to the one that was to begin.
        if (!this.naive.yields(flow, this.nowS)) expect(then).toBeUndefined();
        return [];
      }
      expect([flow.state, then?.state]).toContain(now.state);
      return [flow.state === now.state ? flow : then!];
    });
    for (const flow of found.values()) {
      const to = { address: flow.address, port: flow.port };
      expect(expected).toMatchObject({ choices: expect.arrayContaining([to]) as unknown });
      this.naive.took(to);
      // It was let go of before the new one began, if there was one that rested.
      const begun = this.naive.flows.at(-1)!;
      for (const each of this.naive.flows)
        if (each !== begun && each.protocol === begun.protocol && isSameClient(each, begun)) each.superseded = true;
    }
  }

  /** A drop, or a new flow, whose leased tuple has to be one of those that were free. */
  #settle(
    expected: Exclude<NaiveVerdict, { side: string }>,
    sent: { verdict: string; bytes: Uint8Array },
    before: Uint8Array,
  ): { side: 'source'; to: Endpoint } | undefined {
    if ('drop' in expected) {
      expect(sent.verdict).toBe(expected.drop);
      expect(hexOf(sent.bytes)).toBe(hexOf(before));
      return undefined;
    }
    expect(sent.verdict).toBe('forward');
    const { source, sourcePort } = read(sent.bytes);
    const to = { address: source, port: sourcePort };
    expect(expected.choices).toContainEqual(to);
    this.naive.took(to);
    return { side: 'source', to };
  }

  #counted(block: LeasedBlock): NaiveFlow[] {
    return this.naive.flows.filter((flow) => flow.block === block && !this.naive.yields(flow, this.nowS));
  }

  compare(): void {
    const flows = [...this.pond.forwarder.flows()];
    const known = flows.map(
      (flow) => `${flow.protocol} ${flow.client}:${flow.clientPort} ${flow.address}:${flow.port} ${flow.state}`,
    );
    const modelled = this.naive.flows.map(
      (flow) =>
        `${flow.protocol} ${flow.client.address}:${flow.client.port} ${flow.leased.address}:${flow.leased.port} ${flow.state}`,
    );
    expect(known.toSorted()).toEqual(modelled.toSorted());
    const perBlock = this.pond.forwarder.counters().blocks.map((use) => use.flows);
    const members = this.naive.blocks.map((each) => this.#counted(each).length);
    expect(perBlock.toSorted()).toEqual(members.toSorted());
    // Placeholders: one for each TCP flow in the shared block, live or resting, and no other.
    const held = this.naive.flows
      .filter((flow) => flow.block.mode === 'shared')
      .map((flow) => `${flow.leased.address}:${flow.leased.port} ${flow.remote}`);
    expect([...this.pond.kernel.held.values()].toSorted()).toEqual(held.toSorted());
  }
}

const isSameClient = (a: NaiveFlow, b: NaiveFlow): boolean =>
  a.remote === b.remote && a.client.address === b.client.address && a.client.port === b.client.port;

const copyOf = (flow: NaiveFlow): NaiveFlow => ({
  ...flow,
  tcp: { ...flow.tcp, fins: new Set(flow.tcp.fins), acknowledged: new Set(flow.tcp.acknowledged) },
});
const naiveKey = ({ protocol, client, leased, remote }: NaiveFlow): string =>
  `${protocol} ${client.address}:${client.port} ${leased.address}:${leased.port} ${remote}`;
const keyOf = ({ protocol, client, clientPort, address, port, remote, remotePort }: TupleText): string =>
  `${protocol} ${client}:${clientPort} ${address}:${port} ${remote === null ? 'any' : remotePort === null ? remote : `${remote}:${remotePort}`}`;
