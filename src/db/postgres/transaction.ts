import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { StoreError } from '../../leases/store.ts';
import { isConnectionLoss, storeErrorOf } from './errors.ts';
import { answersOf } from './pipeline.ts';

/** Where the log stands, as the transaction that now has its turn found it. */
export type Turn = Readonly<{
  revision: number;
  lastEventAt: number;
  allocatorEpoch: number;
  confirmedAt: number | null;
  /** The database's clock, in microseconds. */
  now: number;
  /** What the transaction is known by, should its connection break during the commit. */
  transaction: string;
  /** System identifier and timeline of the database that answers, and of the one that wrote last. */
  cluster: string;
  lastCluster: string;
}>;

type EndRow = Readonly<{
  revision: number;
  last_event_at: number;
  allocator_epoch: number;
  confirmed_at: number | null;
  cluster: string;
}>;
type HereRow = Readonly<{ now: number; cluster: string; transaction: string }>;

/**
 * Which history this is: another system, or a timeline that began at a failover or at a restored backup, is another. So is
 * another database of the same system, and a table that was made anew in it, from a logical backup.
 */
export const clusterExpression = `(SELECT system_identifier FROM pg_control_system())::text
  || '.' || ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8::text
  || '.' || (SELECT oid FROM pg_database WHERE datname = current_database())::text
  || '.' || 'log_end'::regclass::oid::text`;

const turnText = 'SELECT revision, last_event_at, allocator_epoch, confirmed_at, cluster FROM log_end FOR UPDATE';
/** What the clock of the database says, in microseconds since 1970. */
export const clockExpression = '(extract(epoch FROM clock_timestamp()) * 1000000)::int8';

const hereText = `SELECT ${clockExpression} AS now, ${clusterExpression} AS cluster,
  pg_current_xact_id()::text AS transaction`;

/**
 * Begins a transaction and waits for its turn: from here on nobody else writes, so whatever is loaded stays true until the
 * commit. Each statement has a snapshot of its own (read committed), and so sees all that those before it committed; the
 * clock is read in one that begins when the wait is over. All three are sent at once.
 */
export async function begin(client: pg.ClientBase): Promise<Turn> {
  const begun = client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE');
  const ending = client.query<EndRow>({ name: 'turn', text: turnText });
  const being = client.query<HereRow>({ name: 'here', text: hereText });
  await answersOf<unknown>([begun, ending, being]);
  const [end] = (await ending).rows;
  const [here] = (await being).rows;
  if (!end || !here) throw new Error('log_end has no row');
  return {
    revision: end.revision,
    lastEventAt: end.last_event_at,
    allocatorEpoch: end.allocator_epoch,
    confirmedAt: end.confirmed_at,
    // Log time goes on from the last event, also when the database's clock was set back.
    now: Math.max(here.now, end.last_event_at + 1),
    transaction: here.transaction,
    cluster: here.cluster,
    lastCluster: end.cluster,
  };
}

/**
 * Sends the commit right behind `sent`, statements that are under way: when one of them fails, the database undoes all of
 * it. When the connection breaks before the answer has come, the commit may or may not have happened; the database knows,
 * and is asked. So nothing that was committed is reported as failed, and nothing that failed is answered. Throws
 * `StoreError` `unknown` when nobody can say.
 */
export async function commit(
  client: pg.ClientBase,
  connect: () => pg.Client,
  sent: readonly Promise<unknown>[],
  identity: Pick<Turn, 'transaction' | 'cluster'>,
): Promise<void> {
  await refusalsSaid(sent);
  const committing = client.query('COMMIT');
  try {
    await answersOf<unknown>([...sent, committing]);
    const { command } = await committing;
    if (command !== 'COMMIT') throw new Error(`the transaction ended with ${command}`);
  } catch (error) {
    if (!isConnectionLoss(error) || !(await wasCommitted(connect, identity))) throw error;
  }
}

/**
 * What the driver itself would not send, it says within this turn of the event loop. The database knows nothing of that
 * statement, and would commit the others.
 */
async function refusalsSaid(sent: readonly Promise<unknown>[]): Promise<void> {
  const refusals: unknown[] = [];
  for (const statement of sent) statement.catch((error: unknown) => refusals.push(error));
  await nextTurn();
  if (refusals.length > 0) await answersOf(sent);
}

/** For as long as this a database that was lost is asked, this often, each time on a connection of its own. */
const outcome_wait_ms = 10_000;
const outcome_look_ms = 200;

async function wasCommitted(
  connect: () => pg.Client,
  identity: Pick<Turn, 'transaction' | 'cluster'>,
): Promise<boolean> {
  const until = performance.now() + outcome_wait_ms;
  while (performance.now() < until) {
    const outcome = await lookAtOutcome(connect, identity, until - performance.now());
    if (outcome === 'committed') return true;
    if (outcome === 'undone') return false;
    if (outcome === 'nobody knows') break;
    await sleep(outcome_look_ms);
  }
  throw new StoreError(
    'unknown',
    'the connection to the database broke during a commit, and nobody can say whether it took place',
  );
}

/** One look, which the clock ends where the database does not. */
async function lookAtOutcome(
  connect: () => pg.Client,
  { transaction, cluster }: Pick<Turn, 'transaction' | 'cluster'>,
  withinMs: number,
): Promise<'committed' | 'undone' | 'later' | 'nobody knows'> {
  const text = `SELECT pg_xact_status($1::xid8) AS status, ${clusterExpression} AS cluster`;
  const client = connect();
  // Said by the statement that it breaks under.
  client.on('error', () => {});
  const look = async () => {
    await client.connect();
    return client.query<{ status: string | null; cluster: string }>(text, [transaction]);
  };
  const tooLong = new AbortController();
  try {
    const found = await Promise.race([look(), sleep(withinMs, undefined, { signal: tooLong.signal })]);
    const row = found?.rows[0];
    if (!row || row.status === 'in progress') return 'later';
    // After a failover the number may mean another transaction.
    if (row.cluster !== cluster || row.status === null) return 'nobody knows';
    return row.status === 'committed' ? 'committed' : 'undone';
  } catch (error) {
    if (!isConnectionLoss(error) && !(storeErrorOf(error) instanceof StoreError)) throw error;
    return 'later';
  } finally {
    tooLong.abort();
    void client.end().catch(() => {});
  }
}
