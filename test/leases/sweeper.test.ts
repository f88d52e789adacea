import { describe, expect, it } from 'vitest';
import type { Output } from '../../src/leases/commands.ts';
import { limits } from '../../src/leases/limits.ts';
import { Sweeper } from '../../src/leases/sweeper.ts';

/** A timer that only runs when it is told to. */
class HandTimer {
  pending: { run: () => void; ms: number } | undefined;
  timer = (run: () => void, ms: number) => {
    const mine = { run, ms };
    this.pending = mine;
    return {
      cancel: () => {
        if (this.pending === mine) this.pending = undefined;
      },
    };
  };
  /** Runs what is due and waits until the round is over. Returns for how long it had been put off. */
  async fire(): Promise<number | undefined> {
    const due = this.pending;
    this.pending = undefined;
    due?.run();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    return due?.ms;
  }
}

function build(
  rounds: (Output<'sweep'> | Error)[],
  compactions: boolean[] = [],
  forgettings: boolean[] = [],
  prunes: boolean[] = [],
) {
  const hand = new HandTimer();
  const errors: unknown[] = [];
  const asked: unknown[] = [];
  const pruned: unknown[] = [];
  const clock = { us: 5_000 };
  const sweeper = new Sweeper({
    execute: async (command) => {
      asked.push(command);
      const round = rounds.shift() ?? { moved: 0, more: false };
      if (round instanceof Error) throw round;
      return { ok: true, value: round };
    },
    store: {
      compact: async (step) => {
        asked.push(step);
        return { dropped: 0, more: compactions.shift() ?? false };
      },
      forget: async (step) => {
        asked.push(step);
        return { dropped: 0, more: step.what === 'answers' && (forgettings.shift() ?? false) };
      },
      prune: async (step) => {
        pruned.push(step);
        return { removed: 0, more: prunes.shift() ?? false };
      },
    },
    clock: { nowUs: () => clock.us },
    answersKeptUs: 3_000,
    auditKeptUs: 4_000,
    timer: hand.timer,
    pauseMs: 250,
    itemsMax: 7,
    eventsKept: 1_000,
    historyKeptUs: 5_000_000,
    onError: (error) => errors.push(error),
  });
  return { hand, errors, asked, pruned, clock, sweeper };
}

describe('the sweeper', () => {
  it('goes on at once while there is more, and pauses when there is not', async () => {
    const { hand, sweeper, asked } = build(
      [
        { moved: 7, more: true },
        { moved: 7, more: false },
        { moved: 0, more: false },
      ],
      [false, true, false],
      [false, false, true],
    );
    sweeper.start();
    const waits: unknown[] = [];
    for (let round = 0; round < 5; round++) waits.push(await hand.fire());
    // Begun at once; more to sweep; more to compact; more to forget; nothing left.
    expect(waits).toEqual([0, 0, 0, 0, 250]);
    expect(asked.slice(0, 4)).toEqual([
      { kind: 'sweep', itemsMax: 7 },
      { keep: 1_000, rowsMax: limits.compacted_events_max },
      { what: 'answers', before: 2_000, rowsMax: limits.forgotten_rows_max },
      { what: 'audit', before: 1_000, rowsMax: limits.forgotten_rows_max },
    ]);
    await sweeper.stop();
  });

  it('tells of a round that failed and comes again after its pause', async () => {
    const [first, later] = [new Error('the disk is full'), new Error('full again')];
    const { hand, errors, sweeper, asked } = build([first, first, { moved: 0, more: false }, later]);
    sweeper.start();
    await hand.fire();
    expect(errors).toEqual([first]);
    expect([await hand.fire(), await hand.fire(), await hand.fire()]).toEqual([250, 250, 250]);
    // Said once, and once more when it began anew.
    expect(errors).toEqual([first, later]);
    expect(asked).toHaveLength(7);
    await sweeper.stop();
  });

  it('begins no round after it was stopped, and stops once', async () => {
    const { hand, sweeper, asked } = build([]);
    sweeper.start();
    sweeper.start();
    await sweeper.stop();
    expect(hand.pending).toBeUndefined();
    expect(asked).toEqual([]);
    sweeper.start();
    await hand.fire();
    expect(asked).toHaveLength(4);
    await sweeper.stop();
  });

  it('waits for the round that runs when it is stopped', async () => {
    const { promise, resolve } = Promise.withResolvers<{ ok: true; value: Output<'sweep'> }>();
    const hand = new HandTimer();
    let isOver = false;
    const sweeper = new Sweeper({
      execute: () => promise,
      store: {
        compact: async () => {
          return { dropped: 0, more: true };
        },
        forget: async () => ({ dropped: 0, more: true }),
        prune: async () => {
          isOver = true;
          return { removed: 0, more: true };
        },
      },
      clock: { nowUs: () => 0 },
      timer: hand.timer,
    });
    sweeper.start();
    await hand.fire();
    const stopped = sweeper.stop();
    resolve({ ok: true, value: { moved: 1, more: true } });
    await stopped;
    expect(isOver).toBe(true);
    expect(hand.pending).toBeUndefined();
  });

  it('forgets in bounded steps what is old, at once while there is more, and then looks once a minute', async () => {
    const { hand, sweeper, pruned, clock } = build([], [], [], [true, false]);
    sweeper.start();
    await hand.fire();
    expect(hand.pending?.ms).toBe(0);
    await hand.fire();
    expect(hand.pending?.ms).toBe(250);
    const step = { keptUs: 5_000_000, rowsMax: limits.pruned_rows_max };
    expect(pruned).toEqual([1, 2].map(() => ({ now: 5_000, ...step })));
    clock.us += 59_000_000;
    await hand.fire();
    expect(pruned).toHaveLength(2);
    clock.us += 1_000_000;
    await hand.fire();
    expect(pruned.slice(2)).toEqual([{ now: 60_005_000, ...step }]);
    await sweeper.stop();
  });
});
