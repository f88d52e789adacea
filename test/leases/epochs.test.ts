import { describe, expect, it } from 'vitest';
import { isLostTo } from '../../src/leases/model.ts';
import type { Loss } from '../../src/leases/view.ts';
import { limits } from '../../src/leases/limits.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { flawsOf } from '../support/tiling.ts';
import { ledger, second, tcp, World } from '../support/world.ts';

const span = limits.epoch_revisions;

/** A machine with an agent, one without, a holder with a session and a lease on each. */
async function town() {
  const store = new MemoryStore();
  const world = new World(store);
  await world.pool('v4', ['198.51.100.0/30']);
  await world.machine('edge-1');
  await world.machine('bare', 'none');
  for (const machine of ['edge-1', 'bare']) {
    await world.holder(machine, 'web');
    await world.ready(machine, 'v4');
  }
  await world.alive('edge-1');
  const web = await world.session('edge-1', 'web');
  const bare = await world.session('bare', 'web');
  const [lease] = await world.leases(web, tcp(8));
  const [bareLease] = await world.leases(bare, tcp(8));
  if (!lease || !bareLease) throw new Error('no leases');
  return { store, world, web, bare, lease, bareLease };
}

describe('what a client has seen', () => {
  it('is as it should be, and nothing happens', async () => {
    const { store, world } = await town();
    const { revision } = store;
    await ledger([
      ['as far as the log goes', () => world.seen('memory', revision), 'epoch 1'],
      ['less', () => world.seen('memory', 0), 'epoch 1'],
    ]);
    expect(store.revision).toBe(revision);
  });

  it('is more than there is: an epoch begins, far above all that can have been given out', async () => {
    const { store, world } = await town();
    const after = store.revision;
    expect(await world.seen('memory', after + 40)).toBe('epoch 2');
    expect(world.events.at(-1)).toMatchObject({
      revision: span + 1,
      machine: null,
      kind: 'epoch',
      epoch: {
        ...{ number: 2, cause: 'client_saw_more', after, from: span + 1, confirmedAt: null, confirmedBy: null },
        detail: `token-7 has seen revision ${after + 40}, the log ends at ${after}`,
      },
    });
    const epoch = await store.reader.epoch();
    expect([after, after + 1, after + 40, span, span + 1].map((revision) => isLostTo(epoch, revision))).toEqual([
      ...[false, true, true, true, false],
    ]);
    expect(flawsOf(store.tables, store.events)).toEqual([]);
  });

  it('is of a table that this one never was', async () => {
    const { store, world } = await town();
    expect(await world.seen('stranger', 1)).toBe('epoch 2');
    expect((await store.reader.epoch()).cause).toBe('client_knows_other');
  });

  it('is no news while the epoch is in doubt, nor when it was lost to a former one', async () => {
    const { store, world } = await town();
    const after = store.revision;
    await ledger([
      ['one saw more', () => world.seen('memory', after + 1), 'epoch 2'],
      ['another saw still more', () => world.seen('memory', after + 2), 'epoch 2'],
      ['a third knows another table', () => world.seen('stranger', 1), 'epoch 2'],
      ['it is confirmed', () => world.confirm(2), 'by token-9'],
      ['a late one saw more of the former epoch', () => world.seen('memory', after + 3), 'epoch 2'],
      ['more of this one than there is', () => world.seen(store.epoch.id, span + 9), 'epoch 3'],
    ]);
  });

  it('makes the next epoch begin above it, but for a number that nobody can have seen', async () => {
    const { store, world } = await town();
    await ledger([
      ['an epoch that was lost whole', () => world.seen('memory', 3 * span + 5), 'epoch 5'],
      ['is confirmed', () => world.confirm(5), 'by token-9'],
      ['nonsense', () => world.seen('stranger', 900 * span), 'epoch 6'],
    ]);
    expect((await store.reader.epoch()).from).toBe(5 * span + 1);
  });
});

