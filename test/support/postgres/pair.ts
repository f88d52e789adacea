import { vi } from 'vitest';
import { onPostgres } from './database.ts';
import { keep, type Kept } from './kept.ts';

/** A PostgreSQL server and a standby that follows it, of their own: the one can be killed, the other takes its place then. */
export class Pair implements AsyncDisposable {
  readonly primary: Kept;
  readonly standby: Kept;
  readonly #end: () => Promise<void>;

  private constructor({ standby, ...primary }: Kept & Readonly<{ standby: Kept }>, end: () => Promise<void>) {
    this.primary = primary;
    this.standby = standby;
    this.#end = end;
  }

  static async start(): Promise<Pair> {
    const { said, end } = await keep('--standby');
    return new Pair(JSON.parse(said) as Kept & { standby: Kept }, end);
  }

  /** From now on the primary answers a commit only when the standby has it. */
  async beSynchronous(): Promise<void> {
    const { url } = this.primary;
    await onPostgres(`ALTER SYSTEM SET synchronous_standby_names = '*'`, url);
    await onPostgres('SELECT pg_reload_conf()', url);
    await vi.waitFor(async () => {
      const [row] = await onPostgres('SELECT sync_state FROM pg_stat_replication', url);
      if (row?.['sync_state'] !== 'sync') throw new Error('the standby does not follow');
    }, patience);
  }

  /** Until the standby has all that the primary wrote; from then on it hears of nothing more. */
  async partStandby(): Promise<void> {
    const [end] = await onPostgres('SELECT pg_current_wal_lsn()::text AS lsn', this.primary.url);
    const { url } = this.standby;
    await vi.waitFor(async () => {
      const [row] = await onPostgres(
        `SELECT (pg_last_wal_replay_lsn() >= '${String(end?.['lsn'])}')::int AS has_all`,
        url,
      );
      if (row?.['has_all'] !== 1) throw new Error('the standby is behind');
    }, patience);
    await onPostgres(`ALTER SYSTEM SET primary_conninfo = ''`, url);
    await onPostgres('SELECT pg_reload_conf()', url);
    await vi.waitFor(async () => {
      const [row] = await onPostgres('SELECT count(*)::int AS receivers FROM pg_stat_wal_receiver', url);
      if (row?.['receivers'] !== 0) throw new Error('the standby still follows');
    }, patience);
  }

  /** Without a word to anybody. */
  killPrimary(): void {
    process.kill(this.primary.pid, 'SIGKILL');
  }

  /** The standby is the primary from now on, on a timeline of its own. */
  async promoteStandby(): Promise<void> {
    const [row] = await onPostgres('SELECT pg_promote(true, 20)::int AS is_done', this.standby.url);
    if (row?.['is_done'] !== 1) throw new Error('the standby was not promoted');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#end();
  }
}

const patience = { timeout: 15_000, interval: 50 };
