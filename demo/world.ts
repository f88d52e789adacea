import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { everyItem, FisheryClient } from '../src/sdk/index.ts';
import type { Lease } from '../src/wire/leases.ts';
import { Capture } from './capture.ts';
import { run } from './commands.ts';
import type { Flow } from './flows.ts';
import { addresses, links, type Lab } from './lab.ts';
import { finish, Running, until } from './processes.ts';
import type { StrangerSaid } from './programs/stranger.ts';
import { startOrigin, stranger, type Origin, type Try } from './visits.ts';

/** Small, so that the demo need not wait long for what takes half a minute elsewhere. */
export const fence_s = 4;
export const cooldown_s = 5;

export const machine = 'edge-1';
export const holders = { fish: 'fish', haproxy: 'haproxy', connectProxy: 'connect-proxy' } as const;
/** How each one's requests say whose they are, and which holder that is. */
export const holderOfSender: Readonly<Record<string, string>> = {
  client: holders.fish,
  haproxy: holders.haproxy,
  'connect-proxy': holders.connectProxy,
};

const pool = 'demo';
const poolAddress = '198.51.100.10';
const block_ports = 128;
const url = 'http://127.0.0.1:7480';
export const fronts = {
  haproxy: `${addresses.hostToClient}:8080`,
  connectProxy: `${addresses.hostToClient}:3128`,
} as const;

const checkout = dirname(fileURLToPath(new URL('.', import.meta.url)));

/** Everything that runs on the host while the demo shows what it does; lives in the host's namespace. */
export class World {
  readonly folder: string;
  readonly lab: Lab;
  readonly origin: Origin;
  readonly capture: Capture;
  /** Of an operator. */
  readonly client: FisheryClient;
  readonly uids: Readonly<{ haproxy: number; connectProxy: number; stranger: number }>;
  /** Node and the checkout, in a place that other users than root can read too. */
  readonly #node: string;
  readonly #code: string;
  #agent: Running | undefined;

  private constructor(folder: string, lab: Lab, origin: Origin, capture: Capture, client: FisheryClient) {
    this.folder = folder;
    this.lab = lab;
    this.origin = origin;
    this.capture = capture;
    this.client = client;
    this.uids = { haproxy: Number(run('id', '-u', 'haproxy')), connectProxy: 61_001, stranger: 61_002 };
    this.#code = readableCode(folder);
    const inCheckout = relative(checkout, process.execPath);
    this.#node = inCheckout.startsWith('..') ? process.execPath : join(this.#code, inCheckout);
  }

  static async start(folder: string, lab: Lab): Promise<World> {
    const origin = await startOrigin(folder, lab.origin);
    const capture = await Capture.start(folder, lab.origin, links.origin, origin.running);
    const client = await startServer(folder);
    const world = new World(folder, lab, origin, capture, client);
    await world.#describe();
    await world.startAgent();
    await until('the slice to be assigned', async () => {
      const { items } = await client.slices.list({ machine });
      return items.length === 1 && items.every(({ state }) => state === 'assigned') ? true : undefined;
    });
    await until('fish to have its leases', async () =>
      (await world.leases(holders.fish)).length === fishClaims.length ? true : undefined,
    );
    await world.#startProxies();
    return world;
  }

  get agent(): Running {
    if (!this.#agent) throw new Error('the agent has not been started');
    return this.#agent;
  }

  async startAgent(): Promise<void> {
    this.#agent = new Running(
      { name: 'agent', command: fishery('agent', '--config', join(this.folder, 'agent.json')) },
      this.folder,
    );
    await until('the agent to say that it is alive', async () => {
      const { agent, state } = await this.client.machines.get(machine);
      if (!this.agent.isRunning) throw new Error(`the agent ended:\n${this.agent.log().slice(-2_000)}`);
      return agent && state === 'active' ? true : undefined;
    });
  }

  /** The active leases of one holder, or of all. */
  async leases(holder?: string): Promise<Lease[]> {
    const query = { machine, state: 'active' as const, ...(holder === undefined ? {} : { holder }) };
    const leases: Lease[] = [];
    for await (const lease of everyItem((page) => this.client.leases.list({ ...page, ...query }))) leases.push(lease);
    return leases;
  }

  /** The one active TCP lease of this kind that a holder has. */
  async tcpLease(holder: string, mode: Lease['mode']): Promise<Lease> {
    const found = (await this.leases(holder)).find((lease) => lease.protocol === 'tcp' && lease.mode === mode);
    if (!found) throw new Error(`${holder} has no ${mode} tcp lease`);
    return found;
  }

