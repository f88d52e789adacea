import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { AgentKeepaliveAnswer, AppliedAnswer, Desired, EventList } from '../../src/wire/agent.ts';
import { Lease, LeasePage } from '../../src/wire/leases.ts';
import { Holder, HolderPage, Machine } from '../../src/wire/machines.ts';
import { Pool, PoolPage } from '../../src/wire/pools.ts';
import { Session, SessionPage } from '../../src/wire/sessions.ts';
import { ExtentList, Slice, SliceList, SlicePage } from '../../src/wire/slices.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Each resource as somebody uses it: made, read, listed, changed, ended. */

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

type PageSchema = z.ZodType<Readonly<{ items: readonly Readonly<{ id: string }>[]; next: string | null }>>;

/** The ids that a list has under a filter, read in pages of `limit`, and how many pages that took. */
async function idsIn(
  schema: PageSchema,
  url: string,
  filter = '',
  limit = 2,
): Promise<{ ids: string[]; pages: number }> {
  const ids: string[] = [];
  let pages = 0;
  for (let after = ''; ; pages++) {
    const page = await f.world.must(schema, 'GET', `${url}?${filter}&limit=${limit}${after}`);
    expect(page.items.length).toBeLessThanOrEqual(limit);
    ids.push(...page.items.map(({ id }) => id));
    if (page.next === null) return { ids, pages: pages + 1 };
    after = `&cursor=${page.next}`;
  }
}
const counts = (schema: PageSchema, url: string, ...filters: string[]): Promise<number[]> =>
  Promise.all(filters.map(async (filter) => (await idsIn(schema, url, filter)).ids.length));

async function grant(claims: object[], holder = 'haproxy', token = f.haproxy) {
  const { id } = await f.world.openSession(token, 'edge-1', holder);
  return { session: id, leases: await f.world.grant(token, id, claims) };
}
async function grantOne(claim: object): Promise<Lease> {
  const [lease] = (await grant([claim])).leases;
  if (lease === undefined) throw new Error('one was asked for');
  return lease;
}
const release = ({ id, token }: Lease): Promise<Lease> =>
  f.world.must(Lease, 'POST', `/v1/leases/${id}/release`, { token: f.haproxy, body: { token } });
const readLease = ({ id }: Lease): Promise<Lease> => f.world.must(Lease, 'GET', `/v1/leases/${id}`);
const extentsOf = async (slice: string) =>
  (await f.world.must(ExtentList, 'GET', `/v1/slices/${slice}/extents`)).extents;
const newest = async () => (await f.world.must(EventList, 'GET', '/v1/events?limit=1')).revision;
const sweep = () => f.world.run({ kind: 'sweep', itemsMax: 100 });

describe('pools', () => {
  it('are created with defaults, read and listed, and count their slices', async () => {
    const body = { id: 'v6', prefixes: ['2001:DB8:0:1::/64', '203.0.113.0/30'], labels: { site: 'fra1' } };
    const created = await f.world.call('POST', '/v1/pools', { body });
    expect(created.status).toBe(201);
    expect(created.as(Pool)).toMatchObject({
      id: 'v6',
      labels: { site: 'fra1' },
      prefixes: ['2001:db8:0:1::/64', '203.0.113.0/30'],
      slice_ports: 2_048,
      usable_ports: { first: 1_024, last: 65_535 },
      shared_block_ports: 128,
      cooldown_s: { tcp: 120, udp: 120, icmp: 120 },
      // 31 slices on each of 2^64 + 4 addresses; a JSON number would be wrong.
      slices: { total: String(31n * (2n ** 64n + 4n)), assigned: 0, cooling: 0 },
    });
    expect(await f.world.must(Pool, 'GET', '/v1/pools/v6')).toEqual(created.as(Pool));
    const fra1 = await f.world.must(Pool, 'GET', '/v1/pools/fra1');
    expect(fra1.slices).toEqual({ total: '448', assigned: 2, cooling: 0 });
    expect(await idsIn(PoolPage, '/v1/pools', '', 1)).toEqual({ ids: ['fra1', 'v6'], pages: 2 });
  });
});

