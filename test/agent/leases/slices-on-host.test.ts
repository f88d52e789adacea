import { beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { SlicesOnHost, type SliceGranter } from '../../../src/agent/leases/slices-on-host.ts';
import type { Slice } from '../../../src/wire/slices.ts';
import { desired, lease, slice } from '../../support/agent-values.ts';

let over: Set<string>;
let early: Set<string>;
let slices: SlicesOnHost;
beforeEach(() => {
  [over, early, slices] = [new Set(), new Set(), new SlicesOnHost()];
});
const granter: SliceGranter = { isOver: ({ id }) => over.has(id), mayTell: ({ id }) => !early.has(id) };
const saying = (of: readonly Slice[], over: Parameters<typeof desired>[0] = {}, held: readonly string[] = []) => {
  const machine = new DesiredMachine('edge');
  machine.reset(desired({ slices: [...of], leases: [], ...over }));
  const said = slices.outcomes(
    machine,
    (address) => address === '198.51.100.10',
    (id) => held.includes(id),
    granter,
  );
  return said.map(({ slice: id, generation, state }) => `${id} ${generation} ${state}`);
};

describe('what is said of slices', () => {
  it('is that one is here when its address is, and that it is empty when it drains and nothing is left', () => {
    expect(saying([slice(1, { state: 'assigning' }), slice(2), slice(3, { state: 'draining' })])).toEqual([
      'slice-1 1 assigned',
      'slice-3 1 empty',
    ]);
    expect(saying([slice(4, { state: 'assigning', address: '198.51.100.11' })])).toEqual([]);
    expect(saying([slice(5, { state: 'draining' })], { leases: [lease(1, { slice: 'slice-5' })] })).toEqual([]);
    expect(saying([slice(6, { state: 'draining' })], {}, ['slice-6'])).toEqual([]);
  });

  it('is said once, until everything is asked for again', () => {
    expect(saying([slice(1, { state: 'draining' })])).toHaveLength(1);
    expect(saying([slice(1, { state: 'draining' })])).toEqual([]);
    slices.forgetTold();
    expect(saying([slice(1, { state: 'draining' })])).toHaveLength(1);
  });

  it('is said again of one that the server did not believe', () => {
    const both = [slice(1, { state: 'draining' }), slice(2, { state: 'draining' })];
    expect(saying(both)).toHaveLength(2);
    slices.forget('slice-2');
    expect(saying(both)).toEqual(['slice-2 1 empty']);
  });

  it('waits for whoever grants there to be sure', () => {
    early.add('slice-1');
    expect(saying([slice(1, { state: 'draining' })])).toEqual([]);
    early.clear();
    expect(saying([slice(1, { state: 'draining' })])).toEqual(['slice-1 1 empty']);
  });

  it('is that one is empty which is over here, whatever the server has it for', () => {
    over.add('slice-1').add('slice-2');
    expect(saying([slice(1), slice(2, { state: 'assigning' })], {}, ['slice-1'])).toEqual(['slice-2 1 empty']);
    expect(saying([slice(1), slice(2, { state: 'assigning' })])).toEqual(['slice-1 1 empty']);
  });
});
