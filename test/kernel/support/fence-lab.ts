import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FisheryClient } from '../../../src/sdk/index.ts';
import { AgentProcess, bin, eventually, runIn, User, userScript } from './agent-lab.ts';
import { relayTo, type Relay } from './fetch-relay.ts';
import { deleteNamespaces, namespaceOf, pidsIn } from './namespaces.ts';
import { run } from './sys-lab.ts';

export const address = '198.51.100.10';
export const webUid = 2_001;
/** Of the machine `sleeper`, which is in the place of `b` when it runs, with a fence of its own. */
export const sleepersAddress = '198.51.100.20';
export const long_fence_s = 20;
export const fence_s = 2;
export const cooldown_s = 1;
/** What the server adds for the difference of two clocks. */
export const skew_s = 1;

const machines = ['a', 'b', 'sleeper'] as const;
export type MachineName = (typeof machines)[number];
const serverUrl = 'http://203.0.113.2:7480';

/**
 * Two machines with agents, and behind them an origin where the server is, too; a client behind the first machine:
 *
 *     fe-client                fe-a                                fe-origin
 *     c0 100.64.0.2/24 <-----> hc 100.64.0.1/24
 *                              h0 192.0.2.1/30 <------------------> oa 192.0.2.2/30    203.0.113.1: echoes
 *                              fe-b                                                    203.0.113.2: the server
 *                              h0 192.0.2.5/30 <------------------> ob 192.0.2.6/30
 *
 * The origin is the judge of what leaves. It reaches the pool by the first machine until `routeTo` says otherwise. The server
 * is the real one, with its database in a file.
 */
export class FenceLab {
  readonly client: FisheryClient;
  readonly folder: string;
  readonly #names: Readonly<Record<'a' | 'b' | 'origin' | 'client', string>>;
  readonly #children = new Set<ChildProcess>();
  readonly #relay: Relay;
  #server: ChildProcess | undefined;

  private constructor(names: FenceLab['names'], folder: string, relay: Relay, secret: string) {
    this.#names = names;
    this.folder = folder;
    this.#relay = relay;
    this.client = new FisheryClient({ url: serverUrl, token: secret, fetch: relay.fetch });
  }

  get names(): Readonly<Record<'a' | 'b' | 'origin' | 'client', string>> {
    return this.#names;
  }

  static async open(name: string): Promise<FenceLab> {
    const of = (part: string) => namespaceOf(`fe-${name}-${part}`);
    const names = { a: of('a'), b: of('b'), origin: of('origin'), client: of('client') };
    const all = Object.values(names);
    deleteNamespaces(...all);
    for (const ns of all) run(`ip netns add ${ns}`);
    const { a, b, origin, client } = names;
    run(`ip -n ${a} link add h0 type veth peer name oa netns ${origin}`);
    run(`ip -n ${b} link add h0 type veth peer name ob netns ${origin}`);
    run(`ip -n ${a} link add hc type veth peer name c0 netns ${client}`);
    for (const [ns, commands] of [
      [a, ['addr add 192.0.2.1/30 dev h0', 'link set h0 up', 'addr add 100.64.0.1/24 dev hc', 'link set hc up']],
      [b, ['addr add 192.0.2.5/30 dev h0', 'link set h0 up']],
      [origin, ['addr add 192.0.2.2/30 dev oa', 'link set oa up', 'addr add 192.0.2.6/30 dev ob', 'link set ob up']],
      [origin, ['addr add 203.0.113.1/32 dev lo', 'addr add 203.0.113.2/32 dev lo']],
      [client, ['addr add 100.64.0.2/24 dev c0', 'link set c0 up']],
      ...all.map((ns) => [ns, ['link set lo up']] as const),
      [a, ['route add default via 192.0.2.2']],
      [b, ['route add default via 192.0.2.6']],
      [client, ['route add default via 100.64.0.1']],
      [origin, ['route add 198.51.100.0/24 via 192.0.2.1', `route add ${sleepersAddress} via 192.0.2.5`]],
    ] as const)
      run(...commands.map((command) => `ip -n ${ns} ${command}`));
    const folder = mkdtempSync(join(tmpdir(), 'fishery-fence-'));
    writeFileSync(join(folder, 'wall'), '0');
    const server = startServer(origin, folder);
    try {
      const secret = await operatorToken(folder);
      const lab = new FenceLab(names, folder, await relayTo(origin), secret);
      lab.#server = server;
      await lab.#served();
      return lab;
    } catch (error) {
      server.kill('SIGKILL');
      deleteNamespaces(...all);
      throw error;
    }
  }

