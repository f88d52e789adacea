import type { Broker } from '../broker/broker.ts';
import { isBrokers } from '../broker/identifiers.ts';
import { isOwn, type ServerWord } from '../broker/mirror.ts';
import type { Result } from '../net/result.ts';
import type { Logger } from '../ops/logger.ts';
import type { ReportOutcome } from '../wire/agent.ts';
import type { ForwardedAnswerInput, ForwardedRequest } from '../wire/broker.ts';
import type { Slice } from '../wire/slices.ts';
import type { BlockedOnHost } from './leases/blocked-on-host.ts';
import { DesiredMachine, type Touched } from './server/desired.ts';
import { bothOf, type LeaseSource } from './leases/lease-source.ts';
import type { LeaseOutcome } from './leases/lease-host.ts';
import type { Reports } from './server/reports.ts';
import { SlicesOnHost, type SliceGranter } from './leases/slices-on-host.ts';
import type { UnitsOnHost } from './leases/units-on-host.ts';

/** What the agent needs of a broker. */
export type RunningBroker = Pick<
  Broker,
  | 'mirror'
  | 'isAdopted'
  | 'isOver'
  | 'isGivenUp'
  | 'doubtServer'
  | 'follow'
  | 'carryOut'
  | 'status'
  | 'counts'
  | 'close'
>;

/** `onTold`: the server has heard more of what was granted and ended here. `onLost`: the table cannot be gone on with. */
export type BrokerListeners = Readonly<{ onTold(): void; onLost(): void }>;

