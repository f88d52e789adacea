import { pino } from 'pino';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { FishOnHost } from '../../../src/agent/fish/fish-on-host.ts';
import type { FishPort } from '../../../src/agent/fish/fish-port.ts';

/** Fish as far as its life goes: whatever else is asked of it is a mistake here. */
class FakeFish {
  readonly #died = Promise.withResolvers<string>();
  readonly stops: (boolean | undefined)[] = [];
  fences = 0;
  fenceProblem: string | undefined;
  followed = 0;
  linkProblem: string | undefined;
  lost = 0;
  readonly port: FishPort;

  constructor() {
    const no = () => Promise.reject(new Error('not asked for here'));
    this.port = {
      ...{ setBlocks: no, drain: no, portUse: no, flows: no, topTalkers: no, busyRemotes: no, answer: no, stats: no },
      ...{ startTrace: no, readTrace: no, holder: 'fish', lostSockets: async () => this.lost },
      died: this.#died.promise,
      followLinks: async () => {
        this.followed++;
        if (this.linkProblem !== undefined) throw new Error(this.linkProblem);
      },
      fence: () => {
        this.fences++;
        return this.fenceProblem === undefined ? Promise.resolve(7) : Promise.reject(new Error(this.fenceProblem));
      },
      stop: async ({ leave } = {}) => {
        this.stops.push(leave);
      },
    };
  }

  async die(reason: string): Promise<void> {
    this.#died.resolve(reason);
    await this.#died.promise;
  }
}

let made: FakeFish[];
let problem: string | undefined;
let hasFlows: boolean;
let now: number;
let changes: number;
let deaths: number;
let lost: number[];
let isFenced: boolean;
let fish: FishOnHost;
beforeEach(() => {
  made = [];
  problem = undefined;
  hasFlows = false;
  now = 0;
  changes = 0;
  deaths = 0;
  lost = [];
  isFenced = false;
  fish = new FishOnHost({
    starter: {
      start: async () => {
        if (problem !== undefined) throw new Error(problem);
        const next = new FakeFish();
        made.push(next);
        return next.port;
      },
      hasFlows: () => hasFlows,
    },
    onChanged: () => changes++,
    onDied: () => deaths++,
    onSocketsLost: (count) => lost.push(count),
    isFenced: () => isFenced,
    log: pino({ level: 'silent' }),
    now: () => now,
  });
});

describe('fish', () => {
  it('is started once, and whoever must have it hears when it does not run', async () => {
    expect(() => fish.insist()).toThrow('fish does not run');
    expect(await fish.begin()).toBeUndefined();
    expect(await fish.begin()).toBeUndefined();
    expect(made).toHaveLength(1);
    expect(fish.insist()).toBe(made[0]?.port);
    expect({ starts: fish.starts, changes }).toEqual({ starts: 1, changes: 1 });
  });

  it('is told at each pass to go by the links as they are, and a pass hears if it cannot', async () => {
    await fish.begin();
    expect(made[0]?.followed).toBe(0);
    await fish.begin();
    expect(made[0]?.followed).toBe(1);
    made[0]!.linkProblem = 'no such device';
    expect((await fish.begin())?.message).toBe('fish does not go by the links of this host: no such device');
    expect(made).toHaveLength(1);
  });

  it('that dies is started again, later and later, and what it was told is to be told again', async () => {
    await fish.begin();
    await made[0]?.die('a bug');
    expect(fish.port).toBeUndefined();
    expect({ changes, deaths }).toEqual({ changes: 2, deaths: 1 });
    now = 99;
    await fish.begin();
    expect(made).toHaveLength(1);
    now = 100;
    await fish.begin();
    expect(made).toHaveLength(2);
    await made[1]?.die('the same bug');
    now = 299;
    await fish.begin();
    expect(made).toHaveLength(2);
    now = 300;
    await fish.begin();
    expect(made).toHaveLength(3);
  });

  it('that cannot be started says why, also until it is tried again', async () => {
    problem = 'no device';
    expect((await fish.begin())?.message).toBe('fish cannot be started: no device');
    problem = undefined;
    expect((await fish.begin())?.message).toBe('fish cannot be started: no device');
    now = 100;
    expect(await fish.begin()).toBeUndefined();
    expect(fish.starts).toBe(2);
  });

  it('that lost its keeper is replaced at once, its flows left to the next; its late death is nobody’s', async () => {
    await fish.begin();
    fish.lostItsKeeper();
    expect(await fish.begin()).toBeUndefined();
    expect(made).toHaveLength(2);
    expect(made[0]?.stops).toEqual([true]);
    await made[0]?.die('stopped');
    expect(fish.port).toBe(made[1]?.port);
    expect(deaths).toBe(0);
  });

  it('whose sockets were destroyed says so once, and is replaced with its flows left to the next, which is let be for a while', async () => {
    vi.useFakeTimers();
    try {
      await fish.begin();
      await vi.advanceTimersByTimeAsync(10_000);
      expect(lost).toEqual([]);
      made[0]!.lost = 3;
      await vi.advanceTimersByTimeAsync(10_000);
      expect(lost).toEqual([3]);
      await fish.begin();
      expect(made.map(({ stops }) => stops)).toEqual([[true], []]);
      made[1]!.lost = 1;
      await vi.advanceTimersByTimeAsync(1_900);
      expect(lost).toEqual([3]);
      await vi.advanceTimersByTimeAsync(200);
      expect(lost).toEqual([3, 1]);
      await fish.stop(true);
    } finally {
      vi.useRealTimers();
    }
  });

  it('goes on before the server is asked only where a former agent left flows', async () => {
    await fish.goOn();
    expect(made).toHaveLength(0);
    hasFlows = true;
    await fish.goOn();
    expect(made).toHaveLength(1);
  });

  it('is fenced before its ports go, which stay while it could not be', async () => {
    let gone = 0;
    await fish.begin();
    await fish.endFlows(() => gone++);
    expect(gone).toBe(1);
    made[0]!.fenceProblem = 'it does not answer';
    await fish.endFlows(() => gone++);
    expect(gone).toBe(1);
  });

  it('is stopped with its flows left or ended, as is wanted', async () => {
    await fish.begin();
    await fish.stop(false);
    await fish.stop(true);
    expect(made[0]?.stops).toEqual([false]);
    expect(fish.port).toBeUndefined();
  });
});

it('past the horizon fish has ended what it found before anybody has it', async () => {
  isFenced = true;
  expect(await fish.begin()).toBeUndefined();
  expect([made[0]?.fences, fish.port === made[0]?.port]).toEqual([1, true]);
  isFenced = false;
  await made[0]?.die('a bug');
  await fish.begin();
  now += 10_000;
  await fish.begin();
  expect(made[1]?.fences).toBe(0);
});

it('a host without fish starts none', async () => {
  const none = new FishOnHost({
    ...{ starter: null, onChanged: () => changes++, onDied: () => deaths++, isFenced: () => false },
    onSocketsLost: () => {},
    ...{ log: pino({ level: 'silent' }), now: () => now },
  });
  await none.goOn();
  expect(await none.begin()).toBeUndefined();
  await none.endFlows(() => changes++);
  expect({ port: none.port, starts: none.starts, changes }).toEqual({ port: undefined, starts: 0, changes: 1 });
});
