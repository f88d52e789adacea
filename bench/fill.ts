import Database from 'better-sqlite3';
import { join } from 'node:path';
import { usageSql } from '../src/db/usage.ts';

/** Exclusive TCP leases of one port each, on every slice of a machine. */
export type Filling = Readonly<{
  machine: string;
  holder: string;
  session: number;
  /** Every so-many-th port of a slice stays free, each a piece of its own: the worst that fragmentation can do. 0: none. */
  freeEvery: number;
}>;

const cache_kibibytes = 1_000_000;

/**
 * Puts leases into the closed database of a server as grants would have left them, without the years that it would take to
 * grant them: the rows of the slices' free extents give way to leases and single free ports, and the log goes on after
 * the last of them. `fishery check` finds nothing amiss. Returns how many leases there are now.
 */
export function fill(directory: string, fillings: readonly Filling[]): number {
  const db = new Database(join(directory, 'fishery.db'));
  try {
    for (const setting of ['synchronous = OFF', 'journal_mode = MEMORY', `cache_size = -${cache_kibibytes}`])
      db.pragma(setting);
    const later = takeIndexesAway(db);
    db.exec(`CREATE TEMP TABLE numbers AS
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 65535) SELECT i FROM n`);
    let revision = db.prepare<[], number>('SELECT max(revision) FROM events').pluck().get() ?? 0;
    for (const filling of fillings) revision = fillOne(db, filling, revision);
    beginLogAfter(db, revision);
    for (const { sql } of later) db.exec(sql);
    db.exec(`DELETE FROM port_counts; INSERT INTO port_counts ${usageSql}`);
    db.exec('ANALYZE');
    const count = db.prepare<[], number>('SELECT count(*) FROM leases').pluck().get() ?? 0;
    db.pragma('journal_mode = WAL');
    return count;
  } finally {
    db.close();
  }
}

/**
 * Takes indexes and triggers off leases and extents; what has to be executed to have them again. Ten million rows are put into an
 * index faster by sorting them once than one by one.
 */
export function takeIndexesAway(db: Database.Database): readonly Readonly<{ name: string; sql: string }>[] {
  const later = db
    .prepare<[], { type: string; name: string; sql: string }>(
      `SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ('leases', 'extents') AND type IN ('index', 'trigger') AND sql IS NOT NULL`,
    )
    .all();
  for (const { type, name } of later) db.exec(`DROP ${type} "${name}"`);
  return later;
}

/** The log begins anew after leases that it does not tell of. */
export function beginLogAfter(db: Database.Database, revision: number): void {
  db.prepare(
    `INSERT INTO events (revision, at, machine, body)
     SELECT ?, at + 1, machine, body FROM events ORDER BY revision DESC LIMIT 1`,
  ).run(revision + 1);
  db.prepare('DELETE FROM events WHERE revision <= ?').run(revision);
}

function fillOne(db: Database.Database, { machine, holder, session, freeEvery }: Filling, from: number): number {
  const slices = `(SELECT id, generation, pool, address, family, first_port, last_port,
      (ROW_NUMBER() OVER (ORDER BY id) - 1) * (last_port - first_port + 1) AS before
    FROM slices WHERE machine = @machine)`;
  const ports = `numbers JOIN ${slices} AS slice ON numbers.i <= slice.last_port - slice.first_port`;
  const isFree = freeEvery === 0 ? '0' : `numbers.i % ${freeEvery} = 0`;
  const columns = db.pragma('table_info(leases)') as readonly { name: string; notnull: number }[];
  const values: Readonly<Record<string, string>> = {
    ...{ id: '@from + slice.before + numbers.i + 1', revision: '@from + slice.before + numbers.i + 1' },
    ...{ slice: 'slice.id', generation: 'slice.generation', epoch: '1', session: '@session', machine: '@machine' },
    ...{ holder: '@holder', pool: 'slice.pool', address: 'slice.address', family: 'slice.family', protocol: `'tcp'` },
    ...{ first_port: 'slice.first_port + numbers.i', last_port: 'slice.first_port + numbers.i', mode: `'exclusive'` },
    ...{ state: `'active'`, granted_at: '@at', active_at: '@at' },
  };
  const unfilled = columns.find(({ name, notnull }) => notnull === 1 && !(name in values));
  if (unfilled) throw new Error(`leases have a column ${unfilled.name} that the filling does not know`);
  const filled = columns.map(({ name }) => name).filter((name) => name in values);
  const at = db.prepare<[], number>('SELECT max(at) FROM events').pluck().get() ?? 0;
  const parameters = { machine, holder, session, from, at };
  db.prepare(`DELETE FROM extents WHERE protocol = 'tcp' AND machine = ?`).run(machine);
  if (freeEvery > 0)
    db.prepare(
      `INSERT INTO extents (slice, protocol, first_port, last_port, machine, pool, family, state, allocator, offered, fit, rested_since)
       SELECT slice.id, 'tcp', slice.first_port + numbers.i, slice.first_port + numbers.i, @machine, slice.pool, slice.family,
         'free', 'server', 1, 0, 1 FROM ${ports} WHERE ${isFree}`,
    ).run({ machine });
  db.prepare(
    `INSERT INTO leases (${filled.join(', ')}) SELECT ${filled.map((name) => values[name]).join(', ')}
     FROM ${ports} WHERE NOT (${isFree})`,
  ).run(parameters);
  return db.prepare<[], number>('SELECT max(revision) FROM leases').pluck().get() ?? from;
}
