import { setTimeout as sleep } from 'node:timers/promises';
import { parsePrefix, type Prefix } from '../net/prefix.ts';
import type { Address, Family } from '../net/address.ts';
import type { Logger } from '../ops/logger.ts';
import { FisheryError, type Followed } from '../sdk/index.ts';
import type { Change, FlowAnswer, FlowQuery } from '../wire/agent.ts';
import type { Lease } from '../wire/leases.ts';
import type { ForwardedAnswerInput, ForwardedRequest } from '../wire/broker.ts';
import { BlockedOnHost } from './blocked-on-host.ts';
import { BrokerOnHost, type BrokerOnHostParts } from './broker-on-host.ts';
import { DesiredMachine, type Touched } from './desired.ts';
import type { HostLoad, HostSettings } from './desired-host.ts';
import type { FishLeases } from './fish-leases.ts';
import type { FishPort } from './fish-port.ts';
import type { GuardKeeper } from './guard-keeper.ts';
import { HostKeeper } from './host-keeper.ts';
import { HostProblem, type Host } from './host.ts';
import type { Keepers } from './keepers.ts';
import type { LeaseSource } from './lease-source.ts';
import { LeasesOnHost } from './leases-on-host.ts';
import type { CgroupTable } from './ownership.ts';
import { blockOf } from './leases/held-leases.ts';
import type { Placeholders } from './placeholders.ts';
import type { SocketTable } from './port-users.ts';
import type { Reports } from './reports.ts';
import type { Owner } from './sets.ts';
import { addressesOf, SlicesOnHost } from './slices-on-host.ts';
import { isIn } from './standing-problems.ts';
import type { StateFile } from './state-file.ts';
import { joinAnswers, type TerminatorOnHost } from './terminator-on-host.ts';
import { UnitsOnHost } from './units-on-host.ts';
import { Bell, doze, isOver, neverEnding, whenOver } from './waiting.ts';

/** The server, as the agent speaks with it. */
export type AgentServer = Readonly<{
  /** Snapshot first, then changes, over as many connections as it takes; throws what is refused for good. */
  follow(signal: AbortSignal): AsyncIterable<Followed>;
  answerFlowQuery(answer: FlowAnswer): Promise<void>;
  /** What the broker said to a request that the server passed on. */
  answerRequest(answer: ForwardedAnswerInput): Promise<void>;
}>;

