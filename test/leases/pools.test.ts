import { beforeEach, describe, expect, it } from 'vitest';
import type { Commands } from '../../src/leases/commands.ts';
import type { CarveOut, Slice } from '../../src/leases/model.ts';
import { parsePorts } from '../../src/net/ports.ts';
import { address, ledger, must, prefix, World } from '../support/world.ts';

let w: World;

beforeEach(async () => {
  w = new World();
  await w.machine('edge-1');
  await w.machine('bare', 'none');
  // Four slices on each address: from 0, 16384, 32768 and 49152.
  await w.pool('v4', ['198.51.100.0/30'], { slicePorts: 16_384, usablePorts: { first: 0, last: 65_535 } });
});

const cut = (text: string, ports?: string): CarveOut => ({
  prefix: prefix(text),
  ports: ports === undefined ? null : must(parsePorts(ports)),
});

async function update(change: Omit<Commands['updatePool']['input'], 'id'>, id = 'v4'): Promise<string> {
  const result = await w.execute({ kind: 'updatePool', id, ...change });
  return result.ok ? 'changed' : result.error.code;
}
async function remove(id: string): Promise<string> {
  const result = await w.execute({ kind: 'deletePool', id });
  return result.ok ? 'deleted' : result.error.code;
}
const here = (text: string, firstPort: number) => ({ at: { address: address(text), firstPort } });
const placeOf = ({ address: on, ports }: Slice): string => `${on}:${ports.first}`;
/** Everything that can be had, place by place. */
async function takeAll(machine = 'edge-1'): Promise<string> {
  const places: string[] = [];
  for (;;) {
    const result = await w.execute({ kind: 'assignSlices', machine, pool: 'v4', count: 1, family: null, at: null });
    if (!result.ok) return places.join(' ').replaceAll('198.51.100.', '.');
    places.push(...result.value.map(placeOf));
  }
}
/** A slice that was in use once, is free now, and would be given out first. */
async function used(text: string, firstPort: number): Promise<Slice> {
  const [slice] = await w.slices('bare', 'v4', here(text, firstPort));
  if (!slice) throw new Error('no slice');
  await w.drain(slice.id);
  await w.pass(120);
  return slice;
}

describe('carve-outs', () => {
  it('are handed out by nobody: whole addresses, ranges of ports, and slices that they only touch', async () => {
    const carveOuts = [
      cut('198.51.100.0/32'),
      cut('198.51.100.2/31', '20000-20001'),
      cut('198.51.100.3/32', '0-32768'),
    ];
    await ledger([
      ['carve', () => update({ carveOuts }), 'changed'],
      ['by name', () => w.assign('edge-1', 'v4', here('198.51.100.0', 0)), 'slice_carved_out'],
      ['by name, touched', () => w.assign('edge-1', 'v4', here('198.51.100.2', 16_384)), 'slice_carved_out'],
      ['the rest', takeAll, '.1:0 .1:16384 .1:32768 .1:49152 .2:0 .2:32768 .2:49152 .3:49152'],
      ['again', takeAll, ''],
    ]);
  });

  it('step over a whole prefix at once, however large it is', async () => {
    await w.pool('six', ['2001:db8::/48'], { carveOuts: [cut('2001:db8::/49'), cut('2001:db8:0:8000::/64')] });
    expect(await w.assign('edge-1', 'six')).toBe('2001:db8:0:8001:::2048-4095 assigning on edge-1 g1');
  });

  it('also cover what was in use before, and give it back when they go', async () => {
    const slice = await used('198.51.100.0', 0);
    const other = await used('198.51.100.1', 0);
    await ledger([
      ['carve', () => update({ carveOuts: [cut('198.51.100.0/31'), cut('198.51.100.2/32')] }), 'changed'],
      ['all there is', takeAll, '.3:0 .3:16384 .3:32768 .3:49152'],
      ['two may be used again', () => update({ carveOuts: [cut('198.51.100.1/32')] }), 'changed'],
      [
        'former ones first, then what was never made',
        takeAll,
        '.0:0 .0:16384 .0:32768 .0:49152 .2:0 .2:16384 .2:32768 .2:49152',
      ],
      ['the last', () => update({ carveOuts: [] }), 'changed'],
      ['all', takeAll, '.1:0 .1:16384 .1:32768 .1:49152'],
      ['it is the same slice', () => w.lookSlice(slice), '198.51.100.0:0-16383 assigning on edge-1 g2'],
      ['and so is the other', () => w.lookSlice(other), '198.51.100.1:0-16383 assigning on edge-1 g2'],
    ]);
  });

  it('do not come where a machine has a slice, until it is drained and rested', async () => {
    const [slice] = await w.slices('bare', 'v4', here('198.51.100.2', 32_768));
    await ledger([
      ['beside it', () => update({ carveOuts: [cut('198.51.100.2/32', '0-32767')] }), 'changed'],
      ['over it', () => update({ carveOuts: [cut('198.51.100.2/32', '0-32768')] }), 'space_in_use'],
      ['its address', () => update({ carveOuts: [cut('198.51.100.2/32')] }), 'space_in_use'],
      ['a wider prefix', () => update({ carveOuts: [cut('198.51.100.0/30')] }), 'space_in_use'],
      ['drained', () => w.drain(slice?.id ?? 0), '198.51.100.2:32768-49151 cooling on bare g1'],
      ['it still rests', () => update({ carveOuts: [cut('198.51.100.2/32')] }), 'space_in_use'],
      ['rested', () => w.pass(120), undefined],
      ['now', () => update({ carveOuts: [cut('198.51.100.2/32')] }), 'changed'],
    ]);
  });

  it('are in the pool, and those that stay may be where a slice is', async () => {
    await ledger([
      ['elsewhere', () => update({ carveOuts: [cut('203.0.113.0/24')] }), 'carve_out_outside_pool'],
      ['around all of it', () => update({ carveOuts: [cut('198.51.100.0/24')] }), 'changed'],
      ['nothing is left', () => w.assign('edge-1', 'v4'), 'slices_exhausted'],
      ['with labels', () => update({ carveOuts: [cut('198.51.100.0/24')], labels: { site: 'x' } }), 'changed'],
    ]);
  });
});