  /** A pool, both machines, a slice of the first one, fish there, and on both the holder `web`. */
  async setUp(): Promise<void> {
    const { client } = this;
    await client.pools.create({
      ...{ id: 'pool', prefixes: ['198.51.100.0/24'], slice_ports: 2_048 },
      cooldown_s: { tcp: cooldown_s, udp: cooldown_s, icmp: cooldown_s },
    });
    for (const machine of machines) {
      await client.machines.create({ id: machine, fence_s: machine === 'sleeper' ? long_fence_s : fence_s });
      await client.machines.putHolder(machine, 'web', { kind: 'proxy', uid: webUid });
      const { secret } = await client.tokens.create({ name: `${machine}-agent`, role: 'agent', machine });
      mkdirSync(join(this.folder, machine));
      writeFileSync(join(this.folder, machine, 'token'), secret, { mode: 0o600 });
      const agent = {
        ...{ machine, server: serverUrl, token_file: join(this.folder, machine, 'token') },
        ...{ state_dir: join(this.folder, machine, 'state'), uplinks: ['h0'], log_level: 'debug', keep: false },
        ...(machine === 'a' ? { client_interfaces: ['hc'], fish } : {}),
      };
      writeFileSync(join(this.folder, machine, 'fishery.json'), JSON.stringify({ agent }));
    }
    await client.machines.putHolder('a', 'fish', { kind: 'fish' });
    await client.slices.assign({ machine: 'a', pool: 'pool', at: { address, first_port: 8_192 } });
    await client.slices.assign({
      machine: 'sleeper',
      pool: 'pool',
      at: { address: sleepersAddress, first_port: 8_192 },
    });
  }

  /** As `startAgent`, in the place of another machine, by a copy of its settings with a state folder of its own. */
  startTwin(machine: MachineName, where: 'a' | 'b'): AgentProcess {
    const folder = join(this.folder, `twin of ${machine}`);
    mkdirSync(folder);
    const { agent } = JSON.parse(readFileSync(join(this.folder, machine, 'fishery.json'), 'utf8')) as {
      agent: object;
    };
    const config = join(folder, 'fishery.json');
    writeFileSync(config, JSON.stringify({ agent: { ...agent, state_dir: join(folder, 'state') } }));
    const child = this.spawn(where, [process.execPath, bin, 'agent', '--config', config]);
    return new AgentProcess(child, join(folder, 'state', 'agent.sock'));
  }

  /** Starts `fishery agent` on a machine, after shell commands in a mount namespace of its own. */
  startAgent(machine: MachineName, before = 'true'): AgentProcess {
    const start = [
      process.execPath,
      '--import',
      fakes,
      bin,
      'agent',
      '--config',
      join(this.folder, machine, 'fishery.json'),
    ];
    const args = ['unshare', '--mount', 'sh', '-c', `${before} && exec "$@"`, 'sh', ...start];
    return new AgentProcess(
      this.spawn(machine === 'a' ? 'a' : 'b', args),
      join(this.folder, machine, 'state', 'agent.sock'),
    );
  }

