import { firstEpoch, type Beginning } from '../first-epoch.ts';
import { epochRow } from '../rows.ts';
import type { Standing } from './mark.ts';
import { RowWriter } from './row-writer.ts';
import * as schema from './schema.ts';
import type { Connection } from './statements.ts';

/** A table that was just made is in its first epoch. */
export function ensureEpoch(
  connection: Connection,
  newEpoch: () => string,
  nowUs: () => number,
  beginning?: (nowUs: number) => Beginning,
): void {
  if (connection.prepare('SELECT 1 FROM epochs LIMIT 1').get() !== undefined) return;
  const now = nowUs();
  new RowWriter(connection, schema.epochs).insert([epochRow(firstEpoch(newEpoch(), now, beginning?.(now)))]);
}

/** Where the database says that it stands. */
export function standingOf(connection: Connection): Standing {
  const ids = connection.prepare<[], { id: string }>('SELECT id FROM epochs ORDER BY number DESC').all();
  const last = connection
    .prepare<[], { revision: number | null }>('SELECT max(revision) AS revision FROM events')
    .get();
  const [current, ...former] = ids.map(({ id }) => id);
  if (current === undefined) throw new Error('the table is in no epoch');
  return { epoch: current, former: new Set(former), revision: last?.revision ?? 0 };
}