describe('prefixes', () => {
  it('come and go; a slice of one that comes back is the same', async () => {
    await used('198.51.100.0', 0);
    const both = [prefix('198.51.100.0/30'), prefix('203.0.113.0/32')];
    const other = [prefix('203.0.113.0/32')];
    await ledger([
      ['another pool has it', () => w.pool('b', ['203.0.113.0/24']), 'b'],
      ['so not', () => update({ prefixes: both }), 'prefix_overlap'],
      ['it gives it up', () => remove('b'), 'deleted'],
      ['now', () => update({ prefixes: both }), 'changed'],
      ['and the first goes', () => update({ prefixes: other }), 'changed'],
      ['only the second is left', takeAll, '203.0.113.0:0 203.0.113.0:16384 203.0.113.0:32768 203.0.113.0:49152'],
      ['in use', () => update({ prefixes: [prefix('198.51.100.0/30')] }), 'space_in_use'],
      ['back again', () => update({ prefixes: both }), 'changed'],
      ['in its second life', () => w.assign('edge-1', 'v4'), '198.51.100.0:0-16383 assigning on edge-1 g2'],
      ['from its beginning', () => w.assign('edge-1', 'v4'), '198.51.100.0:16384-32767 assigning on edge-1 g1'],
      ['overlapping itself', () => update({ prefixes: [...both, prefix('203.0.113.0/31')] }), 'prefix_overlap'],
    ]);
  });
});

describe('a pool', () => {
  it('is not changed by what changes nothing', async () => {
    const events = w.events.length;
    expect(await update({ labels: {}, carveOuts: [] })).toBe('changed');
    expect(w.events).toHaveLength(events);
    expect(await update({ labels: {} }, 'v9')).toBe('pool_not_found');
  });

  it('rests what ends from now on for as long as it says now', async () => {
    const [slice] = await w.slices('bare', 'v4');
    const cooldownUs = { tcp: 5_000_000, udp: 0, icmp: 0 };
    await ledger([
      ['shorter', () => update({ cooldownUs, sharedBlockPorts: 64 }), 'changed'],
      ['drained', () => w.drain(slice?.id ?? 0), '198.51.100.0:0-16383 cooling on bare g1'],
      ['after five seconds', () => w.pass(5), undefined],
      ['free', () => w.lookSlice(slice ?? { id: 0 }), '198.51.100.0:0-16383 free g1'],
    ]);
  });

  it('is deleted when no machine has a slice of it, and its name may come back for another of other slices', async () => {
    const [slice] = await w.slices('bare', 'v4', { count: 1 });
    await ledger([
      ['in use', () => remove('v4'), 'pool_in_use'],
      ['drained', () => w.drain(slice?.id ?? 0), '198.51.100.0:0-16383 cooling on bare g1'],
      ['it rests', () => remove('v4'), 'pool_in_use'],
      ['rested', () => w.pass(120), undefined],
      ['gone', () => remove('v4'), 'deleted'],
      ['once', () => remove('v4'), 'pool_not_found'],
      ['nothing to assign', () => w.assign('bare', 'v4'), 'pool_not_found'],
      [
        'made again',
        () => w.pool('v4', ['198.51.100.0/30'], { slicePorts: 2_048, usablePorts: { first: 0, last: 65_535 } }),
        'v4',
      ],
      ['with slices of its own', () => w.assign('bare', 'v4', { count: 2 }), smaller],
    ]);
    expect(w.events.filter(({ kind }) => kind === 'deleted')).toMatchObject([
      { what: 'pool', id: 'v4', machine: null },
    ]);
    const then = (slice?.assignedAt ?? 0) + 1_000_000;
    const ownerOf = async (port: number, at: number) =>
      (await w.store.reader.whoHad({ address: address('198.51.100.0'), protocol: 'tcp', port, at })).tenure;
    expect(await ownerOf(5_000, then)).toMatchObject({ slice: slice?.id, machine: 'bare', ports: { last: 16_383 } });
    expect(await ownerOf(2_049, w.clock.us + 1_000)).toMatchObject({ ports: { first: 2_048, last: 4_095 } });
  });
  const smaller = '198.51.100.0:0-2047 assigned on bare g1, 198.51.100.0:2048-4095 assigned on bare g1';
});
