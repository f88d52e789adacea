import type Database from 'better-sqlite3';
import type { Epoch } from '../../leases/model.ts';
import { StoreError, type Reader, type Store, type Work } from '../../leases/store.ts';
import type { Changes } from '../../leases/changes.ts';
import { View, type Loss } from '../../leases/view.ts';
import type { Need } from '../../leases/needs.ts';
import { epoch } from '../composed-reads.ts';
import { forgetStatements } from '../forgetting.ts';
import type { NeedStatement } from '../need-statement.ts';
import { keptAnswersUnder, needStatements } from '../need-statements.ts';
import { prune } from '../pruning.ts';
import { SqlReader } from '../reader.ts';
import { keptAnswerOf, type KeptAnswerRow } from '../rows.ts';
import type { Read } from '../statement.ts';
import { storeErrorOf } from './errors.ts';
import { KeptRows } from './kept-rows.ts';
import type { HighWaterMark } from './mark.ts';
import { Statements, type Connection } from './statements.ts';
import { Writes } from './writes.ts';

/** Where the log stands. */
type LogEnd = Readonly<{ revision: number; lastEventAt: number }>;

type Parts = Readonly<{
  connection: Connection;
  mark: HighWaterMark;
  /** What the mark showed when the store was opened. */
  loss?: Omit<Loss, 'newId'> | undefined;
  newEpoch: () => string;
  /** Closes the connection, and whatever belongs to it. */
  onClose: () => void;
}>;

/**
 * The store on one SQLite file. One process writes, and it does so in one thread: transactions follow one another, and a
 * transaction is load, decide and write without anything in between. Its commit is an fsync (`synchronous=FULL`).
 */
export class SqliteStore implements Store {
  readonly reader: Reader;
  readonly #connection: Connection;
  readonly #mark: HighWaterMark;
  readonly #newEpoch: () => string;
  #epoch: Epoch;
  #loss: Parts['loss'];
  readonly #statements: Statements;
  readonly #keptRows = new KeptRows();
  readonly #dataVersion: Database.Statement<[], number>;
  /** Of the file when this connection last looked: another one means that somebody else wrote. */
  #knownVersion = -1;
  #end: LogEnd | undefined;
  readonly #writes: Writes;
  readonly #onClose: () => void;

  constructor({ connection, mark, loss, newEpoch, onClose }: Parts) {
    this.#connection = connection;
    this.#mark = mark;
    this.#loss = loss;
    this.#newEpoch = newEpoch;
    this.#statements = new Statements(connection);
    this.#dataVersion = connection.prepare<[], number>('PRAGMA data_version').pluck();
    this.#writes = new Writes(connection);
    this.#onClose = onClose;
    const run = async <T>(read: () => Read<T>) => this.#statements.run(read());
    this.reader = new SqlReader({ run, snapshot: run });
    this.#epoch = this.#statements.run(epoch());
  }

