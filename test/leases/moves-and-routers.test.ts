import { describe, expect, it } from 'vitest';
import type { Lease, RouterDemand, Slice } from '../../src/leases/model.ts';
import { ledger, must, second, tcp, World } from '../support/world.ts';

/** How a slice of a pool that waits for routers leaves its machine, and comes to the next. */

const everyRouter: RouterDemand = { ids: null, select: null, policy: 'all' };
const where = '198.51.100.0:32768-65535';

type Town = Readonly<{ w: World; slice: Slice; lease: Lease }>;

/** One slice, known to its routers and granted from on edge-1; two other machines. */
async function town(): Promise<Town> {
  const w = new World();
  await w.pool('v4', ['198.51.100.0/32'], { routers: everyRouter, slicePorts: 32_768 });
  for (const router of ['north', 'south']) await w.router(router);
  for (const machine of ['edge-1', 'edge-2']) {
    await w.machine(machine);
    await w.holder(machine, 'web');
  }
  await w.machine('bare', 'none');
  const [slice] = await w.slices('edge-1', 'v4');
  if (!slice) throw new Error('no slice');
  await acknowledge(w);
  await w.reportSlice('edge-1', slice, 'assigned');
  const [lease] = await w.leases(await w.session('edge-1', 'web', 86_400), tcp(8));
  if (!lease) throw new Error('no lease');
  await w.report(lease, 'active');
  return { w, slice, lease };
}

async function acknowledge(w: World): Promise<void> {
  for (const router of ['north', 'south']) await w.applied(router);
}

const look = async ({ w, slice: { id } }: Town) => {
  const slice = await w.store.reader.slice(id);
  return `${slice?.state} on ${slice?.machine ?? 'nobody'} g${slice?.generation}, ${slice?.route}`;
};
const isKnownOn = async ({ w, slice }: Town, machine: string) =>
  (await w.store.reader.desired(machine))?.slices.some(({ id }) => id === slice.id);

/** Drains, and rests; the routers have not been asked yet. */
async function emptied({ w, slice, lease }: Town): Promise<void> {
  await w.report(lease, 'empty');
  await w.reportSlice('edge-1', slice, 'empty');
  await w.pass(120);
}

