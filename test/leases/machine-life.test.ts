import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease, Slice } from '../../src/leases/model.ts';
import { ledger, must, second, tcp, World } from '../support/world.ts';

/** How a machine is emptied, given up, and deleted. */

let w: World;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/27'], { slicePorts: 32_768 });
  for (const machine of ['edge-1', 'edge-2', 'bare']) {
    await w.machine(machine, machine === 'bare' ? 'none' : 'agent');
    await w.holder(machine, 'web');
  }
});

/** How many slices of the machine are in which state. */
async function slicesOf(machine: string): Promise<string> {
  const { items } = await w.store.reader.slices({ machine }, { limit: 100, cursor: null });
  const states = items.map(({ state, reclaimed }) => (reclaimed ? `${state} (reclaimed)` : state));
  return [...new Set(states)].map((state) => `${states.filter((one) => one === state).length} ${state}`).join(', ');
}

async function active(machine = 'edge-1', ports = 8): Promise<Lease> {
  const [lease] = await w.leases(await w.session(machine, 'web', 86_400), tcp(ports));
  if (!lease) throw new Error('no lease');
  await w.report(lease, 'active');
  return lease;
}

const cannotGrant = async (machine: string) => w.grant(await w.session(machine, 'web'), tcp(1));

describe('a machine that is draining', () => {
  it('has all its slices drain, however many, and takes nothing new', async () => {
    await w.ready('edge-1', 'v4', 20);
    await ledger([
      ['draining', () => w.say('edge-1', { state: 'draining' }), 'draining'],
      ['no grant', () => cannotGrant('edge-1'), 'machine_not_active'],
      ['no slice', () => w.assign('edge-1', 'v4'), 'machine_not_active'],
      ['its slices follow', () => w.pass(0), undefined],
      ['all', () => slicesOf('edge-1'), '20 draining'],
      ['once', () => w.sweep(), 0],
    ]);
    const told = w.events.filter((event) => event.kind === 'slice' && event.slice.state === 'draining');
    expect(told).toHaveLength(20);
  });

  it('lets leases go on until its deadline, and ends them then', async () => {
    const [first, second_] = await w.ready('edge-1', 'v4', 2);
    const lease = await active();
    const drainBy = async (slice: Slice | undefined) => {
      const found = await w.store.reader.slice(slice?.id ?? 0);
      return found?.drainBy == null ? null : (found.drainBy - w.clock.us) / second;
    };
    await ledger([
      ['in ten minutes', () => w.say('edge-1', { state: 'draining', drainDeadlineUs: 600 * second }), 'draining'],
      ['its slices follow', () => w.sweep().then(Boolean), true],
      ['by then', async () => [await drainBy(first), await drainBy(second_)], [600, 600]],
      ['the lease goes on', () => w.look(lease), '198.51.100.0:65528-65535/tcp active'],
      ['later', () => w.say('edge-1', { state: 'draining', drainDeadlineUs: 900 * second }), 'draining'],
      ['nothing to do', () => w.sweep(), 0],
      ['sooner', () => w.say('edge-1', { state: 'draining', drainDeadlineUs: 60 * second }), 'draining'],
      ['its slices follow', () => w.sweep().then(Boolean), true],
      ['by then', async () => [await drainBy(first), await drainBy(second_)], [60, 60]],
      ['a minute', () => w.pass(60), undefined],
      ['over', () => w.look(lease), '198.51.100.0:65528-65535/tcp ending revoked'],
    ]);
  });

  it('ends leases at once where the deadline was over before its slices came to know', async () => {
    const [slice] = await w.ready('edge-1', 'v4');
    const lease = await active();
    await w.say('edge-1', { state: 'draining', drainDeadlineUs: 0 });
    await w.pass(30);
    await ledger([
      ['over', () => w.look(lease), '198.51.100.0:65528-65535/tcp ending revoked'],
      ['proven', () => w.report(lease, 'empty'), 'taken'],
      ['empty', () => w.reportSlice('edge-1', slice ?? { id: 0, generation: 0 }, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['nothing left', () => slicesOf('edge-1'), ''],
      ['it stays so until somebody says otherwise', () => w.lookMachine('edge-1'), 'draining'],
    ]);
  });

  it('lets a slice that moves go where it goes', async () => {
    const [slice] = await w.ready('edge-1', 'v4');
    await w.move(slice?.id ?? 0, 'bare');
    await w.say('edge-1', { state: 'draining', drainDeadlineUs: 5 * second });
    await w.pass(5);
    await w.reportSlice('edge-1', slice ?? { id: 0, generation: 0 }, 'empty');
    await w.pass(120);
    expect([await slicesOf('edge-1'), await slicesOf('bare')]).toEqual(['', '1 assigned']);
  });

  it('that is made active again gets nothing back, and gives no more away', async () => {
    await w.ready('edge-1', 'v4', 20);
    await w.say('edge-1', { state: 'draining' });
    must(await w.execute({ kind: 'sweep', itemsMax: 100 }));
    await ledger([
      ['some follow at a step', () => slicesOf('edge-1'), '8 draining, 12 assigned'],
      ['active', () => w.say('edge-1', { state: 'active' }), 'active'],
      ['the others stay', () => w.pass(10), undefined],
      ['as they were', () => slicesOf('edge-1'), '8 draining, 12 assigned'],
      ['and are granted from', () => cannotGrant('edge-1').then((said) => said.includes('pending')), true],
    ]);
  });

  it('goes on draining while its agent is silent, and is draining still when that is back', async () => {
    await w.ready('edge-1', 'v4', 20);
    await w.alive('edge-1');
    await w.say('edge-1', { state: 'draining' });
    w.clock.passSeconds(30);
    must(await w.execute({ kind: 'sweep', itemsMax: 100 }));
    await ledger([
      ['fenced', () => w.lookMachine('edge-1'), 'fenced'],
      ['the rest follows', () => w.pass(0), undefined],
      ['all', () => slicesOf('edge-1'), '20 draining'],
      ['back', () => w.alive('edge-1'), 'for 30 s'],
      ['as it was', () => w.lookMachine('edge-1'), 'draining'],
    ]);
  });
});

describe('what an operator says of a machine', () => {
  it('counts when its agent is back, if that is silent', async () => {
    await w.alive('edge-1');
    await w.pass(30);
    await ledger([
      ['fenced', () => w.lookMachine('edge-1'), 'fenced'],
      ['active', () => w.say('edge-1', { state: 'active' }), 'fenced, active when it is back'],
      ['cordoned', () => w.say('edge-1', { state: 'cordoned' }), 'fenced, cordoned when it is back'],
      ['back', () => w.alive('edge-1'), 'for 30 s'],
      ['cordoned', () => w.lookMachine('edge-1'), 'cordoned'],
      ['silent again', () => w.pass(30), undefined],
      ['also one that is cordoned is fenced', () => w.lookMachine('edge-1'), 'fenced'],
    ]);
  });

  it('is no news when it was said before', async () => {
    const said = async (change: Parameters<World['say']>[1]) => {
      const before = w.events.length;
      await w.say('edge-1', change);
      return w.events.length - before;
    };
    await ledger([
      ['active as ever', () => said({ state: 'active' }), 0],
      ['draining', () => said({ state: 'draining', drainDeadlineUs: 60 * second }), 1],
      ['again', () => said({ state: 'draining' }), 0],
      ['later', () => said({ state: 'draining', drainDeadlineUs: 61 * second }), 0],
      ['sooner', () => said({ state: 'draining', drainDeadlineUs: 59 * second }), 1],
      ['active', () => said({ state: 'active' }), 1],
    ]);
    expect(await w.store.reader.machine('edge-1')).toMatchObject({ drainBy: null, settled: true });
  });
});

describe('a machine that is lost', () => {
  beforeEach(async () => {
    await w.ready('edge-1', 'v4', 20);
    await w.alive('edge-1');
  });

  it('has its slices reclaimed when its guard has shut for certain, and not before', async () => {
    const lease = await active();
    await ledger([
      ['lost', () => w.say('edge-1', { state: 'lost' }), 'lost'],
      ['no grant', () => cannotGrant('edge-1'), 'machine_not_active'],
      ['it may still send', () => w.pass(30), undefined],
      ['so it keeps what it has', () => slicesOf('edge-1'), '20 assigned'],
      ['its lease as well', () => w.look(lease), '198.51.100.0:65528-65535/tcp active'],
      ['the clocks may differ', () => w.pass(1), undefined],
      ['reclaimed', () => slicesOf('edge-1'), '20 cooling (reclaimed)'],
      ['fenced', () => w.look(lease), '198.51.100.0:65528-65535/tcp cooling fenced'],
      ['rested', () => w.pass(120), undefined],
      ['nothing left', () => slicesOf('edge-1'), ''],
      ['others may have them', () => w.slices('bare', 'v4', { count: 20 }).then((got) => got.length), 20],
    ]);
  });

  it('gets no keepalive answered, so that its guard shuts and stays shut', async () => {
    await ledger([
      ['lost', () => w.say('edge-1', { state: 'lost' }), 'lost'],
      ['it lives', () => w.alive('edge-1'), 'machine_lost'],
      ['and goes on', () => w.pass(20), undefined],
      ['to no avail', () => w.alive('edge-1', 'b', 1_000), 'machine_lost'],
      ['reclaimed all the same', () => w.pass(11), undefined],
      ['all', () => slicesOf('edge-1'), '20 cooling (reclaimed)'],
    ]);
  });

  it('that is found again is told first what it has lost, and has nothing of it any more', async () => {
    const lease = await active();
    await w.say('edge-1', { state: 'lost' });
    await w.pass(31);
    const [slice] = (await w.store.reader.slices({ machine: 'edge-1' }, { limit: 1, cursor: null })).items;
    await ledger([
      ['found', () => w.say('edge-1', { state: 'active' }), 'fenced, active when it is back'],
      ['it does not know yet', () => w.alive('edge-1'), 'machine_behind'],
      ['nothing is desired of it', async () => (await w.store.reader.desired('edge-1'))?.slices, []],
      ['what it says of its slices', () => w.reportSlice('edge-1', slice!, 'empty'), `slice-${slice?.id} reclaimed`],
      ['and of its leases', () => w.report(lease, 'empty'), `lease-${lease.id} reclaimed`],
      ['it knows', () => w.alive('edge-1', 'b', w.events.length), 'for 30 s'],
      ['it is back', () => w.lookMachine('edge-1'), 'active'],
      [
        'with a new slice',
        () => w.assign('edge-1', 'v4').then((said) => said.includes('assigning on edge-1 g1')),
        true,
      ],
    ]);
  });

  it('that is found again in time loses nothing', async () => {
    const lease = await active();
    await w.say('edge-1', { state: 'lost' });
    await w.pass(20);
    await ledger([
      ['found', () => w.say('edge-1', { state: 'active' }), 'active'],
      ['it lives', () => w.alive('edge-1'), 'for 30 s'],
      ['time passes', () => w.pass(20), undefined],
      ['what it has', () => slicesOf('edge-1'), '20 assigned'],
      ['and its lease', () => w.look(lease), '198.51.100.0:65528-65535/tcp active'],
    ]);
  });

  it('has its whole fence after a start of the server', async () => {
    await w.say('edge-1', { state: 'lost' });
    w.clock.passSeconds(1_000);
    const restarted = new World(w.store, w.clock);
    await restarted.pass(30);
    expect(await slicesOf('edge-1')).toBe('20 assigned');
    await restarted.pass(1);
    expect(await slicesOf('edge-1')).toBe('20 cooling (reclaimed)');
  });

  it('without an agent sends by nobody’s leave, and is taken at the operator’s word at once', async () => {
    await w.ready('bare', 'v4', 3);
    await w.say('bare', { state: 'lost' });
    await w.pass(0);
    expect(await slicesOf('bare')).toBe('3 cooling (reclaimed)');
  });
});

describe('deleting a machine', () => {
  const token = async (over: object) => {
    const terms = { kind: 'createToken', name: 'x', role: 'holder', machine: null, holder: null } as const;
    return must(await w.execute({ ...terms, hash: `h-${JSON.stringify(over)}`, ...over }));
  };
  const isRevoked = async ({ id }: { id: number }) =>
    ((await w.store.reader.accessTokenById(id))?.revokedAt ?? null) !== null;

  it('waits until nothing lives there, slices that rest and sessions included', async () => {
    const [slice] = await w.ready('edge-1', 'v4');
    const session = await w.session('edge-1', 'web', 86_400);
    await ledger([
      ['a slice', () => w.remove('edge-1'), 'machine_in_use'],
      ['drained', () => w.drain(slice?.id ?? 0).then(Boolean), true],
      ['draining', () => w.remove('edge-1'), 'machine_in_use'],
      ['empty', () => w.reportSlice('edge-1', slice ?? { id: 0, generation: 1 }, 'empty'), 'taken'],
      ['it rests', () => w.remove('edge-1'), 'machine_in_use'],
      ['rested', () => w.pass(120), undefined],
      ['a session', () => w.remove('edge-1'), 'machine_in_use'],
      ['ended', () => w.end(session), 'ended released'],
      ['nothing', () => w.remove('edge-1'), 'edge-1 is gone'],
      ['twice', () => w.remove('edge-1'), 'machine_not_found'],
      ['its agent', () => w.alive('edge-1'), 'machine_not_found'],
      ['its slices', () => w.assign('edge-1', 'v4'), 'machine_not_found'],
      ['another of the name', () => w.machine('edge-1'), 'edge-1'],
      ['has no holders', async () => (await w.store.reader.desired('edge-1'))?.holders, []],
    ]);
    const past = await w.store.reader.whoHad({
      ...{ address: slice!.address, protocol: 'tcp', port: slice!.ports.first, at: (slice?.assignedAt ?? 0) + 1 },
    });
    expect(past.tenure).toMatchObject({ machine: 'edge-1', generation: 1 });
  });

  it('revokes its tokens, and nobody else’s', async () => {
    const agent = await token({ role: 'agent', machine: 'edge-1' });
    const holder = await token({ machine: 'edge-1', holder: 'web' });
    const revoked = await token({ machine: 'edge-1', holder: 'web', name: 'old' });
    await w.execute({ kind: 'revokeToken', id: revoked.id });
    const others = [await token({ role: 'agent', machine: 'edge-2' }), await token({ role: 'operator' })];
    const before = w.events.length;
    await w.remove('edge-1');
    for (const one of [agent, holder, revoked]) expect(await isRevoked(one)).toBe(true);
    for (const one of others) expect(await isRevoked(one)).toBe(false);
    expect(w.events.slice(before).map(({ kind }) => kind)).toEqual(['token', 'token', 'deleted']);
    // Whoever follows this machine alone hears of it.
    const heard = await w.store.reader.eventsAfter(before, 'edge-1', 9);
    expect(heard).toMatchObject([{ kind: 'deleted', what: 'machine', id: 'edge-1' }]);
  });

  it('is refused to whoever has seen an older revision', async () => {
    const { revision } = (await w.store.reader.machine('edge-2'))!;
    await w.say('edge-2', { labels: { a: 'b' } });
    expect(await w.remove('edge-2', revision)).toBe('precondition_failed');
  });

  it('sends a slice that was to move there to the pool', async () => {
    const [slice] = await w.ready('bare', 'v4');
    await w.move(slice?.id ?? 0, 'edge-2');
    expect(await w.remove('edge-2')).toBe('edge-2 is gone');
    await w.pass(120);
    expect(await w.lookSlice(slice ?? { id: 0 })).toBe('198.51.100.0:32768-65535 free g1');
  });

  it('together with what would live there is decided in order', async () => {
    const said = await Promise.all([w.remove('edge-2'), w.holder('edge-2', 'mail'), w.assign('edge-2', 'v4')]);
    expect(said).toEqual(['edge-2 is gone', 'machine_not_found', 'machine_not_found']);
    const later = await Promise.all([w.machine('edge-2'), w.assign('edge-2', 'v4'), w.remove('edge-2')]);
    expect(later).toEqual(['edge-2', '198.51.100.0:32768-65535 assigning on edge-2 g1', 'machine_in_use']);
  });

  it('and a router revokes its tokens, too', async () => {
    for (const id of ['north', 'south']) await w.router(id);
    const [gone, stays] = [
      await token({ role: 'router', router: 'north' }),
      await token({ role: 'router', router: 'south' }),
    ];
    must(await w.execute({ kind: 'deleteRouter', id: 'north' }));
    expect([await isRevoked(gone), await isRevoked(stays)]).toEqual([true, false]);
    await w.router('north');
    expect(await isRevoked(gone)).toBe(true);
  });
});
