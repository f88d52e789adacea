import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Each resource as somebody uses it: made, read, listed, changed, ended. */

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

/** Every item of a list, page by page. */
async function everyItem(url: string, limit: number): Promise<{ items: { id: string }[]; pages: number }> {
  const items: { id: string }[] = [];
  let pages = 0;
  for (let cursor: string | null = ''; cursor !== null; pages++) {
    const answer = await f.world.must(
      'GET',
      `${url}${url.includes('?') ? '&' : '?'}limit=${limit}${cursor && `&cursor=${cursor}`}`,
    );
    expect(answer.items.length).toBeLessThanOrEqual(limit);
    items.push(...answer.items);
    cursor = answer.next;
  }
  return { items, pages };
}

async function lease(claims: object[], holder = 'haproxy', token = f.haproxy) {
  const { id } = await f.world.must('POST', '/v1/sessions', {
    token,
    body: { machine: 'edge-1', holder, ttl_s: 3_600 },
  });
  const { leases } = await f.world.must('POST', '/v1/leases?wait=stored', { token, body: { session: id, claims } });
  return { session: id as string, leases };
}
const report = async (leases: { id: string; token: string }[], state: string): Promise<void> => {
  const body = { revision: 0, slices: [], leases: leases.map(({ id, token }) => ({ lease: id, token, state })) };
  expect((await f.world.must('POST', '/v1/machines/edge-1/applied', { token: f.agent, body })).rejected).toEqual([]);
};

describe('pools', () => {
  it('are created with defaults, read and listed, and count their slices', async () => {
    const body = { id: 'v6', prefixes: ['2001:DB8:0:1::/64', '203.0.113.0/30'], labels: { site: 'fra1' } };
    const created = await f.world.call('POST', '/v1/pools', { body });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
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
    expect(await f.world.must('GET', '/v1/pools/v6')).toEqual(created.body);
    expect((await f.world.must('GET', '/v1/pools/fra1')).slices).toEqual({ total: '448', assigned: 2, cooling: 0 });
    const { items, next } = await f.world.must('GET', '/v1/pools', { token: f.viewer });
    expect([items.map(({ id }: { id: string }) => id), next]).toEqual([['fra1', 'v6'], null]);
  });
});

describe('machines and holders', () => {
  it('are created, cordoned, and grant nothing new then', async () => {
    const machine = await f.world.must('GET', '/v1/machines/edge-1', { token: f.agent });
    expect(machine).toMatchObject({ state: 'active', fence_s: 30, agent: { boot_id: 'boot', version: '0.1.0' } });
    const body = { state: 'cordoned', labels: { rack: 'b7' } };
    expect(await f.world.must('PATCH', '/v1/machines/edge-1', { body })).toMatchObject(body);
    const opened = await f.world.must('POST', '/v1/sessions', { body: { machine: 'edge-2', holder: 'haproxy' } });
    expect(opened.state).toBe('live');
    const refused = await f.world.call('POST', '/v1/sessions', { body: { machine: 'edge-1', holder: 'haproxy' } });
    const granted =
      refused.status === 201
        ? await f.world.call('POST', '/v1/leases', {
            body: { session: refused.body.id, claims: [{ protocol: 'tcp' }] },
          })
        : refused;
    expect([granted.status, granted.body.code]).toEqual([409, 'machine_not_active']);
    expect((await f.world.must('PATCH', '/v1/machines/edge-1', { body: { state: 'active' } })).labels).toEqual({
      rack: 'b7',
    });
  });

  it('are put again with another uid, and putting the same again changes nothing', async () => {
    const put = (uid: number) =>
      f.world.must('PUT', '/v1/machines/edge-1/holders/haproxy', { body: { kind: 'proxy', uid } });
    const before = await put(1_001);
    expect(await put(1_001)).toEqual(before);
    expect(await put(1_500)).toMatchObject({ name: 'haproxy', kind: 'proxy', uid: 1_500, machine: 'edge-1' });
    const { items } = await f.world.must('GET', '/v1/machines/edge-1/holders', { token: f.agent });
    expect(items.map(({ name }: { name: string }) => name)).toEqual(['fish', 'haproxy', 'squid']);
  });
});

