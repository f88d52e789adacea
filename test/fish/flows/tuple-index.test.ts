import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { TupleIndex } from '../../../src/fish/flows/tuple-index.ts';
import { seeded } from '../../support/fish.ts';

const capacity = 24;

function makeIndex(random: () => number) {
  const columns = {
    protocol: new Uint8Array(capacity),
    address: new Uint32Array(capacity),
    port: new Uint16Array(capacity),
    remote: new Uint32Array(capacity),
    remotePort: new Uint16Array(capacity),
  };
  return { columns, index: new TupleIndex(capacity, columns, random) };
}

// Few values, so that tuples come back, and differ in one part only.
const tuple = fc.record({
  protocol: fc.constantFrom(6, 17),
  address: fc.constantFrom(1, 0xffff_ffff),
  port: fc.nat({ max: 3 }),
  remote: fc.constantFrom(0, 7),
  remotePort: fc.nat({ max: 3 }),
});
type Tuple = { protocol: number; address: number; port: number; remote: number; remotePort: number };
const textOf = (t: Tuple) => Object.values(t).join('/');
const findIn = (index: TupleIndex, t: Tuple) => index.find(t.protocol, t.address, t.port, t.remote, t.remotePort);

test.prop([fc.array(fc.record({ tuple, flow: fc.nat({ max: capacity - 1 }) }), { maxLength: 200 }), fc.integer()])(
  'the index agrees with a map through any adding and removing',
  (steps, seed) => {
    const { columns, index } = makeIndex(seeded(seed));
    const model = new Map<string, number>();
    const flows = new Map<number, Tuple>();
    for (const step of steps) {
      const held = flows.get(step.flow);
      if (held) {
        index.remove(step.flow);
        flows.delete(step.flow);
        model.delete(textOf(held));
      } else if (!model.has(textOf(step.tuple))) {
        for (const [name, value] of Object.entries(step.tuple)) columns[name as keyof Tuple][step.flow] = value;
        index.add(step.flow);
        flows.set(step.flow, step.tuple);
        model.set(textOf(step.tuple), step.flow);
      }
      expect(findIn(index, step.tuple)).toBe(model.get(textOf(step.tuple)) ?? -1);
      for (const [flow, each] of flows) expect(findIn(index, each)).toBe(flow);
    }
  },
);

test('removing what is not there is a bug, and says so', () => {
  const { columns, index } = makeIndex(seeded(1));
  columns.port[3] = 9;
  expect(() => index.remove(3)).toThrow('row 3 is not in the table');
});
