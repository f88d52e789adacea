import { describe, expect, it } from 'vitest';
import { everyItem, FisheryClient } from '../../src/sdk/index.ts';
import { json, ScriptedServer, stream } from '../support/scripted-server.ts';

type Row = readonly [string, (client: FisheryClient) => Promise<unknown>, string, unknown?];

const claims = [{ protocol: 'tcp' as const, ports: 128 }];
const instant = '2026-01-31T14:03:07.000000Z';

/** Each method, and what the server hears: method, path with query, body. */
const rows: readonly Row[] = [
  [
    'pools.create',
    (c) => c.pools.create({ id: 'p', prefixes: ['192.0.2.0/24'] }),
    'POST /v1/pools',
    { id: 'p', prefixes: ['192.0.2.0/24'] },
  ],
  ['server.epoch', (c) => c.server.epoch(), 'GET /v1/server/epoch'],
  ['server.confirmEpoch', (c) => c.server.confirmEpoch({ epoch: 2 }), 'POST /v1/server/confirm-epoch', { epoch: 2 }],
  ['pools.get', (c) => c.pools.get('p'), 'GET /v1/pools/p'],
  ['pools.list', (c) => c.pools.list({ limit: 5, cursor: 'a/b' }), 'GET /v1/pools?limit=5&cursor=a/b'],
  [
    'pools.update',
    (c) => c.pools.update({ id: 'p', revision: 7 }, { labels: { site: 'fra1' } }),
    'PATCH /v1/pools/p',
    { labels: { site: 'fra1' } },
  ],
  ['pools.delete', (c) => c.pools.delete({ id: 'p', revision: '*' }), 'DELETE /v1/pools/p'],
  ['machines.create', (c) => c.machines.create({ id: 'm' }), 'POST /v1/machines', { id: 'm' }],
  [
    'machines.create, tried',
    (c) => c.machines.create({ id: 'm' }, { dryRun: true }),
    'POST /v1/machines?dry_run=true',
    { id: 'm' },
  ],
  [
    'sessions.end, tried',
    (c) => c.sessions.end('session-1', { dryRun: true }),
    'DELETE /v1/sessions/session-1?dry_run=true',
  ],
  ['machines.get', (c) => c.machines.get('m'), 'GET /v1/machines/m'],
  ['machines.list', (c) => c.machines.list(), 'GET /v1/machines'],
  [
    'machines.update',
    (c) => c.machines.update({ id: 'm', revision: 7 }, { state: 'cordoned' }),
    'PATCH /v1/machines/m',
    { state: 'cordoned' },
  ],
  ['machines.delete', (c) => c.machines.delete({ id: 'm', revision: 7 }), 'DELETE /v1/machines/m'],
  [
    'machines.putHolder',
    (c) => c.machines.putHolder('m', 'h', { kind: 'proxy', uid: 104 }),
    'PUT /v1/machines/m/holders/h',
    { kind: 'proxy', uid: 104 },
  ],
  [
    'machines.putHolder, as it was seen',
    (c) => c.machines.putHolder('m', 'h', { kind: 'proxy', limits: null }, { ifRevision: 7 }),
    'PUT /v1/machines/m/holders/h',
    { kind: 'proxy', limits: null },
  ],
  [
    'machines.deleteHolder',
    (c) => c.machines.deleteHolder({ machine: 'm', name: 'h', revision: 7 }),
    'DELETE /v1/machines/m/holders/h',
  ],
  ['machines.holders', (c) => c.machines.holders('m'), 'GET /v1/machines/m/holders'],
  [
    'slices.assign',
    (c) => c.slices.assign({ machine: 'm', pool: 'p', count: 2 }),
    'POST /v1/slices',
    { machine: 'm', pool: 'p', count: 2 },
  ],
  ['slices.get', (c) => c.slices.get('slice-1'), 'GET /v1/slices/slice-1'],
  ['slices.list', (c) => c.slices.list({ machine: 'm', state: 'assigned' }), 'GET /v1/slices?machine=m&state=assigned'],
  ['slices.extents', (c) => c.slices.extents('slice-1'), 'GET /v1/slices/slice-1/extents'],
  [
    'slices.drain',
    (c) => c.slices.drain({ id: 'slice-1', revision: '*' }, { force: true }),
    'POST /v1/slices/slice-1/drain',
    { force: true },
  ],
  [
    'slices.move',
    (c) => c.slices.move({ id: 'slice-1', revision: 7 }, { machine: 'n', deadline_s: 9 }),
    'POST /v1/slices/slice-1/move',
    { machine: 'n', deadline_s: 9 },
  ],
  ['slices.reclaim', (c) => c.slices.reclaim({ id: 'slice-1', revision: 7 }), 'POST /v1/slices/slice-1/reclaim'],
  [
    'slices.setAllocator',
    (c) => c.slices.setAllocator({ id: 'slice-1', revision: 7 }, { allocator: 'machine' }),
    'POST /v1/slices/slice-1/allocator',
    { allocator: 'machine' },
  ],
  [
    'revocations.create',
    (c) => c.revocations.create({ pool: 'p', forced: true }),
    'POST /v1/revocations',
    { pool: 'p', forced: true },
  ],
  ['revocations.get', (c) => c.revocations.get('revocation-1'), 'GET /v1/revocations/revocation-1'],
  ['revocations.list', (c) => c.revocations.list({ state: 'done' }), 'GET /v1/revocations?state=done'],
  [
    'slices.unblock',
    (c) => c.slices.unblock({ id: 'slice-1', revision: 7 }, { protocol: 'udp', ports: { first: 1, last: 2 } }),
    'POST /v1/slices/slice-1/unblock',
    { protocol: 'udp', ports: { first: 1, last: 2 } },
  ],
  [
    'sessions.open',
    (c) => c.sessions.open({ machine: 'm', holder: 'h', ttl_s: 9 }),
    'POST /v1/sessions',
    { machine: 'm', holder: 'h', ttl_s: 9 },
  ],
  ['machines.holder', (c) => c.machines.holder('m', 'h'), 'GET /v1/machines/m/holders/h'],
  ['sessions.get', (c) => c.sessions.get('session-1'), 'GET /v1/sessions/session-1'],
  ['sessions.list', (c) => c.sessions.list({ state: 'live' }), 'GET /v1/sessions?state=live'],
  ['sessions.keepalive', (c) => c.sessions.keepalive('session-1'), 'POST /v1/sessions/session-1/keepalive'],
  ['sessions.end', (c) => c.sessions.end('session-1'), 'DELETE /v1/sessions/session-1'],
  [
    'sessions.keepalive',
    (c) => c.sessions.keepalive('session-1', { allocator: 'machine', machine: 'm' }),
    'POST /v1/sessions/session-1/keepalive?allocator=machine&machine=m',
  ],
  [
    'sessions.end',
    (c) => c.sessions.end('session-1', { allocator: 'machine', machine: 'm' }),
    'DELETE /v1/sessions/session-1?allocator=machine&machine=m',
  ],
  [
    'leases.grant',
    (c) => c.leases.grant({ session: 'session-1', claims }),
    'POST /v1/leases?timeout_s=10',
    { session: 'session-1', claims },
  ],
  [
    'leases.grant, stored',
    (c) => c.leases.grant({ session: 'session-1', claims }, { wait: 'stored', timeoutS: 0 }),
    'POST /v1/leases?wait=stored&timeout_s=0',
    { session: 'session-1', claims },
  ],
  ['leases.get', (c) => c.leases.get('lease-1'), 'GET /v1/leases/lease-1'],
  ['leases.list', (c) => c.leases.list({ session: 'session-1' }), 'GET /v1/leases?session=session-1'],
  [
    'leases.release',
    (c) => c.leases.release({ id: 'lease-1', token: '1.1.1' }),
    'POST /v1/leases/lease-1/release',
    { token: '1.1.1' },
  ],
  [
    'leases.revoke',
    (c) => c.leases.revoke('lease-1', { reason: 'abuse' }),
    'POST /v1/leases/lease-1/revoke',
    { reason: 'abuse' },
  ],
  ['agent.desired', (c) => c.agent.desired('m'), 'GET /v1/machines/m/desired'],
  [
    'agent.applied',
    (c) => c.agent.applied('m', { revision: 3, leases: [], slices: [] }),
    'POST /v1/machines/m/applied',
    { revision: 3, leases: [], slices: [] },
  ],
  [
    'agent.keepalive',
    (c) => c.agent.keepalive('m', { boot_id: 'b', version: '1', applied_revision: 3 }),
    'POST /v1/machines/m/keepalive',
    { boot_id: 'b', version: '1', applied_revision: 3 },
  ],
  [
    'agent.flowAnswer',
    (c) =>
      c.agent.flowAnswer('m', { id: 'q', covers_since: null, covers_through: instant, clock_margin_s: 0, flows: [] }),
    'POST /v1/machines/m/flow-answers',
    { id: 'q', covers_since: null, covers_through: instant, clock_margin_s: 0, flows: [] },
  ],
  [
    'agent.granted',
    (c) => c.agent.granted('m', { broker_epoch: 'e', after: 1, through: 2, as_of: instant }),
    'POST /v1/machines/m/granted',
    { broker_epoch: 'e', after: 1, through: 2, as_of: instant },
  ],
  [
    'agent.answer',
    (c) => c.agent.answer('m', { id: 'r', status: 204, body: null }),
    'POST /v1/machines/m/answers',
    { id: 'r', status: 204, body: null },
  ],
  ['routes.get', (c) => c.routes.get({ pool: 'p', select: 'site=fra1' }), 'GET /v1/routes?pool=p&select=site=fra1'],
  ['routes.csv', (c) => c.routes.csv(), 'GET /v1/routes?format=csv'],
  ['routes.nft', (c) => c.routes.nft({ machine: 'm' }), 'GET /v1/routes?machine=m&format=nft'],
  ['routers.put', (c) => c.routers.put('r'), 'PUT /v1/routers/r', {}],
  ['routers.get', (c) => c.routers.get('r'), 'GET /v1/routers/r'],
  ['routers.list', (c) => c.routers.list({ limit: 5 }), 'GET /v1/routers?limit=5'],
  ['routers.delete', (c) => c.routers.delete('r'), 'DELETE /v1/routers/r'],
  ['routers.applied', (c) => c.routers.applied('r', { revision: 7 }), 'POST /v1/routers/r/applied', { revision: 7 }],
  [
    'tokens.create',
    (c) => c.tokens.create({ name: 't', role: 'viewer' }),
    'POST /v1/tokens',
    { name: 't', role: 'viewer' },
  ],
  ['tokens.list', (c) => c.tokens.list({ role: 'agent' }), 'GET /v1/tokens?role=agent'],
  ['tokens.get', (c) => c.tokens.get('token-1'), 'GET /v1/tokens/token-1'],
  ['tokens.self', (c) => c.tokens.self(), 'GET /v1/tokens/self'],
  [
    'tokens.update',
    (c) => c.tokens.update('token-1', { expires_at: null }),
    'PATCH /v1/tokens/token-1',
    { expires_at: null },
  ],
  [
    'tokens.rotate',
    (c) => c.tokens.rotate('token-1', { grace_s: 60 }),
    'POST /v1/tokens/token-1/rotate',
    { grace_s: 60 },
  ],
  ['tokens.revoke', (c) => c.tokens.revoke('token-1'), 'DELETE /v1/tokens/token-1'],
  ['server.about', (c) => c.server.about(), 'GET /'],
  ['server.health', (c) => c.server.health(), 'GET /healthz'],
  ['server.readiness', (c) => c.server.readiness(), 'GET /readyz'],
  ['server.openApi', (c) => c.server.openApi(), 'GET /openapi.json'],
  ['events', (c) => c.events({ after: 7, machine: 'm', kind: 'lease' }), 'GET /v1/events?after=7&machine=m&kind=lease'],
  [
    'attributionHistory',
    (c) => c.attributionHistory({ machine: 'm', holder: 'h', since: instant, limit: 5 }),
    `GET /v1/attribution/history?machine=m&holder=h&since=${instant}&limit=5`,
  ],
  [
    'attribution',
    (c) => c.attribution({ address: '2001:db8::1', protocol: 'tcp', port: 9001, at: instant }),
    `GET /v1/attribution?address=2001:db8::1&protocol=tcp&port=9001&at=${instant}`,
  ],
];

