import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { extentRow, leaseRow, sliceRow } from '../../src/db/rows.ts';
import type { AnyRow } from '../../src/db/statement.ts';
import type { Extent, Lease } from '../../src/leases/model.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';
import { setGuardScene, type GuardScene } from '../support/guard-scene.ts';

const literal = (value: AnyRow[string]) => (typeof value === 'string' ? `'${value}'` : String(value));
const insert = (table: string, row: AnyRow) =>
  `INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (${Object.values(row).map(literal).join(', ')})`;
const lease = (from: Lease, change: Partial<Lease>) => insert('leases', leaseRow({ ...from, id: 9_999, ...change }));
const extent = (from: Extent, change: Partial<Extent>) => insert('extents', extentRow({ ...from, ...change }));

let database: TemporaryDatabase;
let scene: GuardScene;
beforeAll(async () => {
  database = await temporaryDatabase();
  scene = await setGuardScene(await database.open({ clock: 'server' }));
});
afterAll(() => database[Symbol.asyncDispose]());

describe('the database by itself', () => {
  it.each<[string, (scene: GuardScene) => string, string | null]>([
    ['a lease on a lease', ({ exclusive }) => lease(exclusive, {}), 'leases_'],
    [
      'a lease in a lease',
      ({ exclusive }) => lease(exclusive, { ports: { first: 3_584, last: 3_585 } }),
      'leases_disjoint',
    ],
    [
      'a lease around a lease',
      ({ exclusive }) => lease(exclusive, { ports: { first: 2_048, last: 4_095 } }),
      'leases_disjoint',
    ],
    [
      'a lease on a free extent',
      ({ exclusive }) => lease(exclusive, { ports: { first: 2_112, last: 2_112 } }),
      'overlap an extent',
    ],
    [
      'an exclusive lease on a shared block',
      ({ exclusive, joint }) => lease(exclusive, { ports: joint.ports }),
      'leases_disjoint',
    ],
    ['another holder in a shared block', ({ joint }) => lease(joint, { holder: 'mail' }), null],
    ['a holder twice in a shared block', ({ joint }) => lease(joint, {}), 'leases_live'],
    [
      'a shared lease in a part of a block',
      ({ joint }) => lease(joint, { holder: 'mail', ports: { first: 2_560, last: 2_815 } }),
      'leases_disjoint',
    ],
    ['a lease of another protocol', ({ exclusive }) => lease(exclusive, { protocol: 'udp' }), 'overlap an extent'],
    ['a lease that is over', ({ exclusive }) => lease(exclusive, { state: 'ended', endedAt: 1 }), null],
    ['a lease that is over without an end', () => `UPDATE leases SET state = 'ended'`, 'leases_over'],
    ['an extent on a lease', ({ free, exclusive }) => extent(free, { ports: exclusive.ports }), 'overlap a live lease'],
    [
      'an extent on an extent',
      ({ free }) => extent(free, { ports: { first: 2_200, last: 2_201 } }),
      'extents_disjoint',
    ],
    [
      'an extent that grows over a lease',
      () => "UPDATE extents SET last_port = last_port + 1 WHERE protocol = 'tcp'",
      'overlap a live lease',
    ],
    ['an extent that shrinks', () => "UPDATE extents SET last_port = last_port - 1 WHERE protocol = 'tcp'", null],
    ['a lease that moves', () => 'UPDATE leases SET first_port = first_port - 1', 'a lease does not move'],
    [
      'a slice on a part of a slice',
      ({ slice }) => insert('slices', sliceRow({ ...slice, id: 9_999, ports: { first: 2_560, last: 3_071 } })),
      'slices_disjoint',
    ],
    ['a slice that goes back a generation', () => 'UPDATE slices SET generation = 0', 'only rises'],
    ['a free slice with an owner', () => `UPDATE slices SET state = 'free'`, 'slices_owner'],
    ['a holder of nobody', () => `UPDATE holders SET machine = 'nobody'`, 'foreign key'],
    ['a step that met fewer rows than it was to', () => `SELECT must_meet('updated x', 1, 2)`, 'updated x met 1 rows'],
    ['a step that met all its rows', () => `SELECT must_meet('updated x', 2, 2)`, null],
    ['a second end of the log', () => 'UPDATE log_end SET "only" = 2', 'log_end_one_row'],
  ])('judges %s', async (_, sqlOf, refusal) => {
    const attempt = database.query(`BEGIN; ${sqlOf(scene)}; ROLLBACK`);
    if (refusal === null) await attempt;
    else
      await expect(attempt).rejects.toMatchObject({
        code: expect.stringMatching(/^23/) as string,
        message: expect.stringContaining(refusal) as string,
      });
  });
});
