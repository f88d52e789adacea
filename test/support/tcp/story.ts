import { defaultTimers, type FlowTimers } from '../../../src/fish/config.ts';
import { FREE, LIVE } from '../../../src/fish/flows/flow-table.ts';
import { describeTuple } from '../../../src/fish/flows/flow-tuple.ts';
import type { AddressBook } from '../../../src/fish/packet/address-book.ts';
import { block, Pond, seeded, shared } from '../fish.ts';
import { over6 } from '../over6.ts';
import { build, read, tcp, type Endpoint } from '../packets.ts';
import { HostEnd } from './host-end.ts';
import { NaiveTcpNat, type NaiveTcpFlow } from './naive-tcp-nat.ts';
import { has, type Segment } from './segment.ts';
import { Truths } from './truths.ts';

/*
 * Clients and servers speak TCP through fish, over links that lose, repeat, delay and overtake, while somebody who sees
 * none of it forges segments. Fish has to do what the naive NAT does; and what both do is held against what the ends
 * themselves know: see `Truths`.
 */
export type TcpReport = Record<Happening, number>;
const happenings = [
  'packets',
  'lost',
  'repeated',
  'overtaken',
  'connections',
  'finished',
  'reset',
  'idle',
  'doubted',
  'forged',
  'forgedSyns',
  'forgedResets',
  'simultaneous',
  'begunAnew',
  'superseded',
  'portsUsedAgain',
  'withoutPort',
  'adoptions',
  'wrapped',
] as const;
type Happening = (typeof happenings)[number];

/** Not whole, so that nothing is ever due at the very second at which something happens. */
const timers: FlowTimers = {
  ...defaultTimers,
  tcpEstablishedS: 7_440.25,
  tcpOpeningS: 240.25,
  tcpTransitoryS: 240.25,
  tcpRestS: 60.25,
  tcpResetRestS: 240.5,
};
const clients: readonly Endpoint[] = [
  { address: '100.96.0.2', port: 40_000 },
  { address: '100.96.0.2', port: 40_001 },
  { address: '100.96.0.3', port: 40_000 },
];
const remotes: readonly Endpoint[] = [
  { address: '203.0.113.1', port: 443 },
  { address: '203.0.113.2', port: 443 },
];
const leasedAddress = '198.51.100.10';
const ports = { first: 9_000, last: 9_003 };
const flows_max = 32;
const packets_max = 900;
const lines_max = 100;

/** A client's end or a server's, and the connection that it is part of; null for none that anybody began. */
type Host = { end: HostEnd; connection: number | null; readonly address: Endpoint; readonly peer: Endpoint };
type Leg = 'to-nat-out' | 'to-remote' | 'to-nat-in' | 'to-client';
type Flight = Readonly<{
  atS: number;
  leg: Leg;
  from: Endpoint;
  to: Endpoint;
  segment: Segment;
  /** The connection whose end has sent it; null for what is forged, or answers that. */
  connection: number | null;
}>;

const nameOf = ({ address, port }: Endpoint): string => `${address}:${port}`;
const pairOf = (one: Endpoint, two: Endpoint): string => `${nameOf(one)} ${nameOf(two)}`;

/** Plays one story, the same for the same seed. Throws, with what happened last, when fish is not as it has to be. */
export function playTcp(seed: number): TcpReport {
  const story = new Story(seed);
  try {
    return story.play();
  } catch (error) {
    throw new Error(`seed ${seed}\n${story.lines.join('\n')}`, { cause: error });
  }
}

/** What has happened in all of these. */
export const sumOf = (reports: readonly TcpReport[]): TcpReport =>
  Object.fromEntries(
    happenings.map((what) => [what, reports.reduce((sum, report) => sum + report[what], 0)]),
  ) as TcpReport;

class Story {
  readonly lines: string[] = [];
  readonly #random: () => number;
  readonly #pond: Pond;
  /** Says what is in fish's memory, whichever process has written it. */
  readonly #book: AddressBook;
  readonly #naive: NaiveTcpNat;
  readonly #truths = new Truths(timers);
  readonly #clients: readonly Endpoint[];
  readonly #remotes: readonly Endpoint[];
  readonly #report = Object.fromEntries(happenings.map((what) => [what, 0])) as TcpReport;
  /** By (own, other) endpoint as this host sees them. */
  readonly #clientHosts = new Map<string, Host>();
  readonly #remoteHosts = new Map<string, Host>();
  /** The last that really came in by a tuple: what a forger who gets near would be near to. */
  readonly #lastIn = new Map<string, Segment>();
  #flights: Flight[] = [];
  #nowS = 0;
  #link = { loss: 0, repeat: 0, delay_s: 0, late: 0 };

