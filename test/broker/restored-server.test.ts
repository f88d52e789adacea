import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { isFisheryError } from '../../src/sdk/index.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { until } from '../support/broker-world.ts';
import { LinkedBroker } from '../support/linked-broker.ts';
import { Senders } from '../support/senders.ts';
import { StoredServer } from '../support/stored-server.ts';

type Machine = LinkedBroker<StoredServer>;
const fence_s = 2;

let server: StoredServer;
let one: Machine;
let two: Machine;
let senders: Senders;

beforeEach(async () => {
  server = await StoredServer.start({ forward_ms: 2_000 });
  const cooldown_s = { tcp: 0, udp: 0, icmp: 0 };
  // Three slices, no more: what one gives back is what the other gets.
  await server.client.pools.create({ id: 'pool', prefixes: ['198.51.100.0/32'], slice_ports: 16_384, cooldown_s });
  one = await LinkedBroker.join(server, 'edge-1', fence_s);
  two = await LinkedBroker.join(server, 'edge-2', fence_s);
  senders = new Senders();
  for (const each of [one, two]) senders.follow(each);
});
afterEach(async () => {
  for (const each of [one, two]) await each[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function assign(machine: string): Promise<string> {
  const [slice] = (await server.client.slices.assign({ machine, pool: 'pool', allocator: 'machine' })).slices;
  if (!slice) throw new Error('no slice was assigned');
  await arrived(slice.id);
  return slice.id;
}
const arrived = (slice: string) => until(async () => (await server.client.slices.get(slice)).state === 'assigned');

async function move(slice: string, machine: string): Promise<void> {
  await server.client.slices.move({ id: slice, revision: '*' }, { machine, deadline_s: 0, allocator: 'machine' });
  await until(async () => (await server.client.slices.get(slice)).machine === machine);
  await arrived(slice);
}

/** Until the server has heard of all that was granted there, and nothing moves. */
async function told(w: Machine): Promise<readonly Lease[]> {
  let leases: readonly Lease[] = [];
  await until(async () => {
    leases = (await w.local().leases.list({ limit: 1_000 })).items;
    const newest = Math.max(0, ...leases.map(({ revision }) => revision));
    const isMoving = leases.some(({ state }) => ['pending', 'ending', 'cooling'].includes(state));
    const { told_through, untold } = w.broker.status();
    return !isMoving && untold === 0 && (told_through ?? 0) >= newest;
  });
  return leases;
}

async function restored(copy: string): Promise<number> {
  senders.isTableWhole = false;
  await server.restore(copy);
  const { number, confirmed_at } = await server.client.server.epoch();
  expect(confirmed_at).toBeNull();
  return number;
}

/** Over the server, which passes it on. */
async function ask(session: string, idempotencyKey: string): Promise<Lease> {
  const whose = { allocator: 'machine', machine: 'edge-1' } as const;
  const claims = [{ protocol: 'udp' as const, ports: 8 }];
  const [lease] = (await server.client.leases.grant({ session, claims }, { idempotencyKey, ...whose })).leases;
  if (!lease) throw new Error('nothing was granted over the server');
  return lease;
}

const rowOf = ({ id, state, ending, address, protocol, ports, token }: Lease) =>
  `${id} ${token} ${address} ${protocol} ${ports.first}-${ports.last} ${state === 'cooling' ? 'ended' : state} ${ending}`;

/** What both tables have of the machine: that a rest is over is not told, it follows by itself. */
async function agree(w: Machine, lost: ReadonlySet<string> = new Set()): Promise<void> {
  const here = await told(w);
  const there = await server.client.leases.list({ machine: w.machine, allocator: 'machine', limit: 1_000 });
  expect(there.items.map(rowOf).sort()).toEqual(
    here
      .filter(({ id }) => !lost.has(id))
      .map(rowOf)
      .sort(),
  );
  expect(w.held.map(({ id }) => id).sort()).toEqual(
    here
      .filter(({ state }) => state === 'active')
      .map(({ id }) => id)
      .sort(),
  );
  expect(server.tables.brokers.get(w.machine)?.epoch).toBe(w.broker.epoch);
}

async function isWhole(): Promise<void> {
  await using snapshot = await openSnapshot({ url: undefined, directory: server.directory });
  expect((await check(snapshot)).flaws).toEqual([]);
  expect(senders.collisions).toEqual([]);
}

describe('a server that was restored from a backup', () => {
  it(
    'hears of all that brokers granted and ended since, and what moved since is given to nobody twice',
    { timeout: 120_000 },
    async () => {
      const [mine, moving] = [await assign('edge-1'), await assign('edge-1')];
      const kept = await one.grantHere(8);
      const released = await one.grantHere(8);
      const session = kept.session ?? '';
      const key = 'before-the-backup';
      const asked = await ask(session, key);
      await told(one);
      const copy = server.backUp();

      const later = await ask(session, 'after-it');
      await one.local().leases.release(released);
      const since = await one.grantHere(8);
      await move(moving, 'edge-2');
      const elsewhere = await two.grantHere(64);
      await assign('edge-2');
      const lost = [elsewhere, await two.grantHere(16_384)];
      await Promise.all([told(one), told(two)]);
      expect(senders.collisions).toEqual([]);

      const epoch = await restored(copy);
      // In doubt the hosts go on as they are.
      const meanwhile = await one.grantHere(8);
      expect((await two.local().leases.get(elsewhere.id)).state).toBe('active');
      // It hears nothing of what comes now, and was answered a moment ago.
      two.link.cut = () => 'request';
      expect(two.isGuardOpen).toBe(true);
      await server.client.server.confirmEpoch({ epoch });
      await eager();
      two.link.heal();
      await until(async () => (await told(two)).every(({ state }) => state === 'ended'));
      await agree(one);
      await agree(two, new Set(lost.map(({ id }) => id)));
      expect(mine).not.toBe(moving);
      // Who asks again under a key of then gets what it got then.
      expect((await ask(session, key)).id).toBe(asked.id);
      expect((await ask(session, 'after-it')).id).toBe(later.id);
      const states = async (of: readonly Lease[]) =>
        Promise.all(of.map(async ({ id }) => (await one.local().leases.get(id)).state));
      expect(await states([kept, released, since, meanwhile])).toEqual(['active', 'ended', 'active', 'active']);
      await isWhole();
    },
  );
});

describe('a slice that a restored server has as it was', () => {
  it(
    'is given back under its former generation, and comes again under another that nobody had',
    { timeout: 120_000 },
    async () => {
      const slice = await assign('edge-1');
      const first = await one.grantHere(8);
      await told(one);
      const copy = server.backUp();
      await server.client.slices.drain({ id: slice, revision: '*' }, { deadline_s: 0 });
      await until(async () => (await server.client.slices.get(slice)).state === 'free');
      expect(await assign('edge-1')).toBe(slice);
      const second = await one.grantHere(8);
      await told(one);
      const number = await restored(copy);
      await server.client.server.confirmEpoch({ epoch: number });
      // It has the lease that ended there for active until it is told.
      await until(async () => (await server.client.slices.get(slice)).state === 'free');
      expect((await one.local().leases.get(second.id)).ending).toBe('fenced');
      // One generation that was somebody's is passed over.
      await server.client.slices.assign({ machine: 'edge-1', pool: 'pool', allocator: 'machine' });
      await until(async () => (await server.client.slices.get(slice)).state === 'free');
      expect(await assign('edge-1')).toBe(slice);
      const third = await one.grantHere(8);
      expect([first, second, third].map(({ token }) => token.split('.')[0])).toEqual(['1', '2', '3']);
      await agree(one, new Set([second.id]));
      await isWhole();
    },
  );

  it('rests when its broker has told again of all that ended in it', { timeout: 120_000 }, async () => {
    // It tells nothing unasked when nothing happens, as in the seconds before it would.
    await using quiet = await LinkedBroker.join(server, 'edge-3', fence_s, { isSparing: true });
    const slice = await assign('edge-3');
    const { id } = await quiet.grantHere(8);
    await told(quiet);
    quiet.slownessMs = () => 200;
    await server.client.slices.drain({ id: slice, revision: '*' }, { deadline_s: 0 });
    const copy = server.backUp();
    await until(async () => (await server.client.slices.get(slice)).state === 'free');
    const number = await restored(copy);
    await server.client.server.confirmEpoch({ epoch: number });
    await until(async () => (await server.client.slices.get(slice)).state === 'free');
    expect((await server.client.leases.get(id, { allocator: 'machine', machine: 'edge-3' })).state).toBe('ended');
    await agree(quiet);
    await isWhole();
  });
});

/** Whoever asks for a slice, from the moment in which the server goes on, gets all that there is. */
async function eager(): Promise<void> {
  for (let slices = 0; slices < 2;) {
    try {
      await assign('edge-1');
      slices++;
      await one.grantHere(16_384);
    } catch (error) {
      if (!isFisheryError(error)) throw error;
      await sleep(5);
    }
  }
}