export type BrokerOnHostParts = Readonly<{
  machine: string;
  start(listeners: BrokerListeners): Promise<Result<RunningBroker, string>>;
  /** Whether there is a table of an earlier broker here. */
  hasTable(): boolean;
  /** What the broker has to hear of its leases and slices. */
  reports: Reports;
  blocked: BlockedOnHost;
  units: UnitsOnHost;
  /** Something was granted or ended here: these leases are to be looked at. */
  onTouched(touched: Touched): void;
  /** The broker is to be looked after again. */
  kick(): void;
  log: Pick<Logger, 'error' | 'info'>;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** What is done again because it could not be done. */
const retry_ms = 2_000;

/**
 * The broker of this host, as the agent looks after it: started when the server hands over the first slice, told what the
 * server decides, and told what became true of what it granted. Its leases are made true like the server's.
 */
export class BrokerOnHost implements SliceGranter {
  readonly #parts: BrokerOnHostParts;
  /** What the broker granted. */
  readonly desired: DesiredMachine;
  readonly #slices = new SlicesOnHost();
  #broker: RunningBroker | undefined;
  #unfollow: (() => void) | undefined;
  #hasNews = true;
  #isLost = false;
  /** Whether the server was not told of a slice in this pass because something else comes first. */
  #isHeldBack = false;
  #retry: NodeJS.Timeout | undefined;
  #notBefore = -Infinity;
  #doubting: NodeJS.Timeout | undefined;
  #doubtedAt = -Infinity;
  #problem: string | null = null;

  constructor(parts: BrokerOnHostParts) {
    this.#parts = parts;
    this.desired = new DesiredMachine(parts.machine);
  }

  /** Null as long as there is none. */
  status(): (ReturnType<RunningBroker['status']> & Readonly<{ leases: number }>) | null {
    return this.#broker ? { ...this.#broker.status(), leases: this.desired.leases.size } : null;
  }

  /** Null as long as there is none. */
  async counts(): Promise<Awaited<ReturnType<RunningBroker['counts']>> | null> {
    return (await this.#broker?.counts()) ?? null;
  }

  /** Why there is no broker although one is needed. */
  get problem(): string | null {
    return this.#problem;
  }

  /** The server said something that it may be about. */
  hear(): void {
    this.#hasNews = true;
  }

  /** The leases of both. */
  with(server: DesiredMachine): LeaseSource {
    return bothOf(server, this.desired);
  }

  /**
   * Starts the broker when it is needed, and has its table be as the server says. `adopt` is for the leases that were up
   * before it started. Never fails: what does not work is tried again.
   */
  async lookAfter(server: DesiredMachine, adopt: (leases: DesiredMachine) => void): Promise<void> {
    if (!this.#hasNews || this.#parts.now() < this.#notBefore) return;
    this.#hasNews = false;
    if (this.#isLost) await this.#giveUp();
    if (!this.#broker && !(await this.#start(server, adopt))) return;
    const { machine } = this.#parts;
    const { fence_s, poolTerms, holders, slices } = server;
    const word: ServerWord = {
      ...{ machine, state: server.state ?? 'cordoned', fence_s },
      ...{ pools: [...poolTerms.values()], holders: [...holders.values()], slices: [...slices.values()] },
      revocations: server.revocations,
    };
    try {
      if ((await this.#broker?.mirror(word)) === false) this.#tryAgain();
    } catch (error) {
      this.#parts.log.error(`the broker does not take what the server says: ${messageOf(error)}`);
      this.#tryAgain();
    }
  }

  isOver({ id, generation, allocator }: Slice): boolean {
    return allocator === 'machine' && this.#broker?.isOver(id, generation) === true;
  }

  /** Whether the server may be told of a slice that is granted from here: what it hears is on disk by then. */
  mayTell({ id, generation, allocator }: Slice, state: 'assigned' | 'empty'): boolean {
    if (allocator === 'server') return true;
    const is = state === 'assigned' ? this.#broker?.isAdopted(id, generation) : this.#broker?.isGivenUp(id, generation);
    this.#isHeldBack ||= is !== true;
    return is === true;
  }

  /**
   * The server has somebody in a slice that was told to be empty: it knows less than it was told (it was restored). It is asked
   * what it has, told the rest, and then told of the slice again.
   */
  hearRejected({ item, code }: ReportOutcome, server: DesiredMachine, told: Pick<SlicesOnHost, 'forget'>): void {
    const slice = server.slices.get(item);
    if (code !== 'in_use' || !slice || !this.isOver(slice) || this.#doubting !== undefined) return;
    const { now } = this.#parts;
    const waitMs = Math.max(0, this.#doubtedAt + retry_ms - now());
    this.#doubting = setTimeout(() => {
      this.#doubting = undefined;
      this.#doubtedAt = now();
      for (const each of server.slices.values()) if (this.isOver(each)) told.forget(each.id);
      this.#broker?.doubtServer();
      this.#parts.kick();
    }, waitMs);
    this.#doubting.unref();
  }

  /** Takes from what came of the leases what is the broker's to hear; returns the rest. */
  async conclude(
    outcomes: readonly LeaseOutcome[],
    isHeld: (slice: string) => boolean,
  ): Promise<readonly LeaseOutcome[]> {
    const { reports, blocked, units } = this.#parts;
    this.#isHeldBack = false;
    const own = outcomes.filter(({ lease }) => isBrokers(lease));
    if (!this.#broker) return outcomes;
    // That the slice is here the table heard from the server.
    const slices = this.#slices.outcomes(this.desired, () => false, isHeld);
    const clear = blocked.look(this.desired);
    this.desired.unblock(clear);
    const over = new Set(own.flatMap(({ lease, state }) => (state === 'active' ? [] : [lease])));
    const gone = (await units.look(this.desired)).filter(({ lease }) => !over.has(lease));
    reports.add([...own, ...gone], slices, this.desired.revision, clear);
    return own.length === 0 ? outcomes : outcomes.filter(({ lease }) => !isBrokers(lease));
  }

  async carryOut(request: ForwardedRequest): Promise<ForwardedAnswerInput> {
    if (this.#broker) return this.#broker.carryOut(request);
    const { id, request_id } = request;
    const detail = this.#problem ?? 'no slice of this machine was handed to its broker';
    const problem = {
      type: 'about:blank',
      title: 'No broker runs',
      status: 503,
      code: 'not_ready',
      detail,
      request_id,
    };
    return { id, status: 503, content_type: 'application/problem+json', body: problem, retry_after_s: 2 };
  }

  async close(): Promise<void> {
    clearTimeout(this.#retry);
    clearTimeout(this.#doubting);
    this.#unfollow?.();
    await this.#broker?.close();
    this.#broker = undefined;
  }

  async #start(server: DesiredMachine, adopt: (leases: DesiredMachine) => void): Promise<boolean> {
    const { machine, start, hasTable, log } = this.#parts;
    if (![...server.slices.values()].some((slice) => isOwn(slice, machine)) && !hasTable()) return false;
    const started = await start({
      onTold: () => {
        // Something else may be told now.
        if (this.#isHeldBack) this.#parts.kick();
      },
      onLost: () => {
        this.#isLost = true;
        this.#hasNews = true;
        this.#parts.kick();
      },
    });
    if (!started.ok) {
      if (this.#problem === null) log.error(started.error);
      this.#problem = started.error;
      this.#tryAgain();
      return false;
    }
    this.#problem = null;
    this.#broker = started.value;
    let isFirst = true;
    this.#unfollow = await started.value.follow((granted) => {
      // What another table was told, this one does not know.
      if (granted.type === 'snapshot') this.#slices.forgetTold();
      const touched =
        granted.type === 'snapshot' ? this.desired.reset(granted.desired) : this.desired.apply(granted.change);
      if (isFirst) adopt(this.desired);
      isFirst = false;
      if (touched.leases.length > 0 || touched.host) this.#parts.onTouched({ ...touched, host: false });
      // The server waits to hear that a slice is here, or that nothing lives in it any more.
      if (touched.host) this.#parts.kick();
    });
    log.info(started.value.status(), 'the broker grants on this host');
    return true;
  }

  /** Of a table that is lost. What it granted is taken down when the next one does not know of it. */
  async #giveUp(): Promise<void> {
    const broker = this.#broker;
    this.#isLost = false;
    this.#unfollow?.();
    this.#broker = undefined;
    try {
      await broker?.close();
    } catch (error) {
      this.#parts.log.error(`the broker was not closed: ${messageOf(error)}`);
    }
  }

  #tryAgain(): void {
    this.#notBefore = this.#parts.now() + retry_ms;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#notBefore = -Infinity;
      this.#hasNews = true;
      this.#parts.kick();
    }, retry_ms);
    this.#retry.unref();
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
