import Database from 'better-sqlite3';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { figureOf } from '../figures.ts';
import { InProcess, onePort } from '../in-process.ts';
import type { Suite } from '../suite.ts';
import { Scratch } from '../world.ts';

const leases = 100_000;
const claims_per_grant = 250;
const rounds = 3;
const keepalives = 10;
/** More slices than the leases of all rounds need. */
const slices = 200;
const probe_pause_ms = 2;
const settling_ms_max = 120_000;

/** A holder with 100,000 leases: what keeps it alive writes one row, and its end is no standstill for the others. */
export const keepalive: Suite = async function* () {
  using scratch = new Scratch();
  await using engine = await InProcess.open(scratch.path);
  await engine.pool('bench', '100.64.0.0/27');
  await engine.machine('large', 'bench', slices);
  const other = await engine.machine('other', 'bench', 10);
  const rows: number[] = [];
  const pauses: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const session = await engine.session('large');
    const claims = Array.from({ length: claims_per_grant }, () => onePort);
    for (let granted = 0; granted < leases; granted += claims_per_grant)
      await engine.execute({ kind: 'grantLeases', scope: {}, session, claims });
    const before = rowsWritten(scratch.path);
    for (let kept = 0; kept < keepalives; kept++) await engine.execute({ kind: 'keepSession', scope: {}, id: session });
    rows.push((rowsWritten(scratch.path) - before) / keepalives);
    pauses.push(await longestPause(engine, session, other));
  }
  yield figureOf('keepalive.rows', 'rows a keepalive', rows);
  yield figureOf('keepalive.end_pause_ms', 'ms', pauses);
};

/** Counts with triggers of its own, in the database itself, so that whoever writes is counted. */
function rowsWritten(directory: string): number {
  const db = new Database(join(directory, 'fishery.db'));
  try {
    const tables = db
      .prepare<[], string>(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
      .pluck()
      .all()
      .filter((name) => name !== 'bench_rows' && !name.startsWith('__'));
    db.exec('CREATE TABLE IF NOT EXISTS bench_rows (written integer NOT NULL)');
    db.exec('INSERT INTO bench_rows SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM bench_rows)');
    for (const table of tables)
      for (const verb of ['INSERT', 'UPDATE', 'DELETE'])
        db.exec(`CREATE TRIGGER IF NOT EXISTS bench_${verb}_${table} AFTER ${verb} ON "${table}"
          BEGIN UPDATE bench_rows SET written = written + 1; END`);
    return db.prepare<[], number>('SELECT written FROM bench_rows').pluck().get() ?? 0;
  } finally {
    db.close();
  }
}

/** The longest wait of somebody who asks for one port after the other while the session ends and its leases follow. */
async function longestPause(engine: InProcess, session: number, other: number): Promise<number> {
  let longest = 0;
  const settled = new AbortController();
  const probing = (async () => {
    while (!settled.signal.aborted) {
      const began = performance.now();
      const [lease] = await engine.execute({ kind: 'grantLeases', scope: {}, session: other, claims: [onePort] });
      longest = Math.max(longest, performance.now() - began);
      if (lease === undefined) throw new Error('a grant without a lease');
      await sleep(probe_pause_ms);
    }
  })();
  await engine.execute({ kind: 'endSession', scope: {}, id: session, ending: 'released' });
  const deadline = performance.now() + settling_ms_max;
  for (let more = true; more;) {
    if (performance.now() > deadline) throw new Error('the leases of the session did not end in time');
    ({ more } = await engine.execute({ kind: 'sweep', itemsMax: Number.MAX_SAFE_INTEGER }));
    // As the server's own loop does between two steps.
    await sleep(0);
  }
  settled.abort();
  await probing;
  return longest;
}