  constructor(seed: number) {
    this.#random = seeded(seed);
    const in6 = this.#chance(3);
    const at = <E extends { address: string }>(endpoint: E): E =>
      in6 ? { ...endpoint, address: over6(endpoint.address) } : endpoint;
    this.#clients = clients.map(at);
    this.#remotes = remotes.map(at);
    const leased = at(block(leasedAddress, 'tcp', ports.first, ports.last, this.#chance(2) ? shared('late') : {}));
    const bare = { icmpErrorsPerSMax: 0, clientShare: 1, fragmentedPacketsMax: 2 } as const;
    this.#pond = new Pond([leased], { ...bare, seed, timers, flowsMax: flows_max, blocksMax: 2, flowLogMax: 256 });
    const choices = Array.from({ length: ports.last - ports.first + 1 }, (_, index) => ({
      address: leased.address,
      port: ports.first + index,
    }));
    this.#book = this.#pond.book;
    this.#naive = new NaiveTcpNat(timers, choices);
    this.#changeWeather();
  }

  play(): TcpReport {
    const actions = 30 + this.#below(50);
    for (let action = 0; action < actions && this.#report.packets < packets_max; action++) {
      this.#act();
      this.#passTo(this.#nowS + (this.#chance(2) ? 0 : 1 + this.#below(6)));
    }
    this.#end();
    return this.#report;
  }

  /** Everybody falls silent; nothing may be left. */
  #end(): void {
    this.#passTo(this.#nowS + 400);
    for (const host of this.#hosts()) if (this.#chance(2)) host.end.abort(this.#nowS);
    this.#passTo(this.#nowS + 1_000);
    for (const host of this.#hosts()) host.end.state = 'closed';
    this.#flights = [];
    this.#passTo(this.#nowS + 8_000);
    const { flowsLive, flowsResting, placeholdersHeld } = this.#pond.forwarder.counters();
    insist(flowsLive + flowsResting + placeholdersHeld + this.#pond.kernel.held.size === 0, 'something is left over');
  }

  #act(): void {
    const plan: readonly (readonly [number, () => void])[] = [
      [12, () => this.#open(this.#one(this.#clients), this.#one(this.#remotes))],
      [6, () => this.#openAgain()],
      [4, () => this.#loseBoth()],
      [24, () => this.#some((host) => host.end.write(1 + this.#below(this.#chance(4) ? 4_000 : 400), this.#nowS))],
      [16, () => this.#some((host) => host.end.finish(this.#nowS))],
      [3, () => this.#some((host) => host.end.abort(this.#nowS))],
      // A host that loses power: all that it knew is gone, and it says nothing.
      [5, () => this.#some((host) => (host.end.state = 'closed'))],
      [3, () => this.#some((host) => host.end.pause(this.#chance(2), this.#nowS))],
      [18, () => this.#forge()],
      [5, () => this.#callBack()],
      [4, () => this.#passTo(this.#nowS + this.#one([20, 61, 130, 245, 1_000, 7_500]))],
      [4, () => this.#changeWeather()],
      [1, () => this.#restart()],
    ];
    let left = this.#below(plan.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, act] of plan) {
      if (left < weight) {
        act();
        return;
      }
      left -= weight;
    }
  }

  #hosts(): Host[] {
    return [...this.#clientHosts.values(), ...this.#remoteHosts.values()];
  }

  /** Does something to a host that has a connection, if one has. */
  #some(act: (host: Host) => void): void {
    const open = this.#hosts().filter(({ end }) => end.state !== 'closed');
    if (open.length > 0) act(this.#one(open));
  }

  #changeWeather(): void {
    const isFair = this.#chance(3);
    this.#link = {
      loss: isFair ? 0 : this.#below(25),
      repeat: isFair ? 0 : this.#below(15),
      delay_s: isFair ? 0 : this.#below(4),
      late: isFair ? 0 : this.#below(5),
    };
  }

  #restart(): void {
    this.#say('fish is restarted');
    this.#pond.restart();
    this.#naive.restart();
    this.#truths.restart();
    this.#report.adoptions++;
  }

  /** A client connects, from a port that has no connection with this server, or whose connection has been lost. */
  #open(client: Endpoint, remote: Endpoint): void {
    const key = pairOf(client, remote);
    const before = this.#clientHosts.get(key);
    if (before && before.end.state !== 'closed' && before.end.state !== 'time-wait') return;
    const connection = this.#truths.begin();
    const host = this.#clientHost(client, remote, connection);
    this.#clientHosts.set(key, host);
    this.#report.connections++;
    this.#say(`${key} opens ${connection}`);
    host.end.connect(this.#nowS);
  }

  /** Where one has been before. */
  #openAgain(): void {
    const over = [...this.#clientHosts.values()].filter(({ end }) => ['closed', 'time-wait'].includes(end.state));
    const host = over.at(this.#below(Math.max(1, over.length)));
    if (host) this.#open(host.address, host.peer);
  }

  /** Both ends lose power, and the client begins another connection from the same port. */
  #loseBoth(): void {
    const flow = this.#naive.flows.filter(({ state }) => state === 'live').at(this.#below(8));
    if (!flow) return;
    const client = this.#clientHosts.get(pairOf(flow.client, flow.remote));
    const server = this.#remoteHosts.get(pairOf(flow.remote, flow.leased));
    if (client) client.end.state = 'closed';
    if (server) server.end.state = 'closed';
    this.#say(`${pairOf(flow.client, flow.remote)} is lost by both`);
    this.#open(flow.client, flow.remote);
  }

  /** A server connects to where it has seen somebody come from: to a client that is connecting, too, or to nobody. */
  #callBack(): void {
    const opening = this.#naive.flows.filter(
      ({ state, connection }) => state === 'live' && connection.phase === 'opening',
    );
    const flow = this.#chance(4) ? this.#naive.flows.at(this.#below(flows_max)) : opening[0];
    if (!flow) return;
    const key = pairOf(flow.remote, flow.leased);
    const before = this.#remoteHosts.get(key);
    if (before && before.end.state !== 'closed') return;
    const client = this.#clientHosts.get(pairOf(flow.client, flow.remote));
    const host = this.#remoteHost(flow.remote, flow.leased, client?.connection ?? null);
    this.#remoteHosts.set(key, host);
    this.#say(`${key} calls back`);
    host.end.connect(this.#nowS);
  }

  #clientHost(address: Endpoint, peer: Endpoint, connection: number): Host {
    const emit = (segment: Segment) => this.#send('to-nat-out', address, peer, segment, host.connection);
    const host: Host = { end: new HostEnd(this.#endSettings(), emit), connection, address, peer };
    return host;
  }

  #remoteHost(address: Endpoint, peer: Endpoint, connection: number | null): Host {
    const emit = (segment: Segment) => this.#send('to-nat-in', address, peer, segment, host.connection);
    const host: Host = { end: new HostEnd(this.#endSettings(), emit), connection, address, peer };
    return host;
  }

  #endSettings() {
    // Half of all connections come around the end of the sequence numbers.
    const initial = this.#chance(2) ? this.#random() : (2 ** 32 - this.#below(3_000)) % 2 ** 32;
    const scale = this.#chance(3) ? null : this.#below(15);
    const window = this.#chance(3) ? 65_535 : 300 + this.#below(6_000);
    const scaled = scale === null ? window : this.#chance(2) ? window * 2 ** scale : Math.max(window, 2 ** scale);
    return { initial, segmentBytes_max: this.#chance(3) ? 1_460 : 60 + this.#below(400), window: scaled, scale };
  }

  #send(leg: Leg, from: Endpoint, to: Endpoint, segment: Segment, connection: number | null): void {
    const { loss, repeat, delay_s, late } = this.#link;
    const copies = this.#below(100) < repeat ? 2 : 1;
    if (copies > 1) this.#report.repeated++;
    for (let copy = 0; copy < copies; copy++) {
      if (this.#below(100) < loss) {
        this.#report.lost++;
        continue;
      }
      const isLate = this.#below(200) < late;
      const atS = this.#nowS + (isLate ? 20 + this.#below(180) : this.#below(delay_s + 1));
      if (this.#flights.some((each) => each.leg === leg && each.atS > atS)) this.#report.overtaken++;
      this.#flights.push({ atS, leg, from, to, segment, connection });
    }
  }

  /** Time passes, with all that happens meanwhile. */
  #passTo(untilS: number): void {
    this.#happen();
    while (this.#nowS < untilS) {
      const dueS = Math.min(
        untilS,
        ...this.#flights.map(({ atS }) => atS),
        ...this.#hosts().map(({ end }) => end.wakesAt),
        ...this.#naive.flows.map(({ deadlineS }) => Math.ceil(deadlineS)),
      );
      this.#nowS = Math.max(this.#nowS + 1, dueS);
      this.#happen();
    }
  }

  #happen(): void {
    this.#pond.nowMs = this.#nowS * 1_000;
    this.#pond.pass(0);
    const before = this.#naive.flows.filter(({ state }) => state === 'live').length;
    this.#naive.expire(this.#nowS);
    this.#report.idle += before - this.#naive.flows.filter(({ state }) => state === 'live').length;
    this.#compare();
    for (const host of this.#hosts()) host.end.tick(this.#nowS);
    for (;;) {
      const due = this.#flights.findIndex(({ atS }) => atS <= this.#nowS);
      const [flight] = due < 0 ? [] : this.#flights.splice(due, 1);
      if (!flight) break;
      this.#arrive(flight);
    }
    for (const host of this.#clientHosts.values()) this.#checkBelief(host);
  }

  #arrive(flight: Flight): void {
    const { leg, from, to, segment } = flight;
    if (leg === 'to-nat-out') this.#passOut(flight);
    else if (leg === 'to-nat-in') this.#passIn(flight);
    else if (leg === 'to-client') this.#clientHosts.get(pairOf(to, from))?.end.receive(segment, this.#nowS, false);
    else this.#arriveAtRemote(flight);
  }

  #arriveAtRemote({ from, to, segment, connection }: Flight): void {
    const key = pairOf(to, from);
    let host = this.#remoteHosts.get(key);
    if (!host || host.end.state === 'closed') {
      // With a number of its own for whoever comes next; a refusal is part of what it refuses.
      host = this.#remoteHost(to, from, connection);
      this.#remoteHosts.set(key, host);
    }
    host.end.receive(segment, this.#nowS, true);
  }

  #passOut(flight: Flight): void {
    const { from: client, to: remote, segment, connection } = flight;
    this.#report.packets++;
    const known = this.#naive.flows.length;
    const live = this.#liveOf(this.#naive.flows.find((flow) => isOf(flow, client, remote)));
    const expected = this.#naive.out(client, remote, segment, this.#nowS);
    const sent = this.#pond.send(bytesOf(client, remote, segment));
    this.#say(`> ${nameOf(client)} ${nameOf(remote)} ${textOf(segment)} of ${connection}: ${sent.verdict}`);
    if ('drop' in expected) {
      insist(sent.verdict === expected.drop, `${expected.drop} was to be expected`);
      if (expected.drop === 'no_port') this.#report.withoutPort++;
      return;
    }
    insist(sent.verdict === 'forward', 'it was to be forwarded');
    const seen = read(sent.bytes);
    const leased = { address: seen.source, port: seen.sourcePort };
    if ('choices' in expected) {
      insist(expected.choices.map(nameOf).includes(nameOf(leased)), `${nameOf(leased)} is not free`);
      this.#judgeTaking(leased, remote);
      this.#naive.took(leased, client, remote, segment, this.#nowS);
      if (this.#naive.flows.some((flow) => flow.isSuperseded && flow.client === client && flow.remote === remote))
        this.#report.superseded++;
    } else insist(nameOf(leased) === nameOf(expected.flow.leased), 'it left by another port');
    if (has(segment, 'S') && !has(segment, 'A')) this.#truths.called(connection, pairOf(leased, remote));
    this.#countEnd(live, segment);
    if (has(segment, 'R')) this.#truths.doubt(pairOf(leased, remote));
    this.#truths.passed(connection, 'out', segment, this.#nowS);
    this.#compare();
    insist(this.#naive.flows.length >= known, 'flows only go when they are due');
    this.#send('to-remote', leased, remote, segment, connection);
  }

  #passIn(flight: Flight): void {
    const { from: remote, to: leased, segment, connection } = flight;
    this.#report.packets++;
    const flow = this.#naive.flowAt(leased, remote);
    const [live, wasOpening] = [this.#liveOf(flow), flow?.connection.phase === 'opening'];
    const expected = this.#naive.in(remote, leased, segment, this.#nowS);
    const sent = this.#pond.send(bytesOf(remote, leased, segment));
    this.#say(`< ${nameOf(remote)} ${nameOf(leased)} ${textOf(segment)} of ${connection}: ${sent.verdict}`);
    if ('drop' in expected) {
      insist(sent.verdict === expected.drop, `${expected.drop} was to be expected`);
      this.#compare();
      return;
    }
    insist(sent.verdict === 'forward' && 'flow' in expected, 'it was to be forwarded');
    const { client } = (expected as { flow: NaiveTcpFlow }).flow;
    const { destination: address, destinationPort: port } = read(sent.bytes);
    insist(nameOf({ address, port }) === nameOf(client), 'it came to another client');
    this.#countEnd(live, segment);
    if (flow && !wasOpening && flow.connection.phase === 'opening') this.#report.begunAnew++;
    if (has(segment, 'S') && !has(segment, 'A') && connection !== null) this.#report.simultaneous++;
    if (connection !== null) this.#lastIn.set(pairOf(leased, remote), segment);
    if (has(segment, 'R')) this.#truths.doubt(pairOf(leased, remote));
    this.#truths.passed(connection, 'in', segment, this.#nowS);
    this.#compare();
    this.#send('to-client', remote, client, segment, connection);
  }

  #liveOf(flow: NaiveTcpFlow | undefined): NaiveTcpFlow | undefined {
    return flow?.state === 'live' ? flow : undefined;
  }

  #countEnd(wasLive: NaiveTcpFlow | undefined, segment: Segment): void {
    if (wasLive?.state === 'resting') this.#report[has(segment, 'R') ? 'reset' : 'finished']++;
    if (segment.sequence + segment.bytes > 2 ** 32) this.#report.wrapped++;
  }

  /** Somebody who knows the tuple of a connection, and none of its numbers, sends what it takes to end it. */
  #forge(): void {
    const flow = this.#naive.flows.at(this.#below(Math.max(1, this.#naive.flows.length)));
    if (!flow) return;
    for (let times = 1 + this.#below(3); times > 0; times--) {
      const segment = this.#forged(flow);
      // Whoever guessed right would be believed by the client, too.
      const isLucky =
        !(has(segment, 'S') && !has(segment, 'A')) && ['keeps', 'ends'].includes(flow.connection.judge('in', segment));
      if (isLucky) continue;
      const before = this.#deadlineOf(flow);
      const wasLive = flow.state === 'live';
      const isDoubtful = wasLive && flow.connection.judge('in', segment) === 'doubts';
      this.#report.forged++;
      if (has(segment, 'S')) this.#report.forgedSyns++;
      if (has(segment, 'R')) this.#report.forgedResets++;
      if (isDoubtful) this.#report.doubted++;
      this.#passIn({
        atS: this.#nowS,
        leg: 'to-nat-in',
        from: flow.remote,
        to: flow.leased,
        segment,
        connection: null,
      });
      insist(!wasLive || flow.state === 'live', 'a forgery has ended a connection');
      const after = this.#deadlineOf(flow);
      insist(isDoubtful ? after <= before : after === before, 'a forgery has kept a connection, or shortened it');
    }
  }

  #forged(flow: NaiveTcpFlow): Segment {
    const near = this.#lastIn.get(pairOf(flow.leased, flow.remote));
    const around = (number: number) =>
      (number +
        this.#one([0, 1, -1, 2, -2, 60, 1_000, -1_000, 66_001, -66_001, 2 ** 31, 2 ** 30, -(2 ** 30)]) +
        2 ** 33) %
      2 ** 32;
    const numberNear = (number: number | undefined) =>
      number === undefined || this.#chance(2) ? this.#random() : around(number);
    const bytes = this.#chance(3) ? this.#below(200) : 0;
    return {
      flags: this.#one(['R', 'R', 'RA', 'S', 'SA', 'FA', 'A']),
      sequence: numberNear(near && near.sequence + near.bytes),
      acknowledgement: numberNear(near?.acknowledgement),
      window: this.#below(65_536),
      bytes,
      scale: this.#chance(2) ? null : this.#below(20),
    };
  }

  /** Of the row in fish's memory. */
  #deadlineOf({ leased, remote, client }: NaiveTcpFlow): number {
    const row = this.#rows().find((each) => each.key === keyOf(client, leased, remote));
    return row?.deadlineMs ?? Number.NaN;
  }

  #rows() {
    const { flows } = this.#pond.memory.columns;
    const rows = [];
    for (let row = 0; row < flows.state.length; row++) {
      if (flows.state[row] === FREE) continue;
      const { client, clientPort, address, port, remote, remotePort } = describeTuple(flows, row, this.#book);
      const key = `${client}:${clientPort} ${address}:${port} ${remote}:${remotePort}`;
      rows.push({
        key,
        state: flows.state[row] === LIVE ? 'live' : 'resting',
        isSuperseded: flows.attached[row] === 0,
        deadlineMs: flows.deadlineMs[row]!,
      });
    }
    return rows;
  }

  /** Fish has the flows that the naive NAT has, in the same state, until the same instant. */
  #compare(): void {
    const text = (row: { key: string; state: string; isSuperseded: boolean; deadlineMs: number }) =>
      `${row.key} ${row.state}${row.isSuperseded ? ', superseded' : ''} until ${row.deadlineMs}`;
    const known = this.#rows().map(text).sort();
    const modelled = this.#naive.flows
      .map((flow) =>
        text({ ...flow, key: keyOf(flow.client, flow.leased, flow.remote), deadlineMs: flow.deadlineS * 1_000 }),
      )
      .sort();
    insist(known.join() === modelled.join(), `fish has\n${known.join('\n')}\nand should have\n${modelled.join('\n')}`);
  }

  /** As long as two ends are connected to each other, and not silent for longer than fish waits, they have their flow. */
  #checkBelief({ end, connection, address, peer }: Host): void {
    const tuple = this.#truths.tupleOf(connection);
    if (connection === null || tuple === undefined) return;
    const flow = this.#naive.flows.find(
      ({ leased, remote, client }) => pairOf(leased, remote) === tuple && nameOf(client) === nameOf(address),
    );
    const server = [...this.#remoteHosts.values()].find((host) => pairOf(host.peer, peer) === tuple);
    const isMutual = server !== undefined && end.isConnectedTo(server.end) && server.end.isConnectedTo(end);
    if (!isMutual || !this.#truths.mustLive(connection, end.state, server.end.state, this.#nowS)) return;
    insist(flow?.state === 'live', `${connection} is alive (${end.state}, ${server.end.state}), and has no flow`);
  }

  /** A leased port becomes somebody's toward a remote: nobody may have it who believes in a connection there. */
  #judgeTaking(leased: Endpoint, remote: Endpoint): void {
    const tuple = pairOf(leased, remote);
    const last = this.#truths.lastOn(tuple);
    if (last === undefined) return;
    this.#report.portsUsedAgain++;
    const server = this.#remoteHosts.get(pairOf(remote, leased));
    const client = [...this.#clientHosts.values()].find(({ connection }) => connection === last);
    const isServers = server?.connection === last && server.end.state !== 'closed';
    const isClients = client !== undefined && client.end.state !== 'closed';
    if (isServers || isClients)
      insist(this.#truths.mayBeTaken(last, this.#nowS), `${tuple} is still ${last}'s, and is given away`);
  }

  #say(line: string): void {
    this.lines.push(`${this.#nowS} s: ${line}`);
    if (this.lines.length > lines_max) this.lines.shift();
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }

  #chance(of: number): boolean {
    return this.#below(of) === 0;
  }

  #below(count: number): number {
    return this.#random() % count;
  }
}

function insist(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}

const isOf = (flow: NaiveTcpFlow, client: Endpoint, remote: Endpoint): boolean =>
  !flow.isSuperseded && nameOf(flow.client) === nameOf(client) && nameOf(flow.remote) === nameOf(remote);
const keyOf = (client: Endpoint, leased: Endpoint, remote: Endpoint): string =>
  `${nameOf(client)} ${nameOf(leased)} ${nameOf(remote)}`;
const textOf = ({ flags, sequence, acknowledgement, window, bytes, scale }: Segment): string =>
  `${flags} ${sequence}+${bytes} ack ${acknowledgement} window ${window}${scale === null ? '' : ` scale ${scale}`}`;

const bytesOf = (from: Endpoint, to: Endpoint, segment: Segment): Uint8Array => {
  const { flags, sequence, acknowledgement, window, bytes, scale } = segment;
  const tcpOptions = scale === null || !flags.includes('S') ? [] : [1, 3, 3, scale];
  return build(tcp(from, to, flags, { sequence, acknowledgement, window, tcpOptions, data: new Uint8Array(bytes) }));
};
