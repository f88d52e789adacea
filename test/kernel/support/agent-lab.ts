import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '../../../src/agent/status/status.ts';
import { FisheryClient } from '../../../src/sdk/index.ts';
import type { UserRequest } from './agent-user-process.ts';
import { deleteNamespaces, namespaceOf } from './namespaces.ts';
import { run } from './sys-lab.ts';

/**
 * A host with an agent, the server beside it, an origin behind one cable and a client behind another; all in namespaces
 * of their own:
 *
 *     fa-NAME-client                fa-NAME-host                                         fa-NAME-origin
 *                                   lo  (the agent puts the pool's addresses here)       lo  203.0.113.1, 2001:db8:f::1
 *     c0  100.64.0.2/24  <------->  hc  100.64.0.1/24
 *                                   h0  192.0.2.1/24, 2001:db8:1::1/64     <---------->  o0  192.0.2.2/24, 2001:db8:1::2/64
 *                                   127.0.0.1: the server
 *
 * The origin reaches the pool, 198.51.100.0/24 and 2001:db8:a::/64, by the host.
 */
export class AgentLab {
  readonly host: string;
  readonly origin: string;
  readonly clientSide: string;
  /** Of an operator, spoken through a process in the host's namespace. */
  readonly client: FisheryClient;
  readonly serverUrl: string;
  readonly folder: string;
  readonly #server: ServerProcess;
  readonly #children = new Set<ChildProcess>();

  private constructor(name: string, server: ServerProcess) {
    this.host = namespaceOf(`fa-${name}-host`);
    this.origin = namespaceOf(`fa-${name}-origin`);
    this.clientSide = namespaceOf(`fa-${name}-client`);
    this.#server = server;
    this.serverUrl = server.url;
    this.client = new FisheryClient({ url: server.url, token: server.secret, fetch: server.fetch });
    this.folder = mkdtempSync(join(tmpdir(), 'fishery-agent-'));
  }

  static async open(name: string): Promise<AgentLab> {
    const [host, origin, client] = [
      namespaceOf(`fa-${name}-host`),
      namespaceOf(`fa-${name}-origin`),
      namespaceOf(`fa-${name}-client`),
    ];
    const all = [host, origin, client];
    deleteNamespaces(...all);
    for (const ns of all) run(`ip netns add ${ns}`);
    // No duplicate address detection: it keeps fresh IPv6 addresses silent for seconds.
    for (const ns of all) run(`ip netns exec ${ns} sysctl -qw net.ipv6.conf.default.accept_dad=0`);
    run(`ip -n ${host} link add h0 type veth peer name o0 netns ${origin}`);
    run(`ip -n ${host} link add hc type veth peer name c0 netns ${client}`);
    for (const [ns, commands] of [
      [host, ['addr add 192.0.2.1/24 dev h0', 'addr add 2001:db8:1::1/64 dev h0 nodad', 'link set h0 up']],
      [host, ['addr add 100.64.0.1/24 dev hc', 'link set hc up', 'link set lo up']],
      [origin, ['addr add 192.0.2.2/24 dev o0', 'addr add 2001:db8:1::2/64 dev o0 nodad', 'link set o0 up']],
      [origin, ['addr add 203.0.113.1/32 dev lo', 'addr add 2001:db8:f::1/128 dev lo nodad', 'link set lo up']],
      [client, ['addr add 100.64.0.2/24 dev c0', 'link set c0 up', 'link set lo up']],
      [host, ['route add default via 192.0.2.2', '-6 route add default via 2001:db8:1::2']],
      [origin, ['route add 198.51.100.0/24 via 192.0.2.1', '-6 route add 2001:db8:a::/64 via 2001:db8:1::1']],
      [client, ['route add default via 100.64.0.1']],
    ] as const)
      run(...commands.map((command) => `ip -n ${ns} ${command}`));
    try {
      return new AgentLab(name, await ServerProcess.start(host));
    } catch (error) {
      deleteNamespaces(...all);
      throw error;
    }
  }