  /** One answered keepalive of a machine, as its agent sends it. */
  async keepalive(machine: MachineName, bootId: string): Promise<void> {
    const token = readFileSync(join(this.folder, machine, 'token'), 'utf8');
    const client = new FisheryClient({ url: serverUrl, token, fetch: this.#relay.fetch });
    await client.agent.keepalive(machine, { boot_id: bootId, version: 'test', applied_revision: 0 });
  }

  /** Sets the wall clocks of all agents and of the server ahead, or back. */
  setWallClocks(offMs: number): void {
    writeFileSync(join(this.folder, 'wall'), String(offMs));
  }

  /** The server stops where it stands, is lost with all that it had not written, and is there again with its file. */
  async killServer(): Promise<void> {
    const gone = new Promise((resolve) => this.#server?.once('close', resolve));
    this.#server?.kill('SIGKILL');
    await gone;
  }

  async restartServer(): Promise<void> {
    this.#server = startServer(this.#names.origin, this.folder);
    await this.#served();
  }

  async #served(): Promise<void> {
    await eventually(
      async () => {
        await this.client.server.readiness();
        return true;
      },
      () => 'the server does not answer',
      30_000,
    );
  }

  /** From now on the origin sends what is for the pool's addresses to this machine. */
  routeTo(machine: 'a' | 'b'): void {
    run(`ip -n ${this.#names.origin} route replace 198.51.100.0/24 via ${machine === 'a' ? '192.0.2.1' : '192.0.2.5'}`);
  }

  /** Drops packets between a machine and the server in one direction, with a table of the test's own. */
  cut(direction: 'to the server' | 'from the server', where: 'a' | 'b' = 'a'): void {
    const [hook, match] =
      direction === 'to the server'
        ? ['output', 'ip daddr 203.0.113.2 tcp dport 7480']
        : ['input', 'ip saddr 203.0.113.2 tcp sport 7480'];
    runIn(
      this.#names[where],
      'nft -f -',
      `table ip cut {\n chain c {\n type filter hook ${hook} priority 0\n ${match} drop\n }\n}\n`,
    );
  }

  /** Whatever was cut, if anything was. */
  heal(): void {
    for (const where of ['a', 'b'] as const) runIn(this.#names[where], 'nft delete table ip cut 2>/dev/null || true');
  }

  /** Every process on a machine, and in its place. */
  killAll(where: keyof FenceLab['names']): void {
    for (const pid of pidsIn(this.#names[where])) process.kill(pid, 'SIGKILL');
  }

  shell(where: keyof FenceLab['names'], command: string): string {
    return runIn(this.#names[where], command);
  }

  spawn(where: keyof FenceLab['names'], args: readonly string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.#names[where], ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: fakedEnv(this.folder),
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  async user(where: keyof FenceLab['names'], uid: number): Promise<User> {
    const args = ['netns', 'exec', this.#names[where], process.execPath, userScript, String(uid)];
    const child = spawn('ip', args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#children.add(child);
    return User.of(child);
  }

  /** What arrives at the origin with a pool's address, by which machine's cable. */
  async capture(): Promise<Capture> {
    const cables = await Promise.all((['oa', 'ob'] as const).map((device) => this.#tcpdump(device)));
    return {
      stop: async () => {
        const [a = [], b = []] = await Promise.all(cables.map((stop) => stop()));
        return { a, b };
      },
    };
  }

  async #tcpdump(device: string): Promise<() => Promise<readonly Seen[]>> {
    const filter = ['src', 'net', '198.51.100.0/24'];
    const child = this.spawn('origin', ['tcpdump', '-n', '-l', '-tt', '--immediate-mode', '-i', device, ...filter]);
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise<void>((resolve) => {
      child.stderr?.on('data', (chunk: Buffer) => chunk.toString().includes('listening on') && resolve());
    });
    return async () => {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGINT');
      await ended;
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => ({ at: Number(line.split(' ', 1)[0]), line }));
    };
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
    }
    this.#relay.close();
    await this.killServer();
    deleteNamespaces(...Object.values(this.#names));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A packet at the origin: seconds of the wall clock, and what tcpdump says of it. */
export type Seen = Readonly<{ at: number; line: string }>;
export type Capture = Readonly<{ stop: () => Promise<Readonly<{ a: readonly Seen[]; b: readonly Seen[] }>> }>;

/** One port of each binding, so that two connections to one place are one in each. */
const fish = {
  client_prefixes: ['100.64.0.0/10'],
  claims: [
    { protocol: 'tcp', mode: 'shared', binding: 'late', ports: 1 },
    { protocol: 'tcp', mode: 'shared', binding: 'explicit', ports: 1 },
    { protocol: 'udp', ports: 16 },
    { protocol: 'icmp', ports: 16 },
  ],
};
export const fishLeases = fish.claims.length;

function startServer(namespace: string, folder: string): ChildProcess {
  const config = join(folder, 'server.json');
  const server = { host: '203.0.113.2', port: 7480, allow_plain_http: true, data_dir: join(folder, 'data') };
  writeFileSync(config, JSON.stringify({ server }));
  const args = ['netns', 'exec', namespace, process.execPath, '--import', fakes, bin, 'server', '--config', config];
  return spawn('ip', args, { stdio: ['ignore', 'ignore', 'inherit'], env: fakedEnv(folder) });
}

/** See fence-fakes.ts. */
const fakes = fileURLToPath(new URL('./fence-fakes.ts', import.meta.url));
export const blocked_ms = (fence_s + 2) * 1_000;
const fakedEnv = (folder: string): NodeJS.ProcessEnv => ({
  ...process.env,
  ...{ FAKE_WALL: join(folder, 'wall'), FAKE_BLOCK_MS: String(blocked_ms) },
});

const operatorToken = (folder: string): Promise<string> =>
  eventually(
    () => {
      const file = join(folder, 'data', 'operator.token');
      return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
    },
    () => 'the server has written no token',
    30_000,
  );
