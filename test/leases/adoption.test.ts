import { beforeEach, describe, expect, it } from 'vitest';
import type { Commands } from '../../src/leases/commands.ts';
import type { Slice } from '../../src/leases/model.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { flawsOf } from '../support/tiling.ts';
import { address, ledger, second, showSlice, tcp, World } from '../support/world.ts';

/** The table of a broker: its pool, machine and holders are those of the server, and so are the numbers of its slices. */
let store: MemoryStore;
let w: World;

beforeEach(async () => {
  store = new MemoryStore();
  w = new World(store);
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  await w.holder('edge-1', 'web');
});

type Adoption = Partial<Commands['adoptSlice']['input']>;
const adopt = async (over: Adoption = {}) => {
  const terms = { id: 70, generation: 3, pool: 'v4', machine: 'edge-1', state: 'assigning' as const };
  const place = { address: address('198.51.100.0'), ports: { first: 2_048, last: 4_095 } };
  const result = await w.execute({ kind: 'adoptSlice', ...terms, ...place, ...over });
  return result.ok ? showSlice(result.value) : result.error.code;
};
const forgo = async (id = 70) => {
  const result = await w.execute({ kind: 'forgoSlice', id });
  return result.ok ? showSlice(result.value) : result.error.code;
};
const whole = () => expect(flawsOf(store.tables, store.events, null, 100)).toEqual([]);
const where = '198.51.100.0:2048-4095';
const slice: Pick<Slice, 'id' | 'generation'> = { id: 70, generation: 3 };

describe('a slice that comes into a table', () => {
  it('is granted from when its owner has confirmed it, and under its generation', async () => {
    const session = await w.session('edge-1', 'web', 3_600);
    await ledger([
      ['it comes', () => adopt(), `${where} assigning on edge-1 g3`],
      ['not confirmed', () => w.grant(session, tcp(1)), 'no_slices'],
      ['told again', () => adopt(), `${where} assigning on edge-1 g3`],
      ['confirmed', () => adopt({ state: 'assigned' }), `${where} assigned on edge-1 g3`],
      ['granted', () => w.grant(session, tcp(1)), '198.51.100.0:4095/tcp pending'],
      ['told again', () => adopt({ state: 'assigned' }), `${where} assigned on edge-1 g3`],
      ['an old word', () => adopt({ generation: 2, state: 'assigned' }), 'stale_token'],
    ]);
    expect([...store.tables.leases.values()].map(({ generation, slice }) => [generation, slice])).toEqual([[3, 70]]);
    whole();
  });

  it('is blocked where it was granted from before this table was made, until nobody is on it and it has rested', async () => {
    const session = await w.session('edge-1', 'web', 86_400);
    const clear = async () => {
      const ports = { first: 2_048, last: 4_095 };
      const item = { slice: 70, generation: 3, protocol: 'tcp' as const, ports };
      const report = { kind: 'report', machine: 'edge-1', revision: 0, leases: [], slices: [], clear: [item] } as const;
      return (await w.execute(report)).ok;
    };
    await ledger([
      ['it comes', () => adopt({ state: 'assigned' }), `${where} assigned on edge-1 g3`],
      ['in doubt', () => w.extents(slice), 'blocked 2048-4095'],
      ['not granted', () => w.grant(session, tcp(1)), 'no_ports'],
      ['a long time', () => w.pass(3_600), undefined],
      ['in doubt', () => w.extents(slice), 'blocked 2048-4095'],
      ['nobody is on it', clear, true],
      ['it rests', () => w.extents(slice), 'cooling 2048-4095'],
      ['not granted', () => w.grant(session, tcp(1)), 'no_ports'],
      ['rested', () => w.pass(121), undefined],
      ['granted', () => w.grant(session, tcp(1)), '198.51.100.0:4095/tcp pending'],
      ['each protocol by itself', () => w.extents(slice, 'udp'), 'blocked 2048-4095'],
    ]);
    expect((await store.reader.desired('edge-1'))?.blocked).toHaveLength(2);
    whole();
  });

  it('needs its pool and its machine', async () => {
    expect(await adopt({ pool: 'v6' })).toBe('pool_not_found');
    expect(await adopt({ machine: 'edge-9' })).toBe('machine_not_found');
    expect(store.tables.slices.size).toBe(0);
  });
});

describe('a slice that goes', () => {
  it('stays given up under its generation, and comes back under the next when all of it has rested', async () => {
    const session = await w.session('edge-1', 'web', 3_600);
    await adopt();
    await adopt({ state: 'assigned' });
    const [lease] = await w.leases(session, tcp(8));
    if (!lease) throw new Error('no lease');
    await w.report(lease, 'active');
    await ledger([
      ['drained at its deadline', () => w.drain(70, { deadlineUs: 5 * second }), `${where} draining on edge-1 g3`],
      ['then', () => w.pass(5), undefined],
      ['its lease ends', () => w.look(lease), '198.51.100.0:4088-4095/tcp ending revoked'],
      ['not empty', () => w.reportSlice('edge-1', slice, 'empty'), 'slice-70 in_use'],
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['given up', () => w.reportSlice('edge-1', slice, 'empty'), 'taken'],
      ['an old word', () => adopt({ state: 'assigned' }), `${where} cooling on edge-1 g3`],
      ['too early', () => adopt({ generation: 4 }), 'slice_taken'],
      ['rested', () => w.pass(121), undefined],
      ['an old word', () => adopt({ state: 'assigned' }), `${where} free g3`],
      ['it is back', () => adopt({ generation: 4 }), `${where} assigning on edge-1 g4`],
    ]);
    whole();
  });

  it('goes without proof when it was taken back, its leases with it', async () => {
    const session = await w.session('edge-1', 'web', 86_400);
    await adopt();
    await adopt({ state: 'assigned' });
    const [lease] = await w.leases(session, tcp(8));
    if (!lease) throw new Error('no lease');
    await w.report(lease, 'active');
    await ledger([
      ['gone', () => forgo(), `${where} draining on edge-1 g3`],
      ['once', () => forgo(), `${where} draining on edge-1 g3`],
      ['its leases are over', () => w.pass(1), undefined],
      ['at once', () => w.look(lease), '198.51.100.0:4088-4095/tcp cooling fenced'],
      ['rested', () => w.pass(400), undefined],
      ['free', () => w.lookSlice(slice), `${where} free g3`],
      ['again', () => forgo(), `${where} free g3`],
      ['never there', () => forgo(71), 'slice_not_found'],
    ]);
    whole();
  });
});
