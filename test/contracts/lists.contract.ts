import { describe, expect, it } from 'vitest';
import { parseSelector, type Selector } from '../../src/net/selector.ts';
import type {
  LeaseFilter,
  MachineFilter,
  PageOf,
  PageRequest,
  PoolFilter,
  RouterFilter,
  SessionFilter,
  SliceFilter,
  Store,
} from '../../src/leases/store.ts';
import { walk } from '../support/pages.ts';
import { address, must, second, shared, tcp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

const labels = (text: string): Selector => {
  const parsed = parseSelector(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};

/** What a store promises to those who look for things by their labels, or by what they are. */
export function listsContract(name: string, open: () => Promise<Opened>): void {
  /** Pools in two countries, machines on two sites, and everything of each pool on each machine. */
  async function country(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('de-a', ['198.51.100.0/30'], { labels: { country: 'de', tier: 'a' } });
    await world.pool('de-b', ['192.0.2.0/30', '2001:db8::/64'], { labels: { country: 'de' } });
    await world.pool('fr', ['203.0.113.0/30'], { labels: { country: 'fr' } });
    for (const [machine, site] of [
      ['edge-1', 'fra1'],
      ['edge-2', 'cdg1'],
      ['edge-3', null],
    ] as const) {
      const terms = { enforcement: 'none' as const, fenceUs: 30 * second, mark: null, nextHops: [] };
      must(
        await world.execute({ kind: 'createMachine', id: machine, labels: site === null ? {} : { site }, ...terms }),
      );
      await world.holder(machine, 'web');
      await world.holder(machine, 'tun', 'fish');
      for (const pool of ['de-a', 'de-b', 'fr']) await world.ready(machine, pool);
    }
    await world.router('core-1', { site: 'fra1' });
    await world.router('core-2');
    return world;
  }

  /** In pages of one and of two: filters and cursors have to agree. */
  async function all<T>(list: (page: PageRequest) => Promise<PageOf<T>>): Promise<readonly T[]> {
    const [ones, twos] = [await walk(list, 1), await walk(list, 2)];
    expect(twos).toEqual(ones);
    return ones;
  }

  describe(`${name}, as lists that are looked through`, () => {
    it('finds pools, machines, routers and holders by what they bear and what they are', async () => {
      await using opened = await open();
      const world = await country(opened.store);
      const { reader } = world.store;
      const pools = async (filter: PoolFilter) => (await all((page) => reader.pools(filter, page))).map(({ id }) => id);
      expect(await pools({})).toEqual(['de-a', 'de-b', 'fr']);
      expect(await pools({ labels: labels('country=de') })).toEqual(['de-a', 'de-b']);
      expect(await pools({ labels: labels('country in (de,fr),!tier') })).toEqual(['de-b', 'fr']);
      expect(await pools({ address: address('2001:db8::7') })).toEqual(['de-b']);
      expect(await pools({ address: address('192.0.2.4') })).toEqual([]);
      expect(await pools({ address: address('192.0.2.1'), labels: labels('tier') })).toEqual([]);

      must(await world.execute({ kind: 'updateMachine', id: 'edge-2', state: 'cordoned' }));
      const machines = async (filter: MachineFilter) =>
        (await all((page) => reader.machines(filter, page))).map(({ id }) => id);
      expect(await machines({})).toEqual(['edge-1', 'edge-2', 'edge-3']);
      expect(await machines({ labels: labels('site') })).toEqual(['edge-1', 'edge-2']);
      expect(await machines({ labels: labels('site!=fra1') })).toEqual(['edge-2', 'edge-3']);
      expect(await machines({ labels: labels('site'), state: 'active' })).toEqual(['edge-1']);
      expect(await machines({ state: 'cordoned' })).toEqual(['edge-2']);
      expect(await machines({ enforcement: 'agent' })).toEqual([]);
      expect(await machines({ enforcement: 'none', state: 'active' })).toEqual(['edge-1', 'edge-3']);

      const routers = async (filter: RouterFilter) =>
        (await all((page) => reader.routers(filter, page))).map(({ id }) => id);
      expect(await routers({})).toEqual(['core-1', 'core-2']);
      expect(await routers({ labels: labels('site=fra1') })).toEqual(['core-1']);

      const fish = await all((page) => reader.holders('edge-1', { kind: 'fish' }, page));
      expect(fish.map((holder) => holder.name)).toEqual(['tun']);
    });

    it('finds slices, leases and sessions by the labels of their pool and machine, as these are now', async () => {
      await using opened = await open();
      const world = await country(opened.store);
      const { reader } = world.store;
      const slices = async (filter: SliceFilter) =>
        (await all((page) => reader.slices(filter, page))).map(({ pool, machine }) => `${pool} ${machine}`);
      expect(await slices({ poolLabels: labels('tier=a') })).toEqual(['de-a edge-1', 'de-a edge-2', 'de-a edge-3']);
      expect(await slices({ poolLabels: labels('country=fr'), machineLabels: labels('site') })).toEqual([
        'fr edge-1',
        'fr edge-2',
      ]);
      expect(await slices({ machineLabels: labels('!site'), pool: 'fr' })).toEqual(['fr edge-3']);
      expect(await slices({ machineLabels: labels('site=fra1'), machine: 'edge-2' })).toEqual([]);
      expect((await slices({ allocator: 'server' })).length).toBe(9);
      expect(await slices({ allocator: 'machine' })).toEqual([]);

      const sessionIds: number[] = [];
      for (const machine of ['edge-1', 'edge-2', 'edge-3']) {
        const session = await world.session(machine, 'web', 300);
        sessionIds.push(session.id);
        await world.leases(session, tcp(4, { pool: 'de-a' }), shared(64, { pool: 'fr' }));
      }
      const sessions = async (filter: SessionFilter) =>
        (await all((page) => reader.sessions(filter, page))).map(({ id }) => id);
      expect(await sessions({ machineLabels: labels('site notin (cdg1)') })).toEqual([sessionIds[0], sessionIds[2]]);
      expect(await sessions({ machineLabels: labels('site'), machine: 'edge-2' })).toEqual([sessionIds[1]]);

      const leases = async (filter: LeaseFilter) =>
        (await all((page) => reader.leases(filter, page))).map(({ pool, machine }) => `${pool} ${machine}`);
      expect(await leases({ poolLabels: labels('country=fr') })).toEqual(['fr edge-1', 'fr edge-2', 'fr edge-3']);
      expect(await leases({ poolLabels: labels('country=de'), machineLabels: labels('site=cdg1') })).toEqual([
        'de-a edge-2',
      ]);
      // Also where an index leads: by machine, by session, and what has none.
      expect(await leases({ machine: 'edge-3', poolLabels: labels('tier') })).toEqual(['de-a edge-3']);
      expect(await leases({ session: sessionIds[0] ?? 0, poolLabels: labels('!tier') })).toEqual(['fr edge-1']);
      expect(await leases({ session: null, poolLabels: labels('tier') })).toEqual([]);
      expect(await leases({ mode: 'shared', machineLabels: labels('site') })).toEqual(['fr edge-1', 'fr edge-2']);

      must(await world.execute({ kind: 'updateMachine', id: 'edge-3', labels: { site: 'fra1' } }));
      expect(await sessions({ machineLabels: labels('site=fra1') })).toEqual([sessionIds[0], sessionIds[2]]);
    });
  });
}
