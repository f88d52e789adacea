import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '../../../src/agent/status.ts';
import { FisheryClient } from '../../../src/sdk/index.ts';
import { run } from './sys-lab.ts';

/**
 * A host with an agent, the server beside it, and an origin behind a cable; all in namespaces of their own:
 *
 *     fa-NAME-host                                          fa-NAME-origin
 *     lo  (the agent puts 198.51.100.x, 2001:db8::x here)   lo  203.0.113.1, 2001:db8:f::1
 *     h0  192.0.2.1/24, 2001:db8:1::1/64    <----------->   o0  192.0.2.2/24, 2001:db8:1::2/64
 *     127.0.0.1: the server                                 (routes to 198.51.100.0/24 and 2001:db8::/48 by the host)
 */
export class AgentLab {
  readonly host: string;
  readonly origin: string;
  /** Of an operator, spoken through a process in the host's namespace. */
  readonly client: FisheryClient;
  readonly serverUrl: string;
  readonly folder: string;
  readonly #server: ServerProcess;
  readonly #children = new Set<ChildProcess>();

  private constructor(name: string, server: ServerProcess) {
    this.host = `fa-${name}-host`;
    this.origin = `fa-${name}-origin`;
    this.#server = server;
    this.serverUrl = server.url;
    this.client = new FisheryClient({ url: server.url, token: server.secret, fetch: server.fetch });
    this.folder = mkdtempSync(join(tmpdir(), 'fishery-agent-'));
  }

  static async open(name: string): Promise<AgentLab> {
    const [host, origin] = [`fa-${name}-host`, `fa-${name}-origin`];
    for (const ns of [host, origin]) spawnSync('ip', ['netns', 'del', ns], { stdio: 'ignore' });
    run(`ip netns add ${host}`, `ip netns add ${origin}`);
    // No duplicate address detection: it keeps fresh IPv6 addresses silent for seconds.
    for (const ns of [host, origin]) run(`ip netns exec ${ns} sysctl -qw net.ipv6.conf.default.accept_dad=0`);
    run(`ip -n ${host} link add h0 type veth peer name o0 netns ${origin}`);
    for (const [ns, commands] of [
      [host, ['addr add 192.0.2.1/24 dev h0', 'addr add 2001:db8:1::1/64 dev h0 nodad', 'link set h0 up']],
      [origin, ['addr add 192.0.2.2/24 dev o0', 'addr add 2001:db8:1::2/64 dev o0 nodad', 'link set o0 up']],
    ] as const)
      run(...['link set lo up', ...commands].map((command) => `ip -n ${ns} ${command}`));
    run(`ip -n ${origin} addr add 203.0.113.1/32 dev lo`, `ip -n ${origin} addr add 2001:db8:f::1/128 dev lo nodad`);
    run(
      `ip -n ${origin} route add 198.51.100.0/24 via 192.0.2.1`,
      `ip -n ${origin} route add 2001:db8::/48 via 2001:db8:1::1`,
    );
    run(`ip -n ${host} route add default via 192.0.2.2`, `ip -n ${host} -6 route add default via 2001:db8:1::2`);
    return new AgentLab(name, await ServerProcess.start(host));
  }

  /** A pool, this machine with its token, and slices of the pool; returns the path of the agent's configuration. */
  async setUp(
    o: Readonly<{ fence_s?: number; cooldown_s?: number; slices?: number; settings?: object }> = {},
  ): Promise<string> {
    const { client } = this;
    const rest = o.cooldown_s ?? 0;
    await client.pools.create({
      id: 'pool',
      prefixes: ['198.51.100.0/24'],
      slice_ports: 2_048,
      cooldown_s: { tcp: rest, udp: rest, icmp: rest },
    });
    await client.machines.create({ id: 'edge', fence_s: o.fence_s ?? 10 });
    if (o.slices !== 0) await client.slices.assign({ machine: 'edge', pool: 'pool', count: o.slices ?? 1 });
    const { secret } = await client.tokens.create({ name: 'edge-agent', role: 'agent', machine: 'edge' });
    writeFileSync(join(this.folder, 'token'), secret, { mode: 0o600 });
    return this.configure(o.settings);
  }

  configure(settings: object = {}): string {
    const path = join(this.folder, 'fishery.json');
    const agent = {
      machine: 'edge',
      server: this.serverUrl,
      token_file: join(this.folder, 'token'),
      state_dir: join(this.folder, 'state'),
      uplinks: ['h0'],
      log_level: 'debug',
      ...settings,
    };
    writeFileSync(path, JSON.stringify({ agent }));
    return path;
  }

  /** Starts `fishery agent` in the host's namespace. */
  startAgent(config: string): AgentProcess {
    const child = this.spawn(this.host, [process.execPath, bin, 'agent', '--config', config]);
    return new AgentProcess(child, join(this.folder, 'state', 'agent.sock'));
  }

  /** `fishery agent down`: its output, and an error with its complaint when it fails. */
  down(config: string): string {
    return this.shell(this.host, `${process.execPath} ${bin} agent down --config ${config}`);
  }

