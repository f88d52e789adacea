import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { LeasesOnHost } from '../../../src/agent/leases/leases-on-host.ts';
import type { FishRefusal } from '../../../src/agent/leases/lease-host.ts';
import { setName, type Element } from '../../../src/agent/host/sets.ts';
import type { LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import { Applied } from '../../../src/wire/agent.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import type { Slice } from '../../../src/wire/slices.ts';
import { desired, holder, lease, slice } from '../../support/agent-values.ts';
import { FakeCgroups } from '../../support/fake-cgroups.ts';
import { FakeKeepers, newPlaceholders } from '../../support/fake-keepers.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';
import { containing } from '../../support/matchers.ts';
import { noOwners } from '../../support/no-owners.ts';

const mark = 42;
let now: number;
let sockets: FakeSockets;
let cgroups: FakeCgroups;
let elements: Set<string>;
let blocks: readonly LeasedBlock[];
let fishRefuses: readonly FishRefusal[];
let fishIsAway: boolean;
/** All that fish was ever told, also while it was away. */
let told: string[][];
let changeFails: boolean;
let leases: LeasesOnHost;
let machine: DesiredMachine;

const name = ({ set, key }: Element) => `${set}: ${key}`;

beforeEach(() => {
  now = 0;
  sockets = new FakeSockets();
  cgroups = new FakeCgroups();
  elements = new Set();
  blocks = [];
  fishRefuses = [];
  fishIsAway = false;
  told = [];
  changeFails = false;
  machine = new DesiredMachine('edge');
  leases = new LeasesOnHost({
    changeElements: async (add, remove) => {
      if (changeFails) throw new Error('no netlink');
      for (const each of add) elements.add(name(each));
      for (const each of remove) elements.delete(name(each));
    },
    placeholders: newPlaceholders(new FakeKeepers(sockets), { mark }).placeholders,
    sockets,
    cgroups,
    owners: noOwners,
    setFishBlocks: async (wanted) => {
      told.push(wanted.map((block) => block.lease));
      if (fishIsAway) throw new Error('fish is away');
      blocks = wanted;
      return fishRefuses;
    },
    fenceFish: () => Promise.reject(new Error('nobody asked for that')),
    isOurMark: (each) => each === mark,
    log: pino({ level: 'silent' }),
    now: () => now,
  });
});

/** Makes these the leases, as a server would tell, and works on what that touches. */
async function want(...wanted: Lease[]): Promise<string[]> {
  leases.touch(machine.reset(desired({ leases: wanted, holders: [...machineHolders] })).leases);
  return work();
}
let machineHolders = [holder('web', 2_001), holder('mail', 2_002), holder('twin', 2_001), holder('fish', null)];

async function work(): Promise<string[]> {
  const { outcomes } = await leases.work(machine);
  return outcomes.map((each) => `${each.lease} ${each.state}${'errno' in each ? ` ${each.errno}` : ''}`);
}
const elementsNow = () => [...elements].sort();
const ofFish = (number: number, over: Partial<Lease> = {}) =>
  lease(number, { holder: 'fish', ports: { first: 9_000, last: 9_001 }, ...over });
const shared = (number: number, over: Partial<Lease> = {}) =>
  lease(number, { mode: 'shared', binding: 'late', ...over });

describe("a proxy's lease", () => {
  it('is active as soon as its elements are in the table, and empty when they are gone', async () => {
    expect(await want(lease(1))).toEqual(['lease-1 active']);
    expect(elementsNow()).toEqual([
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 2001',
    ]);
    expect(sockets.holdings()).toEqual([]);
    expect(await want(lease(1, { state: 'ending' }))).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
    expect(leases.status()).toEqual([]);
  });

  it('is reported again when the server asks again', async () => {
    await want(lease(1));
    expect(await want(lease(1))).toEqual(['lease-1 active']);
    expect(await want(lease(1, { state: 'active' }))).toEqual([]);
  });

  it('is refused while somebody else has a socket on its ports', async () => {
    sockets.add(9_100, { uid: 33, state: 'listen', localAddress: '0.0.0.0' });
    expect(await want(lease(1))).toEqual(['lease-1 refused EADDRINUSE']);
    expect(elementsNow()).toEqual([]);
    expect(leases.status()[0]).toMatchObject({ phase: 'refused' });
    // Until the server has heard it; then nothing is left of it.
    expect(await want(lease(1))).toEqual(['lease-1 refused EADDRINUSE']);
    expect(await want()).toEqual([]);
    expect(leases.status()).toEqual([]);
  });

  it('is looked at together with all that come with it, however many: the kernel is read once', async () => {
    sockets.add(9_100, { uid: 33, state: 'listen' });
    const many = Array.from({ length: 200 }, (_, index) =>
      lease(index + 1, { ports: { first: 9_088 + 128 * index, last: 9_215 + 128 * index } }),
    );
    const outcomes = await want(...many);
    expect(outcomes[0]).toBe('lease-1 refused EADDRINUSE');
    expect(outcomes.slice(1)).toEqual(many.slice(1).map(({ id }) => `${id} active`));
    expect(sockets.readings).toBe(1);
    const echo = many.map((each, index) => lease(index + 1_000, { protocol: 'icmp', ports: each.ports }));
    sockets.pings.push({ family: 4, identifier: 9_217, localAddress: '192.0.2.1', uid: 33, inode: 77 });
    expect((await want(...many, ...echo)).filter((outcome) => outcome.includes('refused'))).toEqual([
      'lease-1 refused EADDRINUSE',
      'lease-1001 refused EADDRINUSE',
    ]);
    expect(sockets.readings).toBe(1);
  });

  it('is refused in plain text, however the program that is in the way calls itself', async () => {
    const socket = sockets.add(9_100, { uid: 33, state: 'listen', localAddress: '0.0.0.0' });
    sockets.owners.set(socket.inode, [{ pid: 7, command: `a\u0000b\ud800\n${'🐟'.repeat(400)}` }]);
    leases.touch(machine.reset(desired({ leases: [lease(1)], holders: [...machineHolders] })).leases);
    const { outcomes } = await leases.work(machine);
    const report = Applied.parse({ revision: 1, leases: outcomes, slices: [] });
    expect(report.leases).toMatchObject([{ errno: 'EADDRINUSE', detail: containing('a\ufffdb\ufffd\ufffd🐟') }]);
  });

  it.each([
    ['its own user', { uid: 2_001 }],
    ['TIME_WAIT', { uid: 0, state: 'time-wait', inode: 0 }],
    ['a socket that closes', { uid: 33, state: 'fin-wait-1', inode: 0 }],
    ['another address', { uid: 33, localAddress: '192.0.2.1' }],
  ] as const)('does not mind %s', async (_what, socket) => {
    sockets.add(9_100, socket);
    expect(await want(lease(1))).toEqual(['lease-1 active']);
  });

  it('is refused when its holder has no user id to tell it by', async () => {
    machineHolders = [{ ...holder('web', 1), uid: null }];
    expect(await want(lease(1))).toEqual(['lease-1 refused EPERM']);
    machineHolders = [holder('web', 2_001), holder('mail', 2_002), holder('twin', 2_001), holder('fish', null)];
  });

  it('follows its holder to another user id in one transaction', async () => {
    await want(lease(1, { state: 'active' }));
    machine.apply({ kind: 'holder', revision: 11, at: '', holder: holder('web', 3_001) });
    leases.touch(['lease-1']);
    await work();
    expect(elementsNow()).toEqual([
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 3001',
    ]);
  });

  it('whose end is forced, if only later, has the sockets of its holder cut', async () => {
    await want(lease(1));
    sockets.add(9_100);
    expect(await want(lease(1, { state: 'ending' }))).toEqual([]);
    expect(await want(lease(1, { state: 'ending', forced: true }))).toEqual([]);
    expect(sockets.destroyed).toEqual([9_100]);
    now += 50;
    expect(await work()).toEqual(['lease-1 empty']);
  });

  it('waits with its end for the last socket, and says whom it waits for', async () => {
    await want(lease(1));
    const socket = sockets.add(9_100);
    expect(leases.classes().map(setName)).toContain('closing_tcp4_128');
    expect(await want(lease(1, { state: 'ending' }))).toEqual([]);
    // What is there may go on, nothing new may begin.
    expect(elementsNow()).toEqual([
      'closing_tcp4_128: 198.51.100.10 . 9088 . 2001',
      'own_tcp4_128: 198.51.100.10 . 9088',
    ]);
    expect(leases.status()[0]).toMatchObject({ phase: 'clearing', detail: containing('program[1]') });
    expect(leases.nextLookInMs()).toBe(50);

    now += 50;
    sockets.change(socket, { state: 'time-wait', inode: 0 });
    expect(await work()).toEqual(['lease-1 empty']);
    expect(leases.nextLookInMs()).toBeUndefined();
  });

  it('waits for nobody when its slice is not here any more: what is open is silenced, and neither cut nor watched', async () => {
    const gone = async (slices: Slice[]) => {
      leases.touch(machine.reset(desired({ slices, holders: [...machineHolders] })).leases);
      return work();
    };
    const closing = 'closing_tcp4_128: 198.51.100.10 . 9088 . 2001';
    await want(lease(1));
    sockets.add(9_100);
    // The broker's table was lost, say: the ports are still nobody else's.
    expect(await gone([slice(1)])).toEqual([]);
    expect(elementsNow()).toContain(closing);
    expect(await gone([slice(1, { generation: 2 })])).toEqual([]);
    expect(elementsNow()).toEqual([]);
    expect([leases.status(), leases.nextLookInMs(), sockets.destroyed]).toEqual([[], undefined, []]);

    await want(lease(2));
    machineHolders = [holder('web', 3_001)];
    await want(lease(2, { state: 'active' }));
    expect(elementsNow()).toContain(closing);
    expect(await gone([])).toEqual([]);
    expect([elementsNow(), leases.nextLookInMs()]).toEqual([[], undefined]);
  });

  it('looks less and less often, and no less than every two seconds', async () => {
    await want(lease(1));
    sockets.add(9_100);
    await want(lease(1, { state: 'ending' }));
    const waits: number[] = [];
    for (let look = 0; look < 8; look++) {
      const wait = leases.nextLookInMs() ?? NaN;
      waits.push(wait);
      now += wait;
      await work();
    }
    expect(waits).toEqual([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
  });

  it('of which nothing is here is empty, as the server is told', async () => {
    expect(await want(lease(1, { state: 'ending' }))).toEqual(['lease-1 empty']);
  });

  it('that the server has forgotten goes without a word', async () => {
    await want(lease(1));
    expect(await want()).toEqual([]);
    expect(elementsNow()).toEqual([]);
  });

  it('of a session with very many others is looked up in one reading of the table', async () => {
    const many = Array.from({ length: 500 }, (_, i) => lease(i + 1, { ports: { first: 8_000 + i, last: 8_000 + i } }));
    await want(...many.map((each) => ({ ...each, state: 'active' as const })));
    sockets.add(8_007);
    const before = sockets.readings;
    const outcomes = await want(...many.map((each) => ({ ...each, state: 'ending' as const })));
    expect(outcomes).toHaveLength(499);
    expect(outcomes).not.toContain('lease-8 empty');
    expect(sockets.readings - before).toBe(1);
  });
});

describe('a lease of a holder that is known by its cgroup', () => {
  const path = 'system.slice/web.service';
  const usual = machineHolders;
  beforeEach(() => {
    machineHolders = [{ ...holder('web', 1), uid: null, cgroup: path }, holder('mail', 2_002)];
    cgroups.ids.set('system.slice', '20').set(path, '21').set(`${path}/worker`, '22');
  });
  afterEach(() => {
    machineHolders = usual;
  });
  const block = '198.51.100.10 . 9088';

  it('has an element with the number of the cgroup, at its level, and shuts it when it ends', async () => {
    expect(await want(lease(1))).toEqual(['lease-1 active']);
    expect(elementsNow()).toEqual([
      `in_cgroup_tcp4_128: ${block}`,
      `own_cgroup_at2_tcp4_128: ${block} . 21`,
      `own_tcp4_128: ${block}`,
    ]);
    expect(leases.classes().map(setName)).toContain('closing_cgroup_at2_tcp4_128');
    sockets.add(9_100, { uid: 0, cgroup: '22' });
    expect(await want(lease(1, { state: 'ending' }))).toEqual([]);
    expect(elementsNow()).toEqual([
      `closing_cgroup_at2_tcp4_128: ${block} . 21`,
      `in_cgroup_tcp4_128: ${block}`,
      `own_tcp4_128: ${block}`,
    ]);
    sockets.others.length = 0;
    now += 2_000;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });

  it('follows the cgroup when it is made anew, is shut while there is none, and says so', async () => {
    cgroups.ids.delete(path);
    expect(await want(lease(1))).toEqual(['lease-1 active']);
    expect(elementsNow()).toEqual([`in_cgroup_tcp4_128: ${block}`, `own_tcp4_128: ${block}`]);
    expect(leases.status()[0]?.detail).toContain(`cgroup ${path} is not there`);
    expect(leases.nextLookInMs()).toBe(500);
    for (const id of ['31', '32']) {
      cgroups.ids.set(path, id);
      now += 500;
      await work();
      expect(elementsNow()).toContain(`own_cgroup_at2_tcp4_128: ${block} . ${id}`);
      expect(elementsNow()).toHaveLength(3);
    }
    expect(leases.status()[0]?.detail).toBeNull();
    // Somebody else's socket that came meanwhile is the guard's business, and no reason to take the lease away.
    sockets.add(9_100, { uid: 33, cgroup: '20' });
    cgroups.ids.set(path, '33');
    now += 500;
    expect(await work()).toEqual(['lease-1 active']);
    cgroups.ids.delete(path);
    now += 500;
    await work();
    expect(elementsNow()).toEqual([`in_cgroup_tcp4_128: ${block}`, `own_tcp4_128: ${block}`]);
    sockets.others.length = 0;
    await want();
    expect(leases.nextLookInMs()).toBeUndefined();
  });

  it('minds sockets of whoever is not in it, of whichever user, and not those within', async () => {
    sockets.add(9_100, { uid: 0, cgroup: '22' });
    expect(await want(lease(1))).toEqual(['lease-1 active']);
    const stranger = sockets.add(9_600, { uid: 0, cgroup: '20' });
    const other = lease(2, { ports: { first: 9_600, last: 9_607 } });
    expect(await want(lease(1), other)).toEqual(['lease-1 active', 'lease-2 refused EADDRINUSE']);
    sockets.remove(stranger);
    const echoes = lease(3, { protocol: 'icmp', ports: { first: 16, last: 31 } });
    sockets.pings.push({ family: 4, localAddress: '198.51.100.10', identifier: 17, uid: 0, inode: 71 });
    sockets.owners.set(71, [{ pid: 7, command: 'ping' }]);
    cgroups.processes.set(7, 'system.slice/other.service');
    expect(await want(lease(1), echoes)).toEqual(['lease-1 active', 'lease-3 refused EADDRINUSE']);
    await want(lease(1));
    cgroups.processes.set(7, `${path}/worker`);
    expect(await want(lease(1), echoes)).toContain('lease-3 active');
    expect(elementsNow()).toContain('own_cgroup_at2_icmp4_128: 198.51.100.10 . 16 . 21'.replace('_128', '_16'));
  });

  it('waits at its end for its own sockets, and those that closed when the last of them did', async () => {
    await want(shared(1), shared(2, { holder: 'mail' }));
    sockets.add(9_100, { uid: 2_002, cgroup: '20' });
    const own = sockets.add(9_102, { uid: 0, cgroup: '21' });
    const still = shared(2, { holder: 'mail', state: 'active' });
    expect(await want(shared(1, { state: 'ending' }), still)).toEqual([]);
    // Its service was stopped: the cgroup is gone, and its number says nothing any more.
    const closing = sockets.change(own, { state: 'fin-wait-1', inode: 0 });
    cgroups.ids.delete(path);
    cgroups.ids.delete(`${path}/worker`);
    now += 50;
    expect(await work()).toEqual([]);
    sockets.remove(closing);
    sockets.add(9_103, { state: 'fin-wait-1', inode: 0, uid: 2_002, cgroup: '20' });
    now += 100;
    expect(await work()).toEqual(['lease-1 empty']);
  });

  it('is refused where the host cannot tell sockets by cgroup, and says why', async () => {
    cgroups.problem = 'no cgroup2 hierarchy is mounted';
    leases.touch(machine.reset(desired({ leases: [lease(1)], holders: [...machineHolders] })).leases);
    expect((await leases.work(machine)).outcomes).toMatchObject([
      { state: 'refused', errno: 'EPERM', detail: containing('no cgroup2 hierarchy is mounted') },
    ]);
    expect(elementsNow()).toEqual([]);
  });

  it('moves to a user id, and back, in one transaction', async () => {
    await want(lease(1, { state: 'active' }));
    const become = async (over: object) => {
      machine.apply({
        kind: 'holder',
        revision: machine.revision + 1,
        at: '',
        holder: { ...holder('web', 1), ...over },
      });
      leases.touch(['lease-1']);
      await work();
    };
    await become({ uid: 3_001 });
    expect(elementsNow()).toEqual([`own_tcp4_128: ${block}`, `own_uid_tcp4_128: ${block} . 3001`]);
    expect(leases.nextLookInMs()).toBeUndefined();
    await become({ uid: null, cgroup: 'system.slice' });
    expect(elementsNow()).toContain(`own_cgroup_at1_tcp4_128: ${block} . 20`);
  });
});

describe('a shared block', () => {
  it('is shut for the holder that leaves while it still has connections, and for nobody else', async () => {
    await want(shared(1), shared(2, { holder: 'mail' }));
    sockets.add(9_100, { uid: 2_001 });
    expect(await want(shared(1, { state: 'ending' }), shared(2, { holder: 'mail', state: 'active' }))).toEqual([]);
    expect(elementsNow()).toEqual([
      'closing_tcp4_128: 198.51.100.10 . 9088 . 2001',
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 2002',
    ]);
  });

  it('keeps the elements that another holder still needs', async () => {
    await want(shared(1), shared(2, { holder: 'mail' }));
    expect(elementsNow()).toHaveLength(3);
    expect(await want(shared(1, { state: 'ending' }), shared(2, { holder: 'mail', state: 'active' }))).toEqual([
      'lease-1 empty',
    ]);
    expect(elementsNow()).toEqual([
      'own_tcp4_128: 198.51.100.10 . 9088',
      'own_uid_tcp4_128: 198.51.100.10 . 9088 . 2002',
    ]);
  });

  it('waits for the sockets of the holder that leaves, not for those of its neighbours or of fish', async () => {
    await want(shared(1), shared(2, { holder: 'mail' }));
    sockets.add(9_100, { uid: 2_002 });
    sockets.add(9_101, { uid: 0, mark, state: 'syn-sent' });
    const own = sockets.add(9_102, { uid: 2_001 });
    const still = shared(2, { holder: 'mail', state: 'active' });
    expect(await want(shared(1, { state: 'ending' }), still)).toEqual([]);
    sockets.remove(own);
    now += 50;
    expect(await work()).toEqual(['lease-1 empty']);
  });

  it('waits for closed sockets that lost their user id, but not for those that others close later', async () => {
    await want(shared(1));
    const own = sockets.add(9_100);
    await want(shared(1, { state: 'ending' }));
    const closing = sockets.change(own, { state: 'fin-wait-1', inode: 0, uid: 0 });
    now += 50;
    expect(await work()).toEqual([]);
    sockets.remove(closing);
    sockets.add(9_101, { state: 'fin-wait-1', inode: 0, uid: 0 });
    now += 100;
    expect(await work()).toEqual(['lease-1 empty']);
  });

  it('does not wait where the same user goes on by another lease: its sockets cannot be told apart', async () => {
    await want(shared(1), shared(2, { holder: 'twin' }));
    sockets.add(9_100);
    const twin = (state: Lease['state']) => shared(2, { holder: 'twin', state });
    expect(await want(shared(1, { state: 'ending' }), twin('active'))).toEqual(['lease-1 empty']);
    expect(elementsNow()).toContain('own_uid_tcp4_128: 198.51.100.10 . 9088 . 2001');
    expect(await want(twin('ending'))).toEqual([]);
  });

  it('waits for both when both end at once', async () => {
    await want(shared(1), shared(2, { holder: 'twin' }));
    sockets.add(9_100);
    expect(await want(shared(1, { state: 'ending' }), shared(2, { holder: 'twin', state: 'ending' }))).toEqual([]);
  });
});

describe("fish's lease", () => {
  it('is held by placeholders and known to fish before it is active; the reverse at its end', async () => {
    expect(await want(ofFish(1))).toEqual(['lease-1 active']);
    expect(sockets.holdings()).toEqual(['tcp 198.51.100.10:9000', 'tcp 198.51.100.10:9001']);
    expect(blocks.map((block) => block.lease)).toEqual(['lease-1']);
    expect(elementsNow()).toEqual([
      'fish_tcp4_2: 198.51.100.10 . 9000',
      'quoted_tcp4_2: 198.51.100.10 . 9000',
      'steer_tcp4_2: 198.51.100.10 . 9000',
    ]);
    expect(await want(ofFish(1, { state: 'ending' }))).toEqual(['lease-1 empty']);
    expect([blocks, sockets.holdings(), elementsNow()]).toEqual([[], [], []]);
  });

  it('that the kernel refuses never comes to fish', async () => {
    sockets.add(9_001, { uid: 33 });
    expect(await want(ofFish(1), ofFish(2, { ports: { first: 9_100, last: 9_101 } }))).toEqual([
      'lease-1 refused EADDRINUSE',
      'lease-2 active',
    ]);
    expect(blocks.map((block) => block.lease)).toEqual(['lease-2']);
    expect(elementsNow()).not.toContain('fish_tcp4_2: 198.51.100.10 . 9000');
  });

  it('that fish itself cannot use is refused, and nothing of it stays', async () => {
    fishRefuses = [{ lease: 'lease-1', reason: 'there are too many' }];
    expect(await want(ofFish(1))).toEqual(['lease-1 refused EINVAL']);
    expect([sockets.holdings(), elementsNow()]).toEqual([[], []]);
  });

  it('may be over IPv6', async () => {
    expect(await want(ofFish(1, { address: '2001:db8::10' }))).toEqual(['lease-1 active']);
  });

  it('waits while fish is away, and the others do not', async () => {
    fishIsAway = true;
    leases.touch(machine.reset(desired({ leases: [ofFish(1), lease(2)], holders: machineHolders })).leases);
    const { outcomes, problem } = await leases.work(machine);
    expect(outcomes.map((each) => each.lease)).toEqual(['lease-2']);
    expect(problem).toMatchObject({ message: 'fish is away' });
    fishIsAway = false;
    leases.fishIsNew();
    expect(await work()).toEqual(['lease-1 active']);
    expect(blocks.map((block) => block.lease)).toEqual(['lease-1']);
  });

  it('that ends while fish is away is empty when fish, back again, has confirmed it', async () => {
    await want(ofFish(1));
    fishIsAway = true;
    expect(await want(ofFish(1, { state: 'ending' }))).toEqual([]);
    expect(sockets.holdings()).toHaveLength(2);
    fishIsAway = false;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(sockets.holdings()).toEqual([]);
  });
});

describe('after a restart of the agent', () => {
  it('what was up keeps its elements from the first moment, and comes up again', async () => {
    machine.reset(
      desired({
        leases: [lease(1, { state: 'active' }), ofFish(2, { state: 'active' }), lease(3)],
        holders: machineHolders,
      }),
    );
    leases.adopt(machine);
    expect([...leases.elements().keys()].sort()).toEqual([
      'fish_tcp4_2',
      'own_tcp4_128',
      'own_uid_tcp4_128',
      'quoted_tcp4_2',
      'steer_tcp4_2',
    ]);
    expect(await work()).toEqual(['lease-1 active', 'lease-2 active', 'lease-3 active']);
    expect(sockets.holdings()).toHaveLength(2);
  });

  it('fish is told, all at once, of what was up, and of no more: what ends is empty only when fish has heard that', async () => {
    const leasesNow = [
      ofFish(1, { state: 'ending' }),
      ofFish(2, { state: 'active', ports: { first: 9_002, last: 9_003 } }),
    ];
    machine.reset(desired({ leases: leasesNow, holders: machineHolders }));
    leases.adopt(machine);
    leases.fishIsNew();
    fishIsAway = true;
    expect(await work()).toEqual([]);
    fishIsAway = false;
    expect((await work()).toSorted()).toEqual(['lease-1 empty', 'lease-2 active']);
    // Never without lease 2: it may have flows from before.
    expect(new Set(told.map(String))).toEqual(new Set(['lease-2']));
  });

  it('a proxy that was at work is no stranger to itself, and its end is still waited for', async () => {
    sockets.add(9_100, { uid: 33 });
    machine.reset(desired({ leases: [lease(1, { state: 'active' })], holders: machineHolders }));
    leases.adopt(machine);
    expect(await work()).toEqual(['lease-1 active']);

    const other = new DesiredMachine('edge');
    other.reset(
      desired({ leases: [lease(2, { state: 'ending' }), ofFish(3, { state: 'ending' })], holders: machineHolders }),
    );
    leases.adopt(other);
    machine = other;
    expect([...leases.elements().keys()]).toContain('closing_tcp4_128');
    expect(await work()).toEqual(['lease-3 empty']);
    expect(leases.status().find((each) => each.lease === 'lease-2')).toMatchObject({ phase: 'clearing' });
  });
});

describe('when the table cannot be changed', () => {
  it('nothing is reported, and the next attempt goes on from there', async () => {
    changeFails = true;
    leases.touch(machine.reset(desired({ leases: [lease(1), ofFish(2)], holders: machineHolders })).leases);
    await expect(leases.work(machine)).rejects.toThrow('no netlink');
    expect(leases.hasWork).toBe(true);
    changeFails = false;
    expect(await work()).toEqual(['lease-1 active', 'lease-2 active']);
  });

  it('an end shuts the guard first: until that is done nobody looks whether the ports are empty', async () => {
    await want(lease(1));
    const before = sockets.readings;
    changeFails = true;
    leases.touch(machine.reset(desired({ leases: [lease(1, { state: 'ending' })], holders: machineHolders })).leases);
    await expect(leases.work(machine)).rejects.toThrow('no netlink');
    expect(leases.status()[0]).toMatchObject({ phase: 'clearing' });
    expect(sockets.readings).toBe(before);
    changeFails = false;
    expect(await work()).toEqual(['lease-1 empty']);
  });

  it('an end is not reported before its elements are gone', async () => {
    await want(lease(1));
    const socket = sockets.add(9_100);
    await want(lease(1, { state: 'ending' }));
    sockets.remove(socket);
    now += 50;
    changeFails = true;
    await expect(leases.work(machine)).rejects.toThrow('no netlink');
    expect(leases.status()[0]).toMatchObject({ phase: 'cleared' });
    changeFails = false;
    expect(await work()).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });
});
