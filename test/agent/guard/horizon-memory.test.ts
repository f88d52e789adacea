import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forgetHorizon, HorizonMemory } from '../../../src/agent/guard/horizon-memory.ts';

let parent: string;
let folder: string;
let warnings: string[];
let now: number;
const path = () => join(folder, 'horizon.json');
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-horizon-'));
  folder = join(parent, 'state');
  [warnings, now] = [[], 1_000];
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const memory = (over: Partial<{ host: string; machine: string }> = {}) =>
  new HorizonMemory({
    ...{ folder, machine: 'edge', host: 'boot-1 net:[1]', now: () => now, ...over },
    log: { warn: (text: unknown) => void warnings.push(String(text)) },
  });
const horizon = { at_ms: 3_990.5, fence_s: 3 };

describe('the horizon', () => {
  it('is known to the next agent of this boot, the last one, also when it has passed', () => {
    expect(memory().read()).toBeUndefined();
    memory().note({ at_ms: 2_990, fence_s: 2 });
    memory().note(horizon);
    now = 60_000;
    expect([memory().read(), warnings]).toEqual([horizon, []]);
    expect(readdirSync(folder)).toEqual(['horizon.json']);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  it.each([
    ['another boot or namespace', { host: 'boot-2 net:[1]' }],
    ['another machine', { machine: 'other' }],
  ])('is of no use to %s', (_, over) => {
    memory().note(horizon);
    expect([memory(over).read(), warnings]).toEqual([undefined, []]);
  });

  it('is taken to have passed when it is further away than any answer could have said', () => {
    memory().note(horizon);
    now = 990;
    expect(memory().read()).toEqual({ at_ms: 0, fence_s: 3 });
    expect(warnings).toEqual([expect.stringContaining('by another clock')]);
  });

  it.each([
    '',
    '{',
    '{"version":2}',
    '{"version":1,"host":"boot-1 net:[1]","machine":"edge","horizon_ms":1,"fence_s":0}',
  ])('is not known when the file is %j, which is said', (text) => {
    memory().note(horizon);
    writeFileSync(path(), text);
    expect(memory().read()).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining('horizon.json is of no use')]);
  });

  it('that cannot be written is the one before, which is said once', () => {
    const its = memory();
    its.note(horizon);
    mkdirSync(`${path()}.new`);
    its.note({ at_ms: 4_990, fence_s: 3 });
    its.note({ at_ms: 5_990, fence_s: 3 });
    expect(warnings).toEqual([expect.stringContaining('cannot be written down')]);
    expect(memory().read()).toEqual(horizon);
  });

  it('is forgotten with the host that is bare again', () => {
    memory().note(horizon);
    forgetHorizon(folder);
    forgetHorizon(join(folder, 'missing'));
    expect([memory().read(), warnings]).toEqual([undefined, []]);
  });
});
