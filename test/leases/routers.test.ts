import { describe, expect, it } from 'vitest';
import type { RouterDemand } from '../../src/leases/model.ts';
import { ledger, must, tcp, World } from '../support/world.ts';

const everyRouter: RouterDemand = { ids: null, select: null, policy: 'all' };

/** A pool that waits for routers, a machine with an agent, one without, and the routers. */
async function town(routers: RouterDemand, ...names: string[]): Promise<World> {
  const world = new World();
  await world.pool('v4', ['198.51.100.0/30'], { routers });
  await world.machine('edge-1');
  await world.machine('bare', 'none');
  await world.holder('edge-1', 'web');
  await world.holder('bare', 'web');
  for (const name of names) await world.router(name, { site: name.startsWith('fra') ? 'fra1' : 'ams1' });
  return world;
}

const firstSlice = async (world: World, machine = 'edge-1') => {
  const [slice] = await world.slices(machine, 'v4');
  if (!slice) throw new Error('no slice');
  return slice;
};
const look = async (world: World, { id }: { id: number }) => {
  const slice = await world.store.reader.slice(id);
  return `${slice?.state}, ${slice?.route}`;
};
/** Whether the machine is told of the slice, by a snapshot and by the log. */
const isTold = async (world: World, { id }: { id: number }, machine = 'edge-1') => {
  const { reader } = world.store;
  const desired = (await reader.desired(machine))?.slices.some((slice) => slice.id === id);
  const log = await reader.eventsAfter(0, machine, 1_000);
  return [desired, log.some((event) => event.kind === 'slice' && event.slice.id === id)];
};

describe('a slice of a pool with routers', () => {
  it('is told to its machine only when every router knows the way', async () => {
    const w = await town(everyRouter, 'fra-1', 'fra-2');
    const slice = await firstSlice(w);
    await ledger([
      ['how it begins', () => look(w, slice), 'assigning, adding'],
      ['whether its machine is told', () => isTold(w, slice), [false, false]],
      [
        'the machine confirms what it cannot know',
        () => w.reportSlice('edge-1', slice, 'assigned'),
        `slice-${slice.id} not_routed`,
      ],
      ['one router', () => w.applied('fra-1', slice.revision), `${slice.revision}`],
      ['is not all', () => look(w, slice), 'assigning, adding'],
      ['the other, but not so far', () => w.applied('fra-2', slice.revision - 1), `${slice.revision - 1}`],
      ['is not enough', () => look(w, slice), 'assigning, adding'],
      ['the other', () => w.applied('fra-2', slice.revision), `${slice.revision}`],
      ['routed', () => look(w, slice), 'assigning, routed'],
      ['whether its machine is told', () => isTold(w, slice), [true, true]],
      ['the machine confirms', () => w.reportSlice('edge-1', slice, 'assigned'), 'taken'],
      ['assigned', () => look(w, slice), 'assigned, routed'],
    ]);
  });

  it('is granted from at once, when routed, on a machine without an agent', async () => {
    const w = await town(everyRouter, 'fra-1');
    const slice = await firstSlice(w, 'bare');
    const session = await w.session('bare', 'web');
    await ledger([
      ['not yet', () => w.grant(session, tcp(1)), 'no_slices'],
      ['the router', () => w.applied('fra-1', slice.revision), `${slice.revision}`],
      ['assigned', () => look(w, slice), 'assigned, routed'],
      ['now', () => w.grant(session, tcp(1)), '198.51.100.0:4095/tcp active'],
    ]);
  });

  it('is free only when every router has let go of it, after its rest', async () => {
    const w = await town(everyRouter, 'fra-1', 'fra-2');
    const slice = await firstSlice(w);
    await w.applied('fra-1');
    await w.applied('fra-2');
    await w.reportSlice('edge-1', slice, 'assigned');
    await ledger([
      ['drained', () => w.drain(slice.id), '198.51.100.0:2048-4095 draining on edge-1 g1'],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rests, and the way stays', () => look(w, slice), 'cooling, routed'],
      ['acknowledged too early', () => w.applied('fra-1'), '12'],
      ['the rest is over', () => w.pass(121), undefined],
      ['the way is withdrawn', () => look(w, slice), 'cooling, removing'],
      ['stays so', () => w.pass(3_600), undefined],
      ['as long as it takes', () => look(w, slice), 'cooling, removing'],
      [
        'nobody else gets it',
        () => w.assign('bare', 'v4', { at: { address: slice.address, firstPort: 2_048 } }),
        'slice_taken',
      ],
      ['one has let go', () => w.applied('fra-1').then(Boolean), true],
      ['is not all', () => look(w, slice), 'cooling, removing'],
      ['the other', () => w.applied('fra-2').then(Boolean), true],
      ['free', () => look(w, slice), 'free, none'],
    ]);
    const [again] = await w.slices('edge-1', 'v4', { at: { address: slice.address, firstPort: 2_048 } });
    // What was acknowledged before says nothing about the way to its next owner.
    expect(again).toMatchObject({ generation: 2, state: 'assigning', route: 'adding' });
  });

  it('that was never told to its machine needs no proof, and rests', async () => {
    const w = await town(everyRouter, 'fra-1');
    const slice = await firstSlice(w);
    await ledger([
      ['drained', () => w.drain(slice.id), '198.51.100.0:2048-4095 cooling on edge-1 g1'],
      ['its way is withdrawn in the end', () => w.pass(121).then(() => look(w, slice)), 'cooling, removing'],
      ['the router', () => w.applied('fra-1').then(Boolean), true],
      ['free', () => look(w, slice), 'free, none'],
      ['its machine never heard of it', () => isTold(w, slice), [false, true]],
    ]);
  });

  it('goes on with the next sweep when the last router that it waits for is taken out of service', async () => {
    const w = await town(everyRouter, 'fra-1', 'fra-2');
    const slice = await firstSlice(w);
    await w.applied('fra-1');
    await w.execute({ kind: 'deleteRouter', id: 'fra-2' });
    expect(await look(w, slice)).toBe('assigning, adding');
    expect(await w.sweep()).toBe(1);
    expect(await look(w, slice)).toBe('assigning, routed');
  });

  it('moves as far as its router has got, whatever is stuck behind', async () => {
    const w = await town(everyRouter, 'fra-1');
    const slices = await w.slices('edge-1', 'v4', { count: 60 });
    const routed = async () => (await w.store.reader.slices({ route: 'routed' }, { limit: 99, cursor: null })).items;
    await w.applied('fra-1', slices[19]?.revision ?? 0);
    expect((await routed()).map(({ id }) => id)).toEqual(slices.slice(0, 20).map(({ id }) => id));
    expect(await w.sweep(7)).toBe(0);
    await w.applied('fra-1');
    expect(await routed()).toHaveLength(60);
  });
});

