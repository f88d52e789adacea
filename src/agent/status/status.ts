import { setTimeout as sleep } from 'node:timers/promises';
import { formatPorts } from '../../net/ports.ts';
import type { BrokerStatus } from '../../broker/broker.ts';
import type { Agent } from '../agent.ts';
import type { BrokerOnHost } from '../broker-on-host.ts';
import type { ClaimsStatus, FishLeases } from '../fish/fish-leases.ts';
import type { FishPort } from '../fish/fish-port.ts';
import type { GuardKeeper } from '../guard/guard-keeper.ts';
import type { Counter, Host } from '../host/host.ts';
import type { DriftKind } from '../host/host-state.ts';
import type { LeaseStatus } from '../leases/leases-on-host.ts';
import type { Keepers, KeeperState } from '../placeholders/keepers.ts';
import type { Placeholders } from '../placeholders/placeholders.ts';
import type { Reports } from '../server/reports.ts';
import type { CounterName } from '../host/ruleset.ts';
import type { AgentSettings } from '../settings/settings.ts';
import type { Steering } from '../steering/choose.ts';
import type { KernelTracer } from '../trace/kernel-tracer.ts';
import type { TerminatorOnHost, TerminatorStatus } from '../terminator-on-host.ts';

export type AgentStatus = Readonly<{
  machine: string;
  /** As the server said last: active, cordoned …; null before the first snapshot. */
  machine_state: string | null;
  version: string;
  pid: number;
  up_s: number;
  server: Readonly<{ url: string; problem: string | null }>;
  revision: Readonly<{ epoch: string; desired: number; applied: number }>;
  /**
   * As the kernel has it. `stands`: it judges what leaves; there is none before the first word of the server. `problem`: why the last
   * keepalive was not answered. `fenced`: for so long that fish has no flows, and no ports.
   */
  guard: Readonly<{
    stands: boolean;
    open: boolean;
    open_for_s: number;
    fence_s: number;
    answered_s_ago: number | null;
    fenced: boolean;
    problem: string | null;
  }>;
  /** `drift_repaired`: what others changed and the agent put back, in all; `drift`: by kind. */
  host: Readonly<{
    problem: string | null;
    drift_repaired: number;
    drift: Readonly<Partial<Record<DriftKind, number>>>;
  }>;
  /** How replies find fish, what the setting was, and why this way; null on a host without fish. */
  steering: (Steering & Readonly<{ setting: AgentSettings['steering'] }>) | null;
  /** `disputed`: of which the server did not take the last word, now; the first so many, a line each. */
  reports: Readonly<{ waiting: number; rejected: number; disputed: readonly string[] }>;
  /**
   * `missing`: of those open, the ones whose keeper was lost and that cannot be opened again. `disbelieved`: found in a keeper and
   * not what their records said, so closed.
   */
  placeholders: Readonly<{ open: number; max: number; missing: number; reopened: number; disbelieved: number }>;
  /** The processes that the placeholders live in. */
  keepers: readonly KeeperState[];
  /** How often one was lost and brought back. */
  keepers_replaced: number;
  slices: number;
  /** The first so many, as `198.51.100.10:8192-10239` and `[2001:db8::10]:8192-10239`. */
  slice_blocks: readonly string[];
  /** Leases that whoever granted them calls active, and that this host would not have: nobody can use them. */
  leases_refused: number;
  lease_counts: Readonly<Record<string, number>>;
  /** The first so many; those that are not up come first, because they are what one looks for. */
  leases: readonly LeaseStatus[];
  fish:
    | (ClaimsStatus &
        Readonly<{ running: boolean; starts: number; refused: number; stats: Readonly<Record<string, number>> }>)
    | null;
  /** null on a host without one. */
  terminator: TerminatorStatus | null;
  /** `running`: false as long as the server has handed over no slice. null where the settings want none. */
  broker:
    | (Omit<BrokerStatus, 'epoch' | 'socket'> &
        Readonly<{
          running: boolean;
          socket: string | null;
          /** That live here. */
          leases: number;
          /** Leases granted and ended since it started, and requests for leases that were refused, by code. */
          granted: number;
          ended: number;
          refused: Readonly<Record<string, number>>;
        }>)
    | null;
  counters: Readonly<Partial<Record<CounterName, Counter>>>;
}>;

export type StatusParts = Readonly<{
  agent: Agent;
  guard: GuardKeeper;
  reports: Reports;
  placeholders: Pick<Placeholders, 'open' | 'missing' | 'reopened' | 'disbelieved'>;
  keepers: Pick<Keepers, 'status' | 'replaced'>;
  placeholders_max: number;
  fishLeases: Pick<FishLeases, 'status' | 'refused'> | null;
  terminator: Pick<TerminatorOnHost, 'status' | 'views'> | null;
  host: Pick<Host, 'counters' | 'guard'>;
  /** null: traces have fish's side alone. */
  kernelTracer: Pick<KernelTracer, 'begin'> | null;
  steering: AgentStatus['steering'];
  version: string;
  serverUrl: string;
  now(): number;
}>;

/** Fish waits for a keeper at times, or has much else to do. */
const fish_numbers_ms_max = 2_000;
const leases_shown_max = 1_000;
const disputes_shown_max = 10;
const slices_shown_max = 10_000;
const tenths = (ms: number): number => Math.round(ms / 100) / 10;

