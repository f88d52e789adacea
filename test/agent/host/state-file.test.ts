import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nothingRecorded, type RecordPart } from '../../../src/agent/host/host-state.ts';
import { StateFile, tablesOf } from '../../../src/agent/host/state-file.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { address } from '../../support/fake-host.ts';
import { containing } from '../../support/matchers.ts';

const identity = {
  machine: 'edge',
  tun: 'fishtun',
  routeTable: 100,
  mark: 0x66,
  markMask: 0xffff,
  terminateTable: null,
};
const part = (over: Partial<RecordPart> = {}): RecordPart => ({
  sysctls: [],
  written: [],
  addresses: [],
  tun: null,
  tunBefore: null,
  rules: [],
  ...over,
});

let parent: string;
let folder: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-state-'));
  folder = join(parent, 'state');
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

function open(host = 'boot-1 net:[1]', over: Partial<typeof identity> = {}): StateFile {
  const opened = StateFile.open(folder, { ...identity, ...over }, host);
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}

describe('the record', () => {
  it('is on disk as soon as it is made, and found again', () => {
    open().record(
      part({
        sysctls: [['net/ipv4/tcp_early_demux', '1']],
        written: [['net/ipv4/tcp_early_demux', '0']],
        addresses: [address('198.51.100.10')],
        tun: 'fishtun',
        tunBefore: { name: 'old', isUp: false, queue: 77 },
        rules: ['-4 priority 0 lookup local'],
      }),
    );
    const { recorded } = open();
    expect([...recorded.sysctls]).toEqual([['net/ipv4/tcp_early_demux', '1']]);
    expect([...recorded.written]).toEqual([['net/ipv4/tcp_early_demux', '0']]);
    expect([...recorded.addresses]).toEqual(['198.51.100.10']);
    expect(recorded.tun).toBe('fishtun');
    expect(recorded.tunBefore).toEqual({ name: 'old', isUp: false, queue: 77 });
    expect([...recorded.rules]).toEqual(['-4 priority 0 lookup local']);
    expect(readdirSync(folder)).toEqual(['agent.json']);
    expect(statSync(join(folder, 'agent.json')).mode & 0o777).toBe(0o600);
  });

  it('has begun once it is on disk, be it empty, and until it is removed', () => {
    const state = open();
    expect(state.isBegun).toBe(false);
    state.record(part());
    expect([state.isBegun, open().isBegun]).toEqual([true, true]);
    expect(StateFile.find(folder, 'boot-1 net:[1]')).toMatchObject({ value: { isBegun: true } });
    expect(open('boot-2 net:[1]').isBegun).toBe(false);
    state.remove();
    expect([state.isBegun, open().isBegun]).toEqual([false, false]);
  });

  it('grows and shrinks by parts', () => {
    const state = open();
    state.record(part({ addresses: [address('198.51.100.10')], sysctls: [['a', '1']], written: [['a', '2']] }));
    state.record(part({ addresses: [address('198.51.100.11')], tun: 'fishtun' }));
    state.forget(part({ addresses: [address('198.51.100.10')], tun: 'other' }));
    expect([...open().recorded.addresses]).toEqual(['198.51.100.11']);
    expect(open().recorded.tun).toBe('fishtun');
    state.forget(part({ tun: 'fishtun', sysctls: [['a', '1']] }));
    expect([open().recorded.tun, open().recorded.sysctls.size, open().recorded.written.size]).toEqual([null, 0, 0]);
    const tunBefore = { name: 'fishtun', isUp: true, queue: 500 };
    state.record(part({ tunBefore }));
    state.record(part({ addresses: [address('198.51.100.12')] }));
    expect(open().recorded.tunBefore).toEqual(tunBefore);
    state.forget(part({ tunBefore }));
    expect(open().recorded.tunBefore).toBeNull();
  });

  it.each([
    ['a reboot', 'boot-2 net:[1]'],
    ['another network namespace', 'boot-1 net:[2]'],
  ])('is about a host that is no more after %s', (_what, host) => {
    open().record(part({ tun: 'fishtun' }));
    expect(open(host).recorded).toEqual(nothingRecorded);
    expect(StateFile.find(folder, host)).toEqual({ ok: true, value: undefined });
  });

  it('is left whole by a write that was cut off', () => {
    open().record(part({ tun: 'fishtun' }));
    writeFileSync(join(folder, 'agent.json.new'), '{"version":1,"ho');
    expect(open().recorded.tun).toBe('fishtun');
  });

  it('goes when the host is as it was', () => {
    const state = open();
    state.record(part({ tun: 'fishtun' }));
    state.remove();
    state.remove();
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('a host that is set up already', () => {
  it.each([
    [{ tun: 'other' }, 'this host is set up for tun "fishtun", the settings say "other"'],
    [{ routeTable: 101 }, 'this host is set up for route_table "100", the settings say "101"'],
    [{ mark: 0x67 }, 'this host is set up for mark "0x66", the settings say "0x67"'],
    [{ markMask: 0xff }, 'this host is set up for mark_mask "0xffff", the settings say "0xff"'],
    [{ machine: 'edge-2' }, 'this host is set up for machine "edge", the settings say "edge-2"'],
  ])('is not set up otherwise: %o', (over, problem) => {
    open().record(part({ tun: 'fishtun' }));
    const opened = StateFile.open(folder, { ...identity, ...over }, 'boot-1 net:[1]');
    expect(opened).toMatchObject({ ok: false, error: containing(problem) });
    expect(opened).toMatchObject({ error: containing('fishery agent down') });
  });

  it('may get a terminator, and lose it, whose table is remembered; only another table is refused', () => {
    open().record(part({ tun: 'fishtun' }));
    const withOne = StateFile.open(folder, { ...identity, terminateTable: 101 }, 'boot-1 net:[1]');
    expect(withOne).toMatchObject({ ok: true });
    const found = StateFile.find(folder, 'boot-1 net:[1]');
    expect(found.ok && found.value?.identity.terminateTable).toBe(101);
    const without = StateFile.open(folder, identity, 'boot-1 net:[1]');
    expect(without.ok && tablesOf(without.value.identity)).toEqual([100, 101]);
    expect(StateFile.open(folder, { ...identity, terminateTable: 102 }, 'boot-1 net:[1]')).toMatchObject({
      ok: false,
      error: containing('this host is set up for terminate.route_table "101", the settings say "102"'),
    });
  });

  it('knows the pools, and every address that this host has had a slice of, also after a reboot, until it is removed', () => {
    const pools = ['198.51.100.0/24', '2001:db8:a::/64'] as Prefix[];
    const [ten, eleven] = [address('198.51.100.10'), address('198.51.100.11')];
    const state = open();
    state.noteGuarded(pools, [ten]);
    state.noteGuarded(pools, [eleven]);
    state.record(part({ addresses: [eleven] }));
    state.forget(part({ addresses: [eleven] }));
    expect([...open().sliced]).toEqual([ten, eleven]);
    const rebooted = open('boot-2 net:[1]');
    expect([rebooted.isBegun, ...rebooted.sliced]).toEqual([false, ten, eleven]);
    expect(rebooted.prefixes).toEqual(pools);
    rebooted.noteGuarded(pools.slice(1), []);
    expect(open('boot-2 net:[1]').prefixes).toEqual(pools.slice(1));
    rebooted.record(part());
    expect([...open('boot-2 net:[1]').sliced]).toEqual([ten, eleven]);
    // Another network namespace of this boot is a host that is there; another boot is not.
    StateFile.forgetFormerBoots(folder, 'boot-2 net:[2]');
    expect(open('boot-2 net:[1]').sliced.size).toBe(2);
    StateFile.forgetFormerBoots(folder, 'boot-3 net:[1]');
    expect(open('boot-3 net:[1]').sliced.size).toBe(0);
    rebooted.remove();
    expect([...rebooted.sliced, ...rebooted.prefixes, ...open('boot-2 net:[1]').sliced]).toEqual([]);
  });

  it('is found by down without settings', () => {
    open().record(part({ tun: 'fishtun' }));
    const found = StateFile.find(folder, 'boot-1 net:[1]');
    expect(found.ok && found.value?.identity).toEqual(identity);
  });
});

it.each(['', '{', '[]', '{"version":3}', '{"version":"9"}', '{"version":1,"host":"boot-1 net:[1]"}'])(
  'a file that no agent wrote is no record, and is not overwritten: %s',
  (text) => {
    open().record(part());
    writeFileSync(join(folder, 'agent.json'), text);
    const opened = StateFile.open(folder, identity, 'boot-1 net:[1]');
    expect(opened).toMatchObject({
      ok: false,
      error: containing('is not what an agent of this version wrote'),
    });
    expect(opened).toMatchObject({ error: containing('move it away and start the agent, which takes over') });
    expect(readFileSync(join(folder, 'agent.json'), 'utf8')).toBe(text);
  },
);

describe('a record of another version', () => {
  const write = (content: object) => writeFileSync(join(folder, 'agent.json'), JSON.stringify(content));
  const first = {
    ...{ version: 1, host: 'boot-1 net:[1]', machine: 'edge', tun: 'fishtun', route_table: 100 },
    recorded: { sysctls: { a: '1' }, addresses: ['198.51.100.10'], tun: 'fishtun', rules: [] },
  };

  it('is read as far as it goes when it is an earlier one, and written as this one writes it', () => {
    open().record(part());
    write(first);
    const state = open();
    expect(state.recorded).toMatchObject({
      tun: 'fishtun',
      tunBefore: null,
      sysctls: new Map([['a', '1']]),
      written: new Map(),
    });
    expect([...state.sliced]).toEqual(['198.51.100.10']);
    expect(StateFile.find(folder, 'boot-1 net:[1]')).toMatchObject({ value: { identity: { tun: 'fishtun' } } });
    state.record(part({ addresses: [address('198.51.100.11')] }));
    expect(JSON.parse(readFileSync(join(folder, 'agent.json'), 'utf8'))).toMatchObject({
      ...{ version: 4, mark: 0x66, mark_mask: 0xffff },
      recorded: { addresses: ['198.51.100.10', '198.51.100.11'], tun_before: null },
    });
  });

  it('still says that the settings are others', () => {
    open().record(part());
    write({ ...first, mark: 0x77 });
    expect(StateFile.open(folder, identity, 'boot-1 net:[1]')).toMatchObject({
      error: containing('this host is set up for mark "0x77"'),
    });
  });

  it('is refused when it is a later one, with what to do, and is left as it is', () => {
    open().record(part());
    write({ version: 5, something: 'new' });
    const refused = {
      ok: false,
      error: containing('(layout 5; this one reads 1, 2, 3, 4): install that version again'),
    };
    expect(StateFile.open(folder, identity, 'boot-1 net:[1]')).toMatchObject(refused);
    expect(StateFile.find(folder)).toMatchObject(refused);
    expect(JSON.parse(readFileSync(join(folder, 'agent.json'), 'utf8'))).toEqual({ version: 5, something: 'new' });
  });
});

it('a folder that cannot be read is told', () => {
  writeFileSync(folder, 'a file');
  expect(StateFile.open(folder, identity, 'x')).toMatchObject({
    ok: false,
    error: containing('cannot be read'),
  });
});
