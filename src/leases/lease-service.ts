import type { Command, CommandKind } from './commands.ts';
import { decideAll, needsOf, type Order, type Outcome } from './decide.ts';
import type { Answer } from './keyed.ts';
import { limits } from './limits.ts';
import type { Event } from './model.ts';
import type { Provenance } from './provenance.ts';
import { StoreError, type Store } from './store.ts';
import { Uptime } from './uptime.ts';
import type { Context } from './use-case.ts';
import type { View } from './view.ts';

/** Microseconds since 1970, never backwards while the process lives. */
export type Clock = Readonly<{ nowUs(): number }>;

/** Something that whoever runs the server must hear of. A `bug` is ours, a `store` failure is the database's. */
export type Trouble = Readonly<{
  kind: 'bug' | 'store';
  message: string;
  cause: unknown;
  command?: CommandKind;
  requestId?: string;
}>;

/** How a command is to be carried out. */
export type Terms = Readonly<{
  /** Of what the server does by itself there is none. */
  provenance?: Provenance;
  /** Answers what would be, and changes nothing. Identifiers in the answer are provisional. */
  dryRun?: boolean;
}>;

export type Health = Readonly<{
  writable: boolean;
  /** Why nothing can be written; null when it can. */
  reason: string | null;
  waitingCommands: number;
}>;

export type LeaseServiceParts = Readonly<{
  store: Store;
  clock: Clock;
  onTrouble?: (trouble: Trouble) => void;
  /** Runs a batch a little later, when the commands that arrive together have arrived. */
  soon?: (run: () => void) => void;
}>;

type Waiting = Order & Readonly<{ resolve: (answer: Answer<CommandKind>) => void; reject: (error: unknown) => void }>;
type Decided = Readonly<{ outcomes: readonly Outcome[]; events: readonly Event[] }>;

/**
 * The one door to the table. Commands that arrive together are decided together and written in one transaction: one
 * fsync for hundreds of grants. Nobody is answered before that is durable, and followers hear of it before anybody is
 * answered.
 */
export class LeaseService {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #onTrouble: (trouble: Trouble) => void;
  readonly #soon: (run: () => void) => void;
  readonly #uptime: Uptime;
  readonly #listeners = new Set<(events: readonly Event[]) => void>();
  #waiting: Waiting[] = [];
  #isRunning = false;
  #isClosed = false;
  #failure: StoreError | undefined;
  #whenIdle: (() => void)[] = [];

