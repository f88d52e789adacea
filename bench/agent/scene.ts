import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '../../src/agent/status/status.ts';
import type { FromServer, ToServer } from './scripted-server.ts';

const program = fileURLToPath(new URL('scripted-server.ts', import.meta.url));
const fishery = fileURLToPath(new URL('../../src/bin/fishery.ts', import.meta.url));
const patience_ms = 120_000;
/** Ticks of utime and stime in /proc: USER_HZ, which is 100 on every machine that this runs on. */
const ticks_per_s = 100;

/**
 * A host and an origin in namespaces of their own, joined by a cable, and on the host a scripted server and an agent. Needs
 * root, and leaves nothing behind.
 */
export class Scene implements AsyncDisposable {
  readonly host = `fb-${process.pid}-host`;
  readonly origin = `fb-${process.pid}-origin`;
  readonly #folder = mkdtempSync(join(tmpdir(), 'fishery-bench-agent-'));
  readonly #children: ChildProcess[] = [];
  #server: ChildProcess | undefined;
  #agent: ChildProcess | undefined;
  #active = 0;
  #took: ((ms: number) => void) | undefined;

  /** With so many leases to make true; no agent runs yet. */
  static async open(leases: number): Promise<Scene> {
    const scene = new Scene();
    const { host, origin } = scene;
    try {
      for (const name of [host, origin]) run(['ip', 'netns', 'add', name]);
      run(['ip', '-n', host, 'link', 'add', 'h0', 'type', 'veth', 'peer', 'name', 'o0', 'netns', origin]);
      for (const command of [
        'link set lo up',
        'addr add 192.0.2.1/24 dev h0',
        'link set h0 up',
        'route add default via 192.0.2.2',
      ])
        run(['ip', '-n', host, ...command.split(' ')]);
      for (const command of [
        'link set lo up',
        'addr add 192.0.2.2/24 dev o0',
        'link set o0 up',
        'route add 198.51.100.0/24 via 192.0.2.1',
      ])
        run(['ip', '-n', origin, ...command.split(' ')]);
      const port = await scene.#startServer(leases);
      writeFileSync(join(scene.#folder, 'token'), 'bench', { mode: 0o600 });
      const agent = {
        ...{ machine: 'edge', server: `http://127.0.0.1:${port}`, token_file: join(scene.#folder, 'token') },
        ...{ state_dir: join(scene.#folder, 'state'), uplinks: ['h0'], manage_port_range: false, log_level: 'warn' },
      };
      writeFileSync(join(scene.#folder, 'fishery.json'), JSON.stringify({ agent }));
      return scene;
    } catch (error) {
      await scene[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts the agent and resolves when so many leases were told active: the seconds that it took from its first instruction. */
  async startAgent(leases: number): Promise<number> {
    const began = performance.now();
    this.#agent = this.spawn(this.host, [
      process.execPath,
      fishery,
      'agent',
      '--config',
      join(this.#folder, 'fishery.json'),
    ]);
    await until(() => this.#active >= leases, `${leases} leases active`);
    return (performance.now() - began) / 1_000;
  }

  /** One change of one lease, from the server's stream to the server's ear: milliseconds. */
  change(what: 'grant' | 'release', index: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#took = resolve;
    this.#tell({ do: what, index });
    return promise;
  }

  async status(): Promise<AgentStatus> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const call = request({ socketPath: join(this.#folder, 'state', 'agent.sock'), path: '/status' }, (response) => {
      let text = '';
      response.on('data', (piece: Buffer) => (text += piece.toString()));
      response.on('end', () => resolve(text));
    });
    call.on('error', reject);
    call.end();
    return JSON.parse(await promise) as AgentStatus;
  }

  signalAgent(signal: NodeJS.Signals): void {
    this.#agent?.kill(signal);
  }

  /** Seconds of processor time that the agent has used so far. */
  agentProcessorTime(): number {
    const fields = readFileSync(`/proc/${this.#agent?.pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) / ticks_per_s;
  }

  spawn(namespace: string, args: readonly string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', namespace, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    return child;
  }

  /** What a command in a namespace printed; throws with its complaint. */
  run(namespace: string, command: string, input = ''): string {
    return run(['ip', 'netns', 'exec', namespace, 'sh', '-c', command], input);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of [...this.#children, this.#server]) {
      if (!child || child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await ended;
    }
    for (const name of [this.host, this.origin]) spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startServer(leases: number): Promise<number> {
    const child = spawn('ip', ['netns', 'exec', this.host, process.execPath, program], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#server = child;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    child.once('exit', (code) => reject(new Error(`the scripted server ended with ${code}`)));
    child.on('message', (message) => {
      const told = message as FromServer;
      if ('port' in told) resolve(told.port);
      if ('active' in told) this.#active = told.active;
      if ('took_ms' in told) this.#took?.(told.took_ms);
    });
    this.#tell({ do: 'start', leases });
    return promise;
  }

  #tell(message: ToServer): void {
    this.#server?.send(message);
  }
}

export async function until(isSo: () => boolean | Promise<boolean>, what: string, every_ms = 5): Promise<void> {
  const deadline = performance.now() + patience_ms;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${patience_ms} ms: ${what}`);
    await sleep(every_ms);
  }
}

function run([program = '', ...args]: readonly string[], input = ''): string {
  const done = spawnSync(program, args, { encoding: 'utf8', input, maxBuffer: 2 ** 28 });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr || done.error?.message}`);
  return done.stdout;
}
