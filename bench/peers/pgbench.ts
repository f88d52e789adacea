import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';

const debian = '/usr/lib/postgresql';
const slices = 400;
const slice_ports = 65_536;
const event_body_bytes = 640;

/** Where pgbench is: on the path, or where Debian's package `postgresql` puts it. */
export function pgbench(): string {
  if (spawnSync('pgbench', ['--version']).status === 0) return 'pgbench';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => join(debian, version, 'bin/pgbench')).find((path) => existsSync(path));
  if (found === undefined) throw new Error('this suite needs pgbench: on Debian, apt-get install postgresql');
  return found;
}

/**
 * The peer's tables beside Fishery's own, with the same columns, indexes and constraints, and one transaction for each
 * grant with the rows that a grant writes: a free extent shortened, a lease, an event. What it does not do is to keep the
 * log in order: a sequence hands out the numbers, so nobody waits for anybody else's turn. Returns the script.
 */
export async function preparePeer(url: URL, directory: string): Promise<string> {
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    for (const table of ['leases', 'extents', 'events'])
      await client.query(`CREATE TABLE peer_${table} (LIKE ${table} INCLUDING ALL)`);
    await client.query('CREATE SEQUENCE peer_revision CACHE 32');
    await client.query(
      `INSERT INTO peer_extents (slice, protocol, first_port, last_port, machine, pool, family, state, allocator, offered, fit, rested_since)
       SELECT slice, 'tcp', 0, $1::int - 1, 'bench', 'bench', 4, 'free', 'server', 1, 16, 1 FROM generate_series(1, $2::int) AS slice`,
      [slice_ports, slices],
    );
    const values: Readonly<Record<string, string>> = {
      ...{ id: ':id', revision: ':id', slice: ':slice', generation: '1', epoch: '1', session: '1', machine: `'bench'` },
      ...{ holder: `'proxy'`, pool: `'bench'`, address: `'100.64.0.1'`, family: '4', protocol: `'tcp'` },
      ...{
        first_port: ':port',
        last_port: ':port',
        mode: `'exclusive'`,
        state: `'active'`,
        granted_at: '1',
        active_at: '1',
      },
    };
    const { rows } = await client.query<{ name: string; needed: boolean }>(
      `SELECT column_name AS name, is_nullable = 'NO' AND column_default IS NULL AS needed FROM information_schema.columns
       WHERE table_name = 'peer_leases'`,
    );
    const unfilled = rows.find(({ name, needed }) => needed && !(name in values));
    if (unfilled) throw new Error(`leases have a column ${unfilled.name} that the peer does not know`);
    const filled = rows.map(({ name }) => name).filter((name) => name in values);
    const script = join(directory, 'grant.sql');
    writeFileSync(
      script,
      `\\set slice random(1, ${slices})
BEGIN;
UPDATE peer_extents SET last_port = last_port - 1 WHERE slice = :slice AND protocol = 'tcp' AND first_port = 0
  RETURNING last_port + 1 AS port, nextval('peer_revision') AS id \\gset
INSERT INTO peer_leases (${filled.join(', ')}) VALUES (${filled.map((name) => values[name]).join(', ')});
INSERT INTO peer_events (revision, at, machine, body) VALUES (:id, 1, 'bench', repeat('x', ${event_body_bytes}));
COMMIT;
`,
    );
    return script;
  } finally {
    await client.end();
  }
}

/** Transactions a second, of so many clients for so many seconds. */
export async function runPeer(url: URL, script: string, clients: number, seconds: number): Promise<number> {
  const args = ['-n', '-M', 'prepared', '-f', script, '-c', `${clients}`, '-j', '2', '-T', `${seconds}`, url.href];
  const child = spawn(pgbench(), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (said += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  const tps = /^tps = ([\d.]+)/m.exec(said)?.[1];
  if (code !== 0 || tps === undefined) throw new Error(`pgbench ended with ${code}: ${said}`);
  return Number(tps);
}
