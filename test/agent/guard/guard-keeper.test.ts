import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GuardKeeper } from '../../../src/agent/guard/guard-keeper.ts';
import type { Horizon } from '../../../src/agent/guard/horizon-memory.ts';

type Answer = Readonly<{ afterMs: number; fence_s: number }> | Readonly<{ afterMs: number; error: string }>;

let answers: Answer[];
/** When the server was asked, and for how long the guard was opened. */
let asked: number[];
let opened: [at: number, forMs: number][];
let said: string[];
let startedAt: number;
let openFails: boolean;
let troubles: number;
/** How often the guard was shut, and how long the machine slept. */
let shut: number[];
let sleptMs: number;
/** What passes before the kernel hears of an opening, each time; 0 when nothing is in it. */
let lateMs: number[];
/** When the horizon had passed without an answer, and when one came after all. */
let fenced: [at: number, isFenced: boolean][];
/** How often the guard had been opened by then. */
let granted: (Horizon & { opened: number })[];

const steady = () => performance.now() - startedAt;
const now = () => steady() + sleptMs;
const log = {
  info: (text: unknown) => void said.push(`info ${String(text)}`),
  warn: (_fields: unknown, text?: string) => void said.push(`warn ${text ?? String(_fields)}`),
  error: (text: unknown) => void said.push(`error ${String(text)}`),
};

function keeper(o: { inheritedMs?: number; horizon?: Horizon; begun?: Promise<unknown> } = {}): {
  guard: GuardKeeper;
  stop: () => Promise<void>;
} {
  const guard = new GuardKeeper(
    {
      send: async () => {
        asked.push(now());
        const answer = answers.shift() ?? { afterMs: 0, fence_s: 3 };
        if (answer.afterMs > 0) await new Promise((resolve) => setTimeout(resolve, answer.afterMs));
        if ('error' in answer) throw new Error(answer.error);
        return answer;
      },
      open: (ms) => {
        if (openFails) throw new Error('no table');
        sleptMs += lateMs.shift() ?? 0;
        opened.push([now(), ms]);
      },
      shut: () => void shut.push(now()),
      now,
      steady,
      log: log as never,
      onOpenFailed: () => {
        troubles++;
      },
      onHorizon: (horizon) => void granted.push({ ...horizon, opened: opened.length }),
      onFence: (isFenced) => void fenced.push([now(), isFenced]),
    },
    3,
    { openForMs: o.inheritedMs ?? 0, foundAt: 0, horizon: o.horizon },
  );
  guard.begin();
  const stopping = new AbortController();
  const running = guard.run(stopping.signal, o.begun);
  return {
    guard,
    stop: async () => {
      stopping.abort();
      await vi.advanceTimersByTimeAsync(10_000);
      await running;
    },
  };
}

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

beforeEach(() => {
  vi.useFakeTimers();
  startedAt = performance.now();
  [answers, asked, opened, said, openFails, troubles] = [[], [], [], [], false, 0];
  [shut, sleptMs, lateMs] = [[], 0, []];
  [fenced, granted] = [[], []];
});
afterEach(() => vi.useRealTimers());

