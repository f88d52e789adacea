import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { extentRow, leaseRow } from '../../src/db/rows.ts';
import type { AnyRow } from '../../src/db/statement.ts';
import type { Extent, Lease } from '../../src/leases/model.ts';
import { setGuardScene, type GuardScene } from '../support/guard-scene.ts';
import { temporaryStore } from '../support/temporary-store.ts';

const insert = (table: string, row: AnyRow) => (connection: Database.Database) =>
  connection
    .prepare(
      `INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (${Object.keys(row)
        .map(() => '?')
        .join(', ')})`,
    )
    .run(...Object.values(row));
const lease = (from: Lease, change: Partial<Lease>) => insert('leases', leaseRow({ ...from, id: 9_999, ...change }));
const extent = (from: Extent, change: Partial<Extent>) => insert('extents', extentRow({ ...from, ...change }));
const run = (sql: string) => (connection: Database.Database) => connection.exec(sql);
const overlap = 'a live lease would overlap another, or an extent';

describe('the database by itself', () => {
  it.each<[string, (scene: GuardScene) => (connection: Database.Database) => unknown, string | null]>([
    ['a lease on a lease', ({ exclusive }) => lease(exclusive, {}), overlap],
    ['a lease in a lease', ({ exclusive }) => lease(exclusive, { ports: { first: 3_584, last: 3_585 } }), overlap],
    ['a lease around a lease', ({ exclusive }) => lease(exclusive, { ports: { first: 2_048, last: 4_095 } }), overlap],
    [
      'a lease on a free extent',
      ({ exclusive }) => lease(exclusive, { ports: { first: 2_112, last: 2_112 } }),
      overlap,
    ],
    [
      'an exclusive lease on a shared block',
      ({ exclusive, joint }) => lease(exclusive, { ports: joint.ports }),
      overlap,
    ],
    ['another holder in a shared block', ({ joint }) => lease(joint, { holder: 'mail' }), null],
    ['a holder twice in a shared block', ({ joint }) => lease(joint, {}), 'UNIQUE constraint failed'],
    [
      'a shared lease in a part of a block',
      ({ joint }) => lease(joint, { holder: 'mail', ports: { first: 2_560, last: 2_815 } }),
      overlap,
    ],
    ['a lease of another protocol', ({ exclusive }) => lease(exclusive, { protocol: 'udp' }), overlap],
    ['a lease that is over', ({ exclusive }) => lease(exclusive, { state: 'ended', endedAt: 1 }), null],
    ['a lease that is over without an end', () => run(`UPDATE leases SET state = 'ended'`), 'leases_over'],
    [
      'a lease in a state that there is not',
      ({ exclusive }) => lease(exclusive, { state: 'gone' as 'ended', endedAt: 1 }),
      'leases_state',
    ],
    [
      'a shared udp lease',
      ({ joint }) => lease(joint, { protocol: 'udp', state: 'ended', endedAt: 1 }),
      'leases_shared',
    ],
    [
      'an extent on a lease',
      ({ free, exclusive }) => extent(free, { ports: exclusive.ports }),
      'an extent would overlap',
    ],
    [
      'an extent on an extent',
      ({ free }) => extent(free, { ports: { first: 2_200, last: 2_201 } }),
      'an extent would overlap',
    ],
    [
      'an extent that grows over a lease',
      () => run("UPDATE extents SET last_port = last_port + 1 WHERE protocol = 'tcp'"),
      'an extent would grow',
    ],
    ['an extent that shrinks', () => run("UPDATE extents SET last_port = last_port - 1 WHERE protocol = 'tcp'"), null],
    ['a blocked extent on offer', () => run(`UPDATE extents SET state = 'blocked'`), 'extents_state'],
    ['a lease that moves', () => run('UPDATE leases SET first_port = first_port - 1'), 'a lease does not move'],
    ['a slice that goes back a generation', () => run('UPDATE slices SET generation = 0'), 'only rises'],
    ['a free slice with an owner', () => run(`UPDATE slices SET state = 'free', route = 'none'`), 'slices_owner'],
    ['a slice without a route', () => run(`UPDATE slices SET route = 'none'`), 'slices_route'],
    ['a block without members', () => run('UPDATE shared_blocks SET members = 0'), 'shared_blocks_members'],
    ['a holder of nobody', () => run(`UPDATE holders SET machine = 'nobody'`), 'FOREIGN KEY'],
  ])('judges %s', async (_, change, refusal) => {
    await using temporary = await temporaryStore();
    const scene = await setGuardScene(temporary.store);
    await temporary.store.close();
    const connection = new Database(join(temporary.directory, 'fishery.db'));
    connection.pragma('foreign_keys = ON');
    try {
      const attempt = () => change(scene)(connection);
      if (refusal === null) expect(attempt).not.toThrow();
      else expect(attempt).toThrow(refusal);
    } finally {
      connection.close();
    }
  });

  it('does not let a lease come back that is over', async () => {
    await using temporary = await temporaryStore();
    await setGuardScene(temporary.store);
    await temporary.store.close();
    const connection = new Database(join(temporary.directory, 'fishery.db'));
    connection.exec(`UPDATE leases SET state = 'ended', ended_at = 5`);
    expect(() => connection.exec(`UPDATE leases SET state = 'active', ended_at = NULL`)).toThrow('does not come back');
    connection.close();
  });
});
