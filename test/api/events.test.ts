import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventList } from '../../src/wire/agent.ts';
import { Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeAll(async () => {
  f = await furnished();
});
afterAll(() => f.world[Symbol.asyncDispose]());

describe('the log of changes', () => {
  it('has each thing as it was then, with all that the API tells of it', async () => {
    const { world } = f;
    const { revision: after } = await world.must(EventList, 'GET', '/v1/events?limit=1');
    const body = { id: 'logged', prefixes: ['198.51.100.128/30'], labels: { tier: 'gold' }, cooldown_s: { tcp: 7 } };
    const pool = await world.must(Pool, 'POST', '/v1/pools', { body });
    const wants = [{ pool: 'logged', slices: 1 }];
    const machine = await world.must(Machine, 'POST', '/v1/machines', {
      body: { id: 'logged', wants, labels: { a: 'b' } },
    });
    const { events } = await world.must(EventList, 'GET', `/v1/events?after=${after}`);
    const { slices: _counted, ...terms } = pool;
    expect(events.find(({ kind }) => kind === 'pool')).toMatchObject({ pool: terms });
    expect(events.find(({ kind }) => kind === 'machine')).toMatchObject({ machine });
  });
});
