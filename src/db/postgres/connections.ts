import pg from 'pg';
import { StoreError } from '../../leases/store.ts';

/** Every bound of the way to the database, with its unit in the name. */
export const connectionLimits = {
  connect_ms: 5_000,
  /** A server that stopped in the middle of a transaction must not hold up the others for longer. */
  idle_in_transaction_ms: 5_000,
  /** How long a transaction waits for its turn. */
  lock_ms: 10_000,
  statement_ms: 30_000,
  /** Longer than the server takes to give a statement up: then it is gone, or the way to it. */
  answer_ms: 35_000,
  /** A peer that no longer answers, because it or the network is gone, is noticed within this time. */
  peer_silent_ms: 10_000,
  readers_max: 8,
  writers_max: 2,
} as const;

/**
 * What a transaction promises, and how statements are to be run, whatever the database's own defaults are. Whoever has it
 * promise more, that a standby has applied it, say, keeps that.
 */
const sessionSettings = `
  SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
  SET lock_timeout = ${connectionLimits.lock_ms};
  SET statement_timeout = ${connectionLimits.statement_ms};
  SET idle_in_transaction_session_timeout = ${connectionLimits.idle_in_transaction_ms};
  SET tcp_user_timeout = ${connectionLimits.peer_silent_ms};
  SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
  SET default_transaction_isolation = 'read committed';
  SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off`;
// Each statement is a step or a few in an index. On a table that has just grown the planner does not know that yet, and
// would rather read it whole once than look into it a hundred times: hence no other joins than nested loops.

/** 64-bit integers as numbers: revisions and microseconds stay below 2^53 until the year 2255. Text is all else. */
const types: pg.CustomTypesConfig = {
  // What pg would do by itself but for one type. Its own declaration has no name for a parser of any type.
  getTypeParser: (oid, format) =>
    oid === pg.types.builtins.INT8 ? Number : (pg.types.getTypeParser(oid, format) as (text: string) => unknown),
};

/** How every connection is made. `pipeline`: statements of one step are sent together and answered in order. */
export const clientConfig = (url: string): pg.ClientConfig => ({
  connectionString: url,
  application_name: 'fishery',
  connectionTimeoutMillis: connectionLimits.connect_ms,
  keepAlive: true,
  keepAliveInitialDelayMillis: connectionLimits.peer_silent_ms,
  pipeline: true,
  types,
});

export function openPool(url: string, max: number): pg.Pool {
  const pool = new pg.Pool({
    ...clientConfig(url),
    max,
    query_timeout: connectionLimits.answer_ms,
    // Waited for, although the declaration of pg does not say so: a connection without them is not given out.
    onConnect: ((client) => client.query(sessionSettings)) as (client: pg.ClientBase) => void,
  });
  // A connection that breaks while nobody uses it is replaced when the next one is needed. One that breaks in use says so
  // to the statement that it breaks under, too; unheard, the event would end the process.
  pool.on('error', () => {});
  pool.on('connect', (client) => void client.on('error', () => {}));
  return pool;
}

export function closedError(): StoreError {
  return new StoreError('closed', 'the store is closed');
}
