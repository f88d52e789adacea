import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease, Slice } from '../../src/leases/model.ts';
import { at, ledger, second, shared, tcp, udp, World } from '../support/world.ts';

let w: World;
let slice: Slice;
const where = '198.51.100.0:32768-65535';
const here = at('198.51.100.0', 32_768);

beforeEach(async () => {
  w = new World();
  for (const id of ['edge-1', 'edge-2']) {
    await w.machine(id);
    await w.holder(id, 'web');
  }
  await w.machine('bare', 'none');
  await w.holder('bare', 'web');
  await w.pool('v4', ['198.51.100.0/32'], { slicePorts: 32_768 });
  const [first] = await w.ready('edge-1', 'v4');
  if (!first) throw new Error('no slice');
  slice = first;
});

async function active(machine = 'edge-1'): Promise<Lease> {
  const session = await w.session(machine, 'web', 86_400);
  const [lease] = await w.leases(session, tcp(8));
  if (!lease) throw new Error('no lease');
  await w.report(lease, 'active');
  return lease;
}
const leaseAt = '198.51.100.0:65528-65535/tcp';
const revocations = () => w.events.flatMap((event) => (event.kind === 'revocation' ? [event.revocation] : []));

describe('draining by a deadline', () => {
  it('lets leases be until then, and ends them all by one event', async () => {
    const lease = await active();
    await ledger([
      ['drain', () => w.drain(slice.id, { deadlineUs: 60 * second }), `${where} draining on edge-1 g1`],
      ['the lease goes on', () => w.look(lease), `${leaseAt} active`],
      ['for a while', () => w.pass(59), undefined],
      ['still', () => w.look(lease), `${leaseAt} active`],
      ['the time has come', () => w.pass(1), undefined],
      ['it ends', () => w.look(lease), `${leaseAt} ending revoked`],
      ['nobody has it any more', () => w.report(lease, 'empty'), 'taken'],
      ['proven', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['free', () => w.lookSlice(slice), `${where} free g1`],
    ]);
    expect(revocations().map(({ state }) => state)).toEqual(['waiting', 'ending']);
    expect(revocations()[0]).toMatchObject({ slice: slice.id, machine: 'edge-1', ending: 'revoked', endedAt: null });
  });

  it('goes by the earliest of several deadlines, and at once by force', async () => {
    const lease = await active();
    const drainBy = async () => {
      const found = await w.store.reader.slice(slice.id);
      return found?.drainBy == null ? null : (found.drainBy - w.clock.us) / second;
    };
    await ledger([
      ['in its own time', () => w.drain(slice.id), `${where} draining on edge-1 g1`],
      ['no deadline', drainBy, null],
      ['in a minute', () => w.drain(slice.id, { deadlineUs: 60 * second }), `${where} draining on edge-1 g1`],
      ['said', drainBy, 60],
      ['in two', () => w.drain(slice.id, { deadlineUs: 120 * second }), `${where} draining on edge-1 g1`],
      ['the earliest counts', drainBy, 60],
      ['now', () => w.drain(slice.id, { force: true }), `${where} draining on edge-1 g1`],
      ['it ends', () => w.look(lease), `${leaseAt} ending revoked`],
      ['no report brings it back', () => w.report(lease, 'active'), 'taken'],
      ['it stays so', () => w.look(lease), `${leaseAt} ending revoked`],
    ]);
  });
});

describe('moving', () => {
  it('brings the slice to the other machine when it is empty and rested, one generation further', async () => {
    const lease = await active();
    await ledger([
      ['nowhere', () => w.move(slice.id, 'edge-9'), 'machine_not_found'],
      ['where it is', () => w.move(slice.id, 'edge-1'), 'slice_there_already'],
      ['who is cordoned', () => toCordoned(), 'machine_not_active'],
      ['move', () => w.move(slice.id, 'edge-2', { deadlineUs: 10 * second }), `${where} draining on edge-1 g1`],
      ['again', () => w.move(slice.id, 'edge-2', { deadlineUs: 10 * second }), `${where} draining on edge-1 g1`],
      ['the time has come', () => w.pass(10), undefined],
      ['moved', () => w.look(lease), `${leaseAt} ending moved`],
      ['proven', () => w.report(lease, 'empty'), 'taken'],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['it rests', () => w.lookSlice(slice), `${where} cooling on edge-1 g1`],
      ['rested', () => w.pass(120), undefined],
      ['there', () => w.lookSlice(slice), `${where} assigning on edge-2 g2`],
      ['the former agent is too late', () => w.reportSlice('edge-1', slice, 'assigned'), `slice-${slice.id} not_yours`],
      ['so is its release', () => w.release(lease), 'lease_over'],
      ['the new one', () => w.reportSlice('edge-2', { id: slice.id, generation: 2 }, 'assigned'), 'taken'],
      ['grants', async () => w.grant(await w.session('edge-2', 'web'), udp(8)), '198.51.100.0:65528-65535/udp pending'],
    ]);
  });

  it('comes to the pool when the other machine takes nothing new by then', async () => {
    await ledger([
      ['move', () => w.move(slice.id, 'edge-2'), `${where} draining on edge-1 g1`],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['cordoned', () => cordon('edge-2'), true],
      ['rested', () => w.pass(120), undefined],
      ['free', () => w.lookSlice(slice), `${where} free g1`],
      ['nor what nobody has', () => w.move(slice.id, 'edge-1'), 'slice_not_assigned'],
    ]);
  });

  it('is given up by a drain, and goes elsewhere by another move', async () => {
    await ledger([
      ['move', () => w.move(slice.id, 'edge-2'), `${where} draining on edge-1 g1`],
      ['elsewhere', () => w.move(slice.id, 'bare'), `${where} draining on edge-1 g1`],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['there', () => w.lookSlice(slice), `${where} assigned on bare g2`],
      ['back', () => w.move(slice.id, 'edge-1'), `${where} cooling on bare g2`],
      ['it rests, and keeps its goal', () => w.drain(slice.id), 'slice_not_assigned'],
      ['rested', () => w.pass(120), undefined],
      ['there', () => w.lookSlice(slice), `${where} assigning on edge-1 g3`],
      ['move', () => w.move(slice.id, 'edge-2'), `${where} draining on edge-1 g3`],
      ['drain', () => w.drain(slice.id), `${where} draining on edge-1 g3`],
      ['empty', () => w.reportSlice('edge-1', { id: slice.id, generation: 3 }, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['free', () => w.lookSlice(slice), `${where} free g3`],
    ]);
  });

  async function toCordoned(): Promise<string> {
    await w.machine('edge-3');
    await cordon('edge-3');
    return w.move(slice.id, 'edge-3');
  }
  const cordon = async (id: string) => (await w.execute({ kind: 'updateMachine', id, state: 'cordoned' })).ok;
});

describe('handing over the right to allocate', () => {
  it('takes the same care as a move, and comes back to the same machine', async () => {
    const lease = await active();
    await ledger([
      ['as it is', () => w.allocate(slice.id, 'server'), `${where} assigned on edge-1 g1`],
      ['the machine', () => w.allocate(slice.id, 'machine', { force: true }), `${where} draining on edge-1 g1`],
      ['again', () => w.allocate(slice.id, 'machine'), `${where} draining on edge-1 g1`],
      ['what the server granted ends', () => w.look(lease), `${leaseAt} ending moved`],
      ['proven', () => w.report(lease, 'empty'), 'taken'],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['back', () => w.lookSlice(slice), `${where} assigning on edge-1 g2`],
      ['an old word', () => w.reportSlice('edge-1', slice, 'assigned'), `slice-${slice.id} stale_token`],
      ['its agent has it', () => w.reportSlice('edge-1', { id: slice.id, generation: 2 }, 'assigned'), 'taken'],
    ]);
    const session = await w.session('edge-1', 'web');
    await ledger([
      ['the server grants nothing there', () => w.grant(session, tcp(8)), 'machine_allocates'],
      ['not by name', () => w.grant(session, tcp(8, here)), 'machine_allocates'],
      ['nor shared', () => w.grant(session, shared()), 'machine_allocates'],
    ]);
    expect(await w.store.reader.slice(slice.id)).toMatchObject({ allocator: 'machine', next: null });
  });
});

describe('a slice that a machine is to grant in itself', () => {
  const look = async () => {
    const { machine, state, allocator, generation, next } = (await w.store.reader.slice(slice.id)) ?? slice;
    return `${allocator} ${state} ${machine} g${generation}${next ? ` then ${next.machine} ${next.allocator}` : ''}`;
  };

  it('is refused to a machine without an agent: to hand over, to move and to assign', async () => {
    await w.pool('other', ['203.0.113.0/32']);
    const [bare] = await w.ready('bare', 'other');
    const before = structuredClone(w.events);
    await ledger([
      ['handed over', () => w.allocate(bare?.id ?? 0, 'machine'), 'allocator_needs_agent'],
      ['moved', () => w.move(slice.id, 'bare', { allocator: 'machine' }), 'allocator_needs_agent'],
      ['assigned', () => w.assign('bare', 'other', { allocator: 'machine' }), 'allocator_needs_agent'],
      ['to the server it is', () => w.allocate(bare?.id ?? 0, 'server').then(Boolean), true],
    ]);
    expect(w.events).toEqual(before);
  });

  it('is so from the beginning where that is said, and nothing of the server’s is ever there', async () => {
    await w.drain(slice.id, { force: true });
    await w.reportSlice('edge-1', slice, 'empty');
    await w.pass(120);
    await ledger([
      [
        'assigned',
        () => w.assign('edge-1', 'v4', { allocator: 'machine', ...here }),
        `${where} assigning on edge-1 g2`,
      ],
      ['its agent has it', () => w.reportSlice('edge-1', { id: slice.id, generation: 2 }, 'assigned'), 'taken'],
      ['looked at', look, 'machine assigned edge-1 g2'],
    ]);
    const { extents } = await w.store.reader.tiling(slice.id);
    expect(extents.map(({ offered }) => offered)).toEqual([false, false, false]);
  });

  it('moves to be granted from by its next machine, where that is said, and by the server where not', async () => {
    await w.move(slice.id, 'edge-2', { force: true, allocator: 'machine' });
    await ledger([
      ['on its way', look, 'server draining edge-1 g1 then edge-2 machine'],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['there', look, 'machine assigning edge-2 g2'],
      ['and back', () => w.move(slice.id, 'edge-1', { force: true }), `${where} draining on edge-2 g2`],
      ['on its way', look, 'machine draining edge-2 g2 then edge-1 server'],
    ]);
  });

  it('goes to the pool when its next machine came back under its name without an agent', async () => {
    await w.move(slice.id, 'edge-2', { force: true, allocator: 'machine' });
    await w.remove('edge-2');
    await w.machine('edge-2', 'none');
    await ledger([
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['rested', () => w.pass(120), undefined],
      ['nobody has it', () => w.lookSlice(slice), `${where} free g1`],
      ['as the server’s it may', () => w.assign('edge-2', 'v4', here), `${where} assigned on edge-2 g2`],
    ]);
  });
});

describe('reclaiming', () => {
  // An agent that was heard once, and is silent from then on.
  beforeEach(() => w.alive('edge-1'));

  it('waits until the guard of the machine has shut for certain, and for nobody after that', async () => {
    const lease = await active();
    const shared1 = await active();
    await w.release(shared1);
    const retryAt = async () => {
      const result = await w.execute({ kind: 'reclaimSlice', id: slice.id });
      return result.ok || !('at' in result.error) ? result : (result.error.at - w.clock.us) / second;
    };
    await ledger([
      ['it answers', () => w.reclaim(slice.id), 'machine_reachable'],
      ['it falls silent', () => w.pass(30), undefined],
      ['fenced', () => w.lookMachine('edge-1'), 'fenced'],
      ['the clocks may differ', () => w.reclaim(slice.id), 'reclaim_too_early'],
      ['by a second', retryAt, 1],
      ['another second', () => w.pass(1), undefined],
      ['now', () => w.reclaim(slice.id), `${where} draining on edge-1 g1`],
      ['twice', () => w.reclaim(slice.id), `${where} draining on edge-1 g1`],
      ['its leases are fenced', () => w.look(lease), `${leaseAt} ending fenced`],
      ['the sweeper goes through them', () => w.pass(0), undefined],
      ['they rest', () => w.look(lease), `${leaseAt} cooling fenced`],
      ['so do those that waited for a proof', () => w.look(shared1), '198.51.100.0:65520-65527/tcp cooling released'],
      ['and the slice', () => w.lookSlice(slice), `${where} cooling on edge-1 g1`],
      ['rested', () => w.pass(120), undefined],
      ['another may have it', () => w.assign('bare', 'v4'), `${where} assigned on bare g2`],
    ]);
  });

  it('tells the machine when it comes back, and opens its guard only when it knows', async () => {
    const lease = await active();
    await w.pass(31);
    await w.reclaim(slice.id);
    const { revision } = await w.store.reader.slice(slice.id).then((found) => found ?? slice);
    const alive = async (appliedRevision: number) => {
      const command = {
        kind: 'agentKeepalive',
        machine: 'edge-1',
        bootId: 'b',
        version: '1',
        appliedRevision,
      } as const;
      const result = await w.execute(command);
      return result.ok ? 'answered' : JSON.stringify(result.error);
    };
    await ledger([
      ['it does not know', async () => (await alive(revision - 1)).includes('machine_behind'), true],
      ['and stays fenced', () => w.lookMachine('edge-1'), 'fenced'],
      [
        'what it says of the slice is refused',
        () => w.reportSlice('edge-1', slice, 'empty'),
        `slice-${slice.id} reclaimed`,
      ],
      ['and of its leases', () => w.report(lease, 'active'), `lease-${lease.id} reclaimed`],
      ['nothing of it is desired', () => desired('edge-1'), 'slices 0 leases 0'],
      ['it knows', () => alive(w.events.at(-1)?.revision ?? 0), 'answered'],
      ['and is back', () => w.lookMachine('edge-1'), 'active'],
      ['not its slice', () => w.reportSlice('edge-1', slice, 'assigned'), `slice-${slice.id} reclaimed`],
      ['its leases follow', () => w.pass(0), undefined],
      ['it rests', () => w.pass(120), undefined],
      ['and is free', () => w.lookSlice(slice), `${where} free g1`],
      ['a late word about a lease', () => w.report(lease, 'empty'), `lease-${lease.id} reclaimed`],
    ]);
  });

  it('gives a machine its whole fence after the server was away', async () => {
    await w.pass(31);
    const restarted = new World(w.store, w.clock);
    await ledger([
      ['fenced before', () => restarted.lookMachine('edge-1'), 'fenced'],
      ['somebody else may have answered', () => restarted.reclaim(slice.id), 'reclaim_too_early'],
      ['its fence from then', () => restarted.pass(31), undefined],
      ['now', () => restarted.reclaim(slice.id), `${where} cooling on edge-1 g1`],
    ]);
  });

  it('lets a slice go where it was on its way to', async () => {
    await w.move(slice.id, 'bare');
    await w.pass(31);
    await ledger([
      ['reclaimed', () => w.reclaim(slice.id), `${where} cooling on edge-1 g1`],
      ['rested', () => w.pass(120), undefined],
      ['there', () => w.lookSlice(slice), `${where} assigned on bare g2`],
      ['nothing to reclaim', () => w.reclaim(slice.id), 'machine_reachable'],
      ['no such slice', () => w.reclaim(999), 'slice_not_found'],
    ]);
    const then = (slice.assignedAt ?? 0) + second;
    const former = await w.store.reader.whoHad({ address: slice.address, protocol: 'tcp', port: 40_000, at: then });
    expect(former.tenure).toMatchObject({ machine: 'edge-1', generation: 1 });
  });

  async function desired(machine: string): Promise<string> {
    const found = await w.store.reader.desired(machine);
    return `slices ${found?.slices.length} leases ${found?.leases.length}`;
  }
});
