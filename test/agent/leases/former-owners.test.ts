import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { OwnerMemory } from '../../../src/agent/leases/owner-memory.ts';
import { LeasesOnHost } from '../../../src/agent/leases/leases-on-host.ts';
import type { Holder } from '../../../src/wire/machines.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import { desired, holder, lease } from '../../support/agent-values.ts';
import { FakeCgroups } from '../../support/fake-cgroups.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';
import { containing } from '../../support/matchers.ts';

let now: number;
let sockets: FakeSockets;
let cgroups: FakeCgroups;
let elements: Set<string>;
let changeFails: boolean;
let leases: LeasesOnHost;
let machine: DesiredMachine;
let holders: readonly Holder[];
let folder: string;

const unasked = () => Promise.reject(new Error('nobody asked for that'));

beforeEach(() => {
  now = 0;
  sockets = new FakeSockets();
  cgroups = new FakeCgroups();
  elements = new Set();
  changeFails = false;
  holders = [holder('web', 2_001)];
  machine = new DesiredMachine('edge');
  folder = mkdtempSync(join(tmpdir(), 'fishery-owners-'));
  leases = newLeases();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const log = pino({ level: 'silent' });
const newLeases = () =>
  new LeasesOnHost({
    changeElements: async (add, remove) => {
      if (changeFails) throw new Error('no netlink');
      for (const { set, key } of add) elements.add(`${set}: ${key}`);
      for (const { set, key } of remove) elements.delete(`${set}: ${key}`);
    },
    placeholders: { hold: unasked, close: unasked },
    sockets,
    cgroups,
    owners: new OwnerMemory({ folder, machine: 'edge', host: 'boot-1 net:[1]', log }),
    setFishBlocks: unasked,
    fenceFish: unasked,
    isOurMark: () => false,
    log,
    now: () => now,
  });

async function want(wanted: Lease): Promise<string[]> {
  leases.touch(machine.reset(desired({ leases: [wanted], holders: [...holders] })).leases);
  return work();
}
const work = async (): Promise<string[]> =>
  (await leases.work(machine)).outcomes.map((each) => `${each.lease} ${each.state}`);
const elementsNow = () => [...elements].sort();

/** Another agent, which the server tells this; the table is as that one finds it, and then makes it before anything else. */
async function restart(wanted: Lease[]): Promise<string[]> {
  leases = newLeases();
  machine = new DesiredMachine('edge');
  machine.reset(desired({ leases: wanted, holders: [...holders] }));
  leases.adopt(machine);
  const needed = [...leases.elements()].flatMap(([set, keys]) => [...keys].map((key) => `${set}: ${key}`));
  // What is in both stays without a moment in which it is not there.
  elements = new Set(needed);
  const told = await work();
  leases.forgetFormer();
  return told;
}
const remembered = (): unknown =>
  z.object({ holders: z.unknown() }).parse(JSON.parse(readFileSync(join(folder, 'owners.json'), 'utf8'))).holders;

describe('a lease', () => {
  it('whose holder becomes another user lets the new one in at once, while what the old one has drains', async () => {
    await want(lease(1));
    await want(lease(1, { state: 'active' }));
    const old = sockets.add(9_100, { uid: 2_001 });
    // Neither the old user's nor a stranger's: a lease that was up is not taken away for who came meanwhile.
    const stranger = sockets.add(9_101, { uid: 33 });
    machine.apply({ kind: 'holder', revision: 11, at: '', holder: holder('web', 3_001) });
    leases.touch(['lease-1']);
    expect(await work()).toEqual(['lease-1 active']);
    expect(elementsNow()).toEqual([
      'closing_tcp4_128: 198.51.100.10 . 9088 . 2001',
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 3001',
    ]);
    expect(leases.status()[0]).toMatchObject({ phase: 'up', detail: containing('became another') });
    sockets.add(9_102, { uid: 3_001 });
    sockets.change(old, { state: 'time-wait', inode: 0, uid: 0 });
    now += 50;
    expect(await work()).toEqual([]);
    expect(elementsNow()).toEqual([
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 3001',
    ]);
    expect(leases.status()[0]?.detail).toBeNull();
    sockets.remove(stranger);
    expect(leases.nextLookInMs()).toBeUndefined();
  });

  it('is not taken from a holder that becomes who it was before', async () => {
    await want(lease(1, { state: 'active' }));
    sockets.add(9_100, { uid: 2_001 });
    for (const uid of [3_001, 2_001]) {
      machine.apply({ kind: 'holder', revision: machine.revision + 1, at: '', holder: holder('web', uid) });
      leases.touch(['lease-1']);
      expect(await work()).toEqual(['lease-1 active']);
    }
    now += 50;
    await work();
    expect(elementsNow()).toEqual([
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 2001',
    ]);
    expect(leases.nextLookInMs()).toBeUndefined();
  });

  it('becomes its new user’s when the table can be changed again, and not before that is in place', async () => {
    await want(lease(1));
    machine.apply({ kind: 'holder', revision: 11, at: '', holder: holder('web', 3_001) });
    leases.touch(['lease-1']);
    changeFails = true;
    await expect(leases.work(machine)).rejects.toThrow('no netlink');
    expect(leases.status()[0]).toMatchObject({ phase: 'opening' });
    changeFails = false;
    expect(await work()).toEqual(['lease-1 active']);
    expect(elementsNow()).toContain('own_uid_tcp4_128: 198.51.100.10 . 9088 . 3001');
  });

  it('ends only when nobody who ever had it has a socket there, and cuts them all where that is forced', async () => {
    const both = { holder: 'web', mode: 'shared', binding: 'late' } as const;
    await want(lease(1, { ...both, state: 'active' }));
    sockets.add(9_100, { uid: 2_001 });
    const stays = { ...lease(1, both), state: 'ending' } as const;
    machine.apply({ kind: 'holder', revision: 11, at: '', holder: holder('web', 3_001) });
    leases.touch(['lease-1']);
    await work();
    holders = [holder('web', 3_001)];
    expect(await want(stays)).toEqual([]);
    now += 2_000;
    expect(await work()).toEqual([]);
    expect(await want({ ...stays, forced: true })).toEqual([]);
    expect(sockets.destroyed).toEqual([9_100]);
    now += 50;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });

  it('that nobody can be let into any more is told, drains, comes back, and is not empty by word alone', async () => {
    await want(lease(1, { state: 'active' }));
    sockets.add(9_100, { uid: 2_001 });
    const become = (over: object) => {
      const next = { ...holder('web', 1), ...over };
      machine.apply({ kind: 'holder', revision: machine.revision + 1, at: '', holder: next });
      leases.touch(['lease-1']);
    };
    cgroups.problem = 'no cgroup2 hierarchy is mounted';
    become({ uid: null, cgroup: 'system.slice' });
    // Nothing that the server would take for "nobody has anything there".
    expect(await work()).toEqual([]);
    expect(elementsNow()).toContain('closing_tcp4_128: 198.51.100.10 . 9088 . 2001');
    expect(leases.status()[0]).toMatchObject({ phase: 'refused', detail: containing('no cgroup2') });
    expect(leases.problem).toContain('lease-1 of web, which was up: EPERM');
    expect(leases.nextLookInMs()).toBeLessThanOrEqual(5_000);
    cgroups.problem = undefined;
    cgroups.ids.set('system.slice', '20');
    now += 5_000;
    expect(await work()).toEqual(['lease-1 active']);
    expect(leases.status()[0]).toMatchObject({ phase: 'up' });
    expect(leases.problem).toBeNull();
    expect(elementsNow()).toContain('own_cgroup_at1_tcp4_128: 198.51.100.10 . 9088 . 20');

    cgroups.problem = 'no cgroup2 hierarchy is mounted';
    leases.touch(['lease-1']);
    await work();
    expect(leases.status()[0]).toMatchObject({ phase: 'refused' });
    expect(leases.holds(({ id }) => id === 'lease-1')).toBe(true);
    expect(await want(lease(1, { state: 'ending' }))).toEqual([]);
    sockets.others.length = 0;
    now += 2_000;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });
});

describe('who had a lease before the agent was started again', () => {
  const live = (uid: number) => `own_uid_tcp4_128: 198.51.100.10 . 9088 . ${uid}`;
  const closing = (uid: number) => `closing_tcp4_128: 198.51.100.10 . 9088 . ${uid}`;
  const own = 'own_tcp4_128: 198.51.100.10 . 9088';
  const become = (over: object) => {
    const next = { ...holder('web', 1), ...over };
    holders = [next];
    machine.apply({ kind: 'holder', revision: machine.revision + 1, at: '', holder: next });
    leases.touch(['lease-1']);
  };

  it('finishes what it has open, and is judged as before', async () => {
    await want(lease(1, { state: 'active' }));
    const old = sockets.add(9_100, { uid: 2_001 });
    become({ uid: 3_001 });
    await work();
    expect(remembered()).toEqual({ web: [{ uid: 2_001 }, { uid: 3_001 }] });
    await restart([lease(1, { state: 'active' })]);
    expect(elementsNow()).toEqual([closing(2_001), own, live(3_001)]);
    expect(leases.status()[0]).toMatchObject({ phase: 'up', detail: containing('became another') });
    sockets.remove(old);
    now += 50;
    await work();
    expect(elementsNow()).toEqual([own, live(3_001)]);
    expect(leases.status()[0]?.detail).toBeNull();
    // On disk with the next pass that changes anything.
    await work();
    expect(remembered()).toEqual({ web: [{ uid: 3_001 }] });
  });

  it('is known also when its holder became another while no agent ran, and the one after that one knows both', async () => {
    await want(lease(1, { state: 'active' }));
    sockets.add(9_100, { uid: 2_001 });
    holders = [holder('web', 3_001)];
    await restart([lease(1, { state: 'active' })]);
    expect(elementsNow()).toEqual([closing(2_001), own, live(3_001)]);
    sockets.add(9_101, { uid: 3_001 });
    holders = [holder('web', 4_001)];
    await restart([lease(1, { state: 'active' })]);
    expect(elementsNow()).toEqual([closing(2_001), closing(3_001), own, live(4_001)]);
  });

  it('keeps a lease from ending, and is cut where that is forced', async () => {
    await want(lease(1, { state: 'active', mode: 'shared', binding: 'late' }));
    sockets.add(9_100, { uid: 2_001 });
    become({ uid: 3_001 });
    await work();
    const ends = lease(1, { state: 'ending', mode: 'shared', binding: 'late' });
    expect(await restart([ends])).toEqual([]);
    now += 2_000;
    expect(await work()).toEqual([]);
    expect(elementsNow()).toEqual([closing(2_001), closing(3_001), own]);
    expect(await restart([{ ...ends, forced: true }])).toEqual([]);
    expect(sockets.destroyed).toEqual([9_100]);
    now += 50;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });

  it('is a cgroup, too, by the number that it had, unless that is the same one made anew', async () => {
    cgroups.ids.set('web.slice', '20').set('new.slice', '30');
    holders = [{ ...holder('web', 1), uid: null, cgroup: 'web.slice' }];
    await want(lease(1, { state: 'active' }));
    sockets.add(9_100, { uid: 0, cgroup: '20' });
    become({ uid: null, cgroup: 'new.slice' });
    await work();
    cgroups.ids.set('new.slice', '31');
    await restart([lease(1, { state: 'active' })]);
    expect(elementsNow().filter((each) => each.includes('_cgroup_at1'))).toEqual([
      'closing_cgroup_at1_tcp4_128: 198.51.100.10 . 9088 . 20',
      'own_cgroup_at1_tcp4_128: 198.51.100.10 . 9088 . 31',
    ]);
    expect(remembered()).toEqual({
      web: [
        { cgroup: 'web.slice', id: '20' },
        { cgroup: 'new.slice', id: '31' },
      ],
    });
  });

  it('drains when nobody can be let in any more, and its lease is not empty by word alone', async () => {
    await want(lease(1, { state: 'active' }));
    sockets.add(9_100, { uid: 2_001 });
    cgroups.problem = 'no cgroup2 hierarchy is mounted';
    holders = [{ ...holder('web', 1), uid: null, cgroup: 'web.slice' }];
    expect(await restart([lease(1, { state: 'active' })])).toEqual([]);
    expect(elementsNow()).toEqual([closing(2_001), own]);
    expect(leases.problem).toContain('lease-1 of web, which was up: EPERM');
    expect(await want(lease(1, { state: 'ending' }))).toEqual([]);
    sockets.others.length = 0;
    now += 2_000;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });
});