describe('machines and holders', () => {
  const patch = (body: object) => f.world.must(Machine, 'PATCH', '/v1/machines/edge-1', { body });

  it('are cordoned, grant nothing new then, and are made active again', async () => {
    const machine = await f.world.must(Machine, 'GET', '/v1/machines/edge-1', { token: f.agent });
    expect(machine).toMatchObject({ state: 'active', fence_s: 30, agent: { boot_id: 'boot', version: '0.1.0' } });
    const { id } = await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
    const ask = () =>
      f.world.call('POST', '/v1/leases?wait=stored', { body: { session: id, claims: [{ protocol: 'tcp' }] } });
    expect(await patch({ state: 'cordoned', labels: { rack: 'b7' } })).toMatchObject({
      state: 'cordoned',
      labels: { rack: 'b7' },
    });
    expect((await ask()).refusal).toEqual([409, 'machine_not_active']);
    expect(await patch({ state: 'active' })).toMatchObject({ state: 'active', labels: { rack: 'b7' } });
    expect((await ask()).status).toBe(201);
  });

  it('are put again with another uid, and putting the same again changes nothing', async () => {
    const put = (uid: number) =>
      f.world.must(Holder, 'PUT', '/v1/machines/edge-1/holders/haproxy', { body: { kind: 'proxy', uid } });
    const before = await put(1_001);
    const revision = await newest();
    expect(await put(1_001)).toEqual(before);
    expect(await newest()).toBe(revision);
    expect(await put(1_500)).toMatchObject({ name: 'haproxy', kind: 'proxy', uid: 1_500, machine: 'edge-1' });
    const { items } = await f.world.must(HolderPage, 'GET', '/v1/machines/edge-1/holders', { token: f.agent });
    expect(items.map(({ name }) => name)).toEqual(['fish', 'haproxy', 'squid']);
  });
});