export async function statusOf(parts: StatusParts): Promise<AgentStatus> {
  const { agent, guard, reports, placeholders, keepers, fishLeases, now } = parts;
  const stats = await numbersOf(agent.fish);
  const health = agent.health();
  const leases = agent.leases.status();
  const { repaired } = agent.hostKeeper;
  const fish = fishLeases?.status();
  const answered = guard.answeredMsAgo;
  const { stands, openForMs } = parts.host.guard();
  return {
    machine: agent.desired.machine,
    machine_state: agent.desired.state,
    version: parts.version,
    pid: process.pid,
    up_s: Math.round(now() / 1_000),
    server: { url: parts.serverUrl, problem: health.server_problem },
    revision: { epoch: agent.desired.epoch, desired: agent.desired.revision, applied: agent.appliedRevision },
    guard: {
      stands,
      open: stands && openForMs > 0,
      open_for_s: tenths(Number.isFinite(openForMs) ? openForMs : guard.openForMs),
      fence_s: guard.fence_s,
      answered_s_ago: answered === undefined ? null : tenths(answered),
      fenced: guard.isFenced,
      problem: guard.problem,
    },
    host: {
      problem: health.problem,
      drift_repaired: [...repaired.values()].reduce((sum, count) => sum + count, 0),
      drift: Object.fromEntries(repaired),
    },
    steering: parts.steering,
    reports: {
      waiting: reports.waiting,
      rejected: reports.rejected,
      disputed: reports.disputes.slice(0, disputes_shown_max),
    },
    placeholders: {
      open: placeholders.open,
      max: parts.placeholders_max,
      missing: placeholders.missing,
      reopened: placeholders.reopened,
      disbelieved: placeholders.disbelieved,
    },
    keepers: keepers.status,
    keepers_replaced: keepers.replaced,
    slices: agent.desired.slices.size,
    slice_blocks: [...agent.desired.slices.values()]
      .slice(0, slices_shown_max)
      .map(({ address, ports }) => `${address.includes(':') ? `[${address}]` : address}:${formatPorts(ports)}`),
    leases_refused: leases.filter(({ lease, phase }) => phase === 'refused' && agent.isActive(lease)).length,
    lease_counts: Object.fromEntries(
      [...Map.groupBy(leases, ({ phase }) => phase)].map(([phase, members]) => [phase, members.length]),
    ),
    leases: [...leases.filter(({ phase }) => phase !== 'up'), ...leases.filter(({ phase }) => phase === 'up')].slice(
      0,
      leases_shown_max,
    ),
    fish:
      fish && fishLeases
        ? {
            running: agent.fish !== undefined,
            starts: health.fish_starts,
            ...fish,
            refused: fishLeases.refused,
            stats,
          }
        : null,
    terminator: (await parts.terminator?.status()) ?? null,
    broker: agent.broker && (await brokerStatus(agent.broker)),
    counters: Object.fromEntries(await parts.host.counters()),
  };
}

/** A fish that dies over the question, or is too busy for it, has none to tell; everything else is told all the same. */
async function numbersOf(fish: Pick<FishPort, 'stats'> | undefined): Promise<Readonly<Record<string, number>>> {
  if (!fish) return {};
  return Promise.race([fish.stats().catch(() => ({})), sleep(fish_numbers_ms_max, {}, { ref: false })]);
}

type Judged = 'server' | 'host' | 'broker' | 'guard' | 'reports' | 'leases_refused' | 'fish' | 'terminator';

/** What is wrong, in lines for people: with any of it the agent does not do what it is for. */
export function problemsIn(status: Pick<AgentStatus, Judged>): readonly string[] {
  const { server, host, broker, guard, reports, leases_refused: refused, fish, terminator } = status;
  const why = guard.problem === null ? '' : `: ${guard.problem}`;
  const shut = guard.open ? null : `the guard is shut${why}`;
  const absent = `there is no guard: whoever is on this host may send with the pools' addresses that it has${why}`;
  const [disputed] = reports.disputed;
  return [
    server.problem,
    host.problem,
    broker?.problem ?? null,
    guard.stands ? shut : absent,
    claimsProblem('fish', fish),
    claimsProblem('the terminator', terminator),
    refused > 0 ? `this host refuses ${refused} leases that are active by the word of who granted them` : null,
    disputed === undefined ? null : `the server does not take what this host says of ${disputed}`,
  ].filter((problem) => problem !== null);
}

function claimsProblem(
  who: string,
  user: Readonly<{ claims: number; answered: number; problem: string | null }> | null,
): string | null {
  if (user === null || (user.problem === null && user.answered >= user.claims)) return null;
  const missing =
    user.answered < user.claims ? `${who} has ${user.answered} of the ${user.claims} leases it claims` : who;
  return user.problem === null ? missing : `${missing}: ${user.problem}`;
}

async function brokerStatus(broker: BrokerOnHost): Promise<AgentStatus['broker']> {
  const status = broker.status();
  const { granted = 0, ended = 0, refused = {} } = (await broker.counts()) ?? {};
  return {
    running: status !== null,
    problem: broker.problem ?? status?.problem ?? null,
    socket: status?.socket ?? null,
    leases: status?.leases ?? 0,
    granted,
    ended,
    refused,
    report_problem: status?.report_problem ?? null,
    report_problem_since: status?.report_problem_since ?? null,
    told_through: status?.told_through ?? null,
    told_s_ago: status?.told_s_ago ?? null,
    untold: status?.untold ?? null,
    rejected: status?.rejected ?? 0,
    connections: status?.connections ?? 0,
  };
}
