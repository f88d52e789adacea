import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isBrokers } from '../../broker/identifiers.ts';
import { err, ok, type Result } from '../../net/result.ts';
import type { Logger } from '../../ops/logger.ts';
import { FisheryClient, FisheryError, follow, keepAlive, localCodes, tlsFilesOf } from '../../sdk/index.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { isBound, isPing } from '../../sys/placeholder-check.ts';
import { openBound, openPing } from '../../sys/placeholders.ts';
import { processesOf, SockDiag } from '../../sys/sock-diag.ts';
import { Agent } from '../agent.ts';
import type { AgentParts } from '../agent-parts.ts';
import { bootClockMs } from '../guard/boot-clock.ts';
import { ElasticLeases, type ElasticParts } from '../leases/elastic-leases.ts';
import { portsOfClaim, type FishClaim } from '../fish/fish-claims.ts';
import { FishLeases } from '../fish/fish-leases.ts';
import { LeasePlaces } from '../leases/lease-places.ts';
import { arrivalsOfReplies, steeredDevices, type HostSettings } from '../host/desired-host.ts';
import { DesiredMemory } from '../server/desired-memory.ts';
import { TerminatedFlows } from '../flow-log/terminated-flows.ts';
import { FirstGuard } from '../guard/first-guard.ts';
import { GuardKeeper } from '../guard/guard-keeper.ts';
import { HorizonMemory } from '../guard/horizon-memory.ts';
import { HostProblem } from '../host/host.ts';
import type { HostState } from '../host/host-state.ts';
import { kernelTracing, removeTraceTable } from '../linux/kernel-tracing.ts';
import { LinuxHost } from '../linux/linux-host.ts';
import { spareOfHost } from '../linux/spare.ts';
import { unitsGone } from '../linux/units.ts';
import { watchForMeddling } from '../linux/meddling.ts';
import { takeLock } from './lock.ts';
import { Placeholders } from '../placeholders/placeholders.ts';
import { placeholderBudget, preflight, type PlaceholderBudget } from './preflight.ts';
import { Reports } from '../server/reports.ts';
import { hostSettings, type AgentSettings } from '../settings/settings.ts';
import { foreignRouting } from '../status/standing-problems.ts';
import { OwnerMemory } from '../leases/owner-memory.ts';
import { StateFile, tablesOf } from '../host/state-file.ts';
import { speakerOf, thisHost } from './this-host.ts';
import { brokerOf } from './start-broker.ts';
import { FishPlace } from '../fish/fish-place.ts';
import { FishStarter } from './start-fish.ts';
import { endTerminator, ensureTerminator, terminatorPath } from './start-terminator.ts';
import { TerminatorOnHost } from '../terminator-on-host.ts';
import type { Keepers, KeptBound } from '../placeholders/keepers.ts';
import { endKeepers, fishKeepingOf, keepersFound, keepersOf } from './start-keepers.ts';
import { ServerClock } from '../server/server-clock.ts';
import { serveStatus } from '../status/status-server.ts';
import { chooseSteering, type Steering } from '../steering/choose.ts';
import { kernelCalls } from '../steering/kernel-calls.ts';
import { KeptLinks } from '../steering/kept-links.ts';
import { SteeringLinks } from '../steering/steering-links.ts';
import { identityOf, sysctlsOf } from './take-down.ts';
import { KernelTracer } from '../trace/kernel-tracer.ts';

export type RunningAgent = Readonly<{
  /** Resolves after `stop`; rejects when the server refuses this agent before it ever took a snapshot. */
  finished: Promise<void>;
  /** The planned stop: gives back what fish has, unless the settings say to keep it. */
  stop(): Promise<void>;
}>;

export type StartOptions = Readonly<{
  settings: AgentSettings;
  machine: string;
  /** Asked before every call: the token may be rotated while the agent runs. */
  token: () => string;
  version: string;
  log: Logger;
}>;