describe('slices', () => {
  it('are assigned, true once the agent says so, drained, and free after their cooldown', async () => {
    const body = { machine: 'edge-1', pool: 'fra1', at: { address: '198.51.100.9', first_port: 12_288 } };
    const { slices } = await f.world.must('POST', '/v1/slices', { body });
    expect(slices).toMatchObject([
      {
        address: '198.51.100.9',
        ports: { first: 12_288, last: 14_335 },
        state: 'assigning',
        generation: 1,
        machine: 'edge-1',
      },
    ]);
    const { id } = slices[0];
    const say = (state: string) =>
      f.world.must('POST', '/v1/machines/edge-1/applied', {
        token: f.agent,
        body: { revision: 0, leases: [], slices: [{ slice: id, generation: 1, state }] },
      });
    await say('assigned');
    expect((await f.world.must('GET', `/v1/slices/${id}`)).state).toBe('assigned');
    expect((await f.world.must('POST', `/v1/slices/${id}/drain`)).state).toBe('draining');
    await say('empty');
    const cooling = await f.world.must('GET', `/v1/slices/${id}`);
    expect(cooling.state).toBe('cooling');
    expect(cooling.reusable_at).not.toBeNull();
    f.world.clock.advance_s(11);
    await f.world.run({ kind: 'sweep', itemsMax: 100 });
    expect(await f.world.must('GET', `/v1/slices/${id}`)).toMatchObject({ state: 'free', machine: null });
  });

  it('are filtered by machine, pool, state and address, and paged', async () => {
    await f.world.must('POST', '/v1/slices', { body: { machine: 'edge-2', pool: 'fra1', count: 7 } });
    const count = async (query: string) => (await everyItem(`/v1/slices?${query}`, 3)).items.length;
    expect(await count('pool=fra1')).toBe(9);
    expect(await count('machine=edge-2')).toBe(8);
    expect(await count('machine=edge-2&state=assigning')).toBe(7);
    expect(await count('machine=edge-1&state=assigning')).toBe(0);
    expect(await count('address=198.51.100.0')).toBe(9);
    expect(await count('address=198.51.100.1')).toBe(0);
    const { items, pages } = await everyItem('/v1/slices', 2);
    expect([new Set(items.map(({ id }) => id)).size, pages]).toEqual([9, 5]);
  });

  it('are tiled by their extents, whatever happens in them', async () => {
    const { leases } = await lease([
      { protocol: 'tcp', ports: 100 },
      { protocol: 'tcp', mode: 'shared' },
      { protocol: 'udp', ports: 1 },
      { protocol: 'icmp', ports: 2_048 },
    ]);
    await lease([{ protocol: 'tcp', mode: 'shared' }], 'squid', f.squid);
    await report(leases.slice(0, 1), 'active');
    await f.world.must('POST', `/v1/leases/${leases[0].id}/release`, {
      token: f.haproxy,
      body: { token: leases[0].token },
    });
    await report(leases.slice(0, 1), 'empty');
    const { slice, extents } = await f.world.must('GET', `/v1/slices/${f.slice}/extents`);
    expect(slice).toBe(f.slice);
    for (const protocol of ['tcp', 'udp', 'icmp']) {
      const pieces = extents.filter((extent: { protocol: string }) => extent.protocol === protocol);
      expect([pieces[0].ports.first, pieces.at(-1).ports.last], protocol).toEqual([8_192, 10_239]);
      for (let i = 1; i < pieces.length; i++)
        expect(pieces[i].ports.first, protocol).toBe(pieces[i - 1].ports.last + 1);
    }
    const of = (state: string) => extents.filter((extent: { state: string }) => extent.state === state);
    expect(of('cooling')).toMatchObject([{ protocol: 'tcp', leases: [leases[0].id], reusable_at: expect.any(String) }]);
    expect(of('shared')).toMatchObject([
      { protocol: 'tcp', binding: 'late', leases: [leases[1].id, expect.any(String)] },
    ]);
    expect(of('exclusive').map(({ protocol }: { protocol: string }) => protocol)).toEqual(['udp', 'icmp']);
  });

  it('show what a stranger holds until an operator says that it is gone', async () => {
    const { leases } = await lease([{ protocol: 'tcp', ports: 64 }]);
    const [refused] = leases;
    await f.world.must('POST', '/v1/machines/edge-1/applied', {
      token: f.agent,
      body: {
        revision: 0,
        slices: [],
        leases: [{ lease: refused.id, token: refused.token, state: 'refused', errno: 'EADDRINUSE', detail: 'sshd' }],
      },
    });
    const blocked = async () =>
      (await f.world.must('GET', `/v1/slices/${f.slice}/extents`)).extents.filter(
        ({ state }: { state: string }) => state === 'blocked',
      );
    expect(await blocked()).toMatchObject([
      { ports: refused.ports, blocked: { reason: expect.stringContaining('EADDRINUSE') } },
    ]);
    await f.world.must('POST', `/v1/slices/${f.slice}/unblock`, { body: { protocol: 'tcp', ports: refused.ports } });
    expect(await blocked()).toEqual([]);
  });
});

