import { beforeEach, describe, expect, it } from 'vitest';
import type { Slice } from '../../src/leases/model.ts';
import { address, at, ledger, prefix, tcp, World } from '../support/world.ts';

let w: World;

beforeEach(async () => {
  w = new World();
  await w.machine('edge-1');
  await w.machine('edge-2');
  await w.holder('edge-1', 'web');
  await w.holder('edge-2', 'web');
});

const first = (slices: readonly Slice[]): Slice => {
  const [slice] = slices;
  if (!slice) throw new Error('no slice');
  return slice;
};
const here = (text: string, firstPort: number) => ({ at: { address: address(text), firstPort } });

describe('assigning slices', () => {
  it('hands out whole slices inside the usable range, address by address', async () => {
    // 3000-9000 holds 4096-6143 and 6144-8191 whole; what is cut off on either side belongs to nobody.
    await w.pool('v4', ['198.51.100.0/31'], { usablePorts: { first: 3_000, last: 9_000 } });
    await ledger([
      ['the first', () => w.assign('edge-1', 'v4'), '198.51.100.0:4096-6143 assigning on edge-1 g1'],
      [
        'two more',
        () => w.assign('edge-2', 'v4', { count: 2 }),
        '198.51.100.0:6144-8191 assigning on edge-2 g1, 198.51.100.1:4096-6143 assigning on edge-2 g1',
      ],
      ['two more than there are', () => w.assign('edge-1', 'v4', { count: 2 }), 'slices_exhausted'],
      ['the last', () => w.assign('edge-1', 'v4'), '198.51.100.1:6144-8191 assigning on edge-1 g1'],
      ['none is left', () => w.assign('edge-1', 'v4'), 'slices_exhausted'],
    ]);
    const result = await w.execute({
      kind: 'assignSlices',
      machine: 'edge-1',
      pool: 'v4',
      count: 3,
      family: null,
      at: null,
    });
    expect(result).toMatchObject({ error: { wanted: 3, available: 0 } });
  });

  it('takes one by name, and steps over it later', async () => {
    await w.pool('v4', ['198.51.100.0/30'], { slicePorts: 32_768, usablePorts: { first: 0, last: 65_535 } });
    await ledger([
      [
        'by name',
        () => w.assign('edge-1', 'v4', here('198.51.100.0', 32_768)),
        '198.51.100.0:32768-65535 assigning on edge-1 g1',
      ],
      ['again', () => w.assign('edge-1', 'v4', here('198.51.100.0', 32_768)), 'slice_taken'],
      [
        'by name, further on',
        () => w.assign('edge-1', 'v4', here('198.51.100.1', 32_768)),
        '198.51.100.1:32768-65535 assigning on edge-1 g1',
      ],
      ['not aligned', () => w.assign('edge-1', 'v4', here('198.51.100.1', 1_024)), 'slice_misaligned'],
      ['not in the pool', () => w.assign('edge-1', 'v4', here('198.51.100.9', 0)), 'slice_outside_pool'],
      ['the cursor starts below', () => w.assign('edge-1', 'v4'), '198.51.100.0:0-32767 assigning on edge-1 g1'],
      [
        'steps over both',
        () => w.assign('edge-1', 'v4', { count: 2 }),
        '198.51.100.1:0-32767 assigning on edge-1 g1, 198.51.100.2:0-32767 assigning on edge-1 g1',
      ],
      [
        'and goes on',
        () => w.assign('edge-1', 'v4', { count: 3 }),
        '198.51.100.2:32768-65535 assigning on edge-1 g1, 198.51.100.3:0-32767 assigning on edge-1 g1, 198.51.100.3:32768-65535 assigning on edge-1 g1',
      ],
      ['to the end', () => w.assign('edge-1', 'v4'), 'slices_exhausted'],
    ]);
  });

  it('steps over a long run that was taken by name', async () => {
    await w.pool('v4', ['198.51.100.0/24'], { slicePorts: 8_192 });
    // Seven slices per address; all but the last of each of the first thirty addresses, from the back.
    for (let host = 29; host >= 0; host--)
      for (let block = 6; block >= 1; block--)
        await w.assign('edge-1', 'v4', here(`198.51.100.${host}`, block * 8_192));
    await ledger([
      [
        'the gaps first',
        () => w.assign('edge-1', 'v4', { count: 2 }),
        '198.51.100.0:57344-65535 assigning on edge-1 g1, 198.51.100.1:57344-65535 assigning on edge-1 g1',
      ],
      ['one by one', () => w.assign('edge-1', 'v4'), '198.51.100.2:57344-65535 assigning on edge-1 g1'],
    ]);
    const rest = await w.slices('edge-1', 'v4', { count: 29 });
    expect(rest.at(-2)).toMatchObject({ address: '198.51.100.30', ports: { first: 8_192 } });
    expect(rest.at(-1)).toMatchObject({ address: '198.51.100.30', ports: { first: 16_384 } });
  });

  it('counts through an IPv6 prefix that nobody could enumerate', async () => {
    await w.pool('six', ['2001:db8::/48', '198.51.100.0/32'], {
      slicePorts: 32_768,
      usablePorts: { first: 32_768, last: 65_535 },
    });
    await ledger([
      [
        'the first',
        () => w.assign('edge-1', 'six', { count: 2 }),
        '2001:db8:::32768-65535 assigning on edge-1 g1, 2001:db8::1:32768-65535 assigning on edge-1 g1',
      ],
      [
        'far away, by name',
        () => w.assign('edge-1', 'six', here('2001:db8:0:ffff:ffff:ffff:ffff:ffff', 32_768)),
        '2001:db8:0:ffff:ffff:ffff:ffff:ffff:32768-65535 assigning on edge-1 g1',
      ],
      ['by family', () => w.assign('edge-1', 'six', { family: 4 }), '198.51.100.0:32768-65535 assigning on edge-1 g1'],
      ['and no more of that', () => w.assign('edge-1', 'six', { family: 4 }), 'slices_exhausted'],
      ['the cursor is where it was', () => w.assign('edge-1', 'six'), '2001:db8::2:32768-65535 assigning on edge-1 g1'],
    ]);
  });

  it('needs a pool, a machine, and that the machine takes new ones', async () => {
    await w.pool('v4', ['198.51.100.0/31']);
    await w.execute({ kind: 'updateMachine', id: 'edge-2', state: 'cordoned' });
    await ledger([
      ['no pool', () => w.assign('edge-1', 'v9'), 'pool_not_found'],
      ['no machine', () => w.assign('edge-9', 'v4'), 'machine_not_found'],
      ['cordoned', () => w.assign('edge-2', 'v4'), 'machine_not_active'],
    ]);
  });

  it('is confirmed by the agent of the machine, for this generation', async () => {
    await w.pool('v4', ['198.51.100.0/31']);
    const slice = first(await w.slices('edge-1', 'v4'));
    await ledger([
      ['another machine', () => w.reportSlice('edge-2', slice, 'assigned'), `slice-${slice.id} not_yours`],
      [
        'another generation',
        () => w.reportSlice('edge-1', { ...slice, generation: 2 }, 'assigned'),
        `slice-${slice.id} stale_token`,
      ],
      [
        'an unknown slice',
        () => w.reportSlice('edge-1', { id: 999, generation: 1 }, 'assigned'),
        'slice-999 slice_not_found',
      ],
      ['its own', () => w.reportSlice('edge-1', slice, 'assigned'), 'taken'],
      ['twice', () => w.reportSlice('edge-1', slice, 'assigned'), 'taken'],
      ['assigned', () => w.lookSlice(slice), '198.51.100.0:2048-4095 assigned on edge-1 g1'],
      ['not draining', () => w.reportSlice('edge-1', slice, 'empty'), `slice-${slice.id} in_use`],
    ]);
    expect(w.events.filter(({ kind }) => kind === 'slice')).toHaveLength(2);
  });
});