/** Before the server said how long its horizon is; only the first keepalive is timed by it. */
const fence_assumed_s = 10;
const request_timeout_ms = 10_000;
/** Until its sockets are opened again, the ports of a dead keeper are anybody's. */
const look_at_keepers_ms = 250;

/**
 * Puts the agent together and lets it run. The error is one line for people, and then nothing was changed, but that a guard which
 * was missing may stand, shut; whatever stands
 * in the way, nothing stays open and the host is free for another agent.
 */
export async function startAgent(options: StartOptions): Promise<Result<RunningAgent, string>> {
  const { settings, machine } = options;
  const { fish: hasFish } = hostSettings(settings);
  const facts = await preflight({ needsTun: hasFish });
  if (!facts.ok) return facts;
  const devices = arrivalsOfReplies(settings.uplinks, settings.client_interfaces);
  const steering = hasFish ? chooseSteering(settings.steering, devices, kernelCalls) : ok(null);
  if (!steering.ok) return steering;
  const host = hostSettings(settings, steering.value?.mode);
  const claims = host.fish ? (settings.fish?.claims ?? []) : [];
  const budget = placeholderBudget(
    { descriptors_max: facts.value.descriptors_max, spare: spareOfHost(), ...keepersFound() },
    {
      exclusivePorts: claims.reduce((sum, claim) => sum + (claim.mode === 'exclusive' ? portsOfClaim(claim) : 0), 0),
      flowPlaceholders: host.fish ? settings.fish?.placeholders_max : 0,
    },
  );
  if (!budget.ok) return budget;
  await using opened = new AsyncDisposableStack();
  const lock = takeLock(`the agent of machine ${machine}`);
  if (!lock.ok) return lock;
  opened.defer(() => lock.value.release());
  if (lock.value.doubt !== null) options.log.warn(lock.value.doubt);
  const stateFile = StateFile.open(settings.state_dir, { machine, ...identityOf(host) });
  if (!stateFile.ok) return stateFile;
  const { cgroups } = facts.value;
  const parts = {
    cgroups,
    budget: budget.value,
    stateFile: stateFile.value,
    steering: steering.value,
  };
  return await run({ ...options, ...parts }, opened);
}

type RunOptions = StartOptions &
  Readonly<{
    cgroups: AgentParts['cgroups'];
    budget: PlaceholderBudget;
    stateFile: StateFile;
    /** null on a host without fish. */
    steering: Steering | null;
  }>;

/** What of its settings says which leases one holds as long as it runs. */
type LeaseUser = Readonly<{ holder: string; session_ttl_s: number; claims: readonly FishClaim[] }>;

/** The error is what is wrong with the settings that it is made of. */
function clientFor(settings: AgentSettings, token: () => string): Result<FisheryClient, string> {
  const { server: url } = settings;
  try {
    return ok(new FisheryClient({ url, token, tls: tlsFilesOf(settings), timeoutMs: request_timeout_ms }));
  } catch (error) {
    if (error instanceof TypeError) return err(error.message);
    throw error;
  }
}

/** Of this host, which knows the agent by its user: root. */
const brokerClient = ({ broker }: AgentSettings): FisheryClient =>
  new FisheryClient({ url: `unix:${broker.socket}`, attemptsMax: 1, timeoutMs: request_timeout_ms });