describe('sessions', () => {
  it('are kept alive, and end with all their leases in one event', async () => {
    const { session, leases } = await lease([
      { protocol: 'tcp', ports: 8 },
      { protocol: 'udp', ports: 8 },
    ]);
    const before = await f.world.must('GET', `/v1/sessions/${session}`, { token: f.haproxy });
    f.world.clock.advance_s(100);
    const kept = await f.world.must('POST', `/v1/sessions/${session}/keepalive`, { token: f.haproxy });
    expect(Date.parse(kept.expires_at) - Date.parse(before.expires_at)).toBeGreaterThanOrEqual(100_000);
    await report(leases, 'active');
    const { revision } = await f.world.must('GET', '/v1/events?after=1000000');
    const ended = await f.world.must('DELETE', `/v1/sessions/${session}`, { token: f.haproxy });
    expect(ended).toMatchObject({ state: 'ended', ending: 'released', revision: revision + 1 });
    const { events } = await f.world.must('GET', `/v1/events?after=${revision}`);
    expect(events.map(({ kind }: { kind: string }) => kind)).toEqual(['session']);
    for (const { id } of leases)
      expect(await f.world.must('GET', `/v1/leases/${id}`)).toMatchObject({ state: 'ending', ending: 'released' });
  });

  it('are over after their TTL, also when nobody has swept', async () => {
    const opened = await f.world.must('POST', '/v1/sessions', {
      token: f.haproxy,
      body: { machine: 'edge-1', holder: 'haproxy', ttl_s: 2 },
    });
    f.world.clock.advance_s(3);
    const late = await f.world.call('POST', `/v1/sessions/${opened.id}/keepalive`, { token: f.haproxy });
    expect([late.status, late.body.code]).toEqual([410, 'session_ended']);
  });

  it('are filtered by machine, holder and state, and paged', async () => {
    for (let i = 0; i < 4; i++) await lease([{ protocol: 'tcp' }]);
    const { session } = await lease([{ protocol: 'tcp' }], 'squid', f.squid);
    await f.world.must('DELETE', `/v1/sessions/${session}`);
    const count = async (query: string) => (await everyItem(`/v1/sessions?${query}`, 2)).items.length;
    expect([await count('machine=edge-1'), await count('machine=edge-2')]).toEqual([5, 0]);
    expect([await count('holder=haproxy'), await count('state=ended'), await count('state=live')]).toEqual([4, 1, 4]);
  });
});

