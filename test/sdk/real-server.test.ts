import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { everyItem, FisheryClient, follow, keepAlive, watchLeases, type Followed } from '../../src/sdk/index.ts';
import * as agent from '../../src/wire/agent.ts';
import { Attribution } from '../../src/wire/attribution.ts';
import { Lease, LeaseList, LeasePage } from '../../src/wire/leases.ts';
import { Holder, HolderPage, Machine, MachinePage } from '../../src/wire/machines.ts';
import { Pool, PoolPage } from '../../src/wire/pools.ts';
import { About, Health, Readiness } from '../../src/wire/server.ts';
import { Session, SessionPage } from '../../src/wire/sessions.ts';
import { ExtentList, Slice, SliceList, SlicePage } from '../../src/wire/slices.ts';
import { TokenCreated, TokenInfo, TokenPage } from '../../src/wire/tokens.ts';
import { RealServer } from '../support/real-server.ts';

/**
 * The client does not validate answers (see its docstring), so this is where client, server and schemas are held
 * together: every method against the real server, every answer through the schema that the method's type comes from.
 */
describe('the client and the real server', () => {
  let server: RealServer;
  let client: FisheryClient;
  beforeAll(async () => {
    server = await RealServer.start();
    client = server.client;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  async function answered<S extends z.ZodType>(schema: S, call: Promise<z.output<S>>): Promise<z.output<S>> {
    const answer = await call;
    // Parsing must not change anything either: what the type promises is what is there.
    expect(schema.parse(answer)).toEqual(answer);
    return answer;
  }

  it('carry a change out once, though its answer was lost on the way', async () => {
    await using own = await RealServer.start();
    let isLost = true;
    const lossy: typeof fetch = async (input, init) => {
      const response = await fetch(input, init);
      if (init?.method !== 'POST' || !isLost) return response;
      isLost = false;
      await response.body?.cancel();
      throw new TypeError('fetch failed', { cause: Object.assign(new Error('reset'), { code: 'ECONNRESET' }) });
    };
    const cut = new FisheryClient({ url: own.url, token: own.secret, fetch: lossy });
    const made = await cut.machines.create({ id: 'once', enforcement: 'none' });
    expect([isLost, made]).toEqual([false, await own.client.machines.get('once')]);
  });

  it('agree about every method, from a pool to an attribution', async () => {
    await answered(About, client.server.about());
    await answered(Health, client.server.health());
    await answered(Readiness, client.server.readiness());
    expect(await client.server.metrics()).toContain('# TYPE fishery_pool_ports gauge');
    expect(await client.server.openApi()).toHaveProperty('paths');

    await answered(Pool, client.pools.create({ id: 'p', prefixes: ['198.51.100.8/30'], cooldown_s: { tcp: 0 } }));
    await answered(Pool, client.pools.get('p'));
    expect((await answered(PoolPage, client.pools.list())).items).toHaveLength(1);
    const spares = await client.pools.create({ id: 'q', prefixes: ['203.0.113.0/30'] });
    const carved = { carve_outs: [{ address: '203.0.113.1' }] };
    await client.pools.delete(await answered(Pool, client.pools.update(spares, carved)));

    await answered(Machine, client.machines.create({ id: 'm', enforcement: 'none' }));
    await answered(Machine, client.machines.get('m'));
    const machine = await client.machines.get('m');
    await answered(Machine, client.machines.update(machine, { labels: { site: 'fra1' } }));
    await expect(client.machines.update(machine, { labels: {} })).rejects.toMatchObject({
      code: 'precondition_failed',
    });
    expect((await answered(MachinePage, client.machines.list({ limit: 5 }))).items).toHaveLength(1);
    await answered(Holder, client.machines.putHolder('m', 'h', { kind: 'proxy', uid: 104 }));
    expect((await answered(HolderPage, client.machines.holders('m'))).items).toHaveLength(1);

    const { slices } = await answered(SliceList, client.slices.assign({ machine: 'm', pool: 'p', count: 2 }));
    const [slice, spare] = slices;
    if (!slice || !spare) throw new Error('two slices were asked for');
    await answered(Slice, client.slices.get(slice.id));
    await answered(SlicePage, client.slices.list({ machine: 'm', address: slice.address }));
    await answered(Slice, client.slices.drain(spare));

    const session = await answered(Session, client.sessions.open({ machine: 'm', holder: 'h', ttl_s: 5 }));
    await answered(Session, client.sessions.get(session.id));
    await answered(Session, client.sessions.keepalive(session.id));
    expect((await answered(SessionPage, client.sessions.list({ state: 'live' }))).items).toHaveLength(1);

    const claims = [{ protocol: 'tcp' as const, ports: 100 }, { protocol: 'udp' as const }];
    const { leases } = await answered(LeaseList, client.leases.grant({ session: session.id, claims }));
    const [tcp, udp] = leases;
    if (!tcp || !udp) throw new Error('two leases were asked for');
    expect([tcp.state, tcp.ports.last - tcp.ports.first + 1]).toEqual(['active', 128]);
    await answered(Lease, client.leases.get(tcp.id));
    expect((await answered(LeasePage, client.leases.list({ session: session.id }))).items).toHaveLength(2);
    await answered(ExtentList, client.slices.extents(slice.id));
    const where = { address: tcp.address, protocol: 'tcp' as const, port: tcp.ports.first };
    expect(await answered(Attribution, client.attribution(where))).toMatchObject({
      certainty: 'exact',
      machine: { id: 'm' },
    });
    await answered(Lease, client.leases.release(tcp));
    await answered(Lease, client.leases.revoke(udp.id, { reason: 'abuse' }));
    await answered(Session, client.sessions.end(session.id));

    const { token } = await answered(TokenCreated, client.tokens.create({ name: 't', role: 'viewer' }));
    await answered(TokenPage, client.tokens.list());
    await answered(TokenInfo, client.tokens.get(token.id));
    await answered(TokenInfo, client.tokens.self());
    await answered(TokenInfo, client.tokens.update(token.id, { limits: { requests_per_s: 5 } }));
    await answered(TokenCreated, client.tokens.rotate(token.id));
    await answered(TokenInfo, client.tokens.revoke(token.id));
    const events = await answered(agent.EventList, client.events({ after: 1, machine: 'm' }));
    expect(events.events.length).toBeGreaterThan(5);
  });

  it('agree about errors', async () => {
    await expect(client.pools.get('nowhere')).rejects.toMatchObject({
      status: 404,
      code: 'pool_not_found',
      retryable: false,
    });
    await expect(client.pools.create({ id: 'Not A Name', prefixes: [] })).rejects.toMatchObject({
      status: 400,
      code: 'validation_failed',
    });
    const stranger = new FisheryClient({ url: server.url, token: 'nonsense' });
    await expect(stranger.pools.list()).rejects.toMatchObject({ status: 401 });
  });

  it('read long lists page by page', async () => {
    for (const id of ['a1', 'a2', 'a3', 'a4', 'a5']) await client.machines.create({ id, enforcement: 'none' });
    const ids: string[] = [];
    for await (const { id } of everyItem((page) => client.machines.list({ ...page, limit: 2 }))) ids.push(id);
    expect(ids.filter((id) => id.startsWith('a'))).toEqual(['a1', 'a2', 'a3', 'a4', 'a5']);
  });

  it('agree about what an agent says, and about what it follows', async () => {
    await client.pools.create({ id: 'q', prefixes: ['203.0.113.0/30'] });
    await client.machines.create({ id: 'edge' });
    const { secret } = await client.tokens.create({ name: 'edge', role: 'agent', machine: 'edge' });
    const edge = new FisheryClient({ url: server.url, token: secret });
    await answered(agent.Desired, edge.agent.desired('edge'));

    const seen: Followed[] = [];
    const leave = new AbortController();
    const following = (async () => {
      for await (const item of follow(edge, 'edge', { signal: leave.signal })) {
        if (item.type === 'change') agent.Change.parse(item.change);
        if (item.type === 'query') {
          agent.FlowQuery.parse(item.query);
          const flows = { covers_since: item.query.at, covers_through: item.query.at, clock_margin_s: 0, flows: [] };
          await edge.agent.flowAnswer('edge', { id: item.query.id, ...flows });
        }
        seen.push(item);
      }
    })();
    await expect.poll(() => seen.length).toBeGreaterThan(0);
    const keepalive = { boot_id: 'b', version: '1', applied_revision: 0 };
    await answered(agent.AgentKeepaliveAnswer, edge.agent.keepalive('edge', keepalive));
    await client.machines.putHolder('edge', 'fish', { kind: 'fish' });
    const { slices } = await client.slices.assign({ machine: 'edge', pool: 'q' });
    const [slice] = slices;
    if (!slice) throw new Error('one slice was asked for');
    const report = { slice: slice.id, generation: slice.generation, state: 'assigned' as const };
    await answered(
      agent.AppliedAnswer,
      edge.agent.applied('edge', { revision: slice.revision, leases: [], slices: [report] }),
    );

    const session = await edge.sessions.open({ machine: 'edge', holder: 'fish' });
    const granting = edge.leases.grant({ session: session.id, claims: [{ protocol: 'udp', ports: 64 }] });
    const pending = () =>
      seen.flatMap((item) => (item.type === 'change' && item.change.kind === 'lease' ? [item.change.lease] : []))[0];
    await expect.poll(pending).toMatchObject({ state: 'pending' });
    const lease = pending();
    if (!lease) throw new Error('polled for just now');
    await edge.agent.applied('edge', {
      revision: lease.revision,
      leases: [{ lease: lease.id, token: lease.token, state: 'active' }],
      slices: [],
    });
    // wait=applied: the grant is answered once the agent has said so.
    expect((await granting).leases).toMatchObject([{ id: lease.id, state: 'active' }]);

    const asked = { address: lease.address, protocol: 'udp' as const, port: lease.ports.first };
    expect(await client.attribution({ ...asked, remote_address: '192.0.2.1', remote_port: 53 })).toMatchObject({
      flow_log: 'no_match',
    });
    await expect.poll(() => seen.some(({ type }) => type === 'bookmark'), { timeout: 5_000 }).toBe(true);
    leave.abort();
    await following;
    const revisions = seen.flatMap((item) => (item.type === 'change' ? [item.change.revision] : []));
    expect(revisions).toEqual(revisions.toSorted((a, b) => a - b));
    expect(new Set(revisions).size).toBe(revisions.length);
    expect(seen.map(({ type }) => type)).toContain('query');
  });

  it('tell a holder that its session was ended, and that a lease was revoked', async () => {
    await client.pools.create({ id: 'r', prefixes: ['192.0.2.0/30'] });
    await client.machines.create({ id: 'n', enforcement: 'none' });
    await client.machines.putHolder('n', 'h', { kind: 'proxy', uid: 1 });
    await client.slices.assign({ machine: 'n', pool: 'r' });
    const { secret } = await client.tokens.create({ name: 'h', role: 'holder', machine: 'n', holder: 'h' });
    const holder = new FisheryClient({ url: server.url, token: secret });
    const session = await holder.sessions.open({ machine: 'n', holder: 'h', ttl_s: 2 });
    const { leases } = await holder.leases.grant({ session: session.id, claims: [{ protocol: 'tcp' }] });
    const lost: string[] = [];
    const leave = new AbortController();
    const kept = keepAlive(holder, session, { onLost: ({ reason }) => lost.push(reason), signal: leave.signal });
    const watching = watchLeases(holder, session, {
      signal: leave.signal,
      everyMs: 100,
      onLost: (gone) => lost.push(...gone.map(({ ending }) => String(ending))),
    });
    await client.leases.revoke(leases[0]?.id ?? '');
    await watching;
    expect(lost).toEqual(['revoked']);
    await client.sessions.end(session.id);
    await kept.done;
    expect(lost).toEqual(['revoked', 'ended']);
    leave.abort();
  });
});