describe('a slice that moves, of a pool with routers', () => {
  it('stays with its machine until the routers let go, and the next one hears of it when they know the new way', async () => {
    const t = await town();
    const { w, slice } = t;
    await ledger([
      ['move', () => w.move(slice.id, 'edge-2', { force: true }), `${where} draining on edge-1 g1`],
      ['its way stays', () => look(t), 'draining on edge-1 g1, routed'],
      ['empty, and rested', () => emptied(t), undefined],
      ['the way is withdrawn', () => look(t), 'cooling on edge-1 g1, removing'],
      ['for as long as it takes', () => w.pass(3_600), undefined],
      ['it has not moved', () => look(t), 'cooling on edge-1 g1, removing'],
      ['one router let go', () => w.applied('north').then(Boolean), true],
      ['is not all', () => look(t), 'cooling on edge-1 g1, removing'],
      ['the other', () => w.applied('south').then(Boolean), true],
      ['another machine, another way', () => look(t), 'assigning on edge-2 g2, adding'],
      ['which it does not know', () => isKnownOn(t, 'edge-2'), false],
      [
        'nor can confirm',
        () => w.reportSlice('edge-2', { id: slice.id, generation: 2 }, 'assigned'),
        `slice-${slice.id} not_routed`,
      ],
      ['the routers know the way', () => acknowledge(w), undefined],
      ['routed', () => look(t), 'assigning on edge-2 g2, routed'],
      ['now it knows', () => isKnownOn(t, 'edge-2'), true],
      ['and confirms', () => w.reportSlice('edge-2', { id: slice.id, generation: 2 }, 'assigned'), 'taken'],
    ]);
  });

  it('says so step by step: no two machines have it, and no router is told of two ways at once', async () => {
    const t = await town();
    const from = t.w.events.length;
    await t.w.move(t.slice.id, 'bare', { force: true });
    await emptied(t);
    await acknowledge(t.w);
    await acknowledge(t.w);
    const told = t.w.events
      .slice(from)
      .flatMap((event) => (event.kind === 'slice' ? [event.slice] : []))
      .map(({ state, machine, route, generation }) => `${state} ${machine} ${route} g${generation}`);
    expect(told).toEqual([
      'draining edge-1 routed g1',
      'cooling edge-1 routed g1',
      'cooling edge-1 removing g1',
      'free null none g1',
      'assigning bare adding g2',
      'assigned bare routed g2',
    ]);
  });

  it('goes to the pool when the other machine is cordoned while the routers let go', async () => {
    const t = await town();
    await t.w.move(t.slice.id, 'edge-2', { force: true });
    await emptied(t);
    must(await t.w.execute({ kind: 'updateMachine', id: 'edge-2', state: 'cordoned' }));
    await acknowledge(t.w);
    expect(await look(t)).toBe('free on nobody g1, none');
  });

  it('goes by the sweeper when what the routers are asked changes while they let go', async () => {
    const t = await town();
    await t.w.move(t.slice.id, 'edge-2', { force: true });
    await emptied(t);
    must(await t.w.execute({ kind: 'updatePool', id: 'v4', routers: { ...everyRouter, policy: 'none' } }));
    await t.w.sweep();
    expect(await look(t)).toBe('assigning on edge-2 g2, routed');
  });

  it('may be stopped on its way in, before its new machine ever heard of it', async () => {
    const t = await town();
    await t.w.move(t.slice.id, 'edge-2', { force: true });
    await emptied(t);
    await acknowledge(t.w);
    await ledger([
      ['on its way in', () => look(t), 'assigning on edge-2 g2, adding'],
      ['moved on', () => t.w.move(t.slice.id, 'bare'), `${where} cooling on edge-2 g2`],
      ['rested', () => t.w.pass(120), undefined],
      ['withdrawn', () => look(t), 'cooling on edge-2 g2, removing'],
      ['edge-2 never knew', () => isKnownOn(t, 'edge-2'), false],
      ['let go', () => acknowledge(t.w), undefined],
      ['there', () => look(t), 'assigning on bare g3, adding'],
    ]);
  });
});

describe('a slice that is handed over, of a pool with routers', () => {
  it('comes back to its machine by way of the routers as well', async () => {
    const t = await town();
    await t.w.allocate(t.slice.id, 'machine', { force: true });
    await emptied(t);
    await ledger([
      ['withdrawn', () => look(t), 'cooling on edge-1 g1, removing'],
      ['let go', () => acknowledge(t.w), undefined],
      ['back', () => look(t), 'assigning on edge-1 g2, adding'],
      ['known', () => acknowledge(t.w), undefined],
      ['its machine hears of it', () => look(t), 'assigning on edge-1 g2, routed'],
    ]);
  });
});

