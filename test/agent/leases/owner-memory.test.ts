import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { forgetOwners, OwnerMemory } from '../../../src/agent/leases/owner-memory.ts';
import type { ProxyOwner } from '../../../src/agent/host/sets.ts';

let parent: string;
let folder: string;
let warnings: string[];
const path = () => join(folder, 'owners.json');
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-owners-'));
  folder = join(parent, 'state');
  warnings = [];
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const memory = (over: Partial<{ host: string; machine: string }> = {}) =>
  new OwnerMemory({
    ...{ folder, machine: 'edge', host: 'boot-1 net:[1]', ...over },
    log: { warn: (text: unknown) => void warnings.push(String(text)) },
  });
const user = (uid: number): ProxyOwner => ({ kind: 'proxy', uid });
const cgroup = (at: string, id: string | null): ProxyOwner => ({ kind: 'proxy', cgroup: { path: at, id } });

/** An agent that let these in, one after the other, for holder `web`. */
function seen(...owners: ProxyOwner[]): OwnerMemory {
  const its = memory();
  for (const owner of owners) its.note('web', owner);
  its.flush();
  return its;
}

describe('by whom holders are known', () => {
  it('is known to the next agent of this boot: everyone, the last one last', () => {
    seen(user(1), cgroup('a.slice', '7'), user(2), user(1));
    expect(memory().formerOf('web')).toEqual([cgroup('a.slice', '7'), user(2), user(1)]);
    expect(memory().formerOf('mail')).toEqual([]);
    expect(readdirSync(folder)).toEqual(['owners.json']);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  it('has a cgroup once, by its last number, and nothing of fish, which has no sockets of its own', () => {
    const its = seen(cgroup('a.slice', '7'), cgroup('a.slice', null), cgroup('a.slice', '8'));
    its.note('fish', { kind: 'fish' });
    its.flush();
    expect([memory().formerOf('web'), memory().formerOf('fish')]).toEqual([[cgroup('a.slice', '8')], []]);
  });

  it('is written when somebody is new, and else not', () => {
    const its = seen(user(1));
    rmSync(path());
    its.note('web', user(1));
    its.flush();
    expect(existsSync(path())).toBe(false);
    its.note('web', user(2));
    its.flush();
    expect(memory().formerOf('web')).toEqual([user(1), user(2)]);
  });

  it('outlives an agent that did not get as far as to look at it, and ends with what nobody has open any more', () => {
    seen(user(1), user(2));
    const second = memory();
    second.note('web', user(3));
    second.flush();
    const third = memory();
    expect(third.formerOf('web')).toEqual([user(1), user(2), user(3)]);
    third.keepOnly(new Map([['web', [user(3), user(1)]]]));
    third.flush();
    expect(third.formerOf('web')).toEqual([]);
    expect(memory().formerOf('web')).toEqual([user(1), user(3)]);
    third.keepOnly(new Map());
    third.flush();
    expect(memory().formerOf('web')).toEqual([]);
  });

  it.each([
    ['another boot or namespace', { host: 'boot-2 net:[1]' }],
    ['another machine', { machine: 'other' }],
  ])('is of no use to %s', (_, over) => {
    seen(user(1));
    expect(memory(over).formerOf('web')).toEqual([]);
    expect(warnings).toEqual([]);
  });

  it.each(['', '{', '{"version":2}', '{"version":1,"host":"boot-1 net:[1]","machine":"edge","holders":{"web":[{}]}}'])(
    'is of no use when the file is %j, which is said',
    (text) => {
      seen(user(1));
      writeFileSync(path(), text);
      expect(memory().formerOf('web')).toEqual([]);
      expect(warnings).toEqual([expect.stringContaining('owners.json is of no use')]);
    },
  );

  it('that cannot be written is said once, tried again, and stays as it was meanwhile', () => {
    const its = seen(user(1));
    // A folder in the place of the second file cannot be removed as a file, or written.
    const inTheWay = `${path()}.new`;
    mkdirSync(inTheWay);
    its.note('web', user(2));
    its.flush();
    its.flush();
    expect(warnings).toEqual([expect.stringContaining('cannot be remembered for a restart')]);
    expect(memory().formerOf('web')).toEqual([user(1)]);
    rmSync(inTheWay, { recursive: true });
    its.flush();
    expect(memory().formerOf('web')).toEqual([user(1), user(2)]);
  });

  it('is forgotten with the host that is bare again', () => {
    seen(user(1));
    forgetOwners(folder);
    forgetOwners(join(folder, 'missing'));
    expect(memory().formerOf('web')).toEqual([]);
  });
});
