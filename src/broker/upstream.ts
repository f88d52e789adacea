import { Bell } from '../feed/bell.ts';
import type { Reader } from '../leases/store.ts';
import type { Clock } from '../ops/clock.ts';
import type { Logger } from '../ops/logger.ts';
import {
  report_entries_max,
  type BrokerPosition,
  type GrantedAnswer,
  type GrantedReportInput,
  type ReportedLease,
} from '../wire/broker.ts';
import { formatInstant } from '../wire/instants.ts';
import { changedIn, reportedLease, reportedPorts, reportedSession } from './reported.ts';

/** What came of telling the server: its answer, where it says that it stands instead, or why it was not told. */
export type Told =
  | Readonly<{ ok: true; answer: GrantedAnswer }>
  | Readonly<{ ok: false; gap: BrokerPosition }>
  | Readonly<{ ok: false; gap?: undefined; problem: string }>;

export type UpstreamParts = Readonly<{
  epoch: string;
  /** When the table was made; microseconds since the epoch. */
  bornAt: number;
  /** Where its log ended when it was opened, before anything was done to it; undefined for one that was made just then. */
  openedAt: number | undefined;
  reader: Pick<
    Reader,
    'revision' | 'oldestRevision' | 'eventsAfter' | 'sessions' | 'lease' | 'leases' | 'usage' | 'historySince'
  >;
  /** Resolves when all that was being decided when it was called is durable. */
  settled(): Promise<void>;
  send(report: GrantedReportInput, signal: AbortSignal): Promise<Told>;
  /** What was granted, refused and ended since this broker started. */
  counters(): Promise<NonNullable<GrantedReportInput['counters']>>;
  /** The server has heard more than before. */
  onTold(): void;
  /** What the server has heard shows that the table is not what it was. Nothing is told any more. */
  onLost(why: string): void;
  clock: Clock;
  /** Waits so long, or until the signal aborts. */
  doze(ms: number, signal: AbortSignal): Promise<void>;
  log: Pick<Logger, 'warn' | 'info'>;
}>;

/** What comes up within this time goes in one report. */
const batch_ms = 100;
/** How long the server waits at most to hear that nothing happened: attribution is complete so far. */
const quiet_ms = 5_000;
/** That are remembered because the server did not take them. */
const rejected_leases_max = 100_000;
const retry_first_ms = 200;
const retry_max_ms = 10_000;
/** Whether nobody can have its ports for it any more. */
const isOver = ({ empty_at, ended_at }: ReportedLease): boolean => (empty_at ?? ended_at) !== null;
/** The engine's clock is another thread's. */
const clock_margin_us = 1_000_000;

/**
 * What the server's word shows of a table that was restored together with all that lies beside it: it has heard of more than
 * the table holds, or of another table, which took the place of this one. undefined where it shows nothing.
 */
export function lossShownBy(
  { broker_epoch, through }: BrokerPosition,
  { epoch, end, isNew }: Readonly<{ epoch: string; end: number; isNew: boolean }>,
): string | undefined {
  if (broker_epoch === epoch)
    return through > end
      ? `it was restored: it ends at revision ${end}, and the server has heard of revision ${through}`
      : undefined;
  return broker_epoch === null || isNew
    ? undefined
    : `it was restored, or the server was: the server has heard of ${broker_epoch}, and this is ${epoch}`;
}

/**
 * Tells the server what was granted and ended here: the log since what it has, in batches; everything, when it has nothing
 * of this table or the log no longer reaches back so far. Each report follows the one before, so whichever was lost, or its
 * answer, is told again, and nothing twice.
 */
export class Upstream {
  readonly #parts: UpstreamParts;
  readonly #bell = new Bell();
  /** What to tell next: what came after this revision, everything, or nothing but that one wants to know where it stands. */
  #next: number | 'everything' | 'unknown' = 'unknown';
  #failures = 0;
  #figuresToldAt = -Infinity;
  #isConfirmed = false;
  #isLost = false;
  /** Something shows that the server has heard less than it once had. */
  #isDoubted = false;
  /** Why the server was not told, the last time; null when it was. */
  problem: string | null = null;
  /** Since when that is so, and when the server took a report last; microseconds since the epoch. */
  problemSince: number | null = null;
  toldAt: number | null = null;
  /** What the server did not take, in all. */
  rejectedInAll = 0;
  /** Why the server does not take them: leases that live. */
  readonly #rejected = new Map<string, GrantedAnswer['rejected'][number]['code']>();

  constructor(parts: UpstreamParts) {
    this.#parts = parts;
  }

