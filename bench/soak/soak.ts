import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AgentStatus } from '../../src/agent/status/status.ts';
import { AgentLab, eventually, type AgentProcess } from '../../test/kernel/support/agent-lab.ts';
import { run } from '../../test/kernel/support/sys-lab.ts';
import { compile } from '../fish/native.ts';
import { growthOf, residentOwnBytes, type Sample } from './memory.ts';

const remotes = '203.0.113.128';
const address = '198.51.100.10';
const slicePorts = 2_048;
const firstPort = 8_192;
const slices = 5;
const claims = [
  { protocol: 'tcp', mode: 'shared', ports: 1_024 },
  { protocol: 'tcp', ports: 1_024 },
  { protocol: 'udp', ports: 2_048 },
  { protocol: 'udp', ports: 1_024 },
  { protocol: 'icmp', ports: 256 },
] as const;
const patience_ms = 120_000;
/** Flows that were told to last are all over by then, also where nobody said so. */
const margin_s = 20;
const sampleEvery_ms = 1_000;
/** What has to be 0 when all is over: nothing is held, and of no protocol's ports, nor toward any destination, is one used. */
const accounts = [
  ...['flows_live', 'flows_resting', 'clients', 'placeholders_held', 'fragmented_packets', 'fragments_held'],
  ...['tcp4', 'udp4', 'icmp4'].flatMap((name) => [`flows_${name}`, `port_saturation_${name}`]),
];

export type SoakOptions = Readonly<{
  name: string;
  seconds: number;
  /** As many are there at a time, roughly. */
  flows: number;
  /** What memory may grow by after it has warmed up. */
  growth_bytes_max: number;
  say: (line: string) => void;
}>;

export type SoakReport = Readonly<{
  flowsOpened: number;
  flowsAtATime: number;
  placeholdersAtATime: number;
  residentGrowth: number;
  heapGrowth: number;
  /** What should not be; none of it is none. */
  problems: readonly string[];
}>;

/** What a flow's life takes, in seconds, from how long the whole thing takes: ages are mixed, and all of them are seen. */
function timesOf(seconds: number) {
  const age_max = Math.min(40, Math.max(4, Math.floor(seconds / 10)));
  const timers = {
    tcp_established_s: Math.max(4, age_max * 0.4),
    tcp_opening_s: 4,
    tcp_transitory_s: 4,
    tcp_rest_s: 2,
    tcp_reset_rest_s: 2,
    udp_s: 5,
    udp_rest_s: 2,
    icmp_s: 5,
    icmp_rest_s: 0,
  };
  // Of all flows, three quarters are TCP, of which a quarter just falls silent.
  // It says something four times, for a second and two thirds of its age.
  const mean = 0.75 * (age_max / 3 + 2.7 + timers.tcp_rest_s + timers.tcp_established_s / 4) + 0.15 * 8 + 0.1 * 6;
  return { age_max, timers, mean };
}

/**
 * Fish under flows of all kinds and ages, which end in all ways, while its agent is killed and restarted and its leases are
 * taken away and granted again. At the end nothing may be left, and memory may not have grown since it was warm.
 */
