import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { deleteNamespaces, namespaceOf } from './namespaces.ts';
import type { Operations } from './sys-operations.ts';

/**
 * Two namespaces joined by a cable, each with a process inside that runs src/sys for the test:
 *
 *     fs-NAME-host                                   fs-NAME-peer
 *     lo  198.51.100.10, .11, 2001:db8::10           lo  203.0.113.1, .2, 2001:db8:f::1, ::2
 *     h0  192.0.2.1/24, 2001:db8:1::1/64  <------->  p0  192.0.2.2/24, 2001:db8:1::2/64
 *
 * The vitest process itself never leaves its namespace.
 */
export type Lab = Readonly<{ host: NamespaceProcess; peer: NamespaceProcess; close(): Promise<void> }>;

export async function createLab(name: string): Promise<Lab> {
  const [host, peer] = [namespaceOf(`fs-${name}-host`), namespaceOf(`fs-${name}-peer`)];
  deleteNamespaces(host, peer);
  run(`ip netns add ${host}`, `ip netns add ${peer}`);
  // No duplicate address detection: it keeps fresh IPv6 addresses silent for seconds.
  for (const ns of [host, peer]) run(`ip netns exec ${ns} sysctl -qw net.ipv6.conf.default.accept_dad=0`);
  run(`ip -n ${host} link add h0 type veth peer name p0 netns ${peer}`);
  for (const [ns, commands] of [
    [host, ['addr add 192.0.2.1/24 dev h0', 'addr add 2001:db8:1::1/64 dev h0 nodad']],
    [peer, ['addr add 192.0.2.2/24 dev p0', 'addr add 2001:db8:1::2/64 dev p0 nodad']],
  ] as const)
    run(...['link set lo up', ...commands].map((command) => `ip -n ${ns} ${command}`));
  run(`ip -n ${host} link set h0 up`, `ip -n ${peer} link set p0 up`);
  for (const address of ['198.51.100.10/32', '198.51.100.11/32', '2001:db8::10/128'])
    run(`ip -n ${host} addr add ${address} dev lo`);
  for (const address of ['203.0.113.1/32', '203.0.113.2/32', '2001:db8:f::1/128', '2001:db8:f::2/128'])
    run(`ip -n ${peer} addr add ${address} dev lo`);
  run(`ip -n ${host} route add default via 192.0.2.2`, `ip -n ${host} -6 route add default via 2001:db8:1::2`);
  run(`ip -n ${peer} route add default via 192.0.2.1`, `ip -n ${peer} -6 route add default via 2001:db8:1::1`);
  const processes = await Promise.all([NamespaceProcess.start(host), NamespaceProcess.start(peer)]);
  // Ports of a slice lie anywhere; the default range would clamp late binding (a test of its own shows that).
  for (const process of processes) await process.call('sysctl', 'net.ipv4.ip_local_port_range', '1024 65535');
  return {
    host: processes[0],
    peer: processes[1],
    async close() {
      for (const process of processes) await process.stop();
      deleteNamespaces(host, peer);
    },
  };
}

/** Runs commands of this machine's tools; throws with their own words when one fails. */
export function run(...commands: string[]): string {
  let output = '';
  for (const command of commands) {
    const [program = '', ...args] = command.split(' ');
    const done = spawnSync(program, args, { encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`${command}: ${done.stderr || done.stdout || done.error?.message}`);
    output += done.stdout;
  }
  return output;
}

type Reply = Readonly<{ id: number; value?: unknown; error?: string }>;

/** A Node process inside a namespace that calls `sys-operations.ts` on request. */
export class NamespaceProcess {
  readonly namespace: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #calls = 0;

  private constructor(namespace: string, child: ChildProcess) {
    this.namespace = namespace;
    this.#child = child;
    child.on('message', (message) => this.#settle(message as Reply));
    child.on('exit', (code, signal) => {
      const error = new Error(`the process in ${namespace} ended (${code ?? signal})`);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
  }

  static async start(namespace: string): Promise<NamespaceProcess> {
    const script = fileURLToPath(new URL('./sys-process.ts', import.meta.url));
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    const started = new NamespaceProcess(namespace, child);
    await started.call('ready');
    return started;
  }

  call<K extends keyof Operations>(
    name: K,
    ...args: Parameters<Operations[K]>
  ): Promise<Awaited<ReturnType<Operations[K]>>> {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Awaited<ReturnType<Operations[K]>>), reject });
      this.#child.send({ id, name, args });
    });
  }

  /** Runs a shell command inside the namespace. */
  shell(command: string, input = ''): string {
    const args = ['netns', 'exec', this.namespace, 'sh', '-c', command];
    const done = spawnSync('ip', args, { encoding: 'utf8', input });
    if (done.status !== 0) throw new Error(`${command}: ${done.stderr || done.stdout}`);
    return done.stdout.trim();
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.disconnect();
    await ended;
  }

  #settle(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.error === undefined) waiting?.resolve(reply.value);
    else waiting?.reject(new Error(reply.error));
  }
}