  async transact<T>({ now, needs, decide }: Work<T>): Promise<T> {
    const { result, changes } = this.#inTransaction(() => {
      this.#noticeOthers();
      const end = (this.#end ??= this.#logEnd());
      const loss = this.#loss && { ...this.#loss, newId: this.#newEpoch() };
      const { number, confirmedAt } = this.#epoch;
      const view = new View({ ...end, epoch: number, confirmedAt, loss }, now);
      for (const round of needs(view)) this.#loadRound(view, round);
      const result = decide(view);
      const changes = view.changes();
      this.#keptRows.forget(changes);
      this.#writes.apply(changes);
      this.#mark.secure((epochIn(changes) ?? this.#epoch).id, end.revision, view.revision);
      return { result, changes };
    });
    this.#follow(changes);
    return result;
  }

  #follow(changes: Changes): void {
    const epoch = epochIn(changes);
    if (epoch) {
      this.#epoch = epoch;
      // Said in the log by now.
      this.#loss = undefined;
    }
    const last = changes.events.at(-1);
    if (!last) return;
    this.#end = { revision: last.revision, lastEventAt: last.at };
    this.#mark.reach(last.revision);
  }

  async compact({ keep, rowsMax }: Readonly<{ keep: number; rowsMax: number }>): ReturnType<Store['compact']> {
    // The newest event stays, whatever was asked: it says where the log goes on.
    const kept = Math.max(1, keep);
    return this.#inTransaction(() => {
      const { changes } = this.#connection
        .prepare(
          `DELETE FROM events WHERE revision IN (
             SELECT revision FROM events WHERE revision <= (SELECT max(revision) FROM events) - ?
             ORDER BY revision LIMIT ?)`,
        )
        .run(kept, rowsMax);
      return { dropped: changes, more: changes === rowsMax };
    });
  }

  async prune({ now, keptUs, rowsMax }: Parameters<Store['prune']>[0]): ReturnType<Store['prune']> {
    this.#keptRows.forgetAll();
    return this.#inTransaction(() => this.#statements.run(prune(now - keptUs, rowsMax)));
  }

  async forget({ what, before, rowsMax }: Parameters<Store['forget']>[0]): ReturnType<Store['forget']> {
    return this.#inTransaction(() => {
      const { changes } = this.#connection.prepare(forgetStatements[what]).run({ before, limit: rowsMax });
      return { dropped: changes, more: changes === rowsMax };
    });
  }

  /** The lock on the directory keeps everybody else out. */
  onForeignCommit(): () => void {
    return () => {};
  }

  async close(): Promise<void> {
    if (this.#connection.open) this.#onClose();
  }

  #loadRound(view: View, round: readonly Need[]): void {
    const pairs: (readonly [token: number, key: string])[] = [];
    for (const need of round)
      if (need.need === 'keptAnswer') pairs.push([need.token, need.key]);
      else this.#load(view, need);
    if (pairs.length === 0) return;
    const found = this.#statements.all({ sql: keptAnswersUnder, parameters: { pairs: JSON.stringify(pairs) } });
    for (const row of found) view.keptAnswers.load(keptAnswerOf(row as KeptAnswerRow));
  }

  #load(view: View, need: Need): void {
    // The table's entry under `need.need` is about exactly this need; the compiler cannot follow the correlation.
    for (const { sql, parameters: of, take } of needStatements[need.need] as readonly NeedStatement<Need>[]) {
      const parameters = of(need);
      const rows = this.#keptRows.read(need, parameters, () => this.#statements.all({ sql, parameters }));
      take(view, need, rows);
    }
  }

  /** The lock keeps other servers out, but not somebody with a tool; what they changed is not to be overlooked. */
  #noticeOthers(): void {
    const version = this.#dataVersion.get() ?? -1;
    if (version === this.#knownVersion) return;
    this.#knownVersion = version;
    this.#forgetAll();
  }

  #forgetAll(): void {
    this.#keptRows.forgetAll();
    this.#end = undefined;
  }

  #logEnd(): LogEnd {
    const last = this.#connection
      .prepare<[], { revision: number; at: number }>('SELECT revision, at FROM events ORDER BY revision DESC LIMIT 1')
      .get();
    // A table that nothing was written to yet may begin anywhere.
    return last
      ? { revision: last.revision, lastEventAt: last.at }
      : { revision: this.#epoch.from - 1, lastEventAt: 0 };
  }

  #inTransaction<T>(work: () => T): T {
    if (!this.#connection.open) throw new StoreError('closed', 'the store is closed');
    try {
      return this.#connection.transaction(work).immediate();
    } catch (error) {
      // Cheap, and right whatever it was that went wrong.
      this.#forgetAll();
      throw storeErrorOf(error);
    }
  }
}

/** The epoch that a batch began or confirmed, the last of them. */
const epochIn = ({ epochs }: Changes): Epoch | undefined => epochs.at(-1)?.after;
