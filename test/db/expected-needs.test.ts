import { describe, expect, it } from 'vitest';
import { ExpectedNeeds } from '../../src/db/postgres/expected-needs.ts';
import type { Need } from '../../src/leases/needs.ts';

const machine = (id: string): Need => ({ need: 'machine', id });
const pool: Need = { need: 'pool', id: 'v4' };
const session = (id: number): Need => ({ need: 'session', id });

describe('what the next batch is expected to ask for', () => {
  it('is what recurs of what those before it asked for, each once', () => {
    const expected = new ExpectedNeeds();
    expect(expected.forNextTurn()).toEqual([]);
    for (const need of [machine('edge-1'), session(1), machine('edge-1'), pool]) expected.learn(need);
    const both = [machine('edge-1'), pool];
    expect(expected.forNextTurn()).toEqual(both);
    expect(expected.forNextTurn()).toEqual(both);
  });

  it('is nothing where batches are about ever other machines', () => {
    const expected = new ExpectedNeeds();
    for (let id = 0; id < 33; id++) expected.learn(machine(`edge-${id}`));
    expect(expected.forNextTurn()).toEqual([]);
  });

  it('is learnt anew from time to time, so that what nobody asks for any more is forgotten', () => {
    const expected = new ExpectedNeeds();
    expected.learn(machine('edge-1'));
    const turns = Array.from({ length: 100 }, () => expected.forNextTurn().length);
    expect(turns.slice(0, 64)).toEqual(Array(64).fill(1));
    expect(turns.slice(64)).toEqual(Array(36).fill(0));
  });
});
