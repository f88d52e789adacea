import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FisheryClient, FisheryError, isFisheryError } from '../../src/sdk/index.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { until } from '../support/broker-world.ts';
import type { Cut } from '../support/link.ts';
import { LinkedBroker } from '../support/linked-broker.ts';
import { RealServer } from '../support/real-server.ts';
import { Senders } from '../support/senders.ts';

const fence_s = 2;
const steps_per_holder = 24;
/** Two tables on one host read one clock, to the millisecond each. */
const clocks_apart_us = 2_000;
/** More than these with FISHERY_SOAK_SEEDS, the number of seeds. */
const seeds = Array.from({ length: Number(process.env.FISHERY_SOAK_SEEDS ?? 2) }, (_, index) => index + 1);

/** The same numbers from 0 to 1 for the same seed. */
function chance(seed: number): () => number {
  let state = seed * 0x9e3779b9;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A holder that asks for this and that, on its host and over the server, and takes what comes of it. */
async function holder(w: LinkedBroker, random: () => number): Promise<void> {
  const { machine } = w;
  const server = new FisheryClient({ url: w.server.url, token: w.server.secret, attemptsMax: 1, timeoutMs: 2_000 });
  const sessions: string[] = [];
  const leases: Lease[] = [];
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  for (let step = 0; step < steps_per_holder; step++) {
    const isLocal = random() < 0.6;
    const client = isLocal ? w.local(1) : server;
    const whose = isLocal ? {} : ({ allocator: 'machine', machine } as const);
    const [what, session, lease] = [random(), pick(sessions), pick(leases)];
    try {
      if (session === undefined || what < 0.15) {
        const body = { machine, holder: 'web', ttl_s: 600, ...(isLocal ? {} : { allocator: 'machine' as const }) };
        sessions.push((await client.sessions.open(body)).id);
      } else if (what < 0.6) {
        const claims = [{ protocol: 'tcp' as const, ports: random() < 0.5 ? 8 : 64 }];
        const options = { wait: 'applied', timeoutS: 1, ...whose } as const;
        leases.push(...(await client.leases.grant({ session, claims }, options)).leases);
      } else if (what < 0.75) await client.sessions.keepalive(session, whose);
      else if (what < 0.95 && lease) await client.leases.release(lease, whose);
      else if (sessions.length > 1) await client.sessions.end(session, whose);
    } catch (error) {
      // Cut off, killed, moved away, over: whatever the answer, it must not lead to two having the same.
      if (!isFisheryError(error)) throw error;
    }
    await sleep(random() * 60);
  }
}

/** Every message of the machine, in both directions, may be lost before or after it arrives; or all are for a while. */
class Weather {
  isDown = false;
  isFair = false;

  constructor(w: LinkedBroker, random: () => number) {
    w.link.cut = (_number, name): Cut | undefined => {
      if (this.isDown) return 'request';
      const luck = random();
      // Streams are long, and few.
      const share = name === 'watch' || name === 'desired' ? 0.4 : 0.15;
      return this.isFair || luck >= share ? undefined : luck < share / 2 ? 'request' : 'answer';
    };
  }
}

const settledState = (state: string) => (state === 'cooling' ? 'ended' : state);
const numberOf = (id: string) => Number(id.split('-')[1]);

/** Until the server has heard of everything. */
async function quiet(w: LinkedBroker): Promise<readonly Lease[]> {
  let found: readonly Lease[] = [];
  await until(async () => {
    try {
      const { items } = await w.local().leases.list({ limit: 1_000 });
      found = items;
      const newest = Math.max(0, ...items.map(({ revision }) => revision));
      const isSettled = items.every(({ state }) => !['pending', 'ending', 'cooling'].includes(state));
      return isSettled && (w.broker.status().told_through ?? 0) >= newest && w.broker.status().untold === 0;
    } catch (error) {
      if (!isFisheryError(error)) throw error;
      return false;
    }
  });
  return found;
}

async function judge(server: RealServer, machines: readonly LinkedBroker[], senders: Senders): Promise<number> {
  expect(senders.collisions).toEqual([]);
  const { reportedLeases, reportedSessions, brokers, tenures, leases } = server.store.tables;
  expect(leases.size).toBe(0);
  let granted = 0;
  for (const w of machines) {
    const here = await quiet(w);
    granted += here.length;
    const { incarnation, epoch } = brokers.get(w.machine) ?? {};
    expect(epoch).toBe(w.broker.epoch);
    const isNow = (row: Readonly<{ machine: string; incarnation: number }>) =>
      row.machine === w.machine && row.incarnation === incarnation;
    // Whatever was granted was granted where it might be; what lived on in a slice that was reclaimed is over by now.
    expect(w.broker.status().problem).toBeNull();
    for (const { machine, state, incarnation: of } of reportedLeases.values())
      if (machine === w.machine && of !== incarnation) expect(['ended', 'refused', 'cooling']).toContain(state);
    const told = [...reportedLeases.values()].filter(isNow);
    const row = (id: number, state: string, { first, last }: Lease['ports']) =>
      `${id} ${settledState(state)} ${first}-${last}`;
    expect(told.map(({ id, state, ports }) => row(id, state, ports)).sort()).toEqual(
      here.map(({ id, state, ports }) => row(numberOf(id), state, ports)).sort(),
    );
    const sessions = (await w.local().sessions.list({ limit: 1_000 })).items;
    expect(
      [...reportedSessions.values()]
        .filter(isNow)
        .map(({ id, state }) => `${id} ${state}`)
        .sort(),
    ).toEqual(sessions.map(({ id, state }) => `${numberOf(id)} ${state}`).sort());
    // Granted in what was the machine's at that time, and in nothing else.
    for (const lease of told)
      expect(tenures.get(`${lease.slice}/${lease.generation}`)).toMatchObject({
        machine: w.machine,
        allocator: 'machine',
      });
  }
  const all = [...reportedLeases.values()].filter(({ state }) => state !== 'refused');
  const twice = all.flatMap((a, index) =>
    all.slice(index + 1).flatMap((b) => {
      const isSame = a.address === b.address && a.ports.first <= b.ports.last && b.ports.first <= a.ports.last;
      // Of what was reclaimed the machine tells when it heard of that; its guard was shut by then.
      const untilOf = ({ slice, generation }: typeof a) => tenures.get(`${slice}/${generation}`)?.until ?? Infinity;
      const endOf = (lease: typeof a) => Math.min(lease.emptyAt ?? Infinity, untilOf(lease)) - clocks_apart_us;
      const isAtOnce = b.grantedAt < endOf(a) && a.grantedAt < endOf(b);
      return isSame && isAtOnce ? [`${a.machine} ${a.id} and ${b.machine} ${b.id}`] : [];
    }),
  );
  expect(twice).toEqual([]);
  return granted;
}

/**
 * Until every slice is somebody's to grant in: whoever was to give one up has, and the server has believed it. Or free, where the
 * one that it was to go to was cut off by then.
 */
async function atRest({ client }: RealServer, slices: readonly string[]): Promise<void> {
  const moving = async () => {
    const all = await Promise.all(slices.map((id) => client.slices.get(id)));
    return all.flatMap(({ id, state }) => (state === 'assigned' || state === 'free' ? [] : [`${id} ${state}`]));
  };
  await expect.poll(moving, { timeout: 60_000, interval: 100 }).toEqual([]);
}

/** However sure the agent is: what the server has heard of lives until it has heard of its end. */
async function isNotBelieved(w: LinkedBroker, lease: Lease): Promise<void> {
  const known = w.server.store.tables.reportedLeases;
  const id = numberOf(lease.id);
  await until(() => [...known.values()].some((row) => row.machine === w.machine && row.id === id));
  expect(await w.claimEmpty(lease)).toMatchObject([{ code: 'in_use' }]);
}

/** Cut off until nothing is granted there any more. */
async function beyond(w: LinkedBroker, sky: Weather, meanwhile: () => Promise<void>): Promise<void> {
  sky.isDown = true;
  await until(() => !w.isGuardOpen);
  // Nothing is granted there any more, and what there is stays for as long as nobody takes it.
  await until(async () => {
    const asked = w.local(1).sessions.open({ machine: w.machine, holder: 'web', ttl_s: 600 });
    const answer = await asked.catch((error: unknown) => error);
    // It may have been killed just now.
    if (isFisheryError(answer)) return answer.code === 'machine_cut_off';
    throw new Error('a session was opened while the guard was shut', { cause: answer });
  });
  await meanwhile();
  expect(w.isGuardOpen).toBe(false);
  sky.isDown = false;
}

/** Until the server does it: it may be away, or it may be too early. */
async function done(ask: () => Promise<unknown>): Promise<void> {
  await until(async () => {
    try {
      await ask();
      return true;
    } catch (error) {
      if (!isFisheryError(error)) throw error;
      return false;
    }
  });
}

/** From one that cannot send any more to the other, which grants in it at once; how many leases the broker there had in it. */
async function reclaim({ client }: RealServer, slice: string, from: LinkedBroker, to: LinkedBroker): Promise<number> {
  const had = from.held.filter((lease) => lease.slice === slice).length;
  // An answer may be lost that something was done.
  await done(async () => {
    const { machine, state, address, ports } = await client.slices.get(slice);
    const at = { address, first_port: ports.first };
    if (machine === to.machine && state === 'assigned') return;
    if (machine === from.machine && (state === 'assigned' || state === 'draining'))
      await client.slices.reclaim({ id: slice, revision: '*' });
    if (state === 'free') await client.slices.assign({ machine: to.machine, pool: 'pool', allocator: 'machine', at });
    throw new FisheryError('it is not there yet', { code: 'not_yet', retryable: true });
  });
  await to.grantHere(8);
  return had;
}

async function play(seed: number): Promise<Readonly<{ granted: number; taken: number }>> {
  // One for each who draws: what one does is the same whenever the others come to it.
  let drawers = 0;
  const newChance = () => chance(seed * 1_000 + ++drawers);
  const random = newChance();
  await using server = await RealServer.start({ forward_ms: 300 });
  const cooldown_s = { tcp: 0, udp: 0, icmp: 0 };
  await server.client.pools.create({ id: 'pool', prefixes: ['198.51.100.0/30'], cooldown_s });
  await using one = await LinkedBroker.join(server, 'edge-1', fence_s);
  await using two = await LinkedBroker.join(server, 'edge-2', fence_s);
  const machines = [one, two] as const;
  const senders = new Senders();
  for (const w of machines) {
    senders.follow(w);
    const slowness = newChance();
    // Often at once, and else for longer than a slice takes from one machine to the other.
    w.slownessMs = () => Math.max(0, slowness() * 1_200 - 400);
  }
  const slices: string[] = [];
  for (const { machine } of machines) {
    const assigned = await server.client.slices.assign({ machine, pool: 'pool', allocator: 'machine', count: 2 });
    slices.push(...assigned.slices.map(({ id }) => id));
  }
  const first: Lease[] = [];
  for (const w of machines) {
    const lease = await w.grantHere(8);
    await isNotBelieved(w, lease);
    first.push(lease);
  }
  const which = random() < 0.5 ? 0 : 1;
  // Nobody moves this one while somebody is on it: only whoever reclaims it gets it.
  const kept = first[which]?.slice;
  const weather = machines.map((w) => new Weather(w, newChance()));
  const moveOf = async (id: string) => {
    const { machine, state, revision } = await server.client.slices.get(id);
    if (state !== 'assigned' || id === kept) return;
    const to = machine === 'edge-1' ? 'edge-2' : 'edge-1';
    await server.client.slices.move({ id, revision }, { machine: to, deadline_s: 0, allocator: 'machine' });
  };
  const move = () => moveOf(slices[Math.floor(random() * slices.length)] ?? '');
  // What it granted is on the host for a while, and no table knows of it.
  const lose = async (w: LinkedBroker) => {
    const held = new Set(w.held.map(({ slice }) => slice));
    await w.lose();
    for (const slice of held) await moveOf(slice);
  };
  const other = machines[1 - which] ?? one;
  const chaos = [move, () => other.kill(), move, () => server.restart(), () => machines[which].kill(), move];
  chaos.push(() => lose(other));
  const events = chaos.map((event) => ({ event, at: random() })).sort((a, b) => a.at - b.at);
  const during = async () => {
    for (const { event } of events) {
      await event().catch((error: unknown) => {
        if (!isFisheryError(error)) throw error;
      });
      await sleep(random() * 200);
    }
  };
  const [sky] = weather.slice(which);
  if (!sky) throw new Error('no weather');
  // Nobody proves anything: what is open there comes back to life with the guard, if it were not for who has its ports by then.
  let taken = 0;
  const takeAll = async () => {
    if (kept) taken = await reclaim(server, kept, machines[which], other);
  };
  await Promise.all([...machines.map((w) => holder(w, newChance())), during(), beyond(machines[which], sky, takeAll)]);
  for (const each of weather) each.isFair = true;
  await atRest(server, slices);
  return { granted: await judge(server, machines, senders), taken };
}

describe('two machines, whatever is cut, killed and started again', () => {
  it.each(seeds)(
    'never give the same twice, and all tables agree afterwards (seed %i)',
    { timeout: 180_000 },
    async (seed) => {
      const { granted, taken } = await play(seed);
      expect(granted).toBeGreaterThan(0);
      expect(taken).toBeGreaterThan(0);
    },
  );
});
