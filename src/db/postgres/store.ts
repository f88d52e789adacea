import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Relay, Store, Work } from '../../leases/store.ts';
import type { Need } from '../../leases/needs.ts';
import { View, type Loss } from '../../leases/view.ts';
import { forgetStatements } from '../forgetting.ts';
import { prune } from '../pruning.ts';
import { SqlReader } from '../reader.ts';
import { closedError } from './connections.ts';
import { isWorthRetrying, storeErrorOf } from './errors.ts';
import type { ForeignCommits } from './foreign-commits.ts';
import { ExpectedNeeds, keyOfRecurring } from './expected-needs.ts';
import { ask, loadRound, type Answer } from './loads.ts';
import { answersOf } from './pipeline.ts';
import { readInSnapshot, readOn } from './reads.ts';
import { piecesOf, relayChannel } from './relay.ts';
import { positional } from './statements.ts';
import { begin, commit, type Turn } from './transaction.ts';
import { write } from './writes.ts';

/** Of a transaction or a read that came to nothing for a reason that lies in others: see `isWorthRetrying`. */
const attempts_max = 3;

type Parts = Readonly<{
  readers: pg.Pool;
  writers: pg.Pool;
  foreign: ForeignCommits;
  clock: 'database' | 'server';
  newEpoch: () => string;
  /** A connection of its own to the same database, not open yet. */
  connect: () => pg.Client;
}>;

/**
 * The store on a PostgreSQL database that any number of servers share. Their transactions take turns: each locks the one
 * row of `log_end` before it loads anything, so no two ever decide about the same state (docs/decisions/0006). Commits
 * are durable before they are answered, and every server hears of them.
 */
export class PostgresStore implements Store {
  readonly reader: SqlReader;
  readonly relay: Relay;
  readonly #readers: pg.Pool;
  readonly #writers: pg.Pool;
  readonly #foreign: ForeignCommits;
  readonly #clock: Parts['clock'];
  readonly #newEpoch: () => string;
  readonly #connect: () => pg.Client;
  readonly #expected = new ExpectedNeeds();
  /** The highest revision that this server has seen committed. */
  #reached = 0;
  #isClosed = false;

  constructor({ readers, writers, foreign, clock, newEpoch, connect }: Parts) {
    this.#readers = readers;
    this.#writers = writers;
    this.#foreign = foreign;
    this.#clock = clock;
    this.#newEpoch = newEpoch;
    this.#connect = connect;
    this.relay = {
      tell: async (text) => {
        const sql = 'SELECT pg_notify($1, piece) FROM unnest($2::text[]) AS piece';
        const values = [relayChannel, piecesOf(randomUUID(), text)];
        await this.#on(this.#writers, (client) => client.query(sql, values));
      },
      onTold: (listener) => foreign.onTold(listener),
    };
    this.reader = new SqlReader({
      run: (read) => this.#read((client) => readOn(client, read())),
      snapshot: (read) => this.#read((client) => readInSnapshot(client, read())),
    });
  }

  transact<T>(work: Work<T>): Promise<T> {
    return this.#on(this.#writers, (client) => this.#attempt(client, work));
  }

  async compact({ keep, rowsMax }: Readonly<{ keep: number; rowsMax: number }>): ReturnType<Store['compact']> {
    // The newest event stays, whatever was asked: a reader learns from it where the log stands. Rows that another server
    // is dropping just now are left to it.
    const text = `DELETE FROM events WHERE revision IN (
      SELECT revision FROM events WHERE revision <= (SELECT max(revision) FROM events) - $1::int8
      ORDER BY revision LIMIT $2::int8 FOR UPDATE SKIP LOCKED)`;
    const values = [Math.max(1, keep), rowsMax];
    const { rowCount } = await this.#on(this.#writers, (client) => client.query({ name: 'compact', text, values }));
    return { dropped: rowCount ?? 0, more: rowCount === rowsMax };
  }

