import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { Want } from '../../src/leases/model.ts';
import { ledger, must, prefix, World } from '../support/world.ts';

let w: World;

beforeEach(async () => {
  w = new World();
  // Two slices each address.
  const halves = { slicePorts: 16_384, usablePorts: { first: 32_768, last: 65_535 } };
  await w.pool('v4', ['198.51.100.0/30'], { ...halves, labels: { country: 'de' } });
  await w.pool('v6', ['2001:db8::/64'], { ...halves, labels: { country: 'de' } });
  await w.pool('small', ['203.0.113.0/32'], { ...halves, labels: { country: 'pl' } });
  for (const machine of ['edge-1', 'edge-2']) await w.machine(machine);
  await w.machine('bare', 'none');
});

const want = (slices: number, of: Partial<Want>): Want => ({
  ...{ pool: null, select: null, family: null, allocator: 'server', slices },
  ...of,
});
const wants = (machine: string, ...list: Want[]) => w.say(machine, { wants: list });

/** What the machine has, by pool, and what it lacks. */
async function has(machine: string): Promise<string> {
  const { items } = await w.store.reader.slices({ machine }, { limit: 100, cursor: null });
  const pools = items
    .filter(({ state }) => state === 'assigning' || state === 'assigned')
    .map(({ pool, address }) => (pool === 'v6' || pool === 'v4' || pool === 'small' ? pool : address));
  const counts = [...new Set(pools)].map((pool) => `${pools.filter((one) => one === pool).length} ${pool}`).sort();
  const missing = (await w.store.reader.machine(machine))?.wanting.missing ?? [];
  return `${counts.join(', ') || 'nothing'}; lacks ${missing.join(', ') || 'nothing'}`;
}

