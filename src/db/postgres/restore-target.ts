import pg from 'pg';
import { StoreError } from '../../leases/store.ts';
import type { RestoreTarget } from '../dump/restore.ts';
import { tableShapes } from '../tables.ts';
import { heldSql, usageSql } from '../usage.ts';
import { clientConfig } from './connections.ts';
import { namingDatabase } from './errors.ts';
import { prepare } from './open.ts';
import { readOn } from './reads.ts';
import * as schema from './schema.ts';
import { clusterExpression } from './transaction.ts';
import { insertRows } from './writes.ts';

/** A database that has nothing in it; its tables are made when missing. No server writes to it meanwhile. */
export async function openPostgresTarget(url: string, epoch: string): Promise<RestoreTarget> {
  const client = new pg.Client(clientConfig(url));
  // Said by the statement that fails.
  client.on('error', () => {});
  try {
    await client.connect();
    await prepare(client, epoch);
    await client.query('BEGIN');
    // Servers that were started too early wait here, and find that they are on another table than they were.
    await client.query('SELECT 1 FROM log_end FOR UPDATE');
    for (const { name, key } of tableShapes)
      if (key !== 'epochs' && (await client.query(`SELECT 1 FROM ${name} LIMIT 1`)).rowCount !== 0)
        throw new StoreError('io', 'the database is not empty: restore into a new one');
    await client.query('DELETE FROM epochs');
    return targetOn(url, client);
  } catch (error) {
    await client.end().catch(() => {});
    throw namingDatabase(url, error);
  }
}

function targetOn(url: string, client: pg.Client): RestoreTarget {
  const attempt = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw namingDatabase(url, error);
    }
  };
  return {
    run: (read) => attempt(readOn(client, read)),
    damage: async () => [],
    insert: ({ key }, rows) => attempt(insertRows(client, schema[key], rows)),
    count: async () => {
      await attempt(client.query(`INSERT INTO port_counts ${usageSql}`));
      await attempt(client.query(`INSERT INTO held_ports ${heldSql}`));
    },
    finish: ({ moved }) => attempt(finish(client, moved)),
    // Undoes what was not committed.
    [Symbol.asyncDispose]: () => client.end(),
  };
}

async function finish(client: pg.Client, moved: boolean): Promise<void> {
  await client.query(
    `UPDATE log_end SET cluster = CASE WHEN $1::boolean THEN ${clusterExpression} ELSE 'a dump' END,
     allocator_epoch = (SELECT max(number) FROM epochs),
     confirmed_at = (SELECT confirmed_at FROM epochs ORDER BY number DESC LIMIT 1),
     revision = coalesce((SELECT max(revision) FROM events), 0),
     last_event_at = coalesce((SELECT at FROM events ORDER BY revision DESC LIMIT 1), 0)`,
    [moved],
  );
  await client.query('COMMIT');
}
