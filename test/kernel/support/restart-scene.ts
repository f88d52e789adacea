import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { root } from '../../support/tree.ts';
import { AgentLab, eventually, type AgentProcess } from './agent-lab.ts';
import { StreamEnd } from './streams.ts';
import type { StreamReport, Way } from './stream-process.ts';

const misplacer = fileURLToPath(new URL('./misplacer-process.ts', import.meta.url));
const address = '203.0.113.1';
/** What an operator has who has followed the instructions, but for where this host and its server are. */
function shippedSettings(): Readonly<{ fish: object }> {
  const file = parse(readFileSync(join(root, 'packaging/examples/agent.yaml'), 'utf8')) as {
    agent: Record<string, unknown> & { fish: object };
  };
  const { machine: _machine, server: _server, token_file: _token, uplinks: _uplinks, ...shipped } = file.agent;
  return shipped;
}
const streams_max = 40;
/** So much of every stream has to arrive before it counts as moving. */
const progressBytes = 200_000;
const progressDatagrams = 10;

const portOf = (peer: string): number => Number(peer.split(':').at(-1));
const peersOf = ({ streams }: StreamReport) => new Map(streams.map(({ id, peer }) => [id, peer]));
const bytesOf = ({ streams }: StreamReport) => new Map(streams.map(({ id, bytes }) => [id, bytes]));

/**
 * A host whose fish carries streams both ways, through an exclusive and through a shared block, numbered datagrams and a ping,
 * all of which go on while its agent is ended and started again.
 */
export class RestartScene {
  readonly lab: AgentLab;
  readonly origin: StreamEnd;
  readonly client: StreamEnd;
  agent: AgentProcess;
  readonly #config: string;
  /** Where the origin saw each stream come from when it began. */
  #peers: ReadonlyMap<number, string> = new Map();
  readonly #sharedPorts: Readonly<{ first: number; last: number }>;

  private constructor(
    parts: Readonly<{ lab: AgentLab; config: string; agent: AgentProcess; origin: StreamEnd; client: StreamEnd }>,
    sharedPorts: Readonly<{ first: number; last: number }>,
  ) {
    this.lab = parts.lab;
    this.#config = parts.config;
    this.agent = parts.agent;
    this.origin = parts.origin;
    this.client = parts.client;
    this.#sharedPorts = sharedPorts;
  }

  /** Nothing flows yet: see `begin`. */
  static async open(name: string, settings: object = {}): Promise<RestartScene> {
    const lab = await AgentLab.open(name);
    const shipped = shippedSettings();
    const config = await lab.setUp({
      // Nobody renews the guard while the server stands still.
      fence_s: 60,
      settings: {
        ...shipped,
        client_interfaces: ['hc'],
        fish: {
          ...shipped.fish,
          claims: [
            { protocol: 'tcp', ports: 64 },
            { protocol: 'tcp', mode: 'shared', ports: 64 },
            { protocol: 'udp', ports: 64 },
            { protocol: 'icmp', ports: 16 },
          ],
          timers: { tcp_rest_s: 1 },
        },
        ...settings,
      },
    });
    const agent = lab.startAgent(config);
    const { items } = await eventually(
      async () => {
        const page = await lab.client.leases.list({ machine: 'edge', state: 'active' });
        return page.items.length === 4 ? page : undefined;
      },
      () => `fish has not its leases\n${agent.output.slice(-3_000)}`,
      30_000,
    );
    const shared = items.find((lease) => lease.mode === 'shared');
    if (!shared) throw new Error('no lease is shared');
    await agent.ready();
    const [origin, client] = [await StreamEnd.start(lab.origin), await StreamEnd.start(lab.clientSide)];
    await origin.tell({ do: 'serve', address });
    return new RestartScene({ lab, config, agent, origin, client }, shared.ports);
  }

