import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { needStatements } from '../../src/db/need-statements.ts';
import { auditLog } from '../../src/db/audit-log.ts';
import { leasesEnding } from '../../src/db/ending-leases.ts';
import { SqlReader } from '../../src/db/reader.ts';
import { Statements, type Connection } from '../../src/db/sqlite/statements.ts';
import type { Read } from '../../src/db/statement.ts';
import { steering } from '../../src/leases/model.ts';
import { address } from '../support/world.ts';
import { temporaryStore } from '../support/temporary-store.ts';

/** Tables that grow with use. Machines and pools are as many as an operator has. */
const large = ['leases', 'extents', 'sessions', 'slices', 'shared_blocks', 'events', 'tenures', 'access_tokens'];

/** The texts of all statements that `use` prepares, and how SQLite would go about each. */
async function plansOf(use: (connection: Connection) => unknown): Promise<ReadonlyMap<string, string>> {
  await using temporary = await temporaryStore();
  const connection = new Database(join(temporary.directory, 'fishery.db'));
  const texts: string[] = [];
  const spy = new Proxy(connection, {
    get(target, name) {
      if (name !== 'prepare') return Reflect.get(target, name) as unknown;
      return (text: string) => {
        texts.push(text);
        return target.prepare(text);
      };
    },
  });
  try {
    await use(spy);
    return new Map(texts.map((text) => [text.replaceAll(/\s+/g, ' '), planOf(connection, text)]));
  } finally {
    connection.close();
  }
}

function planOf(connection: Connection, text: string): string {
  const statement = connection.prepare(`EXPLAIN QUERY PLAN ${text}`);
  const names = [...text.matchAll(/@(\w+)/g)].map(([, name]) => [name, 1]);
  const marks = text.split('?').length - 1;
  const rows =
    names.length > 0 ? statement.all(Object.fromEntries(names)) : statement.all(...Array<number>(marks).fill(1));
  return (rows as { detail: string }[]).map(({ detail }) => detail).join('; ');
}

function prepareLoads(connection: Connection): void {
  for (const { sql } of Object.values(needStatements).flat()) connection.prepare(sql);
}

const scans = (plan: string): readonly string[] =>
  large.filter((table) => new RegExp(`SCAN ${table}(?! USING (?:COVERING )?INDEX)`).test(plan));

describe('what a decision loads', () => {
  it('is found by an index, never by going through a table that grows', async () => {
    const plans = await plansOf((connection) => prepareLoads(connection));
    expect(plans.size).toBeGreaterThan(20);
    for (const [text, plan] of plans) expect([text, scans(plan)]).toEqual([text, []]);
  });

  it('does not weigh more because of leases that are over', async () => {
    const plans = await plansOf((connection) => prepareLoads(connection));
    const about = [...plans].filter(([text]) => / leases /.test(text) && !/WHERE id = @/.test(text));
    expect(about.length).toBeGreaterThan(5);
    const partial = /leases_(?:live|machine|of_holder|unsettled|cooling|next_rest) /;
    for (const [text, plan] of about)
      for (const step of plan.split('; ').filter((line) => line.includes(' leases ')))
        expect([text, partial.test(step) ? 'partial index' : step]).toEqual([text, 'partial index']);
  });

  it('comes in the order in which a grant chooses, without sorting', async () => {
    const plans = await plansOf((connection) => prepareLoads(connection));
    const search = [...plans].find(([text]) => text.includes('ORDER BY fit'));
    expect(search?.[1]).toBe(
      'SEARCH extents USING INDEX extents_offered (machine=? AND protocol=? AND pool=? AND family=? AND fit>?)',
    );
  });
});

describe('what is read outside of decisions', () => {
  it('is found by an index, but for counts and lists of everything', async () => {
    const page = { limit: 5, cursor: '1' };
    const plans = await plansOf(async (connection) => {
      const statements = new Statements(connection);
      const run = async <T>(read: () => Read<T>) => statements.run(read());
      const reader = new SqlReader({ run, snapshot: run });
      await reader.revision();
      await reader.oldestRevision();
      for (const find of [reader.pool('p'), reader.machine('m'), reader.slice(1), reader.lease(1), reader.session(1)])
        await find;
      await reader.holder('m', 'h');
      await reader.accessToken('h');
      await reader.tiling(1);
      await reader.eventsAfter(1, null, 5);
      await reader.eventsAfter(1, 'm', 5);
      await reader.historySince();
      const then = { since: 1, until: 2 };
      await reader.machineAllocated({ machine: 'm', holder: 'h', ...then }, 5);
      await reader.machineAllocated({ address: address('198.51.100.0'), port: 1, protocol: null, ...then }, 5);
      await reader.eventsAfter(1, steering, 5);
      await reader.router('r');
      await reader.poolSlices('p');
      await reader.slicesDraining();
      const live = { machine: 'm', state: 'active' } as const;
      const owners = { poolLabels: [], machineLabels: [] };
      for (const filter of [{}, { machine: 'm' }, { session: 1 }, { session: null }, live, { ...live, slice: 1 }])
        for (const labels of [{}, owners]) await reader.leases({ ...filter, ...labels }, page);
      for (const filter of [{}, { machine: 'm' }])
        for (const labels of [{}, { machineLabels: [] }]) await reader.sessions({ ...filter, ...labels }, page);
      for (const filter of [{}, { machine: 'm' }, { address: address('198.51.100.0') }])
        for (const labels of [{}, owners]) await reader.slices({ ...filter, ...labels }, page);
      await reader.holders('m', {}, { limit: 5, cursor: 'h' });
    });
    expect(plans.size).toBeGreaterThan(20);
    for (const [text, plan] of plans) expect([text, scans(plan)]).toEqual([text, []]);
  });

  it('steps from machine to machine for what is not proved empty, and counts in an index alone', async () => {
    const read = leasesEnding(5, 5);
    const first = read.next().value;
    const second = read.next([{ machine: 'm', since: 1 }]).value;
    const texts = [first, second].map((statement) => ('sql' in statement ? statement.sql : ''));
    const plans = await plansOf((connection) => texts.forEach((text) => connection.prepare(text)));
    expect(plans.size).toBe(2);
    for (const plan of plans.values()) {
      const steps = plan.split('; ').filter((line) => line.includes(' leases '));
      expect(steps.length).toBe(3);
      for (const step of steps) expect(step).toMatch(/leases USING COVERING INDEX leases_ending/);
      expect(steps.filter((step) => step.startsWith('SCAN'))).toHaveLength(1);
      expect(plan).not.toContain('TEMP B-TREE');
    }
  });

  it.each([
    [{ requestId: 'r', target: 'pools/p' }, ['audit_request']],
    [{ target: 'pools/p', token: 1 }, ['audit_target']],
    [{ target: 'leases/lease-7' }, ['audit_target', 'audit_made']],
    [{ token: 1, outcome: 'done' }, ['audit_token']],
  ] as const)('steps to what it looks for in the audit log: %o', async (filter, indexes) => {
    const statement = auditLog(filter, { limit: 5, cursor: null }).next().value;
    const sql = 'sql' in statement ? statement.sql : '';
    const plans = await plansOf((connection) => connection.prepare(sql));
    for (const plan of plans.values()) {
      expect(indexes.filter((index) => plan.includes(`INDEX ${index} `))).toEqual(indexes);
      expect(plan).not.toContain('SCAN audit');
    }
  });
});