describe('taking a slice back', () => {
  it('waits for its leases, for the proof of the agent, and for the longest cooldown of the pool', async () => {
    await w.pool('v4', ['198.51.100.0/32'], { slicePorts: 32_768 });
    const slice = first(await w.ready('edge-1', 'v4'));
    const session = await w.session('edge-1', 'web', 86_400);
    const [lease] = await w.leases(session, tcp(8));
    if (!lease) throw new Error('no lease');
    const where = '198.51.100.0:32768-65535';
    await ledger([
      ['drain', () => w.drain(slice.id), `${where} draining on edge-1 g1`],
      ['again', () => w.drain(slice.id), `${where} draining on edge-1 g1`],
      ['no new grants', () => w.grant(session, tcp(8)), 'no_slices'],
      ['not by name either', () => w.grant(session, tcp(8, at('198.51.100.0', 32_768))), 'block_not_owned'],
      ['a lease lives in it', () => w.reportSlice('edge-1', slice, 'empty'), `slice-${slice.id} in_use`],
      ['it ends', () => w.release(lease), '198.51.100.0:65528-65535/tcp ending released'],
      ['not proven', () => w.reportSlice('edge-1', slice, 'empty'), `slice-${slice.id} in_use`],
      ['both proven in one report', () => reportBoth(slice, lease), 'taken'],
      ['it rests', () => w.lookSlice(slice), `${where} cooling on edge-1 g1`],
      ['a late word', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['no draining now', () => w.drain(slice.id), 'slice_not_assigned'],
      ['one second short', () => w.pass(119), undefined],
      ['still', () => w.lookSlice(slice), `${where} cooling on edge-1 g1`],
      ['nobody gets it', () => w.assign('edge-2', 'v4'), 'slices_exhausted'],
      ['rested', () => w.pass(1), undefined],
      ['free', () => w.lookSlice(slice), `${where} free g1`],
      ['without extents', () => w.extents(slice), ''],
      ['it changes hands', () => w.assign('edge-2', 'v4'), `${where} assigning on edge-2 g2`],
      ['the former agent is too late', () => w.reportSlice('edge-1', slice, 'empty'), `slice-${slice.id} not_yours`],
      ['so is a former word', () => w.reportSlice('edge-2', slice, 'assigned'), `slice-${slice.id} stale_token`],
    ]);

    async function reportBoth(of: Slice, empty: { id: number }): Promise<string> {
      const result = await w.execute({
        kind: 'report',
        machine: 'edge-1',
        revision: 0,
        leases: [{ lease: empty.id, token: `1.1.${empty.id}`, state: 'empty' }],
        slices: [{ slice: of.id, generation: of.generation, state: 'empty' }],
      });
      return result.ok && result.value.rejected.length === 0 ? 'taken' : JSON.stringify(result);
    }
  });

  it('records who owned it, from when until when', async () => {
    await w.pool('v4', ['198.51.100.0/32'], { slicePorts: 32_768 });
    const slice = first(await w.ready('edge-1', 'v4'));
    const begun = w.clock.us;
    await w.drain(slice.id);
    await w.reportSlice('edge-1', slice, 'empty');
    await w.pass(120);
    const freed = w.events.at(-1)?.at ?? 0;
    w.clock.passSeconds(10);
    await w.assign('edge-2', 'v4');
    const taken = w.events.at(-1)?.at ?? 0;
    const ownerAt = async (when: number) =>
      (await w.store.reader.whoHad({ address: address('198.51.100.0'), protocol: 'tcp', port: 40_000, at: when }))
        .tenure?.machine;
    await ledger([
      ['before', () => ownerAt(begun - 1_000_000), undefined],
      ['while it had it', () => ownerAt(begun + 1_000_000), 'edge-1'],
      ['until it was free', () => ownerAt(freed - 1), 'edge-1'],
      ['then nobody', () => ownerAt(freed), undefined],
      ['then the next', () => ownerAt(taken), 'edge-2'],
    ]);
  });

  it('tells its former machine when it is free', async () => {
    await w.pool('v4', ['198.51.100.0/32']);
    const slice = first(await w.ready('edge-1', 'v4'));
    await w.drain(slice.id);
    await w.reportSlice('edge-1', slice, 'empty');
    await w.pass(120);
    expect(w.events.at(-1)).toMatchObject({
      kind: 'slice',
      machine: 'edge-1',
      slice: { machine: null, state: 'free' },
    });
  });

  it('works before the agent ever confirmed it', async () => {
    await w.pool('v4', ['198.51.100.0/32']);
    const slice = first(await w.slices('edge-1', 'v4'));
    await ledger([
      ['drain', () => w.drain(slice.id), '198.51.100.0:2048-4095 draining on edge-1 g1'],
      ['a late confirmation', () => w.reportSlice('edge-1', slice, 'assigned'), 'taken'],
      ['does not bring it back', () => w.lookSlice(slice), '198.51.100.0:2048-4095 draining on edge-1 g1'],
      ['empty', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['it rests', () => w.lookSlice(slice), '198.51.100.0:2048-4095 cooling on edge-1 g1'],
    ]);
  });

  it('needs no proof where nobody enforces', async () => {
    await w.machine('bare', 'none');
    await w.holder('bare', 'web', 'proxy', null);
    await w.pool('v4', ['198.51.100.0/31']);
    const [empty, used] = await w.slices('bare', 'v4', { count: 2 });
    if (!empty || !used) throw new Error('no slices');
    const session = await w.session('bare', 'web', 10);
    await w.leases(session, tcp(8, at('198.51.100.0', used.ports.first)));
    await ledger([
      ['an empty one rests at once', () => w.drain(empty.id), '198.51.100.0:2048-4095 cooling on bare g1'],
      ['a used one waits', () => w.drain(used.id), '198.51.100.0:4096-6143 draining on bare g1'],
      ['its session expires', () => w.pass(10), undefined],
      ['then it rests', () => w.lookSlice(used), '198.51.100.0:4096-6143 cooling on bare g1'],
      ['both are free', () => w.pass(120), undefined],
      [
        'the longest rested is taken first',
        () => w.assign('edge-1', 'v4'),
        '198.51.100.0:2048-4095 assigning on edge-1 g2',
      ],
      [
        'then the other, then new ones',
        () => w.assign('edge-1', 'v4', { count: 2 }),
        '198.51.100.0:4096-6143 assigning on edge-1 g2, 198.51.100.0:6144-8191 assigning on edge-1 g1',
      ],
    ]);
  });

  it('is refused for a slice that is not there', async () => {
    expect(await w.drain(999)).toBe('slice_not_found');
  });
});

describe('a blocked extent', () => {
  const unblock = async (slice: Slice, range: { first: number; last: number }) => {
    const result = await w.execute({ kind: 'unblock', slice: slice.id, protocol: 'tcp', ports: range });
    return result.ok ? 'done' : result.error.code;
  };

  it('stays until an operator says that the stranger is gone, then rests like any other', async () => {
    await w.pool('v4', ['198.51.100.0/32']);
    const slice = first(await w.ready('edge-1', 'v4'));
    const session = await w.session('edge-1', 'web', 86_400);
    const [lease] = await w.leases(session, tcp(8));
    if (!lease) throw new Error('no lease');
    await ledger([
      ['the kernel refused it', () => w.report(lease, 'refused'), 'taken'],
      ['terminal', () => w.look(lease), '198.51.100.0:4088-4095/tcp refused'],
      ['blocked', () => w.extents(slice), 'free 2048-4087, blocked 4088-4095'],
      ['for long', () => w.pass(10_000), undefined],
      ['the next grant goes elsewhere', () => w.grant(session, tcp(8)), '198.51.100.0:4080-4087/tcp pending'],
      ['other ports', () => unblock(slice, { first: 2_048, last: 4_087 }), 'nothing_blocked'],
      ['a part of it is enough', () => unblock(slice, { first: 4_090, last: 4_090 }), 'done'],
      ['once', () => unblock(slice, { first: 4_088, last: 4_095 }), 'nothing_blocked'],
      ['it rests', () => w.extents(slice), 'free 2048-4079, cooling 4088-4095'],
      ['rested', () => w.pass(120), undefined],
      ['free', () => w.extents(slice), 'free 2048-4079, free 4088-4095'],
      ['no such slice', () => unblock({ ...slice, id: 999 }, { first: 1, last: 1 }), 'slice_not_found'],
    ]);
    expect(await w.store.reader.lease(lease.id)).toMatchObject({
      refusal: { errno: 'EADDRINUSE', detail: 'port 5 of nginx' },
    });
  });

  it('goes with its slice, and comes back free with it', async () => {
    await w.pool('v4', ['198.51.100.0/32']);
    const slice = first(await w.ready('edge-1', 'v4'));
    const session = await w.session('edge-1', 'web', 86_400);
    const [lease] = await w.leases(session, tcp(8));
    if (!lease) throw new Error('no lease');
    await w.report(lease, 'refused');
    await w.drain(slice.id);
    await w.reportSlice('edge-1', slice, 'empty');
    expect(await unblock(slice, lease.ports)).toBe('slice_not_assigned');
    await w.pass(120);
    await w.ready('edge-2', 'v4');
    expect(await w.extents(slice)).toBe('free 2048-4095');
  });
});

describe('a pool', () => {
  it('has a name of its own, addresses of its own, and room for a slice', () =>
    ledger([
      ['the first', () => w.pool('v4', ['198.51.100.0/25', '203.0.113.0/24']), 'v4'],
      ['the same name', () => w.pool('v4', ['192.0.2.0/24']), 'pool_exists'],
      ['around it', () => w.pool('b', ['198.51.100.0/24']), 'prefix_overlap'],
      ['inside it', () => w.pool('b', ['192.0.2.0/24', '203.0.113.7/32']), 'prefix_overlap'],
      ['with itself', () => w.pool('b', ['192.0.2.0/24', '192.0.2.128/25']), 'prefix_overlap'],
      ['beside it', () => w.pool('b', ['198.51.100.128/25']), 'b'],
      [
        'no whole slice',
        () => w.pool('c', ['192.0.2.0/24'], { usablePorts: { first: 1_025, last: 5_000 }, slicePorts: 4_096 }),
        'pool_too_small',
      ],
      [
        'exactly one',
        () => w.pool('c', ['192.0.2.0/32'], { usablePorts: { first: 4_096, last: 8_191 }, slicePorts: 4_096 }),
        'c',
      ],
    ]));

  it('names what it overlaps', async () => {
    await w.pool('v4', ['198.51.100.0/25']);
    const result = await w.execute({
      kind: 'createPool',
      id: 'b',
      labels: {},
      prefixes: [prefix('198.51.100.64/26')],
      slicePorts: 2_048,
      usablePorts: { first: 0, last: 65_535 },
      sharedBlockPorts: 128,
      cooldownUs: { tcp: 0, udp: 0, icmp: 0 },
    });
    expect(result).toEqual({
      ok: false,
      error: { code: 'prefix_overlap', prefix: '198.51.100.64/26', other: '198.51.100.0/25', pool: 'v4' },
    });
  });
});