  /** Opens streams until there are `each` of every kind and both ways, a ping and datagrams so far apart. */
  async begin(each: number, datagramEvery_ms: number): Promise<void> {
    for (let id = 1; !(await this.#hasEach(each)); id++) {
      if (id > streams_max) throw new Error(`${streams_max} streams, and not ${each} of every kind`);
      await this.client.tell({ do: 'open', way: id % 2 === 0 ? 'down' : 'up', id, address });
      await eventually(
        async () => (await this.origin.report()).streams.length === id || undefined,
        () => `stream ${id} has not arrived`,
      );
    }
    await this.client.tell({ do: 'datagrams', address, every_ms: datagramEvery_ms });
    this.lab.spawn(this.lab.clientSide, ['ping', '-i', '0.2', address]);
    this.#peers = peersOf(await this.origin.report());
    await this.everythingMoves();
  }

  get streams(): number {
    return this.#peers.size;
  }

  get streamsInShared(): number {
    return [...this.#peers.values()].filter((peer) => this.#isShared(peer)).length;
  }

  /** Ends the agent by this signal and starts it again; returns its exit code. `between`: what happens meanwhile. */
  async restart(signal: 'SIGKILL' | 'SIGTERM', between = () => {}): Promise<number | null> {
    const code = await this.agent.end(signal);
    between();
    this.agent = this.lab.startAgent(this.#config);
    return code;
  }

  /** Waits until every stream has moved on from here, and the datagrams have. */
  async everythingMoves(): Promise<void> {
    const ends = { down: this.client, up: this.origin };
    const before = { down: bytesOf(await ends.down.report()), up: bytesOf(await ends.up.report()) };
    const echoed = (await this.client.report()).numbers.length;
    await eventually(
      async () => {
        const now = { down: await ends.down.report(), up: await ends.up.report() };
        const isMoving = (['down', 'up'] as const).every((way) =>
          now[way].streams
            .filter((stream) => stream.way === way)
            .every(({ id, bytes }) => bytes >= (before[way].get(id) ?? 0) + progressBytes),
        );
        return (isMoving && now.down.numbers.length > echoed + progressDatagrams) || undefined;
      },
      () => `not everything moves\n${this.agent.output.slice(-3_000)}`,
      60_000,
    );
  }

  /** What is not as it was: streams that ended or failed, or that the origin sees come from elsewhere. */
  async broken(): Promise<readonly string[]> {
    const [here, there] = [await this.client.report(), await this.origin.report()];
    const ended = [...here.streams, ...there.streams]
      .filter((stream) => stream.ended || stream.error !== null)
      .map(({ id, error }) => `stream ${id}: ${error ?? 'ended'}`);
    const moved = [...peersOf(there)].flatMap(([id, peer]) =>
      this.#peers.get(id) === peer ? [] : [`stream ${id}: from ${peer} instead of ${this.#peers.get(id)}`],
    );
    const datagrams = there.peers.length === 1 ? [] : [`datagrams: from ${there.peers.join(' and ')}`];
    return [...ended, ...moved, ...datagrams];
  }

  /** Of the datagrams from number `from` up to `to`, those that have not reached the origin, or not come back. */
  async lost(from: number, to: number): Promise<Readonly<{ there: number; back: number }>> {
    const [there, back] = [
      new Set((await this.origin.report()).numbers),
      new Set((await this.client.report()).numbers),
    ];
    const all = Array.from({ length: to - from }, (_, i) => from + i);
    return {
      there: all.filter((number) => !there.has(number)).length,
      back: all.filter((number) => !back.has(number)).length,
    };
  }

  /** Puts other sockets in the place of placeholders, in the keeper; says how many. */
  misplace(count: number): string {
    return this.lab.shell(this.lab.host, `${process.execPath} ${misplacer} ${count} flows`);
  }

  /** Fast Open sockets in SYN-SENT, as the kernel lists them. */
  placeholders(): number {
    return Number(this.lab.shell(this.lab.host, 'ss -tanH state syn-sent | wc -l'));
  }

  async close(): Promise<void> {
    await this.client.stop();
    await this.origin.stop();
    await this.lab.close();
  }

  #isShared(peer: string): boolean {
    return this.#sharedPorts.first <= portOf(peer) && portOf(peer) <= this.#sharedPorts.last;
  }

  async #hasEach(count: number): Promise<boolean> {
    const { streams } = await this.origin.report();
    const kinds = (['down', 'up'] as const satisfies readonly Way[]).flatMap((way) =>
      [true, false].map((isShared) => ({ way, isShared })),
    );
    return kinds.every(
      ({ way, isShared }) =>
        streams.filter((stream) => stream.way === way && this.#isShared(stream.peer) === isShared).length >= count,
    );
  }
}
