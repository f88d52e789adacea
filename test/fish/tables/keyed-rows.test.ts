import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { KeyedRows, NOWHERE } from '../../../src/fish/tables/keyed-rows.ts';
import { seeded } from '../../support/fish.ts';

const rows_max = 6;
const step = fc.record({ first: fc.nat({ max: 3 }), second: fc.nat({ max: 2 }) });

test.prop([fc.array(step, { maxLength: 200 }), fc.integer()], { numRuns: 300 })(
  'keys agree with a map of theirs, as many as there are rows, each with a row of its own',
  (steps, seed) => {
    const rows = new KeyedRows(rows_max, seeded(seed));
    const model = new Map<string, number>();
    for (const { first, second } of steps) {
      const key = `${first} ${second}`;
      const row = model.get(key);
      if (row !== undefined) {
        rows.release(row);
        model.delete(key);
      } else {
        const taken = rows.take(first, second);
        expect(taken === NOWHERE).toBe(model.size === rows_max);
        if (taken === NOWHERE) continue;
        expect([...model.values()]).not.toContain(taken);
        expect([rows.first(taken), rows.second(taken)]).toEqual([first, second]);
        model.set(key, taken);
      }
      expect(rows.count).toBe(model.size);
      for (let f = 0; f <= 3; f++)
        for (let s = 0; s <= 2; s++) expect(rows.find(f, s)).toBe(model.get(`${f} ${s}`) ?? NOWHERE);
    }
  },
);