describe('a slice that is reclaimed, of a pool with routers', () => {
  async function reclaimed(): Promise<Town> {
    const t = await town();
    await t.w.alive('edge-1');
    await t.w.pass(31);
    expect(await t.w.reclaim(t.slice.id)).toBe(`${where} draining on edge-1 g1`);
    await t.w.pass(0);
    return t;
  }

  it('waits for the routers to let go like any other, for it is they who still send packets to the machine', async () => {
    const t = await reclaimed();
    await ledger([
      ['nobody proves anything', () => look(t), 'cooling on edge-1 g1, routed'],
      ['rested', () => t.w.pass(120), undefined],
      ['withdrawn', () => look(t), 'cooling on edge-1 g1, removing'],
      ['nobody else gets it', () => t.w.assign('edge-2', 'v4', { at: at(t.slice) }), 'slice_taken'],
      ['one', () => t.w.applied('north').then(Boolean), true],
      ['is not all', () => look(t), 'cooling on edge-1 g1, removing'],
      ['the other', () => t.w.applied('south').then(Boolean), true],
      ['free', () => look(t), 'free on nobody g1, none'],
    ]);
  });

  it('goes where it was to move, after the routers', async () => {
    const t = await town();
    await t.w.move(t.slice.id, 'edge-2', { deadlineUs: 600 * second });
    await t.w.alive('edge-1');
    await t.w.pass(31);
    await t.w.reclaim(t.slice.id);
    await t.w.pass(0);
    await t.w.pass(120);
    expect(await look(t)).toBe('cooling on edge-1 g1, removing');
    await acknowledge(t.w);
    expect(await look(t)).toBe('assigning on edge-2 g2, adding');
  });

  const at = ({ address, ports }: Slice) => ({ address, firstPort: ports.first });
});

describe('whoever names what is over', () => {
  /** The slice went to edge-2 and came back: a third generation, granted from once more. */
  async function back(): Promise<Town & Readonly<{ now: Lease }>> {
    const t = await town();
    const { w, slice } = t;
    for (const [to, generation] of [
      ['edge-2', 2],
      ['edge-1', 3],
    ] as const) {
      await w.move(slice.id, to, { force: true });
      if (generation === 2) await w.report(t.lease, 'empty');
      await w.reportSlice(to === 'edge-2' ? 'edge-1' : 'edge-2', { id: slice.id, generation: generation - 1 }, 'empty');
      await w.pass(120);
      await acknowledge(w);
      await acknowledge(w);
      await w.reportSlice(to, { id: slice.id, generation }, 'assigned');
    }
    const [now] = await w.leases(await w.session('edge-1', 'web', 86_400), tcp(8));
    if (!now) throw new Error('no lease');
    await w.report(now, 'active');
    return { ...t, now };
  }

  it('moves nothing, though it is the same machine, the same holder and the same ports again', async () => {
    const t = await back();
    const { w, slice, lease, now } = t;
    expect(now).toMatchObject({ ports: lease.ports, address: lease.address, holder: lease.holder, generation: 3 });
    const stale = `${lease.generation}.${now.epoch}.${now.id}`;
    const before = w.events.length;
    await ledger([
      ['the former lease released', () => w.release(lease), 'lease_over'],
      ['the new one, by the token of the former', () => w.release(now, tokenOf(lease)), 'stale_token'],
      ['by an older generation', () => w.release(now, stale), 'stale_token'],
      ['reported by the token of the former', () => w.report(now, 'empty', { token: tokenOf(lease) }), item(now)],
      ['by an older generation', () => w.report(now, 'empty', { token: stale }), item(now)],
      ['refused by an older generation', () => w.report(now, 'refused', { token: stale }), item(now)],
      ['active by an older generation', () => w.report(now, 'active', { token: stale }), item(now)],
      ['the slice empty', () => w.reportSlice('edge-1', slice, 'empty'), `slice-${slice.id} stale_token`],
      ['the slice taken over', () => w.reportSlice('edge-1', slice, 'assigned'), `slice-${slice.id} stale_token`],
      ['by the machine in between', () => w.reportSlice('edge-2', slice, 'empty'), `slice-${slice.id} not_yours`],
      [
        'a generation to come',
        () => w.reportSlice('edge-1', { id: slice.id, generation: 4 }, 'empty'),
        `slice-${slice.id} stale_token`,
      ],
    ]);
    expect(w.events.length).toBe(before);
    expect(await w.look(now)).toBe('198.51.100.0:65528-65535/tcp active');
    expect(await look(t)).toBe('assigned on edge-1 g3, routed');
  });

  const tokenOf = ({ generation, epoch, id }: Lease) => `${generation}.${epoch}.${id}`;
  const item = ({ id }: Lease) => `lease-${id} stale_token`;
});
