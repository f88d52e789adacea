import { readFileSync, rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { preparePeer } from '../../bench/peers/pgbench.ts';
import { ServerUnderTest } from '../../bench/processes.ts';
import { openStore } from '../../src/db/open.ts';
import { onPostgres } from '../support/postgres/database.ts';

it('gives the peer of the benchmark tables like our own, and a transaction that they take', async () => {
  await using server = await ServerUnderTest.postgres();
  const folder = mkdtempSync(join(tmpdir(), 'fishery-peer-'));
  try {
    const store = await openStore(
      { url: server.url.href, directory: folder },
      { newEpoch: () => 'epoch-1', nowUs: () => 0 },
    );
    await store.close();
    const script = readFileSync(await preparePeer(server.url, folder), 'utf8');
    // As pgbench would run it, with the variables that it would have.
    const sql = script
      .replace(/^\\set .*$/gm, '')
      .replaceAll('\\gset', ';')
      .replace(/:(slice|id|port)\b/g, (_, name: string) => ({ slice: '1', id: '1', port: '65535' })[name] ?? '');
    await onPostgres(sql, server.url.href);
    const rows = await onPostgres('SELECT first_port, state FROM peer_leases', server.url.href);
    expect(rows).toEqual([{ first_port: 65_535, state: 'active' }]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
