import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clientConfig } from '../../src/db/postgres/connections.ts';
import { leasesEnding } from '../../src/db/ending-leases.ts';
import { batchStatements } from '../../src/db/postgres/statements.ts';
import { needStatements } from '../../src/db/need-statements.ts';
import type { NeedKind } from '../../src/leases/needs.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';

/** Tables that grow with use. Machines and pools are as many as an operator has. */
const large = ['leases', 'extents', 'sessions', 'slices', 'shared_blocks', 'tenures', 'access_tokens'];
const kinds = Object.keys(needStatements) as NeedKind[];

let database: TemporaryDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await temporaryDatabase();
  client = new pg.Client(clientConfig(database.url));
  await client.connect();
  // The tables are empty here, and reading all of nothing is quick: what counts is whether there is another way.
  await client.query(
    'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off',
  );
});
afterAll(async () => {
  await client.end();
  await database[Symbol.asyncDispose]();
});

async function planOf(text: string): Promise<string> {
  const { rows } = await client.query<{ 'QUERY PLAN': string }>(`EXPLAIN (GENERIC_PLAN, COSTS OFF) ${text}`);
  return rows.map((row) => row['QUERY PLAN']).join('\n');
}

describe('what a round of a decision loads', () => {
  it('is found by an index for each need, never by going through a table that grows', async () => {
    for (const { name, text } of kinds.flatMap(batchStatements)) {
      const plan = await planOf(text);
      const scanned = large.filter((table) => plan.includes(`Seq Scan on ${table}`));
      expect([name, scanned, plan.includes('Hash Join')]).toEqual([name, [], false]);
    }
  });

  it('comes in the order in which a grant chooses, without sorting', async () => {
    const [search] = batchStatements('offeredExtents');
    const plan = await planOf(search?.text ?? '');
    expect(plan).toContain('Index Scan using extents_offered');
    expect(plan).not.toContain('Sort');
  });

  it('stops at the limit in the leases of ended sessions, however many there are', async () => {
    const plan = await planOf(batchStatements('unsettledSessions')[1]?.text ?? '');
    expect(plan).toMatch(/leases_unsettled/);
    expect(plan).toMatch(/sessions_unsettled/);
    // A full sort would read them all first.
    expect(plan).toMatch(/Limit\n.*(?:Incremental Sort|Nested Loop)/);
  });
});

describe('what is counted for metrics', () => {
  it('is found from machine to machine by an index of what is not proved empty', async () => {
    const read = leasesEnding(5, 5);
    for (const statement of [read.next().value, read.next([{ machine: 'm', since: 1 }]).value]) {
      const names = new Map<string, string>();
      const text = ('sql' in statement ? statement.sql : '').replaceAll(/@(\w+)/g, (_, name: string) => {
        if (!names.has(name)) names.set(name, `$${names.size + 1}`);
        return names.get(name) ?? '';
      });
      const plan = await planOf(text);
      expect(plan).not.toMatch(/Seq Scan on leases|Sort/);
      expect(plan.match(/on leases/g)).toEqual(plan.match(/(?<=using leases_ending )on leases/g));
    }
  });
});