  /** Packets counted by the agent's rules in the kernel, by name of the counter. */
  counters(): Readonly<Record<string, number>> {
    const listed = JSON.parse(run('nft', '-j', 'list', 'counters', 'table', 'inet', 'fishery')) as {
      nftables: readonly { counter?: { name: string; packets: number } }[];
    };
    return Object.fromEntries(
      listed.nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])),
    );
  }

  /** Of the file's first bytes, as the origin computes it. */
  async sha256Of(bytes: number): Promise<string> {
    const { stdout } = await finish({
      name: 'curl',
      namespace: this.lab.origin,
      command: ['curl', '--silent', `http://${addresses.origin}/sha256?bytes=${bytes}`],
    });
    return stdout.toString().trim();
  }

  /** Runs one of the project's programs as another user. */
  start(name: string, uid: number, ...program: readonly [string, ...string[]]): Running {
    const [file, ...args] = program;
    return new Running({ name, uid, command: [this.#node, join(this.#code, file), ...args] }, this.folder);
  }

  /** Somebody on this host tries a local port. */
  stranger(attempt: Omit<Try, 'code'>): Promise<StrangerSaid> {
    return stranger({ ...attempt, code: { node: this.#node, folder: this.#code } });
  }

  /** Pool, machine, holders, tokens: what an operator writes down before anything runs. */
  async #describe(): Promise<void> {
    const { client, uids } = this;
    await client.pools.create({
      id: pool,
      prefixes: [`${poolAddress}/32`],
      slice_ports: 2_048,
      usable_ports: { first: 8_192, last: 16_383 },
      shared_block_ports: block_ports,
      cooldown_s: { tcp: cooldown_s, udp: cooldown_s, icmp: cooldown_s },
    });
    await client.machines.create({ id: machine, fence_s });
    await client.machines.putHolder(machine, holders.fish, { kind: 'fish' });
    await client.machines.putHolder(machine, holders.haproxy, { kind: 'proxy', uid: uids.haproxy });
    await client.machines.putHolder(machine, holders.connectProxy, { kind: 'proxy', uid: uids.connectProxy });
    await client.slices.assign({ machine, pool, at: { address: poolAddress, first_port: 8_192 } });
    await this.#writeToken('agent.token', { name: 'agent', role: 'agent', machine }, 0);
    for (const [holder, uid] of [
      [holders.haproxy, uids.haproxy],
      [holders.connectProxy, uids.connectProxy],
    ] as const)
      await this.#writeToken(`${holder}.token`, { name: holder, role: 'holder', machine, holder }, uid);
    writeFileSync(join(this.folder, 'agent.json'), JSON.stringify({ agent: agentSettings(this.folder) }));
    writeFileSync(join(this.folder, 'haproxy.cfg'), haproxyConfiguration);
  }

  async #writeToken(file: string, token: Parameters<FisheryClient['tokens']['create']>[0], uid: number): Promise<void> {
    const { secret } = await this.client.tokens.create(token);
    const path = join(this.folder, file);
    writeFileSync(path, `${secret}\n`, { mode: 0o600 });
    chownSync(path, uid, uid);
  }

  async #startProxies(): Promise<void> {
    const common = ['--server', url, '--machine', machine, '--ttl-s', '6'];
    const haproxy = this.start(
      ...['haproxy', this.uids.haproxy, 'src/bin/fishery.ts'],
      ...['hold', ...common, '--holder', holders.haproxy, '--token-file', join(this.folder, 'haproxy.token')],
      ...['--ports', `${block_ports}`, '--', 'haproxy', '-db', '-f', join(this.folder, 'haproxy.cfg')],
    );
    const connectProxy = this.start(
      ...['connect-proxy', this.uids.connectProxy, 'examples/connect-proxy/main.ts'],
      ...[...common, '--holder', holders.connectProxy, '--token-file', join(this.folder, 'connect-proxy.token')],
      ...['--ports', `${block_ports}`, '--listen', fronts.connectProxy],
    );
    await haproxy.printed(/lease-\d+/);
    await connectProxy.printed(/^ready: /m);
  }
}

export const isIn = (
  { address, protocol, ports }: Lease,
  flow: Pick<Flow, 'source' | 'sourcePort' | 'protocol'>,
): boolean =>
  flow.protocol === protocol &&
  flow.source === address &&
  flow.sourcePort >= ports.first &&
  flow.sourcePort <= ports.last;

const fishClaims = [
  { protocol: 'tcp', mode: 'shared', binding: 'late', ports: block_ports },
  { protocol: 'tcp', mode: 'exclusive', ports: block_ports },
  { protocol: 'udp', mode: 'exclusive', ports: 64 },
  { protocol: 'icmp', mode: 'exclusive', ports: 16 },
] as const;

const agentSettings = (folder: string) => ({
  machine,
  server: url,
  token_file: join(folder, 'agent.token'),
  state_dir: join(folder, 'agent'),
  uplinks: [links.hostToOrigin],
  client_interfaces: [links.hostToClient],
  fish: { holder: holders.fish, session_ttl_s: 20, client_prefixes: ['100.96.0.0/24'], claims: fishClaims },
});

/** HAProxy takes its ports by bind() with SO_REUSEADDR, from a list of its own; `fishery hold` tells it which. */
const haproxyConfiguration = `
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen front
  bind ${fronts.haproxy}
  server origin ${addresses.origin}:80 source "\${FISHERY_ADDRESS}:\${FISHERY_PORTS}"
`;

const fishery = (...args: readonly string[]): readonly string[] => [
  process.execPath,
  join(checkout, 'src/bin/fishery.ts'),
  ...args,
];

async function startServer(folder: string): Promise<FisheryClient> {
  const data = join(folder, 'server');
  const tokenFile = join(data, 'operator.token');
  const command = fishery('server', '--data-dir', data, '--port', '7480');
  const server = new Running({ name: 'server', command }, folder);
  const token = await until('the server to write its operator token', () => {
    if (!server.isRunning) throw new Error(`the server ended:\n${server.log().slice(-2_000)}`);
    return existsSync(tokenFile) ? readFileSync(tokenFile, 'utf8').trim() || undefined : undefined;
  });
  const client = new FisheryClient({ url, token });
  await until('the server to answer', () => client.pools.list().catch(() => undefined));
  return client;
}

/**
 * The proxies run under user ids of their own and must be able to read the code, which may lie in a home that is closed to
 * them. `ip netns exec` gave this process a mount namespace, so the mount is seen here alone and ends with it.
 */
function readableCode(folder: string): string {
  const code = join(folder, 'code');
  mkdirSync(code);
  chmodSync(folder, 0o711);
  run('mount', '--bind', checkout, code);
  run('mount', '-o', 'remount,bind,ro', code);
  return code;
}
