import { parsePrefix, type Prefix } from '../net/prefix.ts';
import type { Address } from '../net/address.ts';
import { FisheryError, type Followed } from '../sdk/index.ts';
import type { Change } from '../wire/agent.ts';
import type { AgentParts } from './agent-parts.ts';
import { BlockedOnHost } from './leases/blocked-on-host.ts';
import { BrokerOnHost } from './broker-on-host.ts';
import { DesiredMachine, type Touched } from './server/desired.ts';
import { FishOnHost } from './fish/fish-on-host.ts';
import type { FishPort } from './fish/fish-port.ts';
import { giveBack } from './leases/give-back.ts';
import { HostKeeper, type HeldLoad } from './host/host-keeper.ts';
import type { LeaseSource } from './leases/lease-source.ts';
import { LeftPlaceholders } from './placeholders/left-placeholders.ts';
import type { LeaseOutcome } from './leases/lease-host.ts';
import { LeasesOnHost } from './leases/leases-on-host.ts';
import { ServerQuestions } from './server/server-questions.ts';
import { addressesOf, SlicesOnHost } from './leases/slices-on-host.ts';
import { isIn } from './status/standing-problems.ts';
import { UnitsOnHost } from './leases/units-on-host.ts';
import { Bell, doze, isOver, neverEnding, whenOver } from './start/waiting.ts';

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
/** A server that has said nothing for so long is taken to be away. */
const silence_ms_max = 1_000;
/** The server refused the agent for good; somebody may mend that. */
const refollow_ms = 10_000;

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
  /** By anything, and by the server's word: before that one no keepalive is sent, so the guard is not opened. */
  readonly #firstPass = Promise.withResolvers<undefined>();
  readonly #firstToldPass = Promise.withResolvers<undefined>();
  /** What passes go by: nothing, so there are none; what a former agent was told last; what the server says. */
  #knows: 'nothing' | 'memory' | 'word' = 'nothing';
  readonly #silence = new Bell();
  #hostIsDue = true;
  #observedAt = -Infinity;
  #observedAllAt = -Infinity;
  #appliedRevision = 0;
  #failures = 0;
  #problem: string | null = null;
  #serverProblem: string | null = 'no snapshot yet';
  readonly #bell = new Bell();
  #isPassing = false;
  readonly #fish: FishOnHost;
  readonly #left: LeftPlaceholders;
  readonly #questions: ServerQuestions;

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
    parts.reports.onRejected = (rejection) => this.broker?.hearRejected(rejection, this.desired, this.#slices);
    this.leases = new LeasesOnHost({
      changeElements: (add, remove) => this.hostKeeper.changeElements(add, remove),
      placeholders,
      sockets,
      cgroups,
      owners: parts.owners,
      // A fish that the settings took away has leases for as long as its session lives: they come to their end here.
      setFishBlocks: async (blocks) =>
        parts.fish
          ? this.#fish.insist().setBlocks(blocks)
          : blocks.map(({ lease }) => ({ lease, reason: 'the settings of this host have none' })),
      fenceFish: async () => {
        if (parts.fish) await this.#fish.insist().fence();
      },
      isOurMark,
      log,
      now: () => parts.now(),
    });
    this.#fish = new FishOnHost({
      starter: parts.fish?.starter ?? null,
      onChanged: () => this.leases.fishIsNew(),
      onDied: () => {
        parts.keepers.doubt();
        this.#kick();
      },
      onSocketsLost: (count) => {
        this.hostKeeper.noteLostSockets(count);
        this.lookAtHost();
      },
      isFenced: () => guard.isFenced,
      log,
      now: () => parts.now(),
    });
    this.#left = new LeftPlaceholders({
      placeholders,
      granted: () => this.#granted,
      isFenced: () => guard.isFenced,
    });
    const { fish, terminator, server } = parts;
    this.#questions = new ServerQuestions({
      server,
      log,
      broker: this.broker,
      flowLogs: () => [...(fish || !terminator ? [this.#fish.port] : []), ...(terminator ? [terminator] : [])],
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
      mendGuard: () => guard.mend(),
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
    guard.begin();
    if (!guard.isOverdue) await this.#fish.goOn();
    let isPlanned = false;
    const tasks = [
      this.#follow(signal),
      this.#remember(signal),
      this.#passes(signal),
      reports.run(signal),
      ...(this.#parts.broker ? [this.#parts.broker.reports.run(signal)] : []),
      guard.run(signal, Promise.race([this.#firstToldPass.promise, whenOver(signal)])),
      ...[fish, terminator].flatMap((user) =>
        user ? [afterFirstPass(() => user.leases.run(() => this.#granted, fishing.signal))] : [],
      ),
    ];
    try {
      await Promise.race([whenOver(stop), neverEnding(tasks)]);
      isPlanned = true;
      fishing.abort();
      if (!keep && this.#isTold) await giveBack({ ...this.#parts, leases: this.leases });
    } finally {
      fishing.abort();
      ending.abort();
      await Promise.allSettled(tasks);
      await this.#letGo(keep, isPlanned);
    }
  }

  get #isTold(): boolean {
    return this.#knows === 'word';
  }

  /** By the server, and by the broker of this host. */
  get #granted(): LeaseSource {
    return this.broker?.with(this.desired) ?? this.desired;
  }

  /** By the word of the server, or of the broker. */
  isActive(lease: string): boolean {
    return this.#granted.leases.get(lease)?.state === 'active';
  }

  get appliedRevision(): number {
    return this.#appliedRevision;
  }

  get fish(): FishPort | undefined {
    return this.#fish.port;
  }

  health(): Readonly<{ problem: string | null; server_problem: string | null; failures: number; fish_starts: number }> {
    const { problem: missing } = this.#parts.placeholders;
    const standing = [
      ...this.hostKeeper.standingProblems,
      ...(this.leases.problem === null ? [] : [this.leases.problem]),
      ...(missing === undefined ? [] : [`placeholders are missing since a keeper was lost: ${missing}`]),
    ];
    return {
      problem: this.#problem ?? (standing.length > 0 ? standing.join('; ') : null),
      server_problem: this.#serverProblem,
      failures: this.#failures,
      fish_starts: this.#fish.starts,
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
    if (isFenced) void this.#fish.endFlows(() => this.#letGoUnheard());
    else log.info('the server answers again: what this machine still has is put in place anew');
  }

  /** As long as nothing was heard of the server there are no passes that would do it. */
  #letGoUnheard(): void {
    if (this.#knows === 'nothing') this.#parts.placeholders.keepOnly([]);
  }

  /** The connection to the server was lost, or is there again (null). */
  serverTrouble(problem: string | null): void {
    this.#serverProblem = problem;
    if (problem !== null) this.#silence.ring();
  }

  /** A server that says nothing: until it does, what is in place by what it said to a former agent is looked after. */
  async #remember(signal: AbortSignal): Promise<void> {
    await this.#silence.heard(signal, silence_ms_max);
    if (isOver(signal) || this.#knows !== 'nothing') return;
    this.#parts.guard.expectNoAnswer();
    const remembered = this.#parts.memory.read();
    if (!remembered) return;
    const touched = this.desired.reset(remembered);
    const { revision, leases } = this.desired;
    this.#parts.log.warn(
      { revision, leases: leases.size },
      'the server is away: what is in place by what it said last is looked after, and nothing new is begun',
    );
    this.leases.adopt(this.desired);
    this.#knows = 'memory';
    this.broker?.hear();
    this.#note(touched);
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
        if (!(error instanceof FisheryError) || !this.#isTold) throw error;
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
        this.#parts.memory.reset(this.desired);
        if (!this.#isTold) this.leases.adopt(this.desired);
        this.#knows = 'word';
        this.#slices.forgetTold();
        this.#parts.reports.clear();
        this.broker?.hear();
        this.#note(touched);
        return;
      }
      case 'change':
        if (!isAboutLeases(event.change)) this.broker?.hear();
        this.#parts.memory.note(event.change);
        this.#note(this.desired.apply(event.change));
        return;
      case 'request':
        void this.#questions.carryOut(event.request);
        return;
      case 'bookmark':
        this.desired.reach(event.revision);
        // It said that nothing happened, so there is nothing to do for it to be true.
        if (!this.#hasWork() && !this.#isPassing && this.#problem === null)
          this.#appliedRevision = this.desired.revision;
        return;
      case 'query':
        void this.#questions.answer(event.query);
    }
  }

  #note(touched: Touched): void {
    this.leases.touch(touched.leases);
    this.#hostIsDue ||= touched.host;
    this.#kick();
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
      if (isOver(signal)) continue;
      this.#isPassing = true;
      try {
        const isTold = this.#isTold;
        if (this.#knows === 'nothing') await this.#holdGuard();
        else await this.#pass(isTold);
        this.#failures = 0;
        this.#problem = null;
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

  /** What there is to be done before anybody has said what the host is to carry. */
  async #holdGuard(): Promise<void> {
    const { firstGuard, guard, now } = this.#parts;
    this.#observedAt = now();
    if (await firstGuard.hold()) guard.mend();
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
    const isAtWork = this.#knows !== 'nothing';
    const untilObserve = this.#observedAt + observe_every_ms - this.#parts.now();
    const looks = [this.leases.nextLookInMs(), isAtWork ? this.#parts.terminator?.nextLookInMs() : undefined];
    await this.#bell.heard(signal, Math.max(0, Math.min(untilObserve, ...looks.map((ms) => ms ?? Infinity))));
  }

  /** `isTold`: by the server's word. From memory, the server hears nothing of what comes of it. */
  async #pass(isTold: boolean): Promise<void> {
    const { desired, leases, hostKeeper } = this;
    const { fish, terminator, keepers, now } = this.#parts;
    const { revision } = desired;
    this.#parts.memory.flush();
    // Before anything is compared: elements and placeholders of what was granted here before this agent started stay.
    await this.broker?.lookAfter(desired, (granted) => leases.adopt(granted, desired.holders));
    // Whatever else of the host cannot be mended: the ports of a dead keeper are anybody's.
    const lostProblem = await this.#left.lookAfter();
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
    const keeperProblem = isWhole ? undefined : await this.#left.lookAfter();
    const unfit = fish && !this.fish ? hostKeeper.stopsFish : undefined;
    const fishProblem = unfit === undefined ? await this.#fish.begin() : new Error(unfit);
    if (fishProblem && unfit === undefined) keepers.doubt();
    const { outcomes: all, problem } = await leases.work(this.#granted);
    this.#left.end(isTold && problem === undefined && fishProblem === undefined);
    if (isTold) leases.forgetFormer();
    const isHeld = (slice: string) => leases.holds((lease) => lease.slice === slice);
    const outcomes = this.broker ? await this.broker.conclude(all, isHeld) : all;
    if (isTold) await this.#report(outcomes, isHeld, revision);
    fish?.leases.look();
    terminator?.leases.look();
    terminator?.look(this.#granted, () => this.#kick());
    this.#firstPass.resolve(undefined);
    if (isTold) this.#firstToldPass.resolve(undefined);
    // Only now: what fish lacks must not keep proxies from their leases, or from a guard that opens.
    if (keeperProblem) throw keeperProblem;
    if (fishProblem) throw fishProblem;
    if (problem) throw problem;
    if (isTold) this.#appliedRevision = Math.max(this.#appliedRevision, revision);
  }

  /** To the server, what came of its leases and slices. */
  async #report(
    outcomes: readonly LeaseOutcome[],
    isHeld: (slice: string) => boolean,
    revision: number,
  ): Promise<void> {
    const { desired, hostKeeper } = this;
    const { memory, reports } = this.#parts;
    memory.noteUp(outcomes.flatMap(({ lease, state }) => (state === 'active' ? [lease] : [])));
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
  }

  /**
   * A keeper was lost, and what was in it: the sockets of fish's flows among it. Fish takes its flows over from itself and opens
   * them again.
   */
  fishLostItsKeeper(): void {
    this.#fish.lostItsKeeper();
    this.lookAtHost();
  }

  #poolOf(address: Address): string | undefined {
    for (const [pool, prefixes] of this.desired.pools)
      if (parsedOf(prefixes).some((prefix) => isIn(prefix, address))) return pool;
    return undefined;
  }

  #load(): HeldLoad {
    return {
      prefixes: parsedOf([...this.desired.pools.values()].flat()),
      addresses: addressesOf(this.desired),
      classes: this.leases.classes(),
      elements: this.leases.elements(),
    };
  }

  async #letGo(keep: boolean, isPlanned: boolean): Promise<void> {
    const { keepers, host, terminator, log } = this.#parts;
    // After a failure, too, a successor goes on from here; and one that never heard the server knows nothing that would allow
    // it to end a flow.
    const leave = keep || !isPlanned || !this.#isTold;
    await this.#fish.stop(leave);
    // On a planned stop it has ended by now; a successor takes over what goes on.
    await terminator?.stop({ leave: true });
    if (leave) keepers.leave();
    else keepers.end();
    await this.broker?.close();
    // Never had a word with the server: then nothing was begun, and what a former agent left open stays so until its time.
    if (!this.#isTold) return;
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
