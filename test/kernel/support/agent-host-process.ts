import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LinuxHost } from '../../../src/agent/linux/linux-host.ts';
import type { AgentLab } from './agent-lab.ts';

type Calls = Pick<LinuxHost, 'observe' | 'carryOut' | 'changeElements' | 'openGuard' | 'shutGuard'>;

/** The agent's Linux side alone, in the host's namespace, one call at a time. */
export class LinuxHostProcess {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(lab: AgentLab): Promise<LinuxHostProcess> {
    const script = fileURLToPath(import.meta.url);
    const child = spawn('ip', ['netns', 'exec', lab.host, process.execPath, script, 'serve'], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    const started = new LinuxHostProcess(child);
    await started.#reply();
    return started;
  }

  async call<K extends keyof Calls>(name: K, ...args: Parameters<Calls[K]>): Promise<Awaited<ReturnType<Calls[K]>>> {
    const reply = this.#reply();
    this.#child.send({ name, args });
    return (await reply) as Awaited<ReturnType<Calls[K]>>;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.disconnect();
    await ended;
  }

  #reply(): Promise<unknown> {
    return new Promise((resolve, reject) =>
      this.#child.once('message', (message) => {
        const { value, error } = message as { value?: unknown; error?: string };
        if (error === undefined) resolve(value);
        else reject(new Error(error));
      }),
    );
  }
}

if (process.argv[2] === 'serve') {
  const host = new LinuxHost({
    tun: 'fishtun',
    neighbours: [],
    routeTables: [100],
    sysctls: [],
    steering: null,
  });
  const calls: Calls = {
    observe: (scope) => host.observe(scope),
    carryOut: (steps) => host.carryOut(steps),
    changeElements: (add, remove) => host.changeElements(add, remove),
    openGuard: (ms) => host.openGuard(ms),
    shutGuard: () => host.shutGuard(),
  };
  process.on('message', (message) => {
    const { name, args } = message as { name: keyof Calls; args: never };
    const call = calls[name] as (...given: readonly unknown[]) => unknown;
    void (async () => call(...(args as readonly unknown[])))().then(
      (value) => process.send?.({ value }),
      (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
    );
  });
  process.on('disconnect', () => process.exit());
  process.send?.({});
}