describe('a machine that wants slices', () => {
  it('gets them by itself, those of a pool and those of pools with labels', () =>
    ledger([
      ['said', () => wants('edge-1', want(3, { pool: 'v4' }), want(1, { select: 'country=pl' })), 'active'],
      ['not yet', () => has('edge-1'), 'nothing; lacks 3, 1'],
      ['the sweeper comes by', () => w.sweep().then(Boolean), true],
      ['has', () => has('edge-1'), '1 small, 3 v4; lacks 0, 0'],
      ['no more than that', () => w.pass(1_000), undefined],
      ['has', () => has('edge-1'), '1 small, 3 v4; lacks 0, 0'],
    ]));

  it('gets them of the family that it wants, from whichever pool has them', () =>
    ledger([
      ['said', () => wants('bare', want(2, { select: 'country', family: 6 })), 'active'],
      ['the sweeper', () => w.sweep().then(Boolean), true],
      ['has', () => has('bare'), '2 v6; lacks 0'],
      ['of several pools', () => wants('edge-1', want(10, { select: 'country in (de,pl)', family: 4 })), 'active'],
      ['the sweeper', () => w.sweep().then(Boolean), true],
      ['all that there are', () => has('edge-1'), '2 small, 8 v4; lacks 0'],
    ]));

  it('gets those that it is to grant in itself beside those that the server grants in', async () => {
    await wants('edge-1', want(2, { pool: 'v4', allocator: 'machine' }), want(1, { pool: 'v4' }));
    await w.sweep();
    const allocators = async () => {
      const { items } = await w.store.reader.slices({ machine: 'edge-1' }, { limit: 9, cursor: null });
      return items.map(({ id, state, allocator }) => ({ id, said: `${state} ${allocator}` }));
    };
    const [first] = await allocators();
    expect((await allocators()).map(({ said }) => said)).toEqual([
      ...['assigning machine', 'assigning machine', 'assigning server'],
    ]);
    await ledger([
      ['both', () => has('edge-1'), '3 v4; lacks 0, 0'],
      ['taken from the machine', () => w.allocate(first?.id ?? 0, 'server', { force: true }).then(Boolean), true],
      ['which wants another then', () => w.sweep().then(Boolean), true],
      ['replaced', () => has('edge-1'), '3 v4; lacks 0, 0'],
      [
        'there is nobody to',
        () => wants('bare', want(1, { pool: 'v4', allocator: 'machine' })),
        'allocator_needs_agent',
      ],
      ['so it lacks nothing', () => has('bare'), 'nothing; lacks nothing'],
    ]);
    expect((await allocators()).filter(({ said }) => said === 'assigning machine')).toHaveLength(2);
  });

  it('gets many, some at a step', async () => {
    const many = 3 * limits.slices_per_want_step + 1;
    await wants('edge-1', want(many, { pool: 'v6' }));
    must(await w.execute({ kind: 'sweep', itemsMax: 100 }));
    expect(await has('edge-1')).toBe(`${limits.slices_per_want_step} v6; lacks ${many - limits.slices_per_want_step}`);
    await w.sweep();
    expect(await has('edge-1')).toBe(`${many} v6; lacks 0`);
  });

  it('gets another for one that is drained, moved or handed over, and no more than that', async () => {
    await wants('edge-1', want(2, { pool: 'v4' }));
    await w.sweep();
    const [slice] = (await w.store.reader.slices({ machine: 'edge-1' }, { limit: 1, cursor: null })).items;
    await ledger([
      ['drained', () => w.drain(slice?.id ?? 0).then(Boolean), true],
      ['the sweeper', () => w.sweep().then(Boolean), true],
      ['replaced', () => has('edge-1'), '2 v4; lacks 0'],
      ['all in all', async () => (await w.store.reader.desired('edge-1'))?.slices.length, 3],
    ]);
  });

  it('keeps what it has too much, and counts what was assigned by hand', () =>
    ledger([
      ['by hand', () => w.slices('edge-1', 'v4', { count: 4 }).then(({ length }) => length), 4],
      ['less', () => wants('edge-1', want(2, { pool: 'v4' })), 'active'],
      ['lacks nothing, as is known at once', () => has('edge-1'), '4 v4; lacks 0'],
      ['more', () => wants('edge-1', want(5, { pool: 'v4' })), 'active'],
      ['known at once', () => has('edge-1'), '4 v4; lacks 1'],
      ['the sweeper', () => w.sweep().then(Boolean), true],
      ['one more', () => has('edge-1'), '5 v4; lacks 0'],
      ['nothing', () => wants('edge-1'), 'active'],
      ['keeps all', () => w.pass(1_000).then(() => has('edge-1')), '5 v4; lacks nothing'],
    ]));

  it('that cannot get all says what it lacks, and gets it when it is there', async () => {
    await wants('edge-1', want(3, { pool: 'small' }));
    await ledger([
      ['the sweeper', () => w.sweep().then(Boolean), true],
      ['what there is', () => has('edge-1'), '2 small; lacks 1'],
      ['nothing to do', () => w.sweep(), 0],
      ['a prefix comes', () => grow(), true],
      ['a little later', () => w.pass(10), undefined],
      ['has', () => has('edge-1'), '3 small; lacks 0'],
    ]);
  });
  const grow = async () => {
    const prefixes = ['203.0.113.0/32', '203.0.113.9/32'].map(prefix);
    return (await w.execute({ kind: 'updatePool', id: 'small', prefixes })).ok;
  };

  it('shares what there is with others that want it: nobody gets it twice', async () => {
    await wants('edge-1', want(8, { pool: 'v4' }));
    await wants('edge-2', want(8, { pool: 'v4' }));
    await w.sweep();
    expect([await has('edge-1'), await has('edge-2')]).toEqual(['8 v4; lacks 0', 'nothing; lacks 8']);
  });

  it('gets nothing while it takes nothing new, and all when it does', async () => {
    await wants('edge-1', want(2, { pool: 'v4' }));
    await ledger([
      ['cordoned', () => w.say('edge-1', { state: 'cordoned' }), 'cordoned'],
      ['the sweeper', () => w.pass(100).then(() => has('edge-1')), 'nothing; lacks 2'],
      ['active', () => w.say('edge-1', { state: 'active' }), 'active'],
      ['at once', () => w.sweep().then(() => has('edge-1')), '2 v4; lacks 0'],
      ['draining', () => w.say('edge-1', { state: 'draining' }), 'draining'],
      ['gets no others for those', () => w.pass(100).then(() => has('edge-1')), 'nothing; lacks 0'],
      ['active', () => w.say('edge-1', { state: 'active' }), 'active'],
      ['others', () => w.sweep().then(() => has('edge-1')), '2 v4; lacks 0'],
    ]);
  });

  it('wants of pools that exist, from its creation on if that is said', async () => {
    const create = { kind: 'createMachine', id: 'edge-3', labels: {}, enforcement: 'agent', fenceUs: 1 } as const;
    await ledger([
      ['of no pool', () => wants('edge-1', want(1, { pool: 'gone' })), 'pool_not_found'],
      ['of labels that none has', () => wants('edge-1', want(1, { select: 'country=fr' })), 'active'],
      ['lacks it', () => w.pass(20).then(() => has('edge-1')), 'nothing; lacks 1'],
      ['a pool comes', () => w.pool('fr', ['192.0.2.0/30'], { labels: { country: 'fr' } }), 'fr'],
      ['has it', () => w.pass(10).then(async () => (await w.store.reader.desired('edge-1'))?.slices.length), 1],
      ['from the beginning', async () => (await w.execute({ ...create, wants: [want(1, { pool: 'v6' })] })).ok, true],
      ['has it', () => w.sweep().then(() => has('edge-3')), '1 v6; lacks 0'],
    ]);
  });

  it('makes no news of what it lacks, and none of what was wanted before', async () => {
    const told = async (act: () => Promise<unknown>) => {
      const before = w.events.length;
      await act();
      return w.events.slice(before).map(({ kind }) => kind);
    };
    const three = want(3, { pool: 'small' });
    expect(await told(() => wants('edge-1', three))).toEqual(['machine']);
    expect(await told(() => wants('edge-1', three))).toEqual([]);
    expect(await told(() => w.pass(1_000))).toEqual(['slice', 'slice']);
  });
});

describe('a sweep that comes together with other commands', () => {
  it('goes by what they said: it fences nobody who was heard, given up or deleted just before', async () => {
    for (const machine of ['edge-1', 'edge-2']) await w.alive(machine);
    await w.machine('edge-3');
    await w.alive('edge-3');
    w.clock.passSeconds(30);
    await Promise.all([
      w.alive('edge-1'),
      w.say('edge-2', { state: 'lost' }),
      w.remove('edge-3'),
      w.execute({ kind: 'sweep', itemsMax: 100 }),
    ]);
    const states = await Promise.all(['edge-1', 'edge-2', 'edge-3'].map((machine) => w.lookMachine(machine)));
    expect(states).toEqual(['active', 'lost', 'none']);
    expect(await w.store.reader.machine('edge-1')).toMatchObject({ agent: { seenAt: w.clock.us } });
  });

  it('gives nothing to a machine that was cordoned just before', async () => {
    await wants('edge-1', want(2, { pool: 'v4' }));
    await Promise.all([w.say('edge-1', { state: 'cordoned' }), w.execute({ kind: 'sweep', itemsMax: 100 })]);
    expect(await has('edge-1')).toBe('nothing; lacks 2');
  });
});
