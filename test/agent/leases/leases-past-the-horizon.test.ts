import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { LeasesOnHost } from '../../../src/agent/leases/leases-on-host.ts';
import type { LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import { desired, holder, lease } from '../../support/agent-values.ts';
import { FakeCgroups } from '../../support/fake-cgroups.ts';
import { FakeKeepers, newPlaceholders } from '../../support/fake-keepers.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';
import { noOwners } from '../../support/no-owners.ts';

const mark = 42;
let sockets: FakeSockets;
let elements: Set<string>;
let blocks: readonly LeasedBlock[];
let fishIsAway: boolean;
/** What was held whenever fish was told to end its flows. */
let heldAtFences: string[][];
let leases: LeasesOnHost;
let machine: DesiredMachine;

beforeEach(() => {
  sockets = new FakeSockets();
  elements = new Set();
  [blocks, fishIsAway, heldAtFences] = [[], false, []];
  machine = new DesiredMachine('edge');
  leases = new LeasesOnHost({
    changeElements: async (add, remove) => {
      for (const { set, key } of add) elements.add(`${set}: ${key}`);
      for (const { set, key } of remove) elements.delete(`${set}: ${key}`);
    },
    placeholders: newPlaceholders(new FakeKeepers(sockets), { mark }).placeholders,
    sockets,
    cgroups: new FakeCgroups(),
    owners: noOwners,
    setFishBlocks: async (wanted) => {
      if (fishIsAway) throw new Error('fish is away');
      blocks = wanted;
      return [];
    },
    fenceFish: async () => {
      if (fishIsAway) throw new Error('fish is away');
      heldAtFences.push([...sockets.holdings()]);
      blocks = [];
    },
    isOurMark: (each) => each === mark,
    log: pino({ level: 'silent' }),
    now: () => 0,
  });
});

const machineHolders = [holder('web', 2_001), holder('fish', null)];
async function want(...wanted: Lease[]): Promise<string[]> {
  leases.touch(machine.reset(desired({ leases: wanted, holders: machineHolders })).leases);
  return work();
}
async function work(): Promise<string[]> {
  const { outcomes } = await leases.work(machine);
  return outcomes.map((each) => `${each.lease} ${each.state}${'errno' in each ? ` ${each.errno}` : ''}`);
}
const elementsNow = () => [...elements].sort();
const ofFish = (number: number, over: Partial<Lease> = {}) =>
  lease(number, { holder: 'fish', ports: { first: 9_000, last: 9_001 }, ...over });

describe('past the horizon', () => {
  const held = ['tcp 198.51.100.10:9000', 'tcp 198.51.100.10:9001'];
  const fence = async () => {
    leases.setFenced(true);
    await leases.letGo();
    return work();
  };

  it("fish's flows end, then its placeholders go; its elements and the leases of proxies stay", async () => {
    await want(ofFish(1), lease(2));
    const before = elementsNow();
    expect(await fence()).toEqual([]);
    expect(heldAtFences[0]).toEqual(held);
    expect([blocks, sockets.holdings(), elementsNow()]).toEqual([[], [], before]);
    expect(leases.status()).toMatchObject([
      { phase: 'opening', detail: 'waits for the server to answer a keepalive' },
      { phase: 'up', detail: null },
    ]);
  });

  it('and an answer after it, what there still is is put in place anew', async () => {
    await want(ofFish(1), ofFish(2, { ports: { first: 9_100, last: 9_101 } }));
    await fence();
    // Of which the one has ended meanwhile, and another was granted.
    expect(await want(ofFish(1), ofFish(3, { ports: { first: 9_200, last: 9_200 } }))).toEqual([]);
    expect([blocks, sockets.holdings()]).toEqual([[], []]);
    leases.setFenced(false);
    expect((await work()).toSorted()).toEqual(['lease-1 active', 'lease-3 active']);
    expect(blocks.map((block) => block.lease).toSorted()).toEqual(['lease-1', 'lease-3']);
    expect(sockets.holdings()).toEqual([...held, 'tcp 198.51.100.10:9200']);
  });

  it('a lease that ends is empty at once: nobody uses it', async () => {
    await want(ofFish(1));
    await fence();
    expect(await want(ofFish(1, { state: 'ending' }))).toEqual(['lease-1 empty']);
    expect(elementsNow()).toEqual([]);
  });

  it('a port that somebody took meanwhile is refused afterwards', async () => {
    await want(ofFish(1));
    await fence();
    sockets.add(9_001, { uid: 33 });
    leases.setFenced(false);
    expect(await work()).toEqual(['lease-1 refused EADDRINUSE']);
  });

  it('ports are let go of although fish is away, which gets no block when it is there again', async () => {
    await want(ofFish(1));
    fishIsAway = true;
    await fence();
    expect(sockets.holdings()).toEqual([]);
    fishIsAway = false;
    leases.fishIsNew();
    await work();
    expect(blocks).toEqual([]);
    leases.setFenced(false);
    expect(await work()).toEqual(['lease-1 active']);
  });

  it('a lease that was on its way up goes back, and is not said to be active', async () => {
    leases.touch(machine.reset(desired({ leases: [ofFish(1)], holders: machineHolders })).leases);
    const working = leases.work(machine);
    leases.setFenced(true);
    expect((await working).outcomes).toEqual([]);
    await leases.letGo();
    expect([blocks, sockets.holdings()]).toEqual([[], []]);
    leases.setFenced(false);
    expect(await work()).toEqual(['lease-1 active']);
  });
});
