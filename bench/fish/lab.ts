import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AgentStatus } from '../../src/agent/status/status.ts';
import { AgentLab, type AgentProcess } from '../../test/kernel/support/agent-lab.ts';
import { deleteNamespaces, namespaceOf } from '../../test/kernel/support/namespaces.ts';
import { run } from '../../test/kernel/support/sys-lab.ts';
import { compile } from './native.ts';

/** Fish as an agent sets it up; the kernel's own source NAT; the loop in C. */
export type Side = 'fish' | 'nft' | 'c';

/** Addresses of the origin: each is reached by way of one side. */
export const originOf: Readonly<Record<Side, string>> = { fish: '203.0.113.1', nft: '203.0.113.2', c: '203.0.113.3' };
const twins = { nft: 2, c: 3 } as const;
/** What the twins have leased, so to speak. */
const leasedOf = { nft: '198.51.101.2', c: '198.51.101.3' } as const;
const mark = 42;

export type Claim = Readonly<{ protocol: 'tcp' | 'udp' | 'icmp'; mode?: 'shared' | 'exclusive'; ports: number }>;
export type LabSettings = Readonly<{
  name: string;
  claims: readonly Claim[];
  sides: readonly Side[];
  /** More settings of fish. */
  fish?: object;
  /** Leases of the terminator, which then has all TCP of the side `fish`. */
  terminate?: readonly Claim[];
}>;

const terminatorUid = 2_107;

export class NoCompiler extends Error {
  override readonly name = 'NoCompiler';
}

/**
 * Three hosts between one client and one origin, alike but for who translates: an agent of the product with its server and
 * everything that it puts on a host (guard, steering, routes, keepers); nftables with connection tracking; the loop in C.
 *
 *   client  c0  100.64.0.2 ---- host (AgentLab) ---- 192.0.2.2 o0   origin  203.0.113.1
 *           c2  100.66.2.2 ---- nft             ---- 198.18.2.2 o2          203.0.113.2
 *           c3  100.66.3.2 ---- c               ---- 198.18.3.2 o3          203.0.113.3
 */
export class FishLab implements AsyncDisposable {
  readonly lab: AgentLab;
  readonly agent: AgentProcess;
  /** The program of `native/load.c`. */
  readonly load: string;
  readonly #folder: string;
  readonly #twins: readonly string[];

  private constructor(
    lab: AgentLab,
    agent: AgentProcess,
    o: { load: string; folder: string; twins: readonly string[] },
  ) {
    this.lab = lab;
    this.agent = agent;
    this.load = o.load;
    this.#folder = o.folder;
    this.#twins = o.twins;
  }

  /** Throws NoCompiler. */
  static async open(settings: LabSettings): Promise<FishLab> {
    const folder = mkdtempSync(join(tmpdir(), 'fishery-bench-'));
    chmodSync(folder, 0o755);
    const twinNames: string[] = [];
    let lab: AgentLab | undefined;
    const close = async () => {
      await lab?.close();
      deleteNamespaces(...twinNames);
      rmSync(folder, { recursive: true, force: true });
    };
    try {
      const load = compiled('load', folder);
      lab = await AgentLab.open(settings.name);
      const { terminate = [] } = settings;
      const claims = [...settings.claims, ...terminate];
      const ports = claims.reduce((sum, claim) => sum + claim.ports, 0);
      const config = await lab.setUp({
        slices: Array.from({ length: Math.ceil(ports / 2_048) + 1 }, (_, index) => [
          '198.51.100.10',
          8_192 + index * 2_048,
        ]),
        settings: {
          client_interfaces: ['hc'],
          fish: { client_prefixes: ['100.64.0.0/10'], claims: settings.claims, ...settings.fish },
          ...(terminate.length > 0 && { terminate: { claims: terminate } }),
          log_level: 'warn',
        },
      });
      if (terminate.length > 0)
        await lab.client.machines.putHolder('edge', 'terminator', { kind: 'terminator', uid: terminatorUid });
      for (const side of settings.sides)
        if (side !== 'fish') {
          const twin = namespaceOf(`fa-${settings.name}-${side}`);
          deleteNamespaces(twin);
          twinNames.push(twin);
          addTwin(lab, twin, side);
          if (side === 'nft') translateByKernel(lab, twin);
          else await translateInC(lab, twin, compiled('loop', folder));
        }
      const agent = lab.startAgent(config);
      await agent.until(
        ({ lease_counts, guard, terminator }) =>
          lease_counts['up'] === claims.length && guard.open && (terminator?.stats?.leases ?? 0) === terminate.length,
        'not all leases are there',
        120_000,
      );
      return new FishLab(lab, agent, { load, folder, twins: twinNames });
    } catch (error) {
      await close();
      throw error;
    }
  }