/** `opened` is closed by the caller, unless the agent runs: then it is taken over, and closed when that has ended. */
async function run(options: RunOptions, opened: AsyncDisposableStack): Promise<Result<RunningAgent, string>> {
  const { settings, machine, token, version, log, cgroups, budget, stateFile, steering } = options;
  const hosting = hostSettings(settings, steering?.mode);
  const connected = clientFor(settings, token);
  if (!connected.ok) return connected;
  const client = connected.value;
  const links = new KeptLinks(closeFd);
  opened.defer(() => links.close());
  const host = new LinuxHost({
    tun: hosting.tun,
    neighbours: [...hosting.uplinks, ...hosting.clientInterfaces],
    routeTables: tablesOf(stateFile.identity),
    sysctls: sysctlsOf(hosting, stateFile.recorded),
    steering: new SteeringLinks({
      calls: kernelCalls,
      store: links,
      tun: hosting.tun,
      mark: hosting.mark,
      markMask: hosting.markMask,
      devices: steeredDevices(hosting),
    }),
  });
  opened.defer(() => host.close());
  host.listen();
  const foundAt = bootClockMs();
  const firstGuard = new FirstGuard({ host, stateFile, settings: hosting, log });
  const found = await lookFirst(host, firstGuard, hosting);
  if (!found.ok) return found;
  const kernelTracer = new KernelTracer(kernelTracing, () => Date.now() * 1_000);
  opened.defer(() => kernelTracer.close());
  const diag = new SockDiag();
  opened.defer(() => diag.close());
  const sockets = {
    sockets: (query: Parameters<SockDiag['sockets']>[0]) => diag.sockets(query),
    pingSockets: (query: Parameters<SockDiag['pingSockets']>[0]) => diag.pingSockets(query),
    processesOf,
    destroy: (socket: Parameters<SockDiag['destroy']>[0]) => diag.destroy(socket),
  };
  if (!hosting.fish) {
    const ended = await endKeepers();
    // One that cannot be ended has the device of the fish that was; proxies are served all the same.
    for (const line of ended.ok ? ended.value : [ended.error]) log.info(`fish is not wanted: ${line}`);
  }
  if (hosting.terminate === null)
    for (const line of await endTerminator()) log.info(`the terminator is not wanted: ${line}`);
  const keepers = keepersOf(settings, { hasFish: hosting.fish, flows_max: budget.flows_max, log });
  // Of no effect once they were left, or ended.
  opened.defer(() => keepers.leave());
  const left = await beginKeeping(keepers, links);
  if (!left.ok) return left;
  const placeholders = new Placeholders({
    open: { openBound, openPing, isBound, isPing, closeFd },
    keepers,
    table: sockets,
    mark: hosting.mark,
    budget,
    log,
  });
  const adopted = takeOver(placeholders, left.value);
  if (!adopted.ok) return adopted;
  const serverClock = new ServerClock(bootClockMs);
  const onHost = thisHost();
  const speaker = speakerOf(onHost);
  const horizon = new HorizonMemory({ folder: settings.state_dir, machine, host: onHost, now: bootClockMs, log });
  const guard = new GuardKeeper(
    {
      send: async (timeoutMs, signal) => {
        const sentAt = bootClockMs();
        const body = { boot_id: speaker, version, applied_revision: agent.appliedRevision };
        const answer = await client.agent.keepalive(machine, body, { timeoutMs, signal });
        serverClock.hear(answer.now, sentAt, bootClockMs());
        return answer;
      },
      open: (ms) => host.openGuard(ms),
      shut: () => host.shutGuard(),
      now: bootClockMs,
      steady: () => performance.now(),
      log,
      onOpenFailed: () => agent.lookAtHost(),
      onHorizon: (granted) => horizon.note(granted),
      onFence: (isFenced) => agent.setFenced(isFenced),
    },
    fence_assumed_s,
    { openForMs: found.value.guardMs, foundAt, horizon: horizon.read() },
  );
  const reports = new Reports({
    send: (applied, signal) => client.agent.applied(machine, { boot_id: speaker, ...applied }, { signal }),
    // What this agent says is wrong in itself; anything else (a token, a server in trouble) may be mended.
    isHopeless: (error) => error instanceof FisheryError && [400, 413, 422].includes(error.status ?? 0),
    pause: backOff,
    log,
  });
  const isRefused = (lease: string) => agent.leases.phaseOf(lease) === 'refused';
  const ownBroker = settings.broker.enabled ? brokerClient(settings) : null;
  const leasesFor = (
    who: string,
    kind: 'fish' | 'terminator',
    { holder, session_ttl_s: ttl_s, claims }: LeaseUser,
    use: Pick<ElasticParts, 'portUse' | 'drain'>,
  ) => {
    const places = new LeasePlaces({
      ...{ server: client, broker: ownBroker, machine, holder, kind, who, ttl_s, log },
      keepAlive: (session, signal, onLost) => {
        const its = ownBroker && isBrokers(session.id) ? ownBroker : client;
        void keepAlive(its, session, { signal, onLost }).done;
      },
    });
    return new FishLeases({
      ...{ places, holder, who, claims, isRefused, log },
      growth: new ElasticLeases({ places, who, claims, isRefused, ...use, now: () => performance.now(), log }),
      pause: backOff,
    });
  };
  const fishLeases =
    settings.fish && hosting.fish
      ? leasesFor('fish', 'fish', settings.fish, {
          portUse: async () => (await agent.fish?.portUse()) ?? null,
          drain: async (leases) => agent.fish?.drain(leases),
        })
      : null;
  const { terminate } = settings;
  const terminator: TerminatorOnHost | null =
    terminate && hosting.terminate
      ? new TerminatorOnHost({
          settings: terminate,
          leases: leasesFor('the terminator', 'terminator', terminate, {
            portUse: async () => (await terminator?.portUse()) ?? null,
            drain: async (leases) => terminator?.drain(leases),
          }),
          begin: () => ensureTerminator(terminate.port),
          flows: new TerminatedFlows({
            folder: join(settings.state_dir, 'terminated'),
            limits: terminate.flow_log,
            socket: terminatorPath(),
            log,
            nowUs: () => Date.now() * 1_000,
          }),
          isUp: (lease) => agent.leases.phaseOf(lease) === 'up',
          log,
          now: () => performance.now(),
        })
      : null;
  const fishStarter =
    settings.fish && hosting.fish
      ? new FishStarter({
          settings,
          steering: steering?.mode,
          fish: settings.fish,
          placeholders_max: budget.flows_max,
          place: new FishPlace({
            tun: hosting.tun,
            neighbours: [...hosting.uplinks, ...hosting.clientInterfaces],
            queue_packets: settings.tun_queue_packets,
            keeping: fishKeepingOf(keepers),
            log,
          }),
          log,
        })
      : null;
  const agent: Agent = new Agent({
    machine,
    settings: hosting,
    host,
    stateFile,
    firstGuard,
    memory: new DesiredMemory({ folder: settings.state_dir, machine, log, now: () => performance.now() }),
    owners: new OwnerMemory({ folder: settings.state_dir, machine, host: onHost, log }),
    server: {
      follow: (signal) =>
        follow(client, machine, {
          signal,
          onTrouble: (error, retryInMs) => {
            agent.serverTrouble(error.message);
            log.warn({ retry_in_ms: Math.round(retryInMs) }, `the server is not reached: ${error.message}`);
          },
        }),
      answerFlowQuery: (answer) => client.agent.flowAnswer(machine, answer),
      answerRequest: (answer) => client.agent.answer(machine, answer),
    },
    guard,
    reports,
    placeholders,
    keepers,
    sockets,
    cgroups,
    unitsGone,
    fish: fishStarter && fishLeases && { starter: fishStarter, leases: fishLeases },
    terminator,
    broker: brokerOf({
      ...{ settings, machine, client, version, log, guard, speaker, pause: backOff },
      holders: () => agent.desired.holders.values(),
      cgroupOf: (pid) => cgroups.pathOf(pid),
      serverNowUs: () => serverClock.nowUs(),
    }),
    log,
    now: () => performance.now(),
  });
  keepers.onReplaced((number) => {
    if (keepers.flowShares().some((share) => share.number === number)) agent.fishLostItsKeeper();
  });
  const status = await serveStatus(settings.state_dir, {
    agent,
    guard,
    reports,
    placeholders,
    keepers,
    placeholders_max: budget.bound_max,
    fishLeases,
    terminator,
    host,
    kernelTracer,
    steering: steering && { setting: settings.steering, ...steering },
    version,
    serverUrl: settings.server,
    now: () => performance.now(),
  });
  if (!status.ok) return status;
  opened.defer(() => status.value());
  const watching = new AbortController();
  const lookNow = () => agent.lookAtHost();
  const watched = watchForMeddling(host, lookNow, log, watching.signal, () => performance.now());
  const keeping = setInterval(() => {
    if (keepers.hasLost) agent.lookAtHost();
  }, look_at_keepers_ms);
  const stopping = new AbortController();
  opened.defer(() => watched);
  opened.defer(() => {
    watching.abort();
    clearInterval(keeping);
  });
  const inUse = opened.move();
  const finished = agent.run(stopping.signal, settings.keep).finally(() => inUse.disposeAsync());
  return ok({
    finished,
    stop: async () => {
      stopping.abort();
      await finished;
    },
  });
}