describe('slices', () => {
  it('are assigned, true once the agent says so, drained, and free after their cooldown', async () => {
    const body = { machine: 'edge-1', pool: 'fra1', at: { address: '198.51.100.9', first_port: 12_288 } };
    const { slices } = await f.world.must(SliceList, 'POST', '/v1/slices', { body });
    const [slice] = slices;
    expect(slice).toMatchObject({
      ...{ address: '198.51.100.9', ports: { first: 12_288, last: 14_335 }, machine: 'edge-1' },
      ...{ state: 'assigning', generation: 1 },
    });
    const url = `/v1/slices/${slice?.id}`;
    const say = (state: string) =>
      f.world.must(AppliedAnswer, 'POST', '/v1/machines/edge-1/applied', {
        token: f.agent,
        body: { revision: 0, leases: [], slices: [{ slice: slice?.id, generation: 1, state }] },
      });
    await say('assigned');
    expect((await f.world.must(Slice, 'GET', url)).state).toBe('assigned');
    expect((await f.world.must(Slice, 'POST', `${url}/drain`)).state).toBe('draining');
    await say('empty');
    const cooling = await f.world.must(Slice, 'GET', url);
    expect([cooling.state, cooling.reusable_at === null]).toEqual(['cooling', false]);
    f.world.clock.advance_s(11);
    await sweep();
    expect(await f.world.must(Slice, 'GET', url)).toMatchObject({ state: 'free', machine: null });
  });

  it('are filtered by machine, pool, state and address, and paged', async () => {
    await f.world.must(SliceList, 'POST', '/v1/slices', { body: { machine: 'edge-2', pool: 'fra1', count: 7 } });
    expect(
      await counts(
        ...([SlicePage, '/v1/slices'] as const),
        ...['pool=fra1', 'machine=edge-2', 'machine=edge-2&state=assigning', 'machine=edge-1&state=assigning'],
        ...['address=198.51.100.0', 'address=198.51.100.1'],
      ),
    ).toEqual([9, 8, 7, 0, 9, 0]);
    const { ids, pages } = await idsIn(SlicePage, '/v1/slices');
    expect([new Set(ids).size, pages]).toEqual([9, 5]);
  });

  it('are tiled by their extents, whatever happens in them', async () => {
    const { leases } = await grant([
      { protocol: 'tcp', ports: 100 },
      { protocol: 'tcp', mode: 'shared' },
      { protocol: 'udp', ports: 1 },
      { protocol: 'icmp', ports: 2_048 },
    ]);
    const [exclusive, shared] = leases;
    if (exclusive === undefined || shared === undefined) throw new Error('four were asked for');
    const [other] = (await grant([{ protocol: 'tcp', mode: 'shared' }], 'squid', f.squid)).leases;
    await f.world.report(f.agent, 'edge-1', [exclusive], 'active');
    await release(exclusive);
    await f.world.report(f.agent, 'edge-1', [exclusive], 'empty');

    const extents = await extentsOf(f.slice);
    for (const protocol of ['tcp', 'udp', 'icmp']) {
      const pieces = extents.filter((extent) => extent.protocol === protocol).map(({ ports }) => ports);
      expect([pieces[0]?.first, pieces.at(-1)?.last], protocol).toEqual([8_192, 10_239]);
      for (const [i, piece] of pieces.slice(1).entries())
        expect(piece.first, protocol).toBe((pieces[i]?.last ?? 0) + 1);
    }
    const of = (state: string) => extents.filter((extent) => extent.state === state);
    expect(of('cooling')).toMatchObject([{ protocol: 'tcp', leases: [exclusive.id] }]);
    expect(of('cooling')[0]?.reusable_at).toMatch(/Z$/);
    expect(of('shared')).toMatchObject([{ protocol: 'tcp', binding: 'late', leases: [shared.id, other?.id] }]);
    expect(of('exclusive').map(({ protocol }) => protocol)).toEqual(['udp', 'icmp']);
  });

  it('show what a stranger holds until an operator says that it is gone', async () => {
    const lease = await grantOne({ protocol: 'tcp', ports: 64 });
    await f.world.report(f.agent, 'edge-1', [lease], 'refused');
    const blocked = async () => (await extentsOf(f.slice)).filter(({ state }) => state === 'blocked');
    const [extent] = await blocked();
    expect(extent?.ports).toEqual(lease.ports);
    expect(extent?.blocked?.reason).toContain('EADDRINUSE');
    await f.world.must(Slice, 'POST', `/v1/slices/${f.slice}/unblock`, {
      body: { protocol: 'tcp', ports: lease.ports },
    });
    expect(await blocked()).toEqual([]);
  });
});

describe('sessions', () => {
  it('are kept alive, and end with all their leases in one event', async () => {
    const { session, leases } = await grant([{ protocol: 'tcp' }, { protocol: 'udp' }]);
    const url = `/v1/sessions/${session}`;
    const before = await f.world.must(Session, 'GET', url, { token: f.haproxy });
    f.world.clock.advance_s(100);
    const kept = await f.world.must(Session, 'POST', `${url}/keepalive`, { token: f.haproxy });
    expect(Date.parse(kept.expires_at) - Date.parse(before.expires_at)).toBeGreaterThanOrEqual(100_000);
    await f.world.report(f.agent, 'edge-1', leases, 'active');
    const revision = await newest();
    const ended = await f.world.must(Session, 'DELETE', url, { token: f.haproxy });
    expect(ended).toMatchObject({ state: 'ended', ending: 'released', revision: revision + 1 });
    const { events } = await f.world.must(EventList, 'GET', `/v1/events?after=${revision}`);
    expect(events.map(({ kind }) => kind)).toEqual(['session']);
    for (const lease of leases) expect(await readLease(lease)).toMatchObject({ state: 'ending', ending: 'released' });
  });

  it('are over after their TTL, also when nobody has swept', async () => {
    const { id } = await f.world.openSession(f.haproxy, 'edge-1', 'haproxy', 2);
    f.world.clock.advance_s(3);
    const late = await f.world.call('POST', `/v1/sessions/${id}/keepalive`, { token: f.haproxy });
    expect(late.refusal).toEqual([410, 'session_ended']);
  });

  it('are filtered by machine, holder and state, and paged', async () => {
    for (let i = 0; i < 4; i++) await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
    const { id } = await f.world.openSession(f.squid, 'edge-1', 'squid');
    await f.world.must(Session, 'DELETE', `/v1/sessions/${id}`);
    const filters = ['machine=edge-1', 'machine=edge-2', 'holder=haproxy', 'state=ended', 'state=live'];
    expect(await counts(SessionPage, '/v1/sessions', ...filters)).toEqual([5, 0, 4, 1, 4]);
  });
});