  /** The revision of the log up to which the server has it all; undefined before it said. */
  get through(): number | undefined {
    return typeof this.#next === 'number' ? this.#next : undefined;
  }

  /**
   * Whether the server has said since the table was opened that it lacks nothing, or has heard of all of it. Before that it
   * may be an old one, in which ports are free that somebody has.
   */
  get isConfirmed(): boolean {
    return this.#isConfirmed && !this.#isLost;
  }

  /** How many leases live here that the server does not take. */
  get rejected(): number {
    return this.#rejected.size;
  }

  /** The server knows less than it should: it may have been restored, and is asked before anything else is taken for told. */
  doubt(): void {
    if (typeof this.#next === 'number') this.#next = 'unknown';
    this.#isDoubted = true;
    this.#bell.ring();
  }

  /** Something is to be told. */
  ring(): void {
    this.#bell.ring();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { doze } = this.#parts;
    signal.addEventListener('abort', () => this.#bell.ring(), { once: true });
    const isOver = () => signal.aborted || this.#isLost;
    while (!isOver()) {
      const isDone = await this.step(signal);
      if (isOver()) return;
      if (this.#failures > 0) await doze(Math.min(retry_first_ms * 2 ** (this.#failures - 1), retry_max_ms), signal);
      else if (isDone) {
        const quiet = new AbortController();
        await Promise.race([this.#bell.heard(), doze(quiet_ms, AbortSignal.any([signal, quiet.signal]))]);
        quiet.abort();
        await doze(batch_ms, signal);
      }
    }
  }

  /** One exchange with the server; whether it has everything by now. */
  async step(signal: AbortSignal): Promise<boolean> {
    try {
      if (this.#next === 'unknown') await this.#ask(signal);
      else if (this.#next === 'everything') await this.#tellAll(signal);
      else return await this.#tellChanges(this.#next, signal);
      return false;
    } catch (error) {
      if (!signal.aborted) this.#fail(error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** An empty report that follows nothing: what is wrong with it says where the server stands. */
  async #ask(signal: AbortSignal): Promise<void> {
    const told = await this.#send({ after: 0, through: 0, as_of: formatInstant(this.#parts.bornAt) }, signal);
    if (told.ok) this.#next = 'everything';
    // How the table was when it was opened, it has said before.
    else if (told.gap) await (this.isConfirmed ? this.#goOnFrom(told.gap) : this.#begin(told.gap));
  }

  /** By where the log ended when the table was opened: what was done to it since must not hide what it lacks. */
  async #begin(position: BrokerPosition): Promise<void> {
    const { epoch, openedAt } = this.#parts;
    const end = openedAt ?? (await this.#parts.reader.revision());
    const why = lossShownBy(position, { epoch, end, isNew: openedAt === undefined });
    if (why !== undefined) {
      this.#lose(why);
      return;
    }
    if (position.broker_epoch === epoch && position.through > 0) this.#isConfirmed = true;
    await this.#goOnFrom(position);
  }

  #lose(why: string): void {
    this.#isLost = true;
    this.#parts.onLost(why);
  }

  async #tellChanges(after: number, signal: AbortSignal): Promise<boolean> {
    const { reader } = this.#parts;
    const asOf = await this.#asOf();
    const end = await reader.revision();
    const events = end > after ? await reader.eventsAfter(after, null, report_entries_max) : [];
    const last = events.at(-1);
    const isLast = events.length < report_entries_max;
    const through = isLast ? Math.max(after, last?.revision ?? after) : (last?.revision ?? after);
    const as_of = formatInstant(isLast ? Math.max(asOf, last?.at ?? 0) : (last?.at ?? asOf));
    const told = await this.#send({ after, through, as_of, ...changedIn(events), ...(await this.#figures()) }, signal);
    if (told.ok) this.#hasTold(told.answer.through);
    else if (told.gap) await this.#goOnFrom(told.gap);
    return told.ok && isLast;
  }

  /** Everything that lives, and all that is over that the table still knows. */
  async #tellAll(signal: AbortSignal): Promise<void> {
    const { reader, bornAt, log } = this.#parts;
    const asOf = await this.#asOf();
    const through = await reader.revision();
    const history_since = formatInstant((await reader.historySince()) ?? bornAt);
    const head = { after: 0, through, as_of: formatInstant(asOf) };
    let number = 0;
    for await (const { last, ...rows } of this.#pages()) {
      const snapshot = { page: ++number, last, history_since };
      const told = await this.#send({ ...head, snapshot, ...rows, ...(last ? await this.#figures() : {}) }, signal);
      if (told.ok) continue;
      // From the first page again, a little later.
      if (told.gap) this.#fail(`page ${number} of all that was granted does not follow what it has`);
      return;
    }
    log.info({ pages: number, through }, 'told the server everything that was granted here');
    this.#hasTold(through);
  }

  #hasTold(through: number): void {
    const isMore = this.#next !== through || this.#isDoubted;
    this.#next = through;
    this.#isDoubted = false;
    this.#isConfirmed = true;
    if (isMore) this.#parts.onTold();
  }

  async *#pages() {
    const { reader } = this.#parts;
    for (let cursor: string | null = null; ;) {
      const page = await reader.sessions({}, { limit: report_entries_max, cursor });
      if (page.items.length > 0) yield { sessions: page.items.map(reportedSession), last: false };
      if (page.next === null) break;
      cursor = page.next;
    }
    for (let cursor: string | null = null; ;) {
      const page = await reader.leases({}, { limit: report_entries_max, cursor });
      yield { leases: page.items.map(reportedLease), last: page.next === null };
      if (page.next === null) return;
      cursor = page.next;
    }
  }

  /** An instant before which nothing is granted or ended any more that is not in the log by now. */
  async #asOf(): Promise<number> {
    const now = this.#parts.clock.nowUs();
    await this.#parts.settled();
    return Math.max(this.#parts.bornAt, now - clock_margin_us);
  }

  async #figures(): Promise<Pick<GrantedReportInput, 'ports' | 'counters'>> {
    const { clock, reader, counters } = this.#parts;
    const now = clock.nowUs();
    if (now - this.#figuresToldAt < quiet_ms * 1_000) return {};
    this.#figuresToldAt = now;
    return { ports: reportedPorts(await reader.usage()), counters: await counters() };
  }

  async #send(report: Omit<GrantedReportInput, 'broker_epoch'>, signal: AbortSignal): Promise<Told> {
    const told = await this.#parts.send({ broker_epoch: this.#parts.epoch, ...report }, signal);
    if (told.ok) {
      this.#failures = 0;
      this.problem = null;
      this.problemSince = null;
      this.toldAt = this.#parts.clock.nowUs();
      this.#noteRejected(report.leases ?? [], told.answer.rejected);
    } else if (told.gap) this.#failures = 0;
    else this.#fail(told.problem);
    return told;
  }

  /** A lease stands there until it is taken, or over: by then nobody can have its ports for it. */
  #noteRejected(leases: readonly ReportedLease[], rejected: GrantedAnswer['rejected']): void {
    this.rejectedInAll += rejected.length;
    for (const { id } of leases) this.#rejected.delete(id);
    if (rejected.length === 0) return;
    const living = new Set(leases.flatMap((lease) => (isOver(lease) ? [] : [lease.id])));
    for (const rejection of rejected) {
      this.#parts.log.warn(rejection, 'the server did not take a lease');
      if (living.has(rejection.item) && this.#rejected.size < rejected_leases_max)
        this.#rejected.set(rejection.item, rejection.code);
    }
  }

  /** The answer to the report of their end was lost, and is not given again. */
  async #forgetOver(): Promise<void> {
    for (const item of [...this.#rejected.keys()]) {
      const lease = await this.#parts.reader.lease(Number(item.slice(item.indexOf('-') + 1)));
      if (!lease || isOver(reportedLease(lease))) this.#rejected.delete(item);
    }
  }

  /** The server may have less than was thought (it was restored) or more (an answer was lost), but not what was never told. */
  async #goOnFrom(position: BrokerPosition): Promise<void> {
    const { broker_epoch, through, page } = position;
    const { reader, epoch } = this.#parts;
    const [oldest, end] = [await reader.oldestRevision(), await reader.revision()];
    // A server that was restored may name a table of former times: this one has been confirmed.
    const why = lossShownBy(position, { epoch, end, isNew: true });
    if (why !== undefined) {
      this.#lose(why);
      return;
    }
    const isInLog = broker_epoch === epoch && page === 0 && through > 0 && through + 1 >= oldest && through <= end;
    if (isInLog) await this.#forgetOver();
    // Refused twice at the same place: there is no going on from there.
    this.#next = isInLog && this.#next !== through ? through : 'everything';
  }

  #fail(problem: string): void {
    this.#failures++;
    this.problemSince ??= this.#parts.clock.nowUs();
    if (this.problem === null) this.#parts.log.warn(`what is granted here is not told to the server: ${problem}`);
    this.problem = problem;
  }
}