describe('machines that tell what they have', () => {
  const hour = 3_600;
  /** Two machines with agents, in a table that was found restored at revision `after`. */
  async function restored(cause: Loss['cause'] = 'older_than_mark') {
    const store = new MemoryStore();
    const world = new World(store);
    await world.machine('edge-1');
    await world.machine('edge-2');
    const after = store.revision;
    store.loss = { cause, detail: 'a test', revision: after + 10, newId: 'restored' };
    const tell = async (machine: string, appliedRevision: number) => {
      const told = await world.execute({ kind: 'agentKeepalive', machine, bootId: 'b', version: '1', appliedRevision });
      return told.ok ? `epoch ${(await store.reader.epoch()).confirmedBy ?? 'in doubt'}` : told.error.code;
    };
    expect(await tell('edge-1', 0)).toBe('epoch in doubt');
    return { store, world, after, tell, pass: (seconds: number) => () => world.clock.passSeconds(seconds) };
  }

  it('end the doubt when none has anything that is lost, once whoever else there may be has fenced', async () => {
    const { store, world, after, tell, pass } = await restored();
    await ledger([
      ['one', () => tell('edge-1', after), 'epoch in doubt'],
      ['the other', () => tell('edge-2', after - 1), 'epoch in doubt'],
      ['nearly an hour, and a second for the clocks', pass(hour), undefined],
      ['is not enough', () => tell('edge-1', after), 'epoch in doubt'],
      ['an hour and two seconds are', pass(2), undefined],
      ['and it is over', () => tell('edge-2', after), 'epoch machines'],
    ]);
    expect(await world.machine('edge-3')).toBe('edge-3');
    expect(flawsOf(store.tables, store.events)).toEqual([]);
  });

  it('do not when one has seen more, was not heard, or has no agent', async () => {
    const { world, store, after, tell, pass } = await restored();
    await ledger([
      ['an hour', pass(hour + 2), undefined],
      ['the other was not heard', () => tell('edge-1', after), 'epoch in doubt'],
      ['the other has seen more', () => tell('edge-2', after + 1), 'epoch in doubt'],
      ['so', () => tell('edge-1', after), 'epoch in doubt'],
      ['it is confirmed', () => world.confirm(2), 'by token-9'],
      ['it must take a snapshot before its guard opens again', () => tell('edge-2', after + 1), 'machine_behind'],
      ['more than this epoch has is no way around that', () => tell('edge-2', store.revision + 1), 'revision_unknown'],
      ['which it did', () => tell('edge-2', store.revision), 'epoch token-9'],
    ]);
    const fenced = await restored();
    fenced.store.tables.machines.forEach((row, id) => {
      if (id === 'edge-2') fenced.store.tables.machines.set(id, { ...row, state: 'fenced' });
    });
    await ledger([
      ['an hour', fenced.pass(hour + 2), undefined],
      ['one that was fenced is shut out, and waited for by nobody', () => fenced.tell('edge-1', 0), 'epoch machines'],
    ]);
    const bare = await restored();
    bare.store.tables.machines.forEach((row, id) => {
      if (id === 'edge-2') bare.store.tables.machines.set(id, { ...row, enforcement: 'none' });
    });
    await ledger([
      ['an hour', bare.pass(hour + 2), undefined],
      ['a machine without an agent tells nothing', () => bare.tell('edge-1', bare.after), 'epoch in doubt'],
    ]);
  });

  it('do not when a client found it out: others may have been answered under the same revisions', async () => {
    const { after, tell, pass } = await restored('client_saw_more');
    await ledger([
      ['an hour', pass(hour + 2), undefined],
      ['one', () => tell('edge-1', after), 'epoch in doubt'],
      ['the other', () => tell('edge-2', after), 'epoch in doubt'],
    ]);
  });
});