export type AgentParts = Readonly<{
  machine: string;
  settings: HostSettings;
  families: readonly Family[];
  host: Host;
  stateFile: Pick<StateFile, 'recorded' | 'record' | 'forget'>;
  server: AgentServer;
  guard: GuardKeeper;
  reports: Reports;
  placeholders: Placeholders;
  /** Where the placeholders live. */
  keepers: Pick<Keepers, 'leave' | 'end'>;
  sockets: SocketTable;
  cgroups: CgroupTable;
  /** See `UnitsOnHost`. */
  unitsGone(units: readonly string[]): Promise<ReadonlySet<string>>;
  /** null on a host without fish. */
  fish: Readonly<{
    /** `hasFlows`: whether a former agent has left some. */
    starter: Readonly<{ start(): Promise<FishPort>; hasFlows(): boolean }>;
    leases: Pick<FishLeases, 'run' | 'look' | 'end'>;
  }> | null;
  /** null on a host without one. */
  terminator: TerminatorOnHost | null;
  /** null where the settings want none. */
  broker: Pick<BrokerOnHostParts, 'start' | 'hasTable' | 'reports'> | null;
  log: Logger;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** Of what is granted in slices of its own a broker hears nothing new by these. */
const isAboutLeases = (change: Change): boolean =>
  change.kind === 'lease' ||
  change.kind === 'session' ||
  (change.kind === 'revocation' && change.revocation.slice !== null);

/** Between two looks at what others changed, in case nobody told of it. */
const observe_every_ms = 5_000;
/** Between two looks at everything, believing nothing of what is remembered. */
const observe_all_every_ms = 60_000;
const retry_first_ms = 100;
const retry_max_ms = 5_000;
/** A host that will not do what it is told is not asked more often than this, however much there is to tell it. */
const retry_with_news_ms = 500;
/** The server refused the agent for good; somebody may mend that. */
const refollow_ms = 10_000;
/** How long a planned stop may wait for fish's leases to be given back. */
const give_back_ms = 8_000;

/**
 * The loop: follow the server, keep the host as it should be, bring leases up and down, report. One pass at a time; what
 * happens during a pass is looked at in the next.
 */
export class Agent {
  readonly desired: DesiredMachine;
  readonly leases: LeasesOnHost;
  readonly hostKeeper: HostKeeper;
  readonly #parts: AgentParts;
  readonly #slices = new SlicesOnHost();
  readonly #blocked: BlockedOnHost;
  readonly #units: UnitsOnHost;
  /** Of what this host grants itself. */
  readonly broker: BrokerOnHost | null;
  readonly #firstPass = Promise.withResolvers<undefined>();
  #hasSnapshot = false;
  /** What a former agent left in the keepers is its leases' by now, or closed. */
  #hasTakenOver = false;
  #hostIsDue = true;
  #observedAt = -Infinity;
  #observedAllAt = -Infinity;
  #appliedRevision = 0;
  #failures = 0;
  #problem: string | null = null;
  #serverProblem: string | null = 'no snapshot yet';
  readonly #bell = new Bell();
  #isPassing = false;
  #fish: FishPort | undefined;
  #fishStarts = 0;
  #isFishStale = false;
  #fishRetryAt = -Infinity;
  #fishProblem: Error | undefined;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    const { machine, host, stateFile, settings, log, placeholders, sockets, cgroups, guard } = parts;
    this.desired = new DesiredMachine(machine);
    const isOurMark = (socket: number) => (socket & settings.markMask) === settings.mark;
    const newBlocked = () => new BlockedOnHost({ sockets, cgroups, isOurMark, now: () => parts.now() });
    const newUnits = () => new UnitsOnHost({ goneOf: (units) => parts.unitsGone(units), log, now: () => parts.now() });
    this.#blocked = newBlocked();
    this.#units = newUnits();
    this.broker =
      parts.broker &&
      new BrokerOnHost({
        ...parts.broker,
        ...{ machine, blocked: newBlocked(), units: newUnits(), log, now: () => parts.now() },
        onTouched: (touched) => this.#note(touched),
        kick: () => this.#kick(),
      });
    this.leases = new LeasesOnHost({
      changeElements: (add, remove) => this.hostKeeper.changeElements(add, remove),
      placeholders,
      sockets,
      cgroups,
      setFishBlocks: async (blocks) => {
        if (!this.#fish) throw new Error('fish does not run');
        return this.#fish.setBlocks(blocks);
      },
      fenceFish: async () => {
        if (!this.#fish) throw new Error('fish does not run');
        await this.#fish.fence();
      },
      isOurMark,
      log,
      now: () => parts.now(),
    });
    const load = () => this.#load();
    const poolOf = (address: Address) => this.#poolOf(address);
    this.hostKeeper = new HostKeeper({
      host,
      stateFile,
      settings,
      load,
      poolOf,
      log,
      guardOpenForMs: () => (guard.answeredMsAgo === undefined ? undefined : guard.openForMs),
      mendGuard: () => {
        if (guard.isOpen) guard.reopen();
        else host.shutGuard();
      },
    });
  }

  /**
   * Works until `stop` aborts, then gives back what fish has (unless `keep`) and leaves the host guarded. Rejects when
   * the server refuses the agent before it ever took a snapshot: then nothing was done to the host.
   */
  async run(stop: AbortSignal, keep: boolean): Promise<void> {
    const ending = new AbortController();
    const { signal } = ending;
    const fishing = new AbortController();
    const { guard, reports, fish, terminator } = this.#parts;
    const afterFirstPass = async (work: () => Promise<void>) => {
      await Promise.race([this.#firstPass.promise, whenOver(signal)]);
      if (!isOver(signal)) await work();
    };
    await this.#goOnWithFlows();
    let isPlanned = false;
    const tasks = [
      this.#follow(signal),
      this.#passes(signal),
      reports.run(signal),
      ...(this.#parts.broker ? [this.#parts.broker.reports.run(signal)] : []),
      guard.run(signal, Promise.race([this.#firstPass.promise, whenOver(signal)])),
      ...[fish, terminator].flatMap((user) =>
        user ? [afterFirstPass(() => user.leases.run(() => this.#granted, fishing.signal))] : [],
      ),
    ];
    try {
      await Promise.race([whenOver(stop), neverEnding(tasks)]);
      isPlanned = true;
      fishing.abort();
      if (!keep) await this.#giveBack();
    } finally {
      fishing.abort();
      ending.abort();
      await Promise.allSettled(tasks);
      await this.#letGo(keep, isPlanned);
    }
  }

  /** By the server, and by the broker of this host. */
  get #granted(): LeaseSource {
    return this.broker?.with(this.desired) ?? this.desired;
  }

  get appliedRevision(): number {
    return this.#appliedRevision;
  }

  get fish(): FishPort | undefined {
    return this.#fish;
  }

  health(): Readonly<{ problem: string | null; server_problem: string | null; failures: number; fish_starts: number }> {
    const { problem: missing } = this.#parts.placeholders;
    const standing = [
      ...this.hostKeeper.standingProblems,
      ...(missing === undefined ? [] : [`placeholders are missing since a keeper was lost: ${missing}`]),
    ];
    return {
      problem: this.#problem ?? (standing.length > 0 ? standing.join('; ') : null),
      server_problem: this.#serverProblem,
      failures: this.#failures,
      fish_starts: this.#fishStarts,
    };
  }

  /** Somebody found the host not as it should be. */
  lookAtHost(): void {
    this.#hostIsDue = true;
    this.#kick();
  }

  /**
   * The horizon has passed without an answer, or an answer came after all. No new flows, an end to the others, no placeholders:
   * in that order, and the first two at once, whatever a pass is waiting for. The guard in the kernel has shut by then.
   */
  setFenced(isFenced: boolean): void {
    const { fish, terminator, log } = this.#parts;
    terminator?.setFenced(isFenced);
    this.#kick();
    if (!fish) return;
    this.leases.setFenced(isFenced);
    if (isFenced) void this.#endFlows();
    else log.info('the server answers again: what this machine still has is put in place anew');
  }

  async #endFlows(): Promise<void> {
    const { placeholders, log } = this.#parts;
    try {
      const closed = (await this.#fish?.fence()) ?? 0;
      log.error({ flows: closed }, "past the horizon: fish's flows have ended, and it opens no new ones");
      // As long as nothing was heard of the server there are no passes that would do it.
      if (!this.#hasSnapshot) placeholders.keepOnly([]);
    } catch (error) {
      log.warn(`past the horizon, and not all of fish's flows and ports could be let go of: ${messageOf(error)}`);
    }
  }

  /** The connection to the server was lost, or is there again (null). */
  serverTrouble(problem: string | null): void {
    this.#serverProblem = problem;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      try {
        for await (const event of this.#parts.server.follow(signal)) {
          this.#serverProblem = null;
          this.#onEvent(event);
        }
      } catch (error) {
        if (isOver(signal)) return;
        if (!(error instanceof FisheryError) || !this.#hasSnapshot) throw error;
        this.#serverProblem = error.message;
        this.#parts.log.error(`the server refuses this agent: ${error.message}; trying again in ${refollow_ms} ms`);
        await doze(refollow_ms, signal);
      }
    }
  }

  #onEvent(event: Followed): void {
    const { log } = this.#parts;
    switch (event.type) {
      case 'snapshot': {
        const touched = this.desired.reset(event.desired);
        log.info({ revision: this.desired.revision, leases: this.desired.leases.size }, 'took a snapshot');
        if (!this.#hasSnapshot) this.leases.adopt(this.desired);
        this.#hasSnapshot = true;
        this.#slices.forgetTold();
        this.#parts.reports.clear();
        this.broker?.hear();
        this.#note(touched);
        return;
      }
      case 'change':
        if (!isAboutLeases(event.change)) this.broker?.hear();
        this.#note(this.desired.apply(event.change));
        return;
      case 'request':
        void this.#carryOut(event.request);
        return;
      case 'bookmark':
        this.desired.reach(event.revision);
        // It said that nothing happened, so there is nothing to do for it to be true.
        if (!this.#hasWork() && !this.#isPassing && this.#problem === null)
          this.#appliedRevision = this.desired.revision;
        return;
      case 'query':
        void this.#answer(event.query);
    }
  }

  #note(touched: Touched): void {
    this.leases.touch(touched.leases);
    this.#hostIsDue ||= touched.host;
    this.#kick();
  }

  async #answer(query: FlowQuery): Promise<void> {
    const { server, terminator, log } = this.#parts;
    try {
      const nothing = { covers_since: null, covers_through: null };
      const unknown: FlowAnswer = { id: query.id, ...nothing, clock_margin_s: 0, flows: [] };
      const logs = [...(this.#parts.fish || !terminator ? [this.#fish] : []), ...(terminator ? [terminator] : [])];
      const answers = await Promise.all(logs.map(async (each) => (each ? each.answer(query) : unknown)));
      await server.answerFlowQuery(joinAnswers(query.id, answers));
    } catch (error) {
      log.warn(`a question about flows could not be answered: ${messageOf(error)}`);
    }
  }

  /** What the server was asked for, and this host's broker has to do. */
  async #carryOut(request: ForwardedRequest): Promise<void> {
    const { server, log } = this.#parts;
    try {
      if (this.broker) await server.answerRequest(await this.broker.carryOut(request));
    } catch (error) {
      log.warn({ request_id: request.request_id }, `a request of the server was not answered: ${messageOf(error)}`);
    }
  }

  #kick(): void {
    this.#bell.ring();
  }

  #hasWork(): boolean {
    return this.#hostIsDue || this.leases.hasWork;
  }

  async #passes(signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      await this.#nextPass(signal);
      if (isOver(signal) || !this.#hasSnapshot) continue;
      this.#isPassing = true;
      try {
        await this.#pass();
        this.#failures = 0;
        this.#problem = null;
        this.#firstPass.resolve(undefined);
      } catch (error) {
        this.#failures++;
        this.#problem = messageOf(error);
        this.#hostIsDue = true;
        // What was believed about the host proved wrong, or something of it would not do what it was told.
        this.#parts.log.error({ failures: this.#failures }, `the host is not as it should be: ${this.#problem}`);
      } finally {
        this.#isPassing = false;
      }
    }
  }

  /** Waits for something to do; after a failure for the back-off, which something new cuts short. */
  async #nextPass(signal: AbortSignal): Promise<void> {
    if (this.#failures > 0) {
      const backOff_ms = Math.min(retry_first_ms * 2 ** Math.min(this.#failures - 1, 10), retry_max_ms);
      const deaf_ms = Math.min(backOff_ms, retry_with_news_ms);
      await doze(deaf_ms, signal);
      await this.#bell.heard(signal, backOff_ms - deaf_ms);
      return;
    }
    const untilObserve = this.#hasSnapshot ? this.#observedAt + observe_every_ms - this.#parts.now() : Infinity;
    const looks = [this.leases.nextLookInMs(), this.#hasSnapshot ? this.#parts.terminator?.nextLookInMs() : undefined];
    await this.#bell.heard(signal, Math.max(0, Math.min(untilObserve, ...looks.map((ms) => ms ?? Infinity))));
  }

  async #pass(): Promise<void> {
    const { desired, leases, hostKeeper } = this;
    const { reports, fish, terminator, now } = this.#parts;
    const { revision } = desired;
    // Before anything is compared: elements and placeholders of what was granted here before this agent started stay.
    await this.broker?.lookAfter(desired, (granted) => leases.adopt(granted, desired.holders));
    // Whatever else of the host cannot be mended: the ports of a dead keeper are anybody's.
    const lostProblem = await this.#lookAfterPlaceholders();
    await leases.letGo();
    if (this.#hostIsDue || now() - this.#observedAt >= observe_every_ms) {
      this.#hostIsDue = false;
      // After a failure, what was believed about the host is in doubt.
      const isAllDue = this.#failures > 0 || now() - this.#observedAllAt >= observe_all_every_ms;
      await hostKeeper.reconcile(isAllDue ? 'all' : 'changed');
      this.#observedAt = now();
      if (isAllDue) this.#observedAllAt = this.#observedAt;
    }
    // Again where the host was not yet as it has to be for them: their address may have been gone as well.
    const isWhole = lostProblem === undefined && this.#parts.placeholders.missing === 0;
    const keeperProblem = isWhole ? undefined : await this.#lookAfterPlaceholders();
    const fishProblem = await this.#startFish();
    const { outcomes: all, problem } = await leases.work(this.#granted);
    this.#endTakingOver(problem === undefined && fishProblem === undefined);
    const isHeld = (slice: string) => leases.holds((lease) => lease.slice === slice);
    const outcomes = this.broker ? await this.broker.conclude(all, isHeld) : all;
    const slices = this.#slices.outcomes(
      desired,
      (address) => hostKeeper.hasAddress(address),
      isHeld,
      this.broker ?? undefined,
    );
    const clear = this.#blocked.look(desired);
    desired.unblock(clear);
    // Of a lease that has just come to its end there is nothing more to say.
    const over = new Set(outcomes.flatMap(({ lease, state }) => (state === 'active' ? [] : [lease])));
    const gone = (await this.#units.look(desired)).filter(({ lease }) => !over.has(lease));
    reports.add([...outcomes, ...gone], slices, revision, clear);
    fish?.leases.look();
    terminator?.leases.look();
    terminator?.look(this.#granted, () => this.#kick());
    // Only now: what fish lacks must not keep proxies from their leases.
    if (keeperProblem) throw keeperProblem;
    if (fishProblem) throw fishProblem;
    if (problem) throw problem;
    this.#appliedRevision = Math.max(this.#appliedRevision, revision);
  }

  /**
   * Flows that a former agent has left go on at once, in the blocks that are remembered with them: what the server has to say
   * to that comes with its snapshot, and until then the guard in the kernel says it.
   */
  async #goOnWithFlows(): Promise<void> {
    const { fish, log } = this.#parts;
    try {
      if (!fish?.starter.hasFlows()) return;
      const problem = await this.#startFish();
      if (problem) log.warn(problem.message);
      else log.info('fish goes on with the flows of a former agent');
    } catch (error) {
      log.warn(`flows of a former agent cannot be looked at: ${messageOf(error)}`);
    }
  }

  /** Of what a former agent left, closes what no lease needs; opens again what was lost. Returns what stands in the way. */
  async #lookAfterPlaceholders(): Promise<Error | undefined> {
    const { placeholders } = this.#parts;
    const { leases, holders } = this.#granted;
    try {
      if (!this.#hasTakenOver) {
        const isFishs = ({ holder }: Lease) => holders.get(holder)?.kind === 'fish';
        const needed = this.#parts.guard.isFenced ? [] : [...leases.values()].filter(isFishs);
        placeholders.keepOnly(needed.map(blockOf));
      }
      await placeholders.restore();
      return undefined;
    } catch (error) {
      if (error instanceof HostProblem) return error;
      throw error;
    }
  }

  /** Every lease of the first snapshot has what it asked for: nobody will ask for the rest. */
  #endTakingOver(isComplete: boolean): void {
    if (this.#hasTakenOver || !isComplete) return;
    this.#parts.placeholders.keepOnly([]);
    this.#hasTakenOver = true;
  }

  /**
   * A keeper was lost, and what was in it: the sockets of fish's flows among it. Fish takes its flows over from itself and opens
   * them again.
   */
  fishLostItsKeeper(): void {
    this.#isFishStale = true;
    this.#fishRetryAt = -Infinity;
    this.lookAtHost();
  }

  /** Returns why fish could not be started. */
  async #startFish(): Promise<Error | undefined> {
    const { fish, log, now } = this.#parts;
    if (this.#isFishStale) {
      this.#isFishStale = false;
      const stale = this.#fish;
      this.#fish = undefined;
      await stale?.stop({ leave: true });
    }
    if (!fish || this.#fish) return undefined;
    if (now() < this.#fishRetryAt) return this.#fishProblem;
    // A fish that dies at once must not be started in a tight loop.
    this.#fishRetryAt = now() + Math.min(retry_max_ms, retry_first_ms * 2 ** Math.min(this.#fishStarts, 10));
    this.#fishStarts++;
    let started: FishPort;
    try {
      started = await fish.starter.start();
    } catch (error) {
      this.#fishProblem = new Error(`fish cannot be started: ${messageOf(error)}`, { cause: error });
      return this.#fishProblem;
    }
    this.#fishProblem = undefined;
    this.#fish = started;
    this.leases.fishIsNew();
    void started.died.then((reason) => {
      if (this.#fish !== started) return;
      this.#fish = undefined;
      log.error(`fish died: ${reason}`);
      this.leases.fishIsNew();
      this.#kick();
    });
    return undefined;
  }

  #poolOf(address: Address): string | undefined {
    for (const [pool, prefixes] of this.desired.pools)
      if (parsedOf(prefixes).some((prefix) => isIn(prefix, address))) return pool;
    return undefined;
  }

  #load(): Omit<HostLoad, 'hostAddresses'> {
    return {
      families: this.#parts.families,
      prefixes: parsedOf([...this.desired.pools.values()].flat()),
      addresses: addressesOf(this.desired),
      classes: this.leases.classes(),
      elements: this.leases.elements(),
    };
  }

  /** Ends the sessions of fish and the terminator and waits until their leases are off the host and the server knows. */
  async #giveBack(): Promise<void> {
    const { fish, terminator, reports, log } = this.#parts;
    if (!fish && !terminator) return;
    const patience = AbortSignal.timeout(give_back_ms);
    const all = async (): Promise<void> => {
      // Its sockets are in nobody's way but its own leases'.
      await terminator?.stop({ leave: false });
      await Promise.all([fish?.leases.end(), terminator?.leases.end()]);
      const isOurs = (lease: Lease, owner: Owner) => owner.kind === 'fish' || lease.holder === terminator?.holder;
      while (this.leases.holds(isOurs) && !patience.aborted) await sleep(20);
      await Promise.all([reports.settled(), this.#parts.broker?.reports.settled()]);
    };
    try {
      const late = whenOver(patience).then(() => Promise.reject(new Error(`not done within ${give_back_ms} ms`)));
      await Promise.race([all(), late]);
    } catch (error) {
      log.warn(`leases were not all given back, their session will run out: ${messageOf(error)}`);
    }
  }

  async #letGo(keep: boolean, isPlanned: boolean): Promise<void> {
    const { keepers, host, terminator, log } = this.#parts;
    const fish = this.#fish;
    this.#fish = undefined;
    // After a failure, too, a successor goes on from here; and one that never heard the server knows nothing that would allow
    // it to end a flow.
    const leave = keep || !isPlanned || !this.#hasSnapshot;
    await fish?.stop({ leave });
    // On a planned stop it has ended by now; a successor takes over what goes on.
    await terminator?.stop({ leave: true });
    if (leave) keepers.leave();
    else keepers.end();
    await this.broker?.close();
    // Never had a word with the server: then nothing was touched, not even what a former agent left open.
    if (!this.#hasSnapshot) return;
    if (keep) log.info('stopped; the guard stays open until its timeout');
    else {
      host.shutGuard();
      log.info('stopped; the guard is shut, and packets to leased ports are dropped in silence');
    }
  }
}

const parsedOf = (prefixes: readonly string[]): readonly Prefix[] =>
  prefixes.flatMap((text) => {
    const parsed = parsePrefix(text);
    return parsed.ok ? [parsed.value] : [];
  });

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