describe('the client', () => {
  for (const [name, call, line, body] of rows)
    it(`${name} says what it is called for`, async () => {
      await using server = await ScriptedServer.start(json({ answered: true }));
      const answer = await call(new FisheryClient({ url: server.url, token: 't' }));
      // What is text is passed on as it is.
      expect(typeof answer === 'string' ? JSON.parse(answer) : answer).toEqual({ answered: true });
      const [seen] = server.seen;
      const query = Object.entries(seen?.query ?? {}).map(([key, value]) => `${key}=${value}`);
      expect(`${seen?.method} ${seen?.path}${query.length > 0 ? `?${query.join('&')}` : ''}`).toBe(line);
      expect(seen?.body).toEqual(body);
    });

  it('covers every method in the table above', () => {
    const client = new FisheryClient({ url: 'http://127.0.0.1', token: 't' });
    const methods = Object.entries(client).flatMap(([group, member]) =>
      Object.keys(member as object).map((name) => `${group}.${name}`),
    );
    const covered = new Set(rows.map(([name]) => name));
    expect(methods.filter((name) => !covered.has(name))).toEqual(['agent.watch', 'routes.watch', 'server.metrics']);
  });

  it('keeps a name from becoming a path', async () => {
    await using server = await ScriptedServer.start(json({}));
    await new FisheryClient({ url: server.url, token: 't' }).pools.get('../tokens?x=1');
    expect(server.seen[0]?.path).toBe('/v1/pools/..%2Ftokens%3Fx%3D1');
  });

  it('opens the watch as an event stream, and refuses an answer that is none', async () => {
    await using server = await ScriptedServer.start(stream());
    const client = new FisheryClient({ url: server.url, token: 't' });
    const closing = new AbortController();
    await client.agent.watch('m', 12, closing.signal);
    closing.abort();
    expect(server.seen[0]).toMatchObject({ path: '/v1/machines/m/watch', query: { from: '12' } });
    expect(server.seen[0]?.headers['accept']).toBe('text/event-stream');
    server.answer = json({});
    await expect(client.agent.watch('m', 12, new AbortController().signal)).rejects.toMatchObject({
      code: 'unreadable_answer',
    });
  });

  it('takes metrics as the text that they are', async () => {
    const text = '# HELP fishery_log_revision The newest revision of the log.\nfishery_log_revision 7\n';
    await using server = await ScriptedServer.start((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' }).end(text);
    });
    expect(await new FisheryClient({ url: server.url, token: 't' }).server.metrics()).toBe(text);
    expect(server.seen[0]).toMatchObject({ path: '/metrics' });
    expect(server.seen[0]?.headers['accept']).toBe('text/plain, application/problem+json');
  });

  it('sends and takes lists as the text that they are', async () => {
    await using server = await ScriptedServer.start((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/csv; charset=utf-8' }).end('line,ref\n');
    });
    const client = new FisheryClient({ url: server.url, token: 't' });
    expect(await client.attributionBulk('address,port\n', 'text/csv')).toBe('line,ref\n');
    expect(server.seen[0]).toMatchObject({ method: 'POST', path: '/v1/attribution/bulk' });
    expect(server.seen[0]?.headers).toMatchObject({
      ...{ 'content-type': 'text/csv', 'content-length': '13' },
      accept: 'text/csv, application/problem+json',
    });
    expect(server.seen[0]?.headers).not.toHaveProperty('idempotency-key');
  });

  it('reads every page of a list', async () => {
    await using server = await ScriptedServer.start((request, response) => {
      const page = Number(request.query['cursor'] ?? 0);
      json({ items: [page * 2, page * 2 + 1], next: page < 2 ? String(page + 1) : null })(request, response);
    });
    const client = new FisheryClient({ url: server.url, token: 't' });
    const items: unknown[] = [];
    for await (const item of everyItem((page) => client.machines.list({ ...page, limit: 2 }))) items.push(item);
    expect(items).toEqual([0, 1, 2, 3, 4, 5]);
    expect(server.seen.map(({ query }) => query)).toEqual([
      { limit: '2' },
      { limit: '2', cursor: '1' },
      { limit: '2', cursor: '2' },
    ]);
  });
});