/** What a former agent left in the keepers: placeholders, as `Keepers.begin` tells them, and links, which are taken over. */
async function beginKeeping(keepers: Keepers, links: KeptLinks): ReturnType<Keepers['begin']> {
  const begun = await keepers.begin();
  // A host without fish, and without a keeper from when it had it, has nobody to keep links, and none.
  if (!begun.ok || !keepers.status.some(({ number }) => number === 0)) return begun;
  try {
    links.begin(keepers);
    return begun;
  } catch (error) {
    if (error instanceof HostProblem) return err(error.message);
    throw error;
  }
}

/** The error is about a keeper that was lost meanwhile. */
function takeOver(placeholders: Placeholders, left: readonly KeptBound[]): Result<undefined, string> {
  try {
    placeholders.adopt(left);
    return ok(undefined);
  } catch (error) {
    if (error instanceof HostProblem) return err(error.message);
    throw error;
  }
}

/** The error is why the agent should not begin here: whoever it would take packets from, or lose them to, was there first. */
async function lookFirst(
  host: LinuxHost,
  firstGuard: FirstGuard,
  settings: HostSettings,
): Promise<Result<HostState, string>> {
  try {
    // Whatever keeps the agent from starting: what it guarded stays guarded.
    await firstGuard.hold();
    const found = await host.observe('all');
    removeTraceTable();
    if (settings.fish && found.tun !== 'absent') {
      const kind = host.kindOf(settings.tun);
      if (kind !== 'tun')
        return err(
          `${settings.tun} is a device of this host, and none of kind tun (${kind ?? 'hardware'}): change the setting tun to a name that is free`,
        );
    }
    const strangers = foreignRouting(found, settings);
    return strangers.length > 0 ? err(strangers.join('; ')) : ok(found);
  } catch (error) {
    if (error instanceof HostProblem) return err(error.message);
    throw error;
  }
}

/** A refusal of the server, with what to do about it. */
export function explainRefusal(error: FisheryError, machine: string, tokenFile: string): string {
  if (error.status === 401)
    return `the server does not know the token in ${tokenFile}: have one made with role agent for machine "${machine}" (${error.message})`;
  if (error.status === 403)
    return `the token in ${tokenFile} is not that of an agent of machine "${machine}": have one made (${error.message})`;
  if (error.code === 'machine_not_found')
    return `the server has no machine "${machine}": have it created first, or correct the setting machine (${error.message})`;
  if (error.code === localCodes.unreadableAnswer)
    return `what answers at the server's address is not Fishery (${error.message})`;
  return error.message;
}

const back_off_first_ms = 200;
const back_off_max_ms = 10_000;
/** Doubled each time, and drawn from the upper half, so that many agents do not come back in step. */
async function backOff(attempt: number, signal: AbortSignal): Promise<void> {
  const full = Math.min(back_off_max_ms, back_off_first_ms * 2 ** Math.min(attempt - 1, 10));
  await sleep(full / 2 + (Math.random() * full) / 2, undefined, { signal });
}