describe('leases', () => {
  it('are released with their token, cool once proven empty, and end', async () => {
    const lease = await grantOne({ protocol: 'tcp', ports: 8 });
    await f.world.report(f.agent, 'edge-1', [lease], 'active');
    expect(await readLease(lease)).toMatchObject({
      ...{ state: 'active', holder: 'haproxy', ports: { first: 10_232, last: 10_239 } },
    });
    expect(await release(lease)).toMatchObject({ state: 'ending', ending: 'released' });
    await f.world.report(f.agent, 'edge-1', [lease], 'empty');
    expect((await readLease(lease)).state).toBe('cooling');
    f.world.clock.advance_s(11);
    await sweep();
    expect((await readLease(lease)).state).toBe('ended');
  });

  it('are revoked by an operator, with or without a reason', async () => {
    for (const reason of [undefined, 'abuse']) {
      const { id } = await grantOne({ protocol: 'tcp' });
      const options = reason === undefined ? {} : { body: { reason } };
      const revoked = await f.world.must(Lease, 'POST', `/v1/leases/${id}/revoke`, options);
      expect([revoked.state, revoked.ending, revoked.reason]).toEqual(['ending', 'revoked', reason]);
    }
  });

  it('are filtered by everything that they have, and paged', async () => {
    const { session, leases } = await grant(Array.from({ length: 5 }, () => ({ protocol: 'tcp', ports: 4 })));
    await grant([{ protocol: 'udp', ports: 4 }], 'squid', f.squid);
    await f.world.report(f.agent, 'edge-1', leases.slice(0, 2), 'active');
    const found = (...filters: string[]) => counts(LeasePage, '/v1/leases', ...filters);
    expect(await found(`session=${session}`, 'session=session-99999')).toEqual([5, 0]);
    expect(await found(`slice=${f.slice}`, 'pool=fra1', 'pool=other')).toEqual([6, 6, 0]);
    expect(await found('protocol=udp', 'protocol=tcp&holder=squid')).toEqual([1, 0]);
    expect(await found('state=active', 'state=pending', 'machine=edge-2')).toEqual([2, 4, 0]);
  });
});

describe('the log', () => {
  it('has every change once and in order, of every kind, and narrows to a machine', async () => {
    await grantOne({ protocol: 'tcp' });
    const all: EventList['events'] = [];
    for (let after = 0; ;) {
      const page = await f.world.must(EventList, 'GET', `/v1/events?after=${after}&limit=4`, { token: f.viewer });
      all.push(...page.events);
      after = page.next_after;
      if (after >= page.revision) break;
    }
    expect(all.map(({ revision }) => revision)).toEqual(all.map((_, i) => i + 1));
    const kinds = ['pool', 'machine', 'holder', 'slice', 'session', 'lease', 'router', 'token'];
    expect(new Set(all.map(({ kind }) => kind))).toEqual(new Set(kinds));
    const { events } = await f.world.must(EventList, 'GET', '/v1/events?machine=edge-2');
    expect(events.map(({ kind }) => kind).join()).toBe('pool,machine,holder,holder,holder,slice,slice');
  });

  it('ends where it ends', async () => {
    const revision = await newest();
    const end = await f.world.must(EventList, 'GET', `/v1/events?after=${revision}`);
    expect(end).toEqual({ events: [], next_after: revision, revision });
  });

  it('has nothing to say to who has seen more of it than there is', async () => {
    const revision = await newest();
    const answer = await f.world.call('GET', `/v1/events?after=${revision + 1}`);
    expect(answer.refusal).toEqual([409, 'revision_unknown']);
    expect(answer.problem.detail).toBe(`the log ends at revision ${revision}, and never had ${revision + 1}`);
  });
});