  constructor(parts: LeaseServiceParts) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#onTrouble = parts.onTrouble ?? (() => {});
    this.#soon = parts.soon ?? ((run) => void setImmediate(run));
    this.#uptime = new Uptime(parts.clock.nowUs());
  }

  /**
   * Carries a command out, with whatever else arrives meanwhile. What the core refuses is an error value. Rejects with
   * a `StoreError` when nothing could be written, and with the bug when deciding ran into one; nothing changed then.
   */
  execute<K extends CommandKind>(command: Command<K>, { provenance, dryRun = false }: Terms = {}): Promise<Answer<K>> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer<K>>();
    if (this.#isClosed) reject(new StoreError('closed', 'the server is shutting down'));
    else if (this.#failure?.failure === 'corrupt') reject(this.#failure);
    else if (this.#waiting.length >= limits.waiting_commands_max)
      reject(new StoreError('overloaded', `${this.#waiting.length} commands wait already`));
    else {
      // The queue is of all kinds; that a command of kind K has an Output<K>, the table of use cases says entry by entry.
      this.#waiting.push({ command, dryRun, provenance, resolve, reject } as Waiting);
      this.#start();
    }
    return promise;
  }

  /** Tells of committed events, in order and without a gap, before their commands are answered. Returns the way out. */
  onEvents(listener: (events: readonly Event[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): Health {
    const reason = this.#isClosed ? 'the server is shutting down' : (this.#failure?.message ?? null);
    return { writable: reason === null, reason, waitingCommands: this.#waiting.length };
  }

  /** Takes no more commands, and resolves when those taken are answered. */
  close(): Promise<void> {
    this.#isClosed = true;
    if (!this.#isRunning) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#whenIdle.push(() => resolve(undefined));
    return promise;
  }

  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#soon(() => void this.#runBatch());
  }

  async #runBatch(): Promise<void> {
    // Not before the store is ready for it: whoever shares the database may have to wait for its turn, and what arrives
    // meanwhile belongs to this batch.
    let batch: readonly Waiting[] | undefined;
    await this.#commit(() => (batch ??= this.#nextBatch()));
    this.#isRunning = false;
    // Not at once: what arrived during the write is still in the sockets, and belongs in the next batch.
    if (this.#waiting.length > 0) this.#start();
    else for (const tell of this.#whenIdle.splice(0)) tell();
  }

  #nextBatch(): readonly Waiting[] {
    const count = batchLength(this.#waiting);
    const batch = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    return batch;
  }

  /** `take` gives the same batch whenever it is called; it is settled by the first call. */
  async #commit(take: () => readonly Waiting[]): Promise<void> {
    const decided = await this.#transact(take);
    const batch = take();
    if (decided instanceof StoreError) return this.#recover(batch, decided);
    this.#publish(decided.events);
    for (const [index, waiting] of batch.entries()) this.#answer(waiting, decided.outcomes[index]);
  }

  async #transact(take: () => readonly Waiting[]): Promise<Decided | StoreError> {
    // Made for the view that the store hands in first; the decision is about the same view.
    let context: Context;
    try {
      const decided = await this.#store.transact({
        now: this.#clock.nowUs(),
        needs: (view) => needsOf(take(), (context = this.#contextOf(view))),
        decide: (view): Decided => ({ outcomes: decideAll(take(), context), events: view.events }),
      });
      // A batch of nothing but dry runs wrote nothing, and so proves nothing.
      if (this.#failure && take().some(({ dryRun }) => !dryRun)) this.#failure = undefined;
      return decided;
    } catch (cause) {
      // Whatever else the store or the needs of a command throw is a bug, and treated like a refused row: one by one.
      return cause instanceof StoreError ? cause : new StoreError('constraint', messageOf(cause), cause);
    }
  }

  /** To be called as soon as the store has made the view: the instants of both clocks are compared. */
  #contextOf(view: View): Context {
    const servedSince = this.#uptime.startedAt(this.#clock.nowUs(), view.now);
    // While the table was in doubt nobody could be kept alive either; in its first epoch it never was.
    const sureSince = view.epoch === 1 ? servedSince : (view.confirmedAt ?? view.now);
    return { view, now: view.now, startedAt: Math.max(servedSince, sureSince) };
  }

  /** A batch that the database refused for a row is repeated singly: only the command that is at fault fails. */
  async #recover(batch: readonly Waiting[], error: StoreError): Promise<void> {
    const [only] = batch;
    if (error.failure === 'constraint' && only && batch.length === 1) {
      this.#onTrouble({ kind: 'bug', message: error.message, cause: error, ...originOf(only) });
      only.reject(error);
    } else if (error.failure === 'constraint') {
      for (const waiting of batch) await this.#commit(() => [waiting]);
    } else {
      // Said once, when it begins; `health()` tells how it stands, and the next command tries again.
      if (this.#failure?.failure !== error.failure)
        this.#onTrouble({ kind: 'store', message: error.message, cause: error });
      this.#failure = error;
      this.#uptime.interrupt();
      for (const { reject } of batch) reject(error);
    }
  }

  #publish(events: readonly Event[]): void {
    if (events.length === 0) return;
    for (const listener of this.#listeners) {
      try {
        listener(events);
      } catch (cause) {
        this.#onTrouble({ kind: 'bug', message: `a listener failed: ${messageOf(cause)}`, cause });
      }
    }
  }

  #answer(waiting: Waiting, outcome: Outcome | undefined): void {
    const { resolve, reject } = waiting;
    if (outcome && 'result' in outcome) {
      resolve(outcome.result);
      return;
    }
    const cause = outcome?.bug;
    this.#onTrouble({ kind: 'bug', message: messageOf(cause), cause, ...originOf(waiting) });
    reject(cause);
  }
}

/** What a trouble can be traced by. */
const originOf = ({ command, provenance }: Waiting): Pick<Trouble, 'command' | 'requestId'> => ({
  command: command.kind,
  ...(provenance === undefined ? {} : { requestId: provenance.requestId }),
});

/** Commands that rearrange what others were loaded for: they get a batch of their own. */
const isAlone = (command: Command): boolean =>
  alone.has(command.kind) ||
  // It may begin an epoch, by which others of that machine would have been loaded.
  (command.kind === 'reportGranted' && command.snapshot !== null) ||
  (command.kind === 'putHolder' && command.limits != null);
const alone: ReadonlySet<CommandKind> = new Set([
  ...(['assignSlices', 'drainSlice', 'moveSlice', 'handOverSlice', 'reclaimSlice'] as const),
  ...(['adoptSlice', 'forgoSlice'] as const),
  ...(['routerApplied', 'explainGrant', 'sweep'] as const),
  // Of what lives there one is loaded: that it is gone by then says nothing of others.
  ...(['deleteMachine', 'deleteHolder'] as const),
]);

/** How many of the waiting commands make the next batch: bounded by number and weight, at least one. */
function batchLength(waiting: readonly Waiting[]): number {
  let weight = 0;
  let count = 0;
  for (const { command } of waiting) {
    weight += weightOf(command);
    const isFull = count === limits.batch_commands_max || weight > limits.batch_weight_max;
    if (count > 0 && (isFull || isAlone(command))) break;
    count++;
    if (isAlone(command)) break;
  }
  return count;
}

function weightOf(command: Command): number {
  if (command.kind === 'grantLeases' || command.kind === 'explainGrant')
    return command.claims.reduce((sum, { count }) => sum + count, 0);
  if (command.kind === 'noteTokenUses') return command.uses.length;
  if (command.kind === 'noteDenials') return command.denials.length;
  if (command.kind === 'reportGranted') return command.leases.length + command.sessions.length + 1;
  if (command.kind === 'report') return command.leases.length + command.slices.length;
  return 1;
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