describe('which routers count', () => {
  const wanted = (rest: Partial<RouterDemand>): RouterDemand => ({ ...everyRouter, ...rest });
  const names = ['fra-1', 'fra-2', 'ams-1'];

  it.each<[string, RouterDemand, readonly string[], string]>([
    ['nobody', wanted({ policy: 'none' }), [], 'routed'],
    ['all, and one is missing', everyRouter, ['fra-1', 'fra-2'], 'adding'],
    ['all', everyRouter, names, 'routed'],
    ['those of a label', wanted({ select: 'site=fra1' }), ['fra-1', 'fra-2'], 'routed'],
    ['those of a label, and one is missing', wanted({ select: 'site=fra1' }), ['fra-1', 'ams-1'], 'adding'],
    ['those of a label that none has', wanted({ select: 'site=waw1' }), names, 'adding'],
    ['those named', wanted({ ids: ['ams-1', 'fra-1'] }), ['ams-1', 'fra-1'], 'routed'],
    ['one named that does not exist', wanted({ ids: ['ams-1', 'ams-2'] }), names, 'adding'],
    ['two of three', wanted({ policy: 2 }), ['ams-1', 'fra-2'], 'routed'],
    ['two of three, and one is missing', wanted({ policy: 2 }), ['ams-1'], 'adding'],
    ['one of two named', wanted({ ids: ['ams-1', 'ams-2'], policy: 1 }), ['ams-1'], 'routed'],
    ['more than there are', wanted({ policy: 4 }), names, 'adding'],
  ])('%s', async (_, demand, acknowledging, route) => {
    const w = await town(demand, ...names);
    const slice = await firstSlice(w);
    for (const name of acknowledging) await w.applied(name);
    await w.sweep();
    expect(await look(w, slice)).toBe(`assigning, ${route}`);
  });

  it('for a way that was withdrawn: those that exist', async () => {
    const w = await town(wanted({ ids: ['fra-1', 'gone'], policy: 2 }), 'fra-1');
    const slice = await firstSlice(w);
    await w.router('gone');
    for (const name of ['fra-1', 'gone']) await w.applied(name);
    expect(await look(w, slice)).toBe('assigning, routed');
    await w.drain(slice.id);
    await w.reportSlice('edge-1', slice, 'empty');
    await w.execute({ kind: 'deleteRouter', id: 'gone' });
    await w.pass(121);
    expect(await look(w, slice)).toBe('cooling, removing');
    await w.applied('fra-1');
    expect(await look(w, slice)).toBe('free, none');
  });
});

describe('a router', () => {
  it('is declared, changed, and taken out of service; what changes nothing is no news', async () => {
    const w = new World();
    await ledger([
      ['new', () => w.router('fra-1'), 'fra-1'],
      ['again', () => w.router('fra-1'), 'fra-1'],
      ['other labels', () => w.router('fra-1', { site: 'fra1' }), 'fra-1'],
      ['the log', () => w.events.map(({ kind }) => kind).join(), 'router,router'],
      ['gone', async () => must(await w.execute({ kind: 'deleteRouter', id: 'fra-1' })).id, 'fra-1'],
      ['twice', async () => (await w.execute({ kind: 'deleteRouter', id: 'fra-1' })).ok, false],
      ['says something', () => w.applied('fra-1'), 'router_not_found'],
      ['no machine hears of it', () => w.store.reader.eventsAfter(0, 'edge-1', 9), []],
    ]);
  });

  it('is taken at its word up to the end of the log, and never goes back', async () => {
    const w = new World();
    await w.router('fra-1');
    await ledger([
      ['how far the log is', () => w.applied('fra-1', 1), '1'],
      ['farther', () => w.applied('fra-1', 2), 'revision_unknown'],
      ['back', () => w.applied('fra-1', 0), '1'],
      ['it was seen', async () => (await w.store.reader.router('fra-1'))?.seenAt, w.clock.us],
      [
        'other labels change nothing of it',
        () => w.router('fra-1', { a: 'b' }).then(() => w.store.reader.router('fra-1')),
        {
          ...{ id: 'fra-1', labels: { a: 'b' }, appliedRevision: 1, seenAt: w.clock.us, revision: 2 },
          ...{ createdAt: w.clock.us, updatedAt: w.clock.us + 1 },
        },
      ],
    ]);
  });
});