describe('the guard', () => {
  it('is renewed at a third of the horizon, each time up to the horizon', async () => {
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(3_500);
    expect(asked).toEqual([0, 1_000, 2_000, 3_000]);
    // A hundredth of a second less, which is what the clock may hide.
    expect(opened).toEqual([0, 1_000, 2_000, 3_000].map((at) => [at, 2_990]));
    expect(guard.isOpen).toBe(true);
    await stop();
    expect(said).toEqual(['info the guard is open, for 2990 ms unless renewed']);
  });

  it('is open from when the keepalive was SENT, not from when it was answered', async () => {
    answers = [{ afterMs: 900, fence_s: 3 }];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(950);
    expect(opened).toEqual([[900, 2_090]]);
    await vi.advanceTimersByTimeAsync(100);
    expect(asked).toEqual([0, 1_000]);
    await stop();
  });

  it('is not opened by an answer that comes after the horizon', async () => {
    answers = [{ afterMs: 3_000, fence_s: 3 }];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(3_000);
    expect(opened).toEqual([]);
    expect(guard.isOpen).toBe(false);
    expect(said).toContain('warn a keepalive was answered after 3000 ms, too late to open the guard');
    await stop();
  });

  it('takes over another horizon with the next answer', async () => {
    answers = [{ afterMs: 0, fence_s: 30 }];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(9_000);
    expect(opened).toEqual([[0, 29_990]]);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(asked).toEqual([0, 10_000]);
    await stop();
  });

  it('shuts by itself: nothing opens it while nobody answers, and that is said when it happens', async () => {
    answers = [{ afterMs: 0, fence_s: 3 }, ...Array.from({ length: 20 }, () => ({ afterMs: 10, error: 'away' }))];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(2_900);
    expect(guard.openForMs).toBeCloseTo(90);
    expect(said.filter((line) => line.startsWith('error'))).toEqual([]);
    await vi.advanceTimersByTimeAsync(150);
    expect(guard.isOpen).toBe(false);
    expect(opened).toHaveLength(1);
    expect(said.at(-1)).toBe(
      'error the guard is SHUT: no keepalive was answered for 3 s, nothing leaves with an address of the pools',
    );
    // Tried again often enough that an answer would have come in time.
    expect(asked.length).toBeGreaterThan(5);
    await stop();
  });

  it('says that it shuts also while a keepalive hangs', async () => {
    answers = [
      { afterMs: 0, fence_s: 3 },
      { afterMs: 60_000, error: 'hung' },
    ];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(3_100);
    expect(said.at(-1)).toContain('the guard is SHUT');
    await vi.advanceTimersByTimeAsync(60_000);
    await stop();
  });

  it('stays shut while another boot has the machine, says why, tries on, and opens when that is over', async () => {
    answers = Array.from({ length: 4 }, () => ({ afterMs: 0, error: 'machine "m" belongs to another boot' }));
    const { guard, stop } = keeper();
    expect(guard.problem).toBeNull();
    await vi.advanceTimersByTimeAsync(500);
    expect([guard.isOpen, guard.problem, opened]).toEqual([false, 'machine "m" belongs to another boot', []]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect([guard.isOpen, guard.problem]).toEqual([true, null]);
    await stop();
  });

  it('opens again with the next answer', async () => {
    answers = [...Array.from({ length: 10 }, () => ({ afterMs: 0, error: 'away' }))];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(100);
    expect(said).toContain(
      'error the guard is shut until the server answers a keepalive: nothing leaves with an address of the pools',
    );
    await vi.advanceTimersByTimeAsync(10_000);
    expect(guard.isOpen).toBe(true);
    await stop();
  });
});

describe('a guard that a former agent left open', () => {
  const never = new Promise(() => {});

  it('is open for as long, without an answer, and then said to be shut', async () => {
    const { guard, stop } = keeper({ inheritedMs: 2_000, begun: Promise.race([never, after(5_000)]) });
    expect([guard.isOpen, guard.openForMs, guard.answeredMsAgo]).toEqual([true, 2_000, undefined]);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(guard.openForMs).toBeCloseTo(500);
    await vi.advanceTimersByTimeAsync(600);
    expect([guard.isOpen, opened, shut]).toEqual([false, [], []]);
    expect(said).toEqual([expect.stringContaining('the guard is shut until the server answers')]);
    await vi.advanceTimersByTimeAsync(3_000);
    await stop();
  });

  it('is open no longer once its table was made from nothing, and is not opened for what was left', async () => {
    const { guard, stop } = keeper({ inheritedMs: 2_000, begun: Promise.race([never, after(5_000)]) });
    guard.mend();
    expect([guard.isOpen, opened, shut]).toEqual([false, [], [0]]);
    await vi.advanceTimersByTimeAsync(5_100);
    expect(guard.isOpen).toBe(true);
    guard.mend();
    expect(opened.at(-1)?.[1]).toBeLessThanOrEqual(2_990);
    await stop();
  });

  it('goes by the answers as soon as there are any, also when they promise less', async () => {
    const { guard, stop } = keeper({ inheritedMs: 60_000 });
    await vi.advanceTimersByTimeAsync(100);
    expect(guard.openForMs).toBeCloseTo(2_890);
    await stop();
  });

  it('is shut when the machine wakes, because nobody knows how long it slept before', async () => {
    const { guard, stop } = keeper({ inheritedMs: 60_000, begun: Promise.race([never, after(5_000)]) });
    sleptMs = 1_000;
    await vi.advanceTimersByTimeAsync(200);
    expect([guard.isOpen, shut.length]).toEqual([false, 1]);
    await vi.advanceTimersByTimeAsync(5_000);
    await stop();
  });
});

describe('a horizon that a former agent was granted', () => {
  const away = (count: number): Answer[] => Array.from({ length: count }, () => ({ afterMs: 0, error: 'away' }));

  it('is written down with every answer, before the guard is opened by it', async () => {
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(1_500);
    expect(granted).toEqual([
      { at_ms: 2_990, fence_s: 3, opened: 0 },
      { at_ms: 3_990, fence_s: 3, opened: 1 },
    ]);
    await stop();
  });

  it('shuts a guard that reaches past it, at once: the machine slept while nobody ran', async () => {
    answers = away(40);
    const { guard, stop } = keeper({ inheritedMs: 60_000, horizon: { at_ms: 2_000, fence_s: 3 } });
    expect([shut, guard.isOpen, guard.isOverdue, opened]).toEqual([[0], false, false, []]);
    expect(said[0]).toContain('left open past the horizon');
    await stop();
  });

  it('shuts one that somebody opened for good', async () => {
    const { stop } = keeper({ inheritedMs: Infinity, horizon: { at_ms: 2_000, fence_s: 3 } });
    expect(shut).toEqual([0]);
    await stop();
  });

  it('leaves one alone that ends with it, but for the grain of clocks', async () => {
    const { guard, stop } = keeper({ inheritedMs: 2_020, horizon: { at_ms: 2_000, fence_s: 3 }, begun: after(5_000) });
    expect([shut, guard.openForMs]).toEqual([[], 2_000]);
    await vi.advanceTimersByTimeAsync(2_000);
    expect([guard.isOpen, guard.isOverdue]).toEqual([false, true]);
    await stop();
  });

  it('is gone by to the instant when the server is away', async () => {
    const { guard, stop } = keeper({ horizon: { at_ms: 700, fence_s: 30 }, begun: after(60_000) });
    guard.expectNoAnswer();
    await vi.advanceTimersByTimeAsync(650);
    expect([guard.isOverdue, fenced]).toEqual([false, []]);
    await vi.advanceTimersByTimeAsync(150);
    expect([guard.isOverdue, fenced]).toEqual([true, [[700, true]]]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(fenced).toEqual([
      [700, true],
      [60_000, false],
    ]);
    expect(guard.isOverdue).toBe(false);
    await stop();
  });

  it('that has passed has everything given up at once when the server is away, and else after as long as it was', async () => {
    const unheard = keeper({ horizon: { at_ms: -1, fence_s: 5 }, begun: after(500) });
    expect([unheard.guard.isOverdue, fenced]).toEqual([true, []]);
    unheard.guard.expectNoAnswer();
    expect(fenced).toEqual([[0, true]]);
    await unheard.stop();

    fenced = [];
    const waiting = keeper({ horizon: { at_ms: -1, fence_s: 5 }, begun: after(8_000) });
    const at = now();
    await vi.advanceTimersByTimeAsync(4_900);
    expect(fenced).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(fenced).toEqual([[at + 5_000, true]]);
    await waiting.stop();
  });

  it('is nothing to go by once an answer came', async () => {
    const { guard, stop } = keeper({ horizon: { at_ms: -1, fence_s: 9 } });
    await vi.advanceTimersByTimeAsync(100);
    expect([guard.isOverdue, guard.fence_s, guard.isOpen]).toEqual([false, 3, true]);
    guard.expectNoAnswer();
    expect(fenced).toEqual([]);
    await stop();
  });

  it('says how often to ask, until an answer does', async () => {
    answers = away(4);
    const { guard, stop } = keeper({ horizon: { at_ms: 100_000, fence_s: 60 } });
    expect(guard.fence_s).toBe(60);
    await stop();
  });
});

describe('a machine that sleeps', () => {
  it('has its guard shut when it wakes beyond the horizon, and opened by the next answer alone', async () => {
    answers = [
      { afterMs: 0, fence_s: 3 },
      ...Array.from({ length: 8 }, () => ({ afterMs: 0, error: 'no network yet' })),
    ];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(500);
    sleptMs = 3_600_000;
    await vi.advanceTimersByTimeAsync(100);
    expect(shut).toEqual([3_600_600]);
    expect(opened).toEqual([[0, 2_990]]);
    expect(guard.isOpen).toBe(false);
    expect(said).toContain('warn the machine slept for 3600000 ms');
    expect(said.at(-1)).toContain('the guard is SHUT');
    await vi.advanceTimersByTimeAsync(1_000);
    expect([shut.length, opened.length]).toEqual([1, 1]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(guard.isOpen).toBe(true);
    await stop();
  });

  it('has what is left cut down when it wakes before', async () => {
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(500);
    sleptMs = 1_000;
    await vi.advanceTimersByTimeAsync(100);
    expect(opened).toEqual([
      [0, 2_990],
      [1_600, 1_390],
    ]);
    expect(shut).toEqual([]);
    await stop();
  });

  it('is not opened by an answer to what was asked before', async () => {
    answers = [
      { afterMs: 0, fence_s: 3 },
      { afterMs: 500, fence_s: 3 },
    ];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(1_100);
    expect(asked).toHaveLength(2);
    sleptMs = 10_000;
    await vi.advanceTimersByTimeAsync(500);
    expect(said).toContain('warn a keepalive was answered after 10500 ms, too late to open the guard');
    expect(opened[1]?.[0]).toBeGreaterThanOrEqual(11_600);
    await stop();
  });

  it('does not take the coarseness of a clock for sleep', async () => {
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(500);
    sleptMs = 20;
    await vi.advanceTimersByTimeAsync(300);
    expect(said.join('\n')).not.toContain('slept');
    await stop();
  });
});

describe('a process that is stopped while it opens the guard', () => {
  it('cuts it down to the horizon when it goes on', async () => {
    lateMs = [1_000];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(10);
    const [late, cut] = opened;
    expect(late).toEqual([1_000, 2_990]);
    expect(cut?.[0]).toBe(1_000);
    // Ends at the horizon, or before.
    expect((cut?.[0] ?? 0) + (cut?.[1] ?? 0)).toBeLessThanOrEqual(2_990);
    expect([guard.isOpen, shut]).toEqual([true, []]);
    await stop();
  });

  it('shuts it when it goes on past the horizon', async () => {
    lateMs = [60_000];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(10);
    expect([opened, shut, guard.isOpen]).toEqual([[[60_000, 2_990]], [60_000], false]);
    expect(said.at(-1)).toContain('the guard is shut');
    await stop();
  });

  it('leaves it open on a machine that is slow each time, but ends it sooner', async () => {
    lateMs = [50, 50];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(10);
    expect(opened).toEqual([
      [50, 2_990],
      [100, 2_840],
    ]);
    expect([guard.isOpen, shut]).toEqual([true, []]);
    await stop();
  });

  it('shuts it when it is stopped for longer and longer', async () => {
    answers = [{ afterMs: 0, fence_s: 300 }];
    lateMs = [1_000, 3_000, 9_000, 27_000, 81_000];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(10);
    expect(opened).toHaveLength(5);
    expect([shut, guard.isOpen]).toEqual([[121_000], false]);
    await stop();
  });
});

describe('the horizon', () => {
  const away = (count: number): Answer[] => Array.from({ length: count }, () => ({ afterMs: 0, error: 'away' }));

  it('is told when it has passed without an answer, and not before; and when an answer comes after all', async () => {
    answers = [{ afterMs: 0, fence_s: 3 }, ...away(12)];
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(2_900);
    expect([fenced, guard.isFenced]).toEqual([[], false]);
    await vi.advanceTimersByTimeAsync(200);
    expect([fenced, guard.isFenced]).toEqual([[[3_000, true]], true]);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(fenced).toEqual([
      [3_000, true],
      [4_000, false],
    ]);
    expect([guard.isFenced, guard.isOpen]).toEqual([false, true]);
    await stop();
  });

  it('that nobody had the time to see pass is told before the answer that ends it', async () => {
    answers = [
      { afterMs: 0, fence_s: 3 },
      { afterMs: 10, fence_s: 3 },
    ];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(900);
    // The process stood still; whatever it did next was to send a keepalive.
    sleptMs += 60_000;
    await vi.advanceTimersByTimeAsync(300);
    expect(fenced.map(([, isFenced]) => isFenced)).toEqual([true, false]);
    await stop();
  });

  it('passes while the machine sleeps', async () => {
    answers = [{ afterMs: 0, fence_s: 3 }, ...away(50)];
    const { stop } = keeper();
    await vi.advanceTimersByTimeAsync(500);
    sleptMs = 3_000;
    await vi.advanceTimersByTimeAsync(100);
    expect(fenced).toEqual([[3_600, true]]);
    await stop();
  });

  it('of who has had no answer yet begins when it first asks, and lasts as long as the guard was left open', async () => {
    answers = away(100);
    const begun = Promise.withResolvers<undefined>();
    const { stop } = keeper({ inheritedMs: 5_000, begun: begun.promise });
    await vi.advanceTimersByTimeAsync(2_000);
    expect([asked, fenced]).toEqual([[], []]);
    begun.resolve(undefined);
    await vi.advanceTimersByTimeAsync(4_900);
    expect(fenced).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(fenced).toMatchObject([[expect.closeTo(7_000, -3), true]]);
    await stop();
  });

  it('passes also for one that never gets as far as to ask', async () => {
    const begun = Promise.withResolvers<undefined>();
    const { stop } = keeper({ begun: begun.promise });
    await vi.advanceTimersByTimeAsync(3_100);
    expect(fenced).toEqual([[3_000, true]]);
    begun.resolve(undefined);
    await stop();
  });
});

describe('a machine that goes to sleep', () => {
  it('has its guard shut, which no answer opens before it is let', async () => {
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(500);
    guard.holdShut();
    expect([shut, guard.isOpen, guard.problem]).toEqual([[500], false, expect.stringContaining('to sleep')]);
    expect(said).toContain('error the guard is shut for the machine to sleep');
    opened = [];
    guard.reopen();
    await vi.advanceTimersByTimeAsync(5_000);
    // What it has stays its own: keepalives go on.
    expect([opened, guard.isOpen, fenced, asked.length > 5]).toEqual([[], false, [], true]);
    asked = [];
    guard.letOpen();
    await vi.advanceTimersByTimeAsync(10);
    expect([asked, guard.isOpen, guard.problem]).toEqual([[5_500], true, null]);
    await stop();
  });

  it('opens it again by itself when nobody says that it may', async () => {
    const { guard, stop } = keeper();
    guard.holdShut();
    sleptMs = 300_000;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(guard.isOpen).toBe(true);
    await stop();
  });
});

describe('a table made anew', () => {
  it('is opened for what is left, and no longer', async () => {
    const { guard, stop } = keeper();
    await vi.advanceTimersByTimeAsync(400);
    opened = [];
    guard.reopen();
    expect(opened).toEqual([[400, 2_590]]);
    await stop();
  });

  it('stays shut when nothing is left', () => {
    const guard = new GuardKeeper(
      {
        send: async () => ({ fence_s: 3 }),
        ...{ open: () => void opened.push([0, 0]), shut: () => void shut.push(0), now, steady, log: log as never },
      },
      3,
    );
    guard.reopen();
    expect(opened).toEqual([]);
  });
});

it('tells when there is no table to open, and goes on', async () => {
  openFails = true;
  const { stop } = keeper();
  await vi.advanceTimersByTimeAsync(100);
  expect(troubles).toBe(1);
  expect(said).toContain('error the guard could not be opened: no table');
  openFails = false;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(opened).toHaveLength(1);
  await stop();
});