export async function soak(o: SoakOptions): Promise<SoakReport> {
  const folder = mkdtempSync(join(tmpdir(), 'fishery-soak-'));
  chmodSync(folder, 0o755);
  let lab: AgentLab | undefined;
  try {
    const load = compile('load', folder);
    if ('problem' in load) throw new Error(load.problem);
    lab = await AgentLab.open(o.name);
    const soaked = new Soak(lab, load.path, o);
    await soaked.begin();
    return await soaked.run();
  } finally {
    await lab?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Soak {
  readonly #lab: AgentLab;
  readonly #load: string;
  readonly #o: SoakOptions;
  readonly #times: ReturnType<typeof timesOf>;
  readonly #problems: string[] = [];
  readonly #samples: Sample[] = [];
  #running: AgentProcess | undefined;
  /** Flows that this agent took over from the one before, which it did not open itself. */
  #takenOver: number | undefined;
  #opened = 0;
  #most = { flows: 0, placeholders: 0 };
  /** How flows have ended under this agent or another. */
  readonly #endings = new Set<string>();

  constructor(lab: AgentLab, load: string, o: SoakOptions) {
    this.#lab = lab;
    this.#load = load;
    this.#o = o;
    this.#times = timesOf(o.seconds);
  }

  async begin(): Promise<void> {
    const lab = this.#lab;
    await lab.setUp({
      fence_s: 60,
      slices: Array.from({ length: slices }, (_, index) => [address, firstPort + index * slicePorts]),
    });
    run(`ip -n ${lab.origin} route add blackhole ${remotes}/25`);
    run(`ip -n ${lab.host} route add 100.64.1.0/24 via 100.64.0.2`);
    await this.#start(true);
    const answering = lab.spawn(lab.origin, [this.#load, 'answer', 'o0']);
    if (answering.stdout) await once(answering.stdout, 'data');
  }

  async run(): Promise<SoakReport> {
    const { seconds, flows, say } = this.#o;
    const perSecond = flows / this.#times.mean;
    const began = performance.now();
    const part = () => (performance.now() - began) / 1_000 / seconds;
    const churning = this.#lab.spawn(this.#lab.clientSide, [
      ...[this.#load, 'churn', remotes, perSecond.toFixed(1), String(seconds), String(this.#times.age_max)],
    ]);
    const ended = once(churning, 'close');
    /** Shares of the time, and what happens then. */
    const plan: (readonly [number, () => Promise<void>])[] = [
      [0.15, () => this.#restart('SIGKILL', true)],
      [0.25, () => this.#restart('SIGTERM', true)],
      // From here on, so that it gives its leases back at the end; and memory begins anew.
      [0.3, () => this.#restart('SIGTERM', false)],
      ...[0.4, 0.48, 0.56, 0.64, 0.72, 0.8, 0.88].map(
        (at, index) => [at, () => this.#revoke(index % claims.length, index % 2 === 1)] as const,
      ),
    ];
    while (part() < 1) {
      const [next] = plan;
      if (next && part() >= next[0]) {
        plan.shift();
        await next[1]();
      }
      await this.#look(part() > 0.45);
      await sleep(sampleEvery_ms);
    }
    await ended;
    await this.#drain();
    await this.#leave();
    // Else it has not shown what it should.
    for (const ending of ['finished', 'reset', 'idle', 'lease_ended'])
      if (!this.#endings.has(`flows_ended_${ending}`)) this.#problems.push(`no flow has ended by: ${ending}`);
    if (this.#most.flows < flows * 0.7) this.#problems.push(`no more than ${this.#most.flows} flows at a time`);
    if (this.#most.placeholders === 0) this.#problems.push('no flow had a placeholder');
    const growth = {
      resident: growthOf(this.#samples.map(({ resident }) => resident)),
      heap: growthOf(this.#samples.map(({ heap }) => heap)),
    };
    for (const [what, bytes] of Object.entries(growth)) {
      say(`memory (${what}): ${(bytes / 2 ** 20).toFixed(1)} MiB more in the last third than in the first`);
      if (bytes > this.#o.growth_bytes_max) this.#problems.push(`memory (${what}) grew by ${bytes} bytes`);
    }
    return {
      flowsOpened: this.#opened,
      flowsAtATime: this.#most.flows,
      placeholdersAtATime: this.#most.placeholders,
      residentGrowth: growth.resident,
      heapGrowth: growth.heap,
      problems: this.#problems,
    };
  }

  get #agent(): AgentProcess {
    if (!this.#running) throw new Error('the agent was not started');
    return this.#running;
  }

  async #start(keep: boolean): Promise<void> {
    const lab = this.#lab;
    const config = lab.configure({
      client_interfaces: ['hc'],
      keep,
      fish: {
        client_prefixes: ['100.64.0.0/10'],
        claims,
        timers: this.#times.timers,
        placeholders_max: this.#o.flows,
        flows_max: this.#o.flows * 2,
      },
      log_level: 'warn',
    });
    this.#running = lab.startAgent(config);
    this.#takenOver = undefined;
    await this.#allUp();
  }

  #allUp(): Promise<AgentStatus> {
    return this.#agent.until(
      ({ lease_counts, guard }) => lease_counts['up'] === claims.length && guard.open,
      'fish has not its leases',
      patience_ms,
    );
  }

  async #restart(signal: NodeJS.Signals, keep: boolean): Promise<void> {
    const before = await this.#look(false);
    await this.#agent.end(signal);
    await this.#start(keep);
    const after = await this.#look(false);
    this.#o.say(`${signal}: ${before} flows before, ${after} after`);
    // Those that were due meanwhile have ended.
    if (before > 100 && after < before / 2) this.#problems.push(`${signal} left ${after} of ${before} flows`);
  }

  /** One of fish's leases is taken away; it gets another. */
  async #revoke(claim: number, force: boolean): Promise<void> {
    const { items } = await this.#lab.client.leases.list({ machine: 'edge', state: 'active' });
    const lease = items[claim % items.length];
    if (!lease) throw new Error('fish has no lease');
    await this.#lab.client.leases.revoke(lease.id, force ? { forced: true } : {});
    await eventually(
      async () => {
        const { items: now } = await this.#lab.client.leases.list({ machine: 'edge', state: 'active' });
        return now.length === claims.length && !now.some(({ id }) => id === lease.id) ? true : undefined;
      },
      () => `${lease.id} was not replaced: ${this.#agent.output.slice(-2_000)}`,
      patience_ms,
    );
    this.#o.say(
      `${lease.protocol} ${lease.mode} ${lease.ports.first} was revoked${force ? ' by force' : ''} and replaced`,
    );
  }

  /** Flows now, after a look at whether the counters add up; `isSample`: memory counts. */
  async #look(isSample: boolean): Promise<number> {
    const stats = (await this.#agent.status()).fish?.stats ?? {};
    const of = (name: string) => stats[name] ?? Number.NaN;
    const endings = Object.entries(stats).filter(([name]) => name.startsWith('flows_ended_'));
    for (const [name, count] of endings) if (count > 0) this.#endings.add(name);
    const ended = endings.reduce((sum, [, count]) => sum + count, 0);
    const takenOver = of('flows_live') + ended - of('flows_opened');
    this.#takenOver ??= takenOver;
    if (takenOver !== this.#takenOver || takenOver < 0 || takenOver > of('adoption_flows'))
      this.#problems.push(
        `${of('flows_opened')} opened and ${this.#takenOver} taken over, but ${ended} ended and ${of('flows_live')} live`,
      );
    this.#opened = Math.max(this.#opened, of('flows_opened'));
    this.#most.flows = Math.max(this.#most.flows, of('flows_live') + of('flows_resting'));
    this.#most.placeholders = Math.max(this.#most.placeholders, of('placeholders_held'));
    const pid = this.#agent.child.pid ?? 0;
    const sample = { resident: residentOwnBytes(pid), heap: of('heap_used_bytes') };
    if (isSample) this.#samples.push(sample);
    if (isSample && this.#samples.length % 10 === 1)
      this.#o.say(
        `${of('flows_live')} flows, ${of('flows_resting')} resting, ${of('placeholders_held')} placeholders, ` +
          `${(sample.resident / 2 ** 20).toFixed(1)} MiB resident, ${(sample.heap / 2 ** 20).toFixed(1)} MiB of heap`,
      );
    return of('flows_live') + of('flows_resting');
  }

  /** Nobody says anything any more, so all flows end. */
  async #drain(): Promise<void> {
    const { timers } = this.#times;
    const until_ms = (timers.tcp_established_s + timers.tcp_rest_s + margin_s) * 1_000;
    const status = await this.#agent
      .until(
        ({ fish }) => (fish?.stats['flows_live'] ?? 1) + (fish?.stats['flows_resting'] ?? 1) === 0,
        'no end',
        until_ms,
      )
      .catch(() => this.#agent.status());
    await this.#look(false);
    const { stats = {} } = status.fish ?? {};
    for (const name of accounts) if (stats[name] !== 0) this.#problems.push(`${name} is ${stats[name]} at the end`);
    this.#o.say(`at the end: ${accounts.map((name) => `${name} ${stats[name]}`).join(', ')}`);
  }

  /** The agent gives everything back. */
  async #leave(): Promise<void> {
    const lab = this.#lab;
    const code = await this.#agent.end('SIGTERM');
    if (code !== 0) this.#problems.push(`the agent ended with ${code}: ${this.#agent.output.slice(-2_000)}`);
    const script = fileURLToPath(new URL('sockets.ts', import.meta.url));
    const last = firstPort + slices * slicePorts - 1;
    const held = lab.shell(lab.host, `${process.execPath} ${script} ${address} ${firstPort} ${last}`);
    this.#o.say(`sockets of the kernel's on leased ports: ${held}`);
    for (const [protocol, count] of Object.entries(JSON.parse(held) as Record<string, number>))
      if (count !== 0) this.#problems.push(`${count} ${protocol} sockets are left`);
    const left = await eventually(
      async () => {
        const { items } = await lab.client.leases.list({ machine: 'edge' });
        const live = items.filter(({ state }) => state !== 'ended');
        return live.length === 0 ? live : undefined;
      },
      () => 'leases are left',
    ).catch((error: unknown) => [error]);
    if (left.length > 0) this.#problems.push(String(left[0]));
  }
}