describe('what an agent must make true', () => {
  it('is one consistent state, and the stream goes on from its revision', async () => {
    const lease = await grantOne({ protocol: 'tcp' });
    const desired = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    expect(desired).toMatchObject({
      ...{ epoch: 'epoch-1', machine: 'edge-1', state: 'active', fence_s: 30, revision: await newest() },
      pools: [{ id: 'fra1', prefixes: ['198.51.100.0/28'] }],
      slices: [{ id: f.slice, state: 'assigned' }],
      leases: [{ id: lease.id, state: 'pending' }],
    });
    expect(desired.holders.map(({ name }) => name).toSorted()).toEqual(['fish', 'haproxy', 'squid']);
  });

  it('is kept alive by keepalives, which are answered with the fence and the clock of the server', async () => {
    const body = { boot_id: 'boot', version: '0.2.0', applied_revision: 3 };
    const url = '/v1/machines/edge-1/keepalive';
    const answer = await f.world.must(AgentKeepaliveAnswer, 'POST', url, { token: f.agent, body });
    const { agent, created_at } = await f.world.must(Machine, 'GET', '/v1/machines/edge-1');
    const { now, ...rest } = answer;
    expect(rest).toEqual({ epoch: 'epoch-1', fence_s: 30, revision: await newest() });
    expect(Date.parse(now)).toBeGreaterThanOrEqual(Date.parse(agent?.seen_at ?? created_at));
    expect(agent).toMatchObject({ boot_id: 'boot', version: '0.2.0', applied_revision: 3 });
  });

  it('has its holders read one at a time, by its own agent too', async () => {
    const read = (path: string, token = f.world.operator) => f.world.call('GET', `/v1/machines/${path}`, { token });
    const { holders: all } = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    const one = (await read('edge-1/holders/haproxy', f.agent)).as(Holder);
    expect(all).toContainEqual(one);
    expect((await read('edge-1/holders/nobody')).refusal).toEqual([404, 'holder_not_found']);
    expect((await read('nowhere/holders/haproxy')).refusal).toEqual([404, 'machine_not_found']);
    expect((await read('edge-2/holders/haproxy', f.agent)).refusal).toEqual([403, 'not_yours']);
  });

  it('is one host: a clone of it is refused, told until when, and counted', async () => {
    const say = (boot_id: string) =>
      f.world.call('POST', '/v1/machines/edge-1/keepalive', {
        token: f.agent,
        body: { boot_id, version: '1', applied_revision: 0 },
      });
    expect((await say('boot')).status).toBe(200);
    const clone = await say('clone');
    expect(clone.refusal).toEqual([409, 'machine_taken']);
    expect([clone.problem.retry_after_s, clone.headers['retry-after']]).toEqual([31, '31']);
    const body = { boot_id: 'clone', revision: 0, leases: [], slices: [] };
    const report = await f.world.call('POST', '/v1/machines/edge-1/applied', { token: f.agent, body });
    expect(report.refusal).toEqual([409, 'machine_taken']);
    expect((await f.world.must(Machine, 'GET', '/v1/machines/edge-1')).agent?.boot_id).toBe('boot');
    const { text } = await f.world.call('GET', '/metrics');
    expect(text).toContain('fishery_machine_taken_total{machine="edge-1"} 2');
    f.world.clock.advance_s(31);
    expect((await say('clone')).status).toBe(200);
    expect((await say('boot')).refusal).toEqual([409, 'machine_taken']);
  });
});