  spawn(namespace: string, args: readonly string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', namespace, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** Runs a shell command in a namespace and returns what it printed. */
  shell(namespace: string, command: string, input = ''): string {
    const done = spawnSync('ip', ['netns', 'exec', namespace, 'sh', '-c', command], { encoding: 'utf8', input });
    if (done.status !== 0) throw new Error(`${command}: ${done.stderr || done.stdout}`);
    return done.stdout.trimEnd();
  }

  /** Stops the server where it stands, and lets it go on: to everybody else it is dead meanwhile. */
  freezeServer(frozen: boolean): void {
    this.#server.signal(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Everything that the agent may change on a host, as text. */
  fingerprint(): Readonly<Record<string, string>> {
    const show = (command: string) => this.shell(this.host, command);
    return {
      rules4: show('ip -4 rule'),
      rules6: show('ip -6 rule'),
      routes4: show('ip -4 route show table all'),
      routes6: show('ip -6 route show table all'),
      addresses: show('ip -o addr show').replace(/valid_lft.*/g, ''),
      links: show('ip -o link show').replace(/qlen.*/g, ''),
      nft: show('nft list ruleset'),
      // All there are, but for secrets that nobody may read.
      sysctls: show('grep -rs . /proc/sys/net/ipv4 /proc/sys/net/ipv6 | sort; true'),
    };
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await this.#server.stop();
    for (const ns of [this.host, this.origin]) spawnSync('ip', ['netns', 'del', ns], { stdio: 'ignore' });
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const bin = fileURLToPath(new URL('../../../src/bin/fishery.ts', import.meta.url));

export class AgentProcess {
  readonly child: ChildProcess;
  readonly #socket: string;
  #output = '';
  readonly #ended: Promise<number | null>;

  constructor(child: ChildProcess, socket: string) {
    this.child = child;
    this.#socket = socket;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    this.#ended = new Promise((resolve) => child.once('close', (code) => resolve(code)));
  }

  /** Everything that it wrote so far. */
  get output(): string {
    return this.#output;
  }

  get(path: string): Promise<Readonly<{ code: number; text: string }>> {
    return new Promise((resolve, reject) => {
      const call = request({ socketPath: this.#socket, path }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => resolve({ code: response.statusCode ?? 0, text }));
      });
      call.on('error', reject);
      call.end();
    });
  }

  async status(): Promise<AgentStatus> {
    const { code, text } = await this.get('/status');
    if (code !== 200) throw new Error(`${code} ${text}`);
    return JSON.parse(text) as AgentStatus;
  }

  /** Waits until its status is as wanted; shows its output when it never is. */
  async until(isAsWanted: (status: AgentStatus) => boolean, what: string, timeout_ms = 15_000): Promise<AgentStatus> {
    return eventually(
      async () => {
        const status = await this.status();
        return isAsWanted(status) ? status : undefined;
      },
      () => `${what}\n${this.#output}`,
      timeout_ms,
    );
  }

  /** Up, with the guard open and nothing left to do. */
  ready(): Promise<AgentStatus> {
    return this.until(
      ({ guard, host, server, revision }) =>
        guard.open && host.problem === null && server.problem === null && revision.applied >= revision.desired,
      'the agent is not ready',
    );
  }

  /** Sends a signal and returns the exit code. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.child.kill(signal);
    return this.#ended;
  }

  ended(): Promise<number | null> {
    return this.#ended;
  }
}

/** Asks until the answer is not undefined. */
export async function eventually<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  what: () => string,
  timeout_ms = 15_000,
): Promise<T> {
  const until = performance.now() + timeout_ms;
  let last: unknown = 'never';
  while (performance.now() < until) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not within ${timeout_ms} ms: ${what()} (${String(last)})`);
}

type Answer = Readonly<{ id: number; status?: number; type?: string; text?: string; error?: string }>;

/** The server process, and a fetch that goes through it. */
class ServerProcess {
  readonly url: string;
  readonly secret: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #calls = 0;

  private constructor(child: ChildProcess, url: string, secret: string) {
    this.#child = child;
    this.url = url;
    this.secret = secret;
    child.on('message', (message) => {
      const answer = message as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  static async start(namespace: string): Promise<ServerProcess> {
    const script = fileURLToPath(new URL('./agent-server-process.ts', import.meta.url));
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const { url, secret } = await new Promise<{ url: string; secret: string }>((resolve, reject) => {
      child.once('message', (message) => resolve(message as { url: string; secret: string }));
      child.once('exit', (code) => reject(new Error(`the server ended (${code})`)));
    });
    return new ServerProcess(child, url, secret);
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const id = ++this.#calls;
    const headers = Object.fromEntries(new Headers(init?.headers));
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve);
      const url = input instanceof Request ? input.url : String(input);
      this.#child.send({ id, url, method: init?.method ?? 'GET', headers, body: init?.body as string | undefined });
    });
    if (answer.error !== undefined) throw new TypeError(answer.error);
    const text = answer.text === '' ? null : (answer.text ?? null);
    return new Response(text, { status: answer.status ?? 0, headers: { 'content-type': answer.type ?? '' } });
  };

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGCONT');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** The agent's state file, as it is on disk. */
export const readState = (folder: string): unknown =>
  JSON.parse(readFileSync(join(folder, 'state', 'agent.json'), 'utf8'));
