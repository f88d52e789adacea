import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { Destinations } from '../../../src/fish/ports/destinations.ts';
import { seeded } from '../../support/fish.ts';

const protocols = [6, 17, 0x86];
const key = fc.tuple(fc.constantFrom(...protocols), fc.nat({ max: 4 }), fc.nat({ max: 2 }));

describe('destinations', () => {
  test.prop([fc.array(fc.record({ key, adds: fc.boolean() }), { maxLength: 200 }), fc.integer()], { numRuns: 300 })(
    'agree with a list of flows that is counted from end to end',
    (steps, seed) => {
      const flowsMax = 16;
      const destinations = new Destinations(flowsMax, seeded(seed));
      const flows: [number, number, number][] = [];
      const same = (a: readonly number[], b: readonly number[]) => a.join() === b.join();
      const toward = (wanted: readonly number[]) => flows.filter((flow) => same(flow, wanted)).length;
      for (const { key: wanted, adds } of steps) {
        const at = flows.findIndex((flow) => same(flow, wanted));
        if (adds && flows.length < flowsMax) {
          flows.push(wanted);
          destinations.add(...wanted);
        } else if (!adds && at >= 0) {
          flows.splice(at, 1);
          destinations.remove(...wanted);
        }
        expect(destinations.flowsToward(...wanted)).toBe(toward(wanted));
        for (const protocol of protocols)
          expect(destinations.busiest(protocol)).toBe(
            Math.max(0, ...flows.filter(([each]) => each === protocol).map((flow) => toward(flow))),
          );
      }
    },
  );

  test('count beyond any number of ports', () => {
    const destinations = new Destinations(10, seeded(1));
    for (let flow = 0; flow < 1_000; flow++) destinations.add(17, 0, 0);
    expect([destinations.busiest(17), destinations.busiest(6)]).toEqual([1_000, 0]);
    for (let flow = 0; flow < 1_000; flow++) destinations.remove(17, 0, 0);
    expect(destinations.busiest(17)).toBe(0);
    expect(() => destinations.remove(17, 0, 0)).toThrow('fewer flows than none');
  });
});