describe('an epoch in doubt', () => {
  it('keeps alive what is alive, and gives, ends and frees nothing', async () => {
    const { store, world, web, bare, lease, bareLease } = await town();
    const before = structuredClone({ leases: store.tables.leases, extents: store.tables.extents });
    await world.seen('stranger', 1);
    await ledger([
      ['a grant', () => world.grant(web, tcp(1)), 'read_only_epoch'],
      ['a slice', () => world.assign('edge-1', 'v4'), 'read_only_epoch'],
      ['a release', () => world.release(lease), 'read_only_epoch'],
      ['a release where the table is all there is', () => world.release(bareLease), 'read_only_epoch'],
      ['a report', () => world.report(lease, 'active'), 'read_only_epoch'],
      ['the sweeper', () => world.execute({ kind: 'sweep', itemsMax: 9 }), expect.objectContaining({ ok: false })],
      ['an agent', () => world.alive('edge-1'), 'for 30 s'],
      ['a session on its machine', () => world.keep(web), 'until +30 s'],
      ['a session where no agent knows better', () => world.keep(bare), 'read_only_epoch'],
    ]);
    expect({ leases: store.tables.leases, extents: store.tables.extents }).toEqual(before);
    expect(flawsOf(store.tables, store.events)).toEqual([]);
  });

  it('does not open the guard of a machine that was fenced: others may have what it had', async () => {
    const { world } = await town();
    await world.pass(31);
    expect(await world.lookMachine('edge-1')).toBe('fenced');
    await world.seen('stranger', 1);
    await ledger([
      ['in doubt', () => world.alive('edge-1'), 'read_only_epoch'],
      ['it is confirmed', () => world.confirm(2), 'by token-9'],
      ['then', () => world.alive('edge-1'), 'for 30 s'],
    ]);
  });

  it('is over when it is confirmed, and everybody has their whole time from then', async () => {
    const { store, world, web, bare, lease } = await town();
    await world.seen('stranger', 1);
    await ledger([
      ['an hour passes', () => world.clock.passSeconds(3_600), undefined],
      ['another epoch than this', () => world.confirm(1), 'epoch_superseded'],
      ['one that never was', () => world.confirm(3), 'epoch_superseded'],
      ['this one', () => world.confirm(2), 'by token-9'],
      ['once more', () => world.confirm(2, 'somebody else'), 'by token-9'],
      ['the sweeper finds nothing over', () => world.pass(29), undefined],
      ['the machine is not fenced', () => world.lookMachine('edge-1'), 'active'],
      [
        'both sessions live',
        async () => [await world.keep(web), await world.keep(bare)],
        ['until +30 s', 'until +30 s'],
      ],
      [
        'a lease of before is known by its token',
        () => world.release(lease),
        '198.51.100.0:4088-4095/tcp ending released',
      ],
      ['31 seconds without a word', () => world.pass(31), undefined],
      ['are the end, as ever', () => world.keep(web), 'session_ended'],
    ]);
    expect(world.troubles).toEqual([]);
    expect(flawsOf(store.tables, store.events)).toEqual([]);
  });

  it('gives nothing that it grants later a name that was given before', async () => {
    const { store, world, web } = await town();
    await world.seen('memory', store.revision + 1_000);
    await world.confirm(2);
    world.clock.passSeconds(1);
    await world.alive('edge-1');
    const [lease] = await world.leases(web, tcp(1));
    expect(lease).toMatchObject({ id: span + 3, epoch: 2 });
    expect((await world.session('edge-1', 'web')).id).toBe(span + 4);
  });

  it('is undone with nothing that was refused in the same moment', async () => {
    const { store, world, web } = await town();
    // Weighed before the grant is looked at: whoever saw more is not answered before nothing is granted any more.
    const weighed = world.seen('stranger', 1);
    const granted = world.grant(web, tcp(1));
    expect(await Promise.all([weighed, granted])).toEqual(['epoch 2', 'read_only_epoch']);
    expect((await store.reader.epoch()).confirmedAt).toBeNull();
    expect(world.clock.us / second).toBeGreaterThan(0);
  });
});
