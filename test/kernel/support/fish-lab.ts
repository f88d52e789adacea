import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { inNamespace, ipBatch } from '../../../demo/commands.ts';
import { createLab, links, type Lab } from '../../../demo/lab.ts';
import type { LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import type { FishCommand, FishSettings } from './fish-process.ts';
import { namespaceOf } from './namespaces.ts';

/**
 * Fish between a client and an origin, with the least that the kernel needs, set up by hand:
 *
 *   client --- hc [host: fishtun, the leased addresses on lo] h0 --- origin
 *
 *   in  from the client   iif hc -> table 100 -> fishtun (behind the local table)
 *   out of fishtun        to its destination by the main table
 *   in  from the origin   what the rules mark -> table 100 -> fishtun
 */
export class FishLab {
  readonly namespaces: Lab;
  #host: ChildProcess | undefined;
  readonly #children: ChildProcess[] = [];

  private constructor(name: string) {
    this.namespaces = createLab(namespaceOf(name));
  }

  /** `leased`: the addresses of all blocks. `steering`: rules for nft, which set `fishMark` on what is for fish. */
  static async open(name: string, leased: readonly string[], steering: string): Promise<FishLab> {
    const lab = new FishLab(name);
    const { host } = lab.namespaces;
    inNamespace(
      host,
      'sysctl',
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv4.conf.all.rp_filter=0',
      'net.ipv4.conf.default.rp_filter=0',
      'net.ipv4.tcp_early_demux=0',
      'net.ipv4.udp_early_demux=0',
      'net.ipv4.tcp_fastopen=1',
      'net.ipv4.ip_local_port_range=1024 65535',
      'net.ipv4.ping_group_range=0 0',
    );
    ipBatch(host, leased.map((address) => `addr replace ${address}/32 dev lo`).join('\n'));
    lab.shell(host, `nft -f - <<'END'\n${steering}\nEND`);
    ipBatch(
      host,
      `rule add fwmark ${fishMark} lookup 100 priority 10
       rule add lookup local priority 11
       rule del priority 0
       rule add iif ${links.hostToClient} lookup 100 priority 12`,
    );
    lab.#host = lab.start(host, 'fish-process.ts', [], 'ipc');
    await once(lab.#host, 'message');
    return lab;
  }

  /** Starts fish with these settings; the offloads that its device has. */
  async startFish(settings: FishSettings): Promise<unknown> {
    const { host } = this.namespaces;
    const offloads = await this.ask({ do: 'start', settings, mark: fishMark });
    inNamespace(host, 'sysctl', '-qw', 'net.ipv4.conf.fishtun.accept_local=1', 'net.ipv4.conf.fishtun.rp_filter=0');
    ipBatch(
      host,
      `link set fishtun txqueuelen 1000 up
       route add default dev fishtun table 100`,
    );
    return offloads;
  }

  async ask<Answer>(command: FishCommand): Promise<Answer> {
    const host = this.#host!;
    host.send(command);
    const [reply] = (await once(host, 'message')) as [{ value?: Answer; error?: string }];
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply.value as Answer;
  }

  setBlocks(...blocks: readonly LeasedBlock[]): Promise<unknown> {
    return this.ask({ do: 'setBlocks', blocks });
  }

  /** One of the scripts beside this one, in a namespace. */
  start(namespace: string, script: string, args: readonly string[], stdio: 'ipc' | 'pipe'): ChildProcess {
    const path = fileURLToPath(new URL(script, import.meta.url));
    return this.spawn(namespace, [process.execPath, path, ...args], stdio);
  }

  spawn(namespace: string, command: readonly string[], stdio: 'ipc' | 'pipe' = 'pipe'): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', namespace, ...command], {
      stdio: stdio === 'ipc' ? ['ignore', 'inherit', 'inherit', 'ipc'] : ['pipe', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    return child;
  }

  shell(namespace: string, script: string): string {
    return inNamespace(namespace, 'bash', '-o', 'pipefail', '-c', script).trim();
  }

  async close(): Promise<void> {
    if (this.#host?.connected === true) await this.ask({ do: 'stop' }).catch(() => {});
    for (const child of this.#children) child.kill('SIGKILL');
    this.namespaces.remove();
  }
}

/** What steers packets to fish. */
export const fishMark = 42;

/** The first thing that a child says; it throws when the child ends instead. */
export async function firstWords(child: ChildProcess): Promise<string> {
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${child.spawnargs.join(' ')} ended`)));
  const [words] = (await Promise.race([once(child.stdout!, 'data'), ended])) as [Buffer];
  ended.catch(() => {});
  return words.toString();
}