  async stats(): Promise<Readonly<Record<string, number>>> {
    return (await this.status()).fish?.stats ?? {};
  }

  status(): Promise<AgentStatus> {
    return this.agent.status();
  }

  /** Starts the load program at the origin and waits until it is ready; `result` waits for the JSON that it prints at its end. */
  async atOrigin<T>(
    ...args: readonly (string | number)[]
  ): Promise<Readonly<{ result: () => Promise<T>; end: () => void }>> {
    const child = this.lab.spawn(this.lab.origin, [this.load, ...args.map(String)]);
    let text = '';
    const { promise: isReady, resolve, reject } = Promise.withResolvers<undefined>();
    child.stdout?.on('data', (data: Buffer) => {
      text += data.toString();
      if (text.startsWith('ready\n')) resolve(undefined);
    });
    child.stderr?.on('data', (data: Buffer) => process.stderr.write(data));
    const ended = once(child, 'close').then(() => text.slice('ready\n'.length));
    void ended.then((said) => reject(new Error(`load ${args.join(' ')} ended: ${said}`)));
    await isReady;
    return {
      result: async () => JSON.parse(await ended) as T,
      end: () => child.kill('SIGKILL'),
    };
  }

  /** Runs the load program at the client to its end: the JSON that it prints. */
  atClient(...args: readonly (string | number)[]): unknown {
    return JSON.parse(this.lab.shell(this.lab.clientSide, `${this.load} ${args.join(' ')}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.end();
    await this.lab.close();
    deleteNamespaces(...this.#twins);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function compiled(name: 'load' | 'loop', folder: string): string {
  const made = compile(name, folder);
  if ('problem' in made) throw new NoCompiler(made.problem);
  return made.path;
}

/** A host as the agent's one is before the agent comes. */
function addTwin(lab: AgentLab, twin: string, side: 'nft' | 'c'): void {
  const number = twins[side];
  const { origin, clientSide: client } = lab;
  run(`ip netns add ${twin}`);
  run(
    `ip -n ${twin} link add h0 type veth peer name o${number} netns ${origin}`,
    `ip -n ${twin} link add hc type veth peer name c${number} netns ${client}`,
  );
  for (const [ns, commands] of [
    [twin, [`addr add 198.18.${number}.1/24 dev h0`, 'link set h0 up', `addr add 100.66.${number}.1/24 dev hc`]],
    [twin, ['link set hc up', 'link set lo up']],
    [origin, [`addr add 198.18.${number}.2/24 dev o${number}`, `link set o${number} up`]],
    [origin, [`addr add ${originOf[side]}/32 dev lo`]],
    [client, [`addr add 100.66.${number}.2/24 dev c${number}`, `link set c${number} up`]],
    [twin, [`route add default via 198.18.${number}.2`]],
    [origin, [`route add ${leasedOf[side]}/32 via 198.18.${number}.1`]],
    [client, [`route add ${originOf[side]}/32 via 100.66.${number}.1`]],
  ] as const)
    run(...commands.map((command) => `ip -n ${ns} ${command}`));
  lab.shell(
    twin,
    'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 ' +
      'net.ipv4.conf.h0.rp_filter=0 net.ipv4.conf.hc.rp_filter=0',
  );
}

function translateByKernel(lab: AgentLab, twin: string): void {
  lab.shell(
    twin,
    'nft -f -',
    `table ip bench {
       chain source {
         type nat hook postrouting priority srcnat
         oifname "h0" meta l4proto { tcp, udp } snat to ${leasedOf.nft}:1024-65535
       }
     }`,
  );
}

/** The least that steers replies into the loop. */
async function translateInC(lab: AgentLab, twin: string, loop: string): Promise<void> {
  run(`ip -n ${twin} addr add ${leasedOf.c}/32 dev lo`);
  const child = lab.spawn(twin, [loop, 'ctun', leasedOf.c, '1024', '32768']);
  child.stderr?.on('data', (data: Buffer) => process.stderr.write(data));
  if (child.stdout) await once(child.stdout, 'data');
  lab.shell(twin, 'sysctl -qw net.ipv4.conf.ctun.accept_local=1 net.ipv4.conf.ctun.rp_filter=0');
  run(
    ...[
      'link set ctun txqueuelen 4096 up',
      'route add default dev ctun table 100',
      `rule add fwmark ${mark} lookup 100 priority 10`,
      'rule add lookup local priority 11',
      'rule del priority 0',
      'rule add iif hc lookup 100 priority 12',
    ].map((command) => `ip -n ${twin} ${command}`),
  );
  lab.shell(
    twin,
    'nft -f -',
    `table ip bench {
       chain steer {
         type filter hook prerouting priority raw
         iifname "h0" ip daddr ${leasedOf.c} meta mark set ${mark}
       }
     }`,
  );
}