describe('leases', () => {
  it('are released with their token, cool once proven empty, and end', async () => {
    const { leases } = await lease([{ protocol: 'tcp', ports: 8 }]);
    await report(leases, 'active');
    const [{ id, token }] = leases;
    const read = () => f.world.must('GET', `/v1/leases/${id}`, { token: f.haproxy });
    expect(await read()).toMatchObject({ state: 'active', ports: { first: 10_232, last: 10_239 }, holder: 'haproxy' });
    const released = await f.world.must('POST', `/v1/leases/${id}/release`, { token: f.haproxy, body: { token } });
    expect(released).toMatchObject({ state: 'ending', ending: 'released' });
    await report(leases, 'empty');
    expect((await read()).state).toBe('cooling');
    f.world.clock.advance_s(11);
    await f.world.run({ kind: 'sweep', itemsMax: 100 });
    expect((await read()).state).toBe('ended');
  });

  it('are revoked by an operator, with or without a reason', async () => {
    const { leases } = await lease([{ protocol: 'tcp' }, { protocol: 'tcp' }]);
    for (const [i, options] of [{}, { body: { reason: 'abuse' } }].entries())
      expect(await f.world.must('POST', `/v1/leases/${leases[i].id}/revoke`, options)).toMatchObject({
        state: 'ending',
        ending: 'revoked',
      });
  });

  it('are filtered by everything that they have, and paged', async () => {
    const { session, leases } = await lease(Array.from({ length: 5 }, () => ({ protocol: 'tcp', ports: 4 })));
    await lease([{ protocol: 'udp', ports: 4 }], 'squid', f.squid);
    await report(leases.slice(0, 2), 'active');
    const count = async (query: string) => (await everyItem(`/v1/leases?${query}`, 2)).items.length;
    expect([await count(`session=${session}`), await count('session=session-99999')]).toEqual([5, 0]);
    expect([await count(`slice=${f.slice}`), await count('pool=fra1'), await count('pool=other')]).toEqual([6, 6, 0]);
    expect([await count('protocol=udp'), await count('protocol=tcp&holder=squid')]).toEqual([1, 0]);
    expect([await count('state=active'), await count('state=pending'), await count('machine=edge-2')]).toEqual([
      2, 4, 0,
    ]);
  });
});

describe('the log', () => {
  it('has every change once and in order, tokens without their secrets, and narrows to a machine', async () => {
    await lease([{ protocol: 'tcp' }]);
    const all: { revision: number; kind: string }[] = [];
    for (let after = 0; ;) {
      const { events, next_after, revision } = await f.world.must('GET', `/v1/events?after=${after}&limit=4`, {
        token: f.viewer,
      });
      all.push(...events);
      if (next_after === after || next_after >= revision) break;
      after = next_after;
    }
    expect(all.map(({ revision }) => revision)).toEqual(Array.from({ length: all.length }, (_, i) => i + 1));
    expect(new Set(all.map(({ kind }) => kind))).toEqual(
      new Set(['pool', 'machine', 'holder', 'slice', 'session', 'lease', 'token']),
    );
    const { events } = await f.world.must('GET', '/v1/events?machine=edge-2');
    expect(events.map(({ kind }: { kind: string }) => kind)).toEqual([
      'pool',
      'machine',
      'holder',
      'holder',
      'holder',
      'slice',
      'slice',
    ]);
  });

  it('ends where it ends', async () => {
    const { revision } = await f.world.must('GET', '/v1/events');
    expect(await f.world.must('GET', `/v1/events?after=${revision}`)).toEqual({
      events: [],
      next_after: revision,
      revision,
    });
  });
});

describe('what an agent must make true', () => {
  it('is one consistent state, and the stream goes on from its revision', async () => {
    const { leases } = await lease([{ protocol: 'tcp' }]);
    const desired = await f.world.must('GET', '/v1/machines/edge-1/desired', { token: f.agent });
    expect(desired).toMatchObject({
      epoch: 'epoch-1',
      machine: 'edge-1',
      fence_s: 30,
      pools: [{ id: 'fra1', prefixes: ['198.51.100.0/28'] }],
      slices: [{ id: f.slice, state: 'assigned' }],
      leases: [{ id: leases[0].id, state: 'pending' }],
    });
    expect(desired.holders.map(({ name }: { name: string }) => name).toSorted()).toEqual(['fish', 'haproxy', 'squid']);
    expect(desired.revision).toBe((await f.world.must('GET', '/v1/events?after=1000000')).revision);
  });

  it('is kept alive by keepalives, which are answered with the fence', async () => {
    const body = { boot_id: 'other', version: '0.2.0', applied_revision: 3 };
    const answer = await f.world.must('POST', '/v1/machines/edge-1/keepalive', { token: f.agent, body });
    expect(answer).toMatchObject({ epoch: 'epoch-1', fence_s: 30 });
    expect((await f.world.must('GET', '/v1/machines/edge-1')).agent).toMatchObject({
      boot_id: 'other',
      applied_revision: 3,
    });
  });
});
