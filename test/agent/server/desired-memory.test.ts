import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { DesiredMemory, forgetDesired } from '../../../src/agent/server/desired-memory.ts';
import type { Change } from '../../../src/wire/agent.ts';
import { desired, holder, instant, lease, slice } from '../../support/agent-values.ts';

let parent: string;
let folder: string;
let warnings: string[];
let now: number;
const path = () => join(folder, 'desired.jsonl');
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-memory-'));
  folder = join(parent, 'state');
  [warnings, now] = [[], 0];
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const memory = (over: Partial<{ host: string; machine: string }> = {}) =>
  new DesiredMemory({
    ...{ folder, machine: 'edge', host: 'boot-1 net:[1]', now: () => now, ...over },
    log: { info: () => {}, warn: (text: unknown) => void warnings.push(String(text)) },
  });

const active = (number: number) => lease(number, { state: 'active', active_at: instant });

/** An agent's memory, and the machine that it is of, to which the server says something. */
function told(leases = [active(11), lease(12)]) {
  const machine = new DesiredMachine('edge');
  const its = memory();
  machine.reset(desired({ holders: [holder('web', 1_001)], leases }));
  its.reset(machine);
  const say = (body: { kind: 'lease'; lease: ReturnType<typeof lease> }) => {
    const change: Change = { ...body, revision: machine.revision + 1, at: instant };
    its.note(change);
    machine.apply(change);
  };
  return { machine, its, say };
}
const known = (its = memory()) => its.read()?.leases.map(({ id, state }) => `${id} ${state}`);

describe('what the server said last', () => {
  it('is known to the next agent of this boot, without the leases that were still to come', () => {
    told();
    expect(known()).toEqual(['lease-11 active']);
    expect(readdirSync(folder)).toEqual(['desired.jsonl']);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  it('has every change folded in that was flushed, and none that was not', () => {
    const { its, say } = told();
    say({ kind: 'lease', lease: active(13) });
    say({ kind: 'lease', lease: { ...active(11), state: 'cooling' } });
    expect(known()).toEqual(['lease-11 active']);
    its.flush();
    expect(known()).toEqual(['lease-13 active']);
  });

  it('has leases that are in place here although the server has not heard it', () => {
    const { its } = told();
    its.noteUp(['lease-12']);
    expect(known()).toEqual(['lease-11 active', 'lease-12 active']);
  });

  it('has no slice that was still to come, unless a lease in it is in place', () => {
    const machine = new DesiredMachine('edge');
    const coming = slice(2, { state: 'assigning' });
    machine.reset(desired({ slices: [slice(1), coming], leases: [lease(12, { slice: 'slice-2' })] }));
    const its = memory();
    its.reset(machine);
    expect(its.read()?.slices.map(({ id }) => id)).toEqual(['slice-1']);
    its.noteUp(['lease-12']);
    expect(its.read()?.slices.map(({ id }) => id)).toEqual(['slice-1', 'slice-2']);
  });

  it.each([
    ['another boot or namespace', { host: 'boot-2 net:[1]' }],
    ['another machine', { machine: 'other' }],
  ])('is nothing to an agent of %s', (_what, over) => {
    told();
    expect(memory(over).read()).toBeUndefined();
    expect(warnings).toEqual([]);
  });

  it('goes on without a last line that was cut off, and not with one that makes no sense', () => {
    told();
    appendFileSync(path(), '{"change":{"kind":"le');
    expect(known()).toEqual(['lease-11 active']);
    appendFileSync(path(), '\n');
    expect(known()).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining('the server is waited for')]);
  });

  it.each(['', '{}\n', 'null\n', '{"version":2}\n'])('is nothing where the file has %j', (text) => {
    told();
    writeFileSync(path(), text);
    expect(known()).toBeUndefined();
    expect(warnings).toHaveLength(1);
  });

  it('is nothing before anything was said, and after the host was taken down', () => {
    expect(known()).toBeUndefined();
    told();
    forgetDesired(folder);
    expect(known()).toBeUndefined();
    expect(warnings).toEqual([]);
    forgetDesired(join(folder, 'missing'));
  });

  it('is written anew when there is more of changes than of it, with what is in place', () => {
    const { its, say } = told();
    its.noteUp(['lease-12']);
    const text = 'x'.repeat(2_000);
    for (let at = 0; at < 600; at++) {
      say({ kind: 'lease', lease: { ...active(13), refusal: { errno: 'EPERM', detail: text } } });
      its.flush();
    }
    expect(statSync(path()).size).toBeLessThan(1 << 20);
    expect(known()).toEqual(['lease-11 active', 'lease-12 active', 'lease-13 active']);
  });

  it('that cannot be written is taken away, said, and written again later', () => {
    const { its, say } = told();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, '');
    say({ kind: 'lease', lease: active(13) });
    its.flush();
    expect(warnings).toEqual([expect.stringContaining('cannot be remembered')]);
    rmSync(folder);
    say({ kind: 'lease', lease: active(14) });
    its.flush();
    expect(known()).toBeUndefined();
    now = 10_000;
    its.flush();
    expect(known()).toEqual(['lease-11 active', 'lease-13 active', 'lease-14 active']);
    expect(readFileSync(path(), 'utf8').trimEnd().split('\n')).toHaveLength(1);
  });
});
