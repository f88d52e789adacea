import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { openPostgresStore } from '../../src/db/postgres/open.ts';
import { formatToken, type Lease } from '../../src/leases/model.ts';
import { StoreError } from '../../src/leases/store.ts';
import { Cable } from '../support/postgres/cable.ts';
import { onPostgres } from '../support/postgres/database.ts';
import { Pair } from '../support/postgres/pair.ts';
import { readPostgresTables } from '../support/stored-tables.ts';
import { flawsOf } from '../support/tiling.ts';
import { must, tcp, World } from '../support/world.ts';

/** A real failover: servers of Fishery keep the one address that leads to whichever database is the primary. */

let ids = 0;
const serve = async ({ url }: Cable): Promise<World> =>
  new World(await openPostgresStore({ url, newEpoch: () => `epoch-${++ids}` }));

/** A machine with sixteen thousand ports; the session of its holder. */
async function furnish(world: World, enforcement: 'agent' | 'none'): Promise<number> {
  await world.pool('v4', ['198.51.100.0/32'], { slicePorts: 16_384, usablePorts: { first: 16_384, last: 65_535 } });
  await world.machine('edge-1', enforcement);
  await world.holder('edge-1', 'web');
  await world.ready('edge-1', 'v4');
  return (await world.session('edge-1', 'web', 3_600)).id;
}

const grantOne = (world: World, session: number) =>
  world.execute({ kind: 'grantLeases', scope: {}, session, claims: [tcp(1)] });
/** What comes of a grant: done, or the code it is refused with. */
const tryOne = async (world: World, session: number): Promise<string> => {
  const result = await grantOne(world, session);
  return result.ok ? 'done' : result.error.code;
};
const placesOf = (leases: readonly Lease[]): readonly string[] =>
  leases.map(({ address, protocol, ports }) => `${address} ${protocol} ${ports.first}`);

describe('a failover', () => {
  it('in the middle of grants loses none that was answered, and grants nothing twice or before somebody answers for it', async () => {
    await using pair = await Pair.start();
    await pair.beSynchronous();
    await using cable = await Cable.lay(pair.primary.url);
    const worlds = [await serve(cable), await serve(cable)];
    const [first] = worlds;
    if (!first) throw new Error('two were started');
    const session = await furnish(first, 'none');

    const answered: Lease[] = [];
    const refusals = new Set<string>();
    const failures: unknown[] = [];
    let isOver = false;
    const holders = Array.from({ length: 8 }, async (_, index) => {
      while (!isOver) {
        try {
          const result = await grantOne(worlds[index % 2] ?? first, session);
          if (result.ok) answered.push(...result.value);
          else refusals.add(result.error.code);
        } catch (error) {
          failures.push(error);
          await sleep(20);
        }
      }
    });
    await vi.waitFor(() => expect(answered.length).toBeGreaterThan(200), { timeout: 15_000 });
    pair.killPrimary();
    await pair.promoteStandby();
    cable.leadTo(pair.standby.url);
    await vi.waitFor(() => expect([...refusals]).toEqual(['read_only_epoch']), { timeout: 15_000 });
    isOver = true;
    await Promise.all(holders);
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.filter((error) => !(error instanceof StoreError))).toEqual([]);

    const epoch = await first.store.reader.epoch();
    expect(epoch).toMatchObject({ number: 2, cause: 'other_database', confirmedAt: null });
    expect(epoch.detail).toMatch(/^this is database \d+\.2\.\S+, and \d+\.1\.\S+ wrote last$/);
    expect(answered.filter(({ id }) => id > epoch.after)).toEqual([]);
    for (const world of worlds) expect(await tryOne(world, session)).toBe('read_only_epoch');
    must(await first.execute({ kind: 'confirmEpoch', number: 2, by: 'a test' }));
    for (const world of worlds)
      for (let index = 0; index < 20; index++) answered.push(...must(await grantOne(world, session)));

    const { tables, events } = await readPostgresTables((sql) => onPostgres(sql, pair.standby.url));
    expect(answered.filter(({ id }) => !tables.leases.has(id))).toEqual([]);
    expect(new Set(placesOf(answered)).size).toBe(answered.length);
    expect(flawsOf(tables, events)).toEqual([]);
    expect(worlds.flatMap(({ troubles }) => troubles.filter(({ kind }) => kind === 'bug'))).toEqual([]);
    await Promise.all(worlds.map(({ store }) => store.close()));
  });

  it('to a standby that lagged behind is known by what the machine has, and gives no name a second time', async () => {
    await using pair = await Pair.start();
    await using cable = await Cable.lay(pair.primary.url);
    const world = await serve(cable);
    const session = await furnish(world, 'agent');
    const kept = must(await grantOne(world, session));
    await pair.partStandby();
    const lost = [...must(await grantOne(world, session)), ...must(await grantOne(world, session))];
    const seen = await world.store.reader.revision();
    pair.killPrimary();
    await pair.promoteStandby();
    cable.leadTo(pair.standby.url);

    // One that was there before, and one that never saw what is missing.
    const anew = await serve(cable);
    for (const one of [anew, world])
      await vi.waitFor(async () => expect(await tryOne(one, session)).toBe('read_only_epoch'), { timeout: 15_000 });
    const epoch = await anew.store.reader.epoch();
    expect(epoch).toMatchObject({ number: 2, cause: 'other_database', confirmedAt: null });
    expect(epoch.after).toBeLessThanOrEqual(seen);
    expect(await Promise.all(kept.map((lease) => anew.look(lease)))).toEqual(['198.51.100.0:32767/tcp pending']);
    expect(await Promise.all(lost.map((lease) => anew.look(lease)))).toEqual(['none', 'none']);
    // In doubt the host goes on as it is.
    expect(await anew.alive('edge-1', 'boot', seen)).toBe('for 30 s');

    must(await anew.execute({ kind: 'confirmEpoch', number: 2, by: 'a test' }));
    // It has made true what nobody knows of any more: from here on it is answered when it has let go of that.
    expect(await anew.alive('edge-1', 'boot', seen)).toBe('machine_behind');
    const desired = await anew.store.reader.desired('edge-1');
    expect(desired?.leases.map(({ id }) => id)).toEqual(kept.map(({ id }) => id));
    expect(await anew.alive('edge-1', 'boot', desired?.revision)).toBe('for 30 s');

    for (const lease of lost) expect(await world.release(lease, formatToken(lease))).toBe('lease_not_found');
    const granted = [...must(await grantOne(world, session)), ...must(await grantOne(anew, session))];
    const [low = 0, high = 0] = granted.map(({ id }) => id).sort((a, b) => a - b);
    expect([low > epoch.from, high > low]).toEqual([true, true]);
    expect(new Set(placesOf([...kept, ...granted])).size).toBe(3);
    const { tables, events } = await readPostgresTables((sql) => onPostgres(sql, pair.standby.url));
    expect(flawsOf(tables, events)).toEqual([]);
    await Promise.all([world, anew].map(({ store }) => store.close()));
  });
});