  /** A pool, this machine with its token, and slices of the pool; returns the path of the agent's configuration. */
  async setUp(o: SetUp = {}): Promise<string> {
    const { client } = this;
    const rest = o.cooldown_s ?? 0;
    await client.pools.create({
      id: 'pool',
      prefixes: ['198.51.100.0/24', '2001:db8:a::/64'],
      slice_ports: 2_048,
      cooldown_s: { tcp: rest, udp: rest, icmp: rest },
    });
    await client.machines.create({ id: 'edge', fence_s: o.fence_s ?? 10 });
    await client.machines.putHolder('edge', 'fish', { kind: 'fish' });
    for (const [address, first_port] of o.slices ?? [['198.51.100.10', 8_192]])
      await client.slices.assign({ machine: 'edge', pool: 'pool', at: { address, first_port } });
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

  /** Starts `fishery agent` in the host's namespace, where it sees no control groups unless it is told to. */
  /** `before`: what a shell is to do first, in a mount namespace of the agent's own. */
  startAgent(config: string, o: Readonly<{ seesCgroups?: boolean; before?: string }> = {}): AgentProcess {
    const start = [process.execPath, bin, 'agent', '--config', config];
    const { before } = o;
    const whole = before === undefined ? start : ['sh', '-c', `${before} && exec "$@"`, 'sh', ...start];
    const child = this.spawn(this.host, whole, o);
    return new AgentProcess(child, join(this.folder, 'state', 'agent.sock'));
  }

  /** `fishery agent down`: its output, and an error with its complaint when it fails. */
  down(config: string): string {
    return this.shell(this.host, `${process.execPath} ${bin} agent down --config ${config}`);
  }

  /** Somebody with a user id of its own, in a control group (its folder) if that is given, who opens sockets when told to. */
  async user(namespace: string, uid: number, cgroup?: string): Promise<User> {
    const inNamespace = ['ip', 'netns', 'exec', namespace, process.execPath, userScript, String(uid)];
    const [program = '', ...args] =
      cgroup === undefined
        ? inNamespace
        : ['sh', '-c', 'echo $$ > "$0"/cgroup.procs && exec "$@"', cgroup, ...inNamespace];
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#children.add(child);
    return User.of(child);
  }

  /** Listens with tcpdump and returns the lines that it has printed when `stop` is called. */
  async capture(
    namespace: string,
    device: string,
    filter: string,
  ): Promise<Readonly<{ stop: () => Promise<string[]>; lines: () => number }>> {
    const child = this.spawn(namespace, [
      'tcpdump',
      '-n',
      '-l',
      '-tt',
      '--immediate-mode',
      // The kernel's buffer has room for so many packets of the greatest length that is wanted: headers are enough.
      '-s',
      '512',
      '-i',
      device,
      ...filter.split(' '),
    ]);
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await new Promise<void>((resolve) => {
      child.stderr?.on('data', (chunk: Buffer) => chunk.toString().includes('listening on') && resolve());
    });
    const lines = () => text.split('\n').filter((line) => line !== '');
    return {
      lines: () => lines().length,
      stop: async () => {
        const ended = new Promise((resolve) => child.once('close', resolve));
        child.kill('SIGINT');
        await ended;
        return lines();
      },
    };
  }

  spawn(namespace: string, args: readonly string[], o: Readonly<{ seesCgroups?: boolean }> = {}): ChildProcess {
    // `ip netns exec` mounts a /sys of the namespace's own, and what was mounted below the old one is hidden.
    const [program, ...enter] =
      o.seesCgroups === true
        ? (['nsenter', `--net=/run/netns/${namespace}`] as const)
        : (['ip', 'netns', 'exec', namespace] as const);
    const child = spawn(program, [...enter, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** Runs a shell command in a namespace and returns what it printed. */
  shell(namespace: string, command: string, input = ''): string {
    return runIn(namespace, command, input);
  }

  /** Command lines of what runs in the host's namespace. */
  processes(): readonly string[] {
    const pids = run(`ip netns pids ${this.host}`).split('\n').filter(Boolean);
    return pids.flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')];
      } catch {
        // Ended between the two looks.
        return [];
      }
    });
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
    deleteNamespaces(this.host, this.origin, this.clientSide);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Fish with one block of each kind. */
export const fishOfEachKind = {
  client_prefixes: ['100.64.0.0/10'],
  claims: [
    { protocol: 'tcp', mode: 'shared', ports: 128 },
    { protocol: 'udp', ports: 64 },
    { protocol: 'icmp', ports: 16 },
  ],
};

export type SetUp = Readonly<{
  fence_s?: number;
  cooldown_s?: number;
  /** Address and first port of each slice of 2,048 ports; default: 198.51.100.10 from 8192 on. */
  slices?: readonly (readonly [string, number])[];
  settings?: object;
}>;

export const bin = fileURLToPath(new URL('../../../src/bin/fishery.ts', import.meta.url));

export const userScript = fileURLToPath(new URL('./agent-user-process.ts', import.meta.url));

/** Runs a shell command in a namespace and returns what it printed. */
export function runIn(namespace: string, command: string, input = ''): string {
  const done = spawnSync('ip', ['netns', 'exec', namespace, 'sh', '-c', command], { encoding: 'utf8', input });
  if (done.status !== 0) throw new Error(`${command}: ${done.stderr || done.stdout}`);
  return done.stdout.trimEnd();
}

/** See agent-user-process.ts for what it can do; refusals come back as the errno's name, or TIMEOUT. */
export class User {
  readonly child: ChildProcess;
  readonly #waiting = new Map<number, (value: string) => void>();
  #calls = 0;

  private constructor(child: ChildProcess) {
    this.child = child;
    child.on('message', (message) => {
      const { id, value } = message as { id: number; value: string };
      this.#waiting.get(id)?.(value);
      this.#waiting.delete(id);
    });
  }

  static async of(child: ChildProcess): Promise<User> {
    const user = new User(child);
    await new Promise<string>((resolve) => user.#waiting.set(0, resolve));
    return user;
  }

  ask(request: UserRequest): Promise<string> {
    const id = ++this.#calls;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.child.send({ id, request });
    });
  }

  /** A TCP connection from this very port; the name of the socket, or why not. */
  connect(from: string, port: number, to = '203.0.113.1', toPort = 80, timeout_ms = 1_000): Promise<string> {
    return this.ask({ op: 'connect', from, port, to, toPort, timeout_ms });
  }

  /** A datagram from this very port, and its answer. */
  udp(from: string, port: number, to = '203.0.113.1', toPort = 53, timeout_ms = 1_000): Promise<string> {
    return this.ask({ op: 'udp', from, port, to, toPort, timeout_ms });
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
  }
}

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
      // On a connection of its own: one that was kept is shut by the agent while a test waits for a command to end.
      const call = request({ socketPath: this.#socket, path, agent: false }, (response) => {
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
  async until(
    isAsWanted: (status: AgentStatus) => boolean,
    what: string,
    timeout_ms = patience_ms,
  ): Promise<AgentStatus> {
    return eventually(
      async () => {
        const status = await this.status();
        return isAsWanted(status) ? status : undefined;
      },
      () => `${what}\n${this.#output.slice(-3_000)}`,
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

/** As long as it may take on a machine that has much else to do; what comes sooner is not waited for. */
const patience_ms = 40_000;

/** Asks until the answer is not undefined. */
export async function eventually<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  what: () => string,
  timeout_ms = patience_ms,
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
