import { describe, expect, it } from 'vitest';
import { Uptime } from '../../src/leases/uptime.ts';
import { limits } from '../../src/leases/limits.ts';
import { StoreError } from '../../src/leases/store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { ledger, second, tcp, World } from '../support/world.ts';

describe('since when the table is served', () => {
  it('is told on the clock of the store, and measured on the own', () => {
    const uptime = new Uptime(100 * second);
    // The store's clock is an hour ahead, and a little faster.
    expect(uptime.startedAt(100 * second, 3_700 * second)).toBe(3_700 * second);
    expect(uptime.startedAt(200 * second, 3_800 * second + 40)).toBe(3_700 * second + 40);
  });

  it('begins anew when the clock of the store jumps, forwards or backwards', () => {
    const uptime = new Uptime(0);
    expect(uptime.startedAt(50 * second, 50 * second)).toBe(0);
    expect(uptime.startedAt(60 * second, 3_660 * second)).toBe(3_660 * second);
    expect(uptime.startedAt(70 * second, 3_670 * second)).toBe(3_660 * second);
    expect(uptime.startedAt(80 * second, 80 * second)).toBe(80 * second);
    expect(uptime.startedAt(90 * second, 90 * second + limits.clock_jump_us_max)).toBe(
      80 * second + limits.clock_jump_us_max,
    );
  });

  it('begins anew after a time in which nothing could be written', () => {
    const uptime = new Uptime(0);
    uptime.interrupt();
    expect(uptime.startedAt(500 * second, 500 * second)).toBe(500 * second);
    expect(uptime.startedAt(600 * second, 600 * second)).toBe(500 * second);
  });
});

describe('a store that cannot be written for a while', () => {
  it('costs no session its life: each has its whole time from when it can be kept alive again', async () => {
    const store = new MemoryStore();
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/32']);
    await world.machine('edge-1');
    await world.holder('edge-1', 'web');
    await world.ready('edge-1', 'v4');
    const web = await world.session('edge-1', 'web', 30);
    await world.leases(web, tcp(1));
    const full = new StoreError('full', 'the disk is full');
    await ledger([
      ['nothing can be written for a minute', () => (store.failure = full), full],
      ['so it cannot be kept alive', () => world.keep(web).catch((error: unknown) => error), full],
      ['a minute passes', () => world.clock.passSeconds(60), undefined],
      ['nor swept', () => world.sweep().catch((error: unknown) => error), full],
      ['then it can', () => (store.failure = undefined), undefined],
      ['and nothing is over', () => world.sweep(), 1],
      ['it is kept alive', () => world.keep(web), 'until +30 s'],
      ['half a minute without a word', () => world.pass(30), undefined],
      ['is the end of it, as ever', () => world.keep(web), 'session_ended'],
    ]);
  });
});
