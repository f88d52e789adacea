import Database from 'better-sqlite3';
import { join } from 'node:path';
import { beginLogAfter, takeIndexesAway } from './fill.ts';

/** Leases that are over: so many, spread evenly over a time that ends at `until` (microseconds). */
export type Past = Readonly<{ leases: number; since: number; until: number; holders: readonly string[] }>;

/** Every tenth block is shared by all holders in turn, each for longer than the next one waits. */
const shared_every = 10;
const block_ports = 64;
const rows_per_commit = 1_000_000;
const cache_kibibytes = 2_000_000;

/**
 * Puts a past into the closed database of a server as the years would have left it: on each block of every slice one lease
 * after the other, and in the shared ones several at a time. Rows go in first and indexes are made afterwards, by sorting,
 * which is the quickest way to fifty million of each. `tell` hears how far it is.
 */
export function writePast(directory: string, past: Past, tell: (line: string) => void): void {
  const db = new Database(join(directory, 'fishery.db'));
  try {
    for (const setting of ['synchronous = OFF', 'journal_mode = OFF', 'temp_store = FILE', 'threads = 2'])
      db.pragma(setting);
    db.pragma(`cache_size = -${cache_kibibytes}`);
    const later = takeIndexesAway(db);
    writeLeases(db, past, tell);
    for (const { name, sql } of later) {
      const began = performance.now();
      db.exec(sql);
      tell(`${name}: ${((performance.now() - began) / 1_000).toFixed(1)} s`);
    }
    db.pragma('journal_mode = WAL');
  } finally {
    db.close();
  }
}

function writeLeases(db: Database.Database, past: Past, tell: (line: string) => void): void {
  const from = db.prepare<[], number>('SELECT max(revision) FROM events').pluck().get() ?? 0;
  db.exec(`CREATE TEMP TABLE place AS
    SELECT row_number() OVER (ORDER BY numbers.value, slices.id) - 1 AS number, slices.id AS slice, slices.machine,
      slices.pool, slices.address, slices.first_port + numbers.value AS first_port
    FROM slices JOIN json_each('${JSON.stringify(Array.from({ length: 2_048 / block_ports }, (_, n) => n * block_ports))}')
      AS numbers WHERE slices.machine IS NOT NULL;
    CREATE UNIQUE INDEX temp.place_number ON place (number)`);
  const places = db.prepare<[], number>('SELECT count(*) FROM place').pluck().get() ?? 0;
  const step = (past.until - past.since) / past.leases;
  // The time from one lease of a block to the next.
  const period = step * places;
  const isShared = `place.number % ${shared_every} = 0`;
  const holder = `json_extract(@holders, '$[' || ((n.i / ${places}) % ${past.holders.length}) || ']')`;
  // Of an exclusive block's period two thirds are use at most; members of a shared one stay until just before their next turn.
  const used = `CAST(${period} * CASE WHEN ${isShared} THEN ${past.holders.length - 0.5} ELSE (n.i * 7919 % 1000) / 1500.0 END AS INTEGER)`;
  const granted = `CAST(CAST(@since AS INTEGER) + n.i * ${step} AS INTEGER)`;
  const columns = db.pragma('table_info(leases)') as readonly { name: string; notnull: number }[];
  const values: Readonly<Record<string, string>> = {
    ...{
      id: 'CAST(@from AS INTEGER) + n.i + 1',
      revision: 'CAST(@from AS INTEGER) + n.i + 1',
      slice: 'place.slice',
      generation: '1',
      epoch: '1',
    },
    ...{ session: 'NULL', machine: 'place.machine', holder, pool: 'place.pool', address: 'place.address' },
    ...{ family: '4', protocol: `'tcp'`, first_port: 'place.first_port' },
    ...{ last_port: `place.first_port + CASE WHEN ${isShared} THEN ${block_ports - 1} ELSE (1 << n.i % 7) - 1 END` },
    ...{ mode: `CASE WHEN ${isShared} THEN 'shared' ELSE 'exclusive' END` },
    ...{ binding: `CASE WHEN ${isShared} THEN 'late' END`, state: `'ended'`, ending: `'released'` },
    ...{ granted_at: granted, active_at: `${granted} + 1`, ending_at: `${granted} + 2` },
    ...{ empty_at: `${granted} + 2 + ${used}`, ended_at: `${granted} + 3 + ${used}` },
  };
  const unknown = columns.find(({ name, notnull }) => notnull === 1 && !(name in values));
  if (unknown) throw new Error(`leases have a column ${unknown.name} that the past does not know`);
  const names = columns.map(({ name }) => name).filter((name) => name in values);
  const insert = db.prepare(
    `WITH RECURSIVE n (i) AS (SELECT CAST(@first AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < @last)
     INSERT INTO leases (${names.join(', ')}) SELECT ${names.map((name) => values[name]).join(', ')}
     FROM n CROSS JOIN place ON place.number = n.i % ${places}`,
  );
  const holders = JSON.stringify(past.holders);
  for (let first = 0; first < past.leases; first += rows_per_commit) {
    const last = Math.min(past.leases, first + rows_per_commit) - 1;
    insert.run({ first, last, from, since: past.since, holders });
    if ((last + 1) % (10 * rows_per_commit) === 0) tell(`${last + 1} leases`);
  }
  beginLogAfter(db, from + past.leases);
  db.prepare('UPDATE tenures SET from_at = ?').run(Math.floor(past.since));
}