  /** One server at a time: what another is removing just now is no more there, and must not be taken for gone. */
  async prune({ now, keptUs, rowsMax }: Parameters<Store['prune']>[0]): ReturnType<Store['prune']> {
    return this.#on(this.#writers, async (client) => {
      await client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE');
      const text = `SELECT pg_try_advisory_xact_lock(hashtext('fishery'), hashtext('prune')) AS mine,
        (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now`;
      const { rows } = await client.query<{ mine: boolean; now: number }>({ name: 'prune', text });
      const clock = this.#clock === 'database' ? (rows[0]?.now ?? now) : now;
      const pruned = rows[0]?.mine ? await readOn(client, prune(clock - keptUs, rowsMax)) : { removed: 0, more: false };
      await client.query('COMMIT');
      return pruned;
    });
  }

  async forget({ what, before, rowsMax }: Parameters<Store['forget']>[0]): ReturnType<Store['forget']> {
    const statement = positional({ sql: forgetStatements[what], parameters: { before, limit: rowsMax } });
    const { rowCount } = await this.#on(this.#writers, (client) => client.query(statement));
    return { dropped: rowCount ?? 0, more: rowCount === rowsMax };
  }

  onForeignCommit(wake: () => void): () => void {
    return this.#foreign.onCommit(wake);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all([this.#foreign.close(), this.#readers.end(), this.#writers.end()]);
  }

  async #attempt<T>(client: pg.ClientBase, { now, needs, decide }: Work<T>): Promise<T> {
    const beginning = begin(client);
    const guessing = this.#guess(client);
    await answersOf<unknown>([beginning, guessing]);
    const turn = await beginning;
    const guesses = await guessing;
    const { allocatorEpoch: epoch, confirmedAt, revision, lastEventAt, cluster: database } = turn;
    const view = new View(
      { epoch, confirmedAt, revision, lastEventAt, database, loss: this.#lossIn(turn) },
      this.#clock === 'database' ? turn.now : now,
    );
    for (const round of needs(view)) await this.#load(client, view, round, guesses);
    const result = decide(view);
    const changes = view.changes();
    const isUnchanged = Object.values(changes).every((changed) => changed.length === 0);
    if (isUnchanged) {
      await client.query('ROLLBACK');
      this.#reached = Math.max(this.#reached, revision);
      return result;
    }
    const sent = [...write(client, changes), this.#moveEnd(client, view, turn)];
    await commit(client, this.#connect, sent, turn);
    this.#reached = view.revision;
    return result;
  }

  /** Asks for what the batch will most likely ask for, before anybody knows what that is: by the key of each need. */
  async #guess(client: pg.ClientBase): Promise<ReadonlyMap<string, Answer>> {
    const answers = await ask(client, this.#expected.forNextTurn());
    return new Map([...answers].map(([need, answer]) => [keyOfRecurring(need) ?? '', answer]));
  }

  async #load(
    client: pg.ClientBase,
    view: View,
    round: readonly Need[],
    guesses: ReadonlyMap<string, Answer>,
  ): Promise<void> {
    const open = round.filter((need) => {
      const answer = guesses.get(keyOfRecurring(need) ?? '');
      answer?.(view);
      return answer === undefined;
    });
    for (const need of open) this.#expected.learn(need);
    if (open.length > 0) await loadRound(client, view, open);
  }

  /** Another history may lack what was answered before, and so does a log that ends below what this server has seen. */
  #lossIn({ cluster, lastCluster, revision }: Turn): Loss | undefined {
    const known = Math.max(this.#reached, revision);
    const shows = (cause: Loss['cause'], detail: string) => ({
      cause,
      detail,
      revision: known,
      newId: this.#newEpoch(),
    });
    // What nothing was ever written to has nothing to lose, wherever it was copied from.
    if (cluster !== lastCluster && known > 0)
      return shows('other_database', `this is database ${cluster}, and ${lastCluster} wrote last`);
    if (revision < this.#reached)
      return shows('log_went_back', `the log ends at revision ${revision}, and ${known} had been committed`);
    return undefined;
  }

  /** Moves the end of the log, and says so to the other servers. */
  async #moveEnd(client: pg.ClientBase, view: View, turn: Turn): Promise<void> {
    const text = `UPDATE log_end SET revision = $1, last_event_at = $2, allocator_epoch = $3, confirmed_at = $4, cluster = $5
      RETURNING pg_notify($6, $7)`;
    const lastEventAt = view.events.at(-1)?.at ?? turn.lastEventAt;
    const standing = [view.revision, lastEventAt, view.epoch, view.confirmedAt, turn.cluster];
    const values = [...standing, this.#foreign.channel, this.#foreign.ownPayload];
    await client.query({ name: 'log_end', text, values });
  }

  #read<T>(work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    return this.#on(this.#readers, work);
  }

  async #on<T>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(pool, work);
      } catch (error) {
        if (!isWorthRetrying(error) || attempt === attempts_max) throw storeErrorOf(error);
      }
    }
  }

  /** A connection for one transaction, which is over afterwards, whatever came of it. */
  async #once<T>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw closedError();
    // Where no connection is to be had there is no use in asking again at once.
    const client = await pool.connect().catch((error: unknown) => {
      throw storeErrorOf(error);
    });
    let isUsable = true;
    try {
      return await work(client);
    } catch (error) {
      await client.query('ROLLBACK').catch(() => (isUsable = false));
      throw error;
    } finally {
      client.release(!isUsable);
    }
  }
}
