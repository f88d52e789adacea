import Database from 'better-sqlite3';
import { join } from 'node:path';
import { brokerOf, reportedLeaseOf, reportedSessionOf } from '../../src/db/reported-rows.ts';
import * as rows from '../../src/db/rows.ts';
import type { AnyRow } from '../../src/db/statement.ts';
import type { Event } from '../../src/leases/model.ts';
import { answerKey, holderKey, placeOf, tenureKey } from '../../src/leases/model.ts';
import { reportedKey } from '../../src/leases/reported.ts';
import type { HeldPorts } from '../../src/leases/changes.ts';
import type { Tables } from './memory-store.ts';

/** `held`: what holders have, as it is kept, on machines where it is. */
export type Stored = Readonly<{ tables: Tables; events: readonly Event[]; held: readonly HeldPorts[] }>;

const names = [
  ...['pools', 'machines', 'holders', 'slices', 'tenures', 'sessions', 'leases', 'extents', 'shared_blocks'],
  ...['revocations', 'access_tokens', 'routers', 'kept_answers', 'epochs', 'audit', 'events', 'held_ports'],
  ...['brokers', 'reported_sessions', 'reported_leases'],
] as const;

/** Every row of a SQLite database, read over a connection of its own. */
export function readTables(directory: string): Stored {
  const connection = new Database(join(directory, 'fishery.db'), { readonly: true });
  try {
    const all = (table: string) => connection.prepare<[], AnyRow>(`SELECT * FROM ${table}`).all();
    return storedOf(Object.fromEntries(names.map((name) => [name, all(name)])));
  } finally {
    connection.close();
  }
}

/** Every row of a PostgreSQL database, in one look. */
export async function readPostgresTables(all: (sql: string) => Promise<readonly AnyRow[]>): Promise<Stored> {
  const parts = names.map((name) => `'${name}', (SELECT coalesce(json_agg(t), '[]') FROM ${name} AS t)`);
  const [found] = await all(`SELECT json_build_object(${parts.join(', ')})::text AS tables`);
  return storedOf(JSON.parse(String(found?.['tables'])) as Record<string, readonly AnyRow[]>);
}

function storedOf(found: Readonly<Record<string, readonly AnyRow[]>>): Stored {
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller says what the table holds
  const all = <Row, Value>(table: string, valueOf: (row: Row) => Value): Value[] =>
    ((found[table] ?? []) as readonly Row[]).map(valueOf);
  const byKey = <Key, Value>(values: readonly Value[], keyOf: (value: Value) => Key) =>
    new Map(values.map((value) => [keyOf(value), value]));
  const machines = all('machines', rows.machineOf);
  const counted = new Set(machines.filter(({ limitedHolders }) => limitedHolders > 0).map(({ id }) => id));
  return {
    tables: {
      pools: byKey(all('pools', rows.poolOf), (row) => row.id),
      machines: byKey(machines, (row) => row.id),
      holders: byKey(all('holders', rows.holderOf), (row) => holderKey(row.machine, row.name)),
      slices: byKey(all('slices', rows.sliceOf), (row) => row.id),
      tenures: byKey(all('tenures', rows.tenureOf), (row) => tenureKey(row.slice, row.generation)),
      sessions: byKey(all('sessions', rows.sessionOf), (row) => row.id),
      leases: byKey(all('leases', rows.leaseOf), (row) => row.id),
      extents: byKey(all('extents', rows.extentOf), placeOf),
      blocks: byKey(all('shared_blocks', rows.sharedBlockOf), placeOf),
      revocations: byKey(all('revocations', rows.revocationOf), (row) => row.id),
      accessTokens: byKey(all('access_tokens', rows.accessTokenOf), (row) => row.id),
      routers: byKey(all('routers', rows.routerOf), (row) => row.id),
      audit: byKey(all('audit', rows.auditOf), (row) => row.id),
      keptAnswers: byKey(all('kept_answers', rows.keptAnswerOf), (row) => answerKey(row.token, row.key)),
      epochs: byKey(all('epochs', rows.epochOf), (row) => row.number),
      brokers: byKey(all('brokers', brokerOf), (row) => row.machine),
      reportedSessions: byKey(all('reported_sessions', reportedSessionOf), reportedKey),
      reportedLeases: byKey(all('reported_leases', reportedLeaseOf), reportedKey),
    },
    held: all('held_ports', (row: HeldPorts) => row)
      .filter(({ machine, ports }) => counted.has(machine) && ports !== 0)
      .sort((a, b) => (placeOfHeld(a) < placeOfHeld(b) ? -1 : 1)),
    events: all('events', rows.eventOf).sort((a, b) => a.revision - b.revision),
  };
}

const placeOfHeld = ({ machine, holder, protocol }: HeldPorts): string => `${machine}/${holder}/${protocol}`;
