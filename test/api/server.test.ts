import { connect, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/leases/store.ts';
import { EventList } from '../../src/wire/agent.ts';
import { LeasePage } from '../../src/wire/leases.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Problem } from '../../src/wire/problems.ts';
import { About, Health, Readiness } from '../../src/wire/server.ts';
import { furnished, handOver, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const pool = { id: 'p2', prefixes: ['203.0.113.0/28'] };

describe('the server about itself', () => {
  it('says what it is and where to go on', async () => {
    const answer = await f.world.call('GET', '/', { token: null });
    expect(answer.as(About)).toMatchObject({
      name: 'fishery',
      docs: '/docs',
      openapi: '/openapi.json',
      protocol_version: 1,
    });
    expect((await f.world.call('GET', '/console', { token: null })).headers['location']).toBe('/docs');
  });

  it('lives and is ready', async () => {
    expect((await f.world.call('GET', '/healthz?because=cache', { token: null })).as(Health)).toEqual({ status: 'ok' });
    const { revision } = await f.world.must(EventList, 'GET', '/v1/events?limit=1');
    expect((await f.world.call('GET', '/readyz', { token: null })).as(Readiness)).toEqual({
      status: 'ready',
      reason: null,
      revision,
    });
  });

  it('is not ready when nothing can be written, says why, and recovers with the next write', async () => {
    f.world.failure = new StoreError('full', 'the disk is full: free some space');
    expect((await f.world.call('POST', '/v1/pools', { body: pool })).status).toBe(503);
    const answer = await f.world.call('GET', '/readyz', { token: null });
    expect(answer.refusal).toEqual([503, 'not_ready']);
    expect(answer.problem.detail).toContain('the disk is full');
    expect((await f.world.call('GET', '/healthz', { token: null })).status).toBe(200);
    f.world.failure = undefined;
    await f.world.must(Pool, 'POST', '/v1/pools', { body: pool });
    expect((await f.world.call('GET', '/readyz', { token: null })).status).toBe(200);
  });

  it('is not ready when changes are not passed on', async () => {
    f.world.feed.close();
    await f.world.must(Pool, 'POST', '/v1/pools', { body: pool });
    const answer = await f.world.call('GET', '/readyz', { token: null });
    expect(answer.refusal).toEqual([503, 'not_ready']);
    expect(answer.problem.detail).toContain('not passed on');
  });
});

describe('HEAD', () => {
  it('answers like GET without the body, to the same callers', async () => {
    const head = (url: string, token: string | null) =>
      f.world.app.inject({ method: 'HEAD', url, headers: token === null ? {} : { authorization: `Bearer ${token}` } });
    const health = await head('/healthz', null);
    expect([health.statusCode, health.body]).toEqual([200, '']);
    expect((await head('/v1/pools', null)).statusCode).toBe(401);
    expect((await head('/v1/tokens', f.viewer)).statusCode).toBe(403);
    expect((await head('/v1/pools', f.viewer)).statusCode).toBe(200);
    expect((await head('/v1/machines/edge-1/watch', f.agent)).statusCode).toBe(405);
  });
});

describe('the documentation', () => {
  it('is served from here, names no other server, and may load nothing from one', async () => {
    const page = await f.world.call('GET', '/docs', { token: null });
    expect(page.status).toBe(200);
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
    const assets = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '');
    expect(assets.length).toBeGreaterThan(3);
    for (const asset of assets) {
      expect(asset).toMatch(/^\/docs\/static\//);
      expect((await f.world.call('GET', asset, { token: null })).status, asset).toBe(200);
    }
    const start = await f.world.call('GET', '/docs/static/swagger-initializer.js', { token: null });
    // Outside of comments.
    expect(start.text).not.toMatch(/^(?!\s*\/\/).*https?:\/\//m);
    const [served, linked] = [await f.world.call('GET', '/docs/json'), await f.world.call('GET', '/openapi.json')];
    expect(JSON.parse(served.text)).toEqual(JSON.parse(linked.text));
  });
});

describe('metrics', () => {
  const lines = async (): Promise<string[]> =>
    (await f.world.call('GET', '/metrics', { token: null })).text.split('\n');

  it('count what happens, whoever caused it', async () => {
    const { world } = f;
    const { id } = await world.openSession(f.haproxy, 'edge-1', 'haproxy', 2);
    const leases = await world.grant(f.haproxy, id, [
      { protocol: 'tcp', ports: 128 },
      { protocol: 'udp', ports: 64 },
    ]);
    await world.report(f.agent, 'edge-1', leases, 'active');
    world.clock.advance_s(3);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    await world.run({ kind: 'sweep', itemsMax: 100 });
    await world.report(f.agent, 'edge-1', leases, 'empty');
    const own = { machine: 'edge-2', pool: 'fra1', allocator: 'machine' };
    await world.call('POST', '/v1/slices', { body: own });
    const text = await lines();
    for (const line of [
      'fishery_leases_granted_total{protocol="tcp",mode="exclusive"} 1',
      'fishery_leases_granted_total{protocol="udp",mode="exclusive"} 1',
      'fishery_leases_ended_total{ending="expired"} 2',
      'fishery_sessions_opened_total 1',
      'fishery_sessions_ended_total{ending="expired"} 1',
      'fishery_machine_ports{machine="edge-1",protocol="tcp",state="free"} 1920',
      'fishery_machine_ports{machine="edge-1",protocol="tcp",state="cooling"} 128',
      'fishery_pool_ports{pool="fra1",site="",protocol="tcp",state="free"} 3968',
      'fishery_pool_ports{pool="fra1",site="",protocol="tcp",state="machine_allocated"} 2048',
      'fishery_pool_slices{pool="fra1",site="",state="assigned"} 3',
      'fishery_machine_ports{machine="edge-2",protocol="tcp",state="machine_allocated"} 2048',
      'fishery_grant_duration_seconds_count{wait="stored"} 1',
      'fishery_machines{state="active"} 2',
      'fishery_store_writable 1',
      'fishery_feed_lag_revisions 0',
      'fishery_watch_streams 0',
      'fishery_commands_waiting 0',
    ])
      expect(text).toContain(line);
    expect(text.find((line) => line.startsWith('fishery_agent_seen_age_seconds{machine="edge-1"}'))).toMatch(
      / 3\.\d+$/,
    );
    expect(
      text.some((line) =>
        line.startsWith('fishery_http_request_duration_seconds_count{method="POST",route="/v1/leases",status="201"} 1'),
      ),
    ).toBe(true);
  });

  it('say that nothing is free where everything is used, instead of nothing', async () => {
    const { world } = f;
    const all = [{ protocol: 'tcp', ports: 2_048 }];
    await world.grant(f.haproxy, (await world.openSession(f.haproxy, 'edge-1', 'haproxy')).id, all);
    await world.grant(f.otherHolder, (await world.openSession(f.otherHolder, 'edge-2', 'haproxy')).id, all);
    const text = await lines();
    for (const line of [
      'fishery_machine_ports{machine="edge-1",protocol="tcp",state="free"} 0',
      'fishery_machine_ports{machine="edge-1",protocol="udp",state="free"} 2048',
      'fishery_pool_ports{pool="fra1",site="",protocol="tcp",state="free"} 0',
      'fishery_pool_ports{pool="fra1",site="",protocol="tcp",state="exclusive"} 4096',
    ])
      expect(text).toContain(line);
  });

  it('do not say that nothing is free where the machine alone grants', async () => {
    await handOver(f);
    const text = await lines();
    expect(text).toContain('fishery_machine_ports{machine="edge-1",protocol="tcp",state="machine_allocated"} 2048');
    expect(text.join('\n')).not.toContain('fishery_machine_ports{machine="edge-1",protocol="tcp",state="free"}');
  });

  it('tell what nobody has proved empty, and for how long', async () => {
    const { world } = f;
    const metric = async (name: string) =>
      Number((await lines()).find((line) => line.startsWith(`${name} `))?.split(' ')[1]);
    const leasesOf = 'machine="edge-1"';
    const slicesOf = 'pool="fra1",machine="edge-1"';
    expect((await lines()).filter((line) => /^fishery_(?:leases_ending|slices_draining)/.test(line))).toEqual([]);
    const { id } = await world.openSession(f.haproxy, 'edge-1', 'haproxy', 600);
    const leases = await world.grant(f.haproxy, id, [{ protocol: 'tcp', ports: 128 }]);
    await world.report(f.agent, 'edge-1', leases, 'active');
    await world.call('POST', `/v1/slices/${f.slice}/drain`, { body: {}, headers: { 'if-match': '*' } });
    world.clock.advance_s(40);
    await world.call('DELETE', `/v1/sessions/${id}`, { token: f.haproxy });
    await world.run({ kind: 'sweep', itemsMax: 100 });
    world.clock.advance_s(20);
    expect(await metric(`fishery_leases_ending{${leasesOf}}`)).toBe(1);
    expect(await metric(`fishery_leases_ending_oldest_seconds{${leasesOf}}`)).toBeCloseTo(20, 0);
    expect(await metric(`fishery_slices_draining{${slicesOf}}`)).toBe(1);
    expect(await metric(`fishery_slices_draining_oldest_seconds{${slicesOf}}`)).toBeCloseTo(60, 0);
    await world.report(f.agent, 'edge-1', leases, 'empty');
    world.clock.advance_s(10);
    expect((await lines()).filter((line) => line.startsWith('fishery_leases_ending'))).toEqual([]);
  });

  it('say whether the epoch is in doubt', async () => {
    expect(await lines()).toContain('fishery_epoch_in_doubt 0');
    await f.world.call('GET', '/v1/pools', { headers: { 'fishery-seen': 'another/7' } });
    expect(await lines()).toContain('fishery_epoch_in_doubt 1');
    await f.world.call('POST', '/v1/server/confirm-epoch', { body: { epoch: 2 } });
    expect(await lines()).toContain('fishery_epoch_in_doubt 0');
  });

  it('name the pattern of a route and never a path', async () => {
    await f.world.call('GET', '/v1/leases/lease-77');
    await f.world.call('GET', '/secret-path');
    const text = (await lines()).join('\n');
    expect(text).toContain('route="/v1/leases/:id"');
    expect(text).not.toContain('lease-77');
    expect(text).not.toContain('secret-path');
  });
});

describe('a failure', () => {
  it.each([
    ['full', 503, 'read_only'],
    ['read_only', 503, 'read_only'],
    ['busy', 503, 'read_only'],
    ['io', 503, 'read_only'],
    ['corrupt', 503, 'read_only'],
    ['overloaded', 503, 'overloaded'],
    ['closed', 503, 'shutting_down'],
    ['constraint', 500, 'internal_error'],
  ] as const)('of the store, %s, changes nothing and has its answer', async (failure, status, code) => {
    const before = f.world.snapshot();
    f.world.failure = new StoreError(failure, `told by the test: ${failure}`);
    const answer = await f.world.call('POST', '/v1/pools', { body: pool });
    expect(answer.refusal).toEqual([status, code]);
    expect(f.world.snapshot()).toBe(before);
    f.world.failure = undefined;
    // What was read before can still be read.
    expect((await f.world.call('GET', '/v1/pools')).status).toBe(200);
  });

  it('that is a bug is logged with its request, and tells a stranger nothing', async () => {
    f.world.failure = new Error('the password is swordfish');
    const answer = await f.world.call('POST', '/v1/pools', { body: pool, headers: { 'x-request-id': 'trace-1' } });
    expect([...answer.refusal, answer.problem.request_id]).toEqual([500, 'internal_error', 'trace-1']);
    expect(answer.text).not.toContain('swordfish');
    const line = f.world.logged.find((one) => one.includes('swordfish'));
    expect(line).toContain('trace-1');
    expect(line).toContain('"stack"');
  });

  it('that is refused by a rule does not fill the log: no stack, and nothing at the usual level', async () => {
    const session = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy', 60)).id;
    const shown = f.world.logged.length;
    const body = { session, claims: [{ protocol: 'udp', ports: 2_048, count: 9 }] };
    const answer = await f.world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect(answer.refusal).toEqual([503, 'no_ports']);
    const lines = f.world.logged.slice(shown).map((one) => JSON.parse(one) as Readonly<Record<string, unknown>>);
    expect(lines).toMatchObject([{ level: 20, code: 'no_ports' }]);
    expect(JSON.stringify(lines)).not.toContain('"stack"');
  });
});

describe('every answer', () => {
  it('has a request id, is kept by no cache, and is sniffed by no browser', async () => {
    for (const url of ['/v1/pools', '/v1/nothing', '/healthz', '/v1/leases/x']) {
      const { headers } = await f.world.call('GET', url);
      expect(headers, url).toMatchObject({ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' });
      expect(headers['x-request-id'], url).toMatch(/^[\w.-]+$/);
      expect(headers, url).not.toHaveProperty('access-control-allow-origin');
    }
  });

  it('has the id of its caller where that is one, and no other', async () => {
    const id = async (given: string) =>
      (await f.world.call('GET', '/healthz', { headers: { 'x-request-id': given } })).headers['x-request-id'];
    expect(await id('abc.DEF-1_2')).toBe('abc.DEF-1_2');
    for (const bad of ['a b', 'x'.repeat(65), '<script>', '']) expect(await id(bad)).not.toBe(bad);
  });
});

describe('on the wire', () => {
  /** Sends bytes and returns everything that comes back until the server closes or is quiet. */
  async function send(text: string): Promise<string> {
    await f.world.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = f.world.app.server.address() as AddressInfo;
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    socket.on('error', () => {});
    socket.write(text);
    await new Promise((resolve) => socket.on('close', resolve));
    return received;
  }
  const problemIn = (answer: string) => Problem.parse(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)));

  it('what is no HTTP is told so', async () => {
    const answer = await send('EHLO fishery\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(problemIn(answer).code).toBe('malformed_request');
  });

  it('headers without end are refused', async () => {
    const answer = await send(`GET / HTTP/1.1\r\nhost: x\r\nx-long: ${'x'.repeat(100_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(problemIn(answer).code).toBe('headers_too_large');
  });

  it('a body that ends early changes nothing', async () => {
    const before = f.world.snapshot();
    const answer = await send(
      `POST /v1/pools HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${f.world.operator}\r\ncontent-type: application/json\r\n` +
        'content-length: 5\r\nconnection: close\r\n\r\n{"id"',
    );
    expect(problemIn(answer).code).toBe('malformed_request');
    expect(f.world.snapshot()).toBe(before);
  });
});

describe('the end', () => {
  it('finishes what is being answered, refuses what comes after, and leaves no connection open', async () => {
    const { world } = f;
    const url = await world.app.listen({ host: '127.0.0.1', port: 0 });
    const get = (path: string) => fetch(url + path, { headers: { authorization: `Bearer ${world.operator}` } });
    // Connections that the client keeps open for its next request.
    for (let i = 0; i < 3; i++) expect((await get('/v1/pools')).status).toBe(200);
    const { id } = await world.openSession(world.operator, 'edge-1', 'haproxy');
    const waiting = fetch(`${url}/v1/leases?timeout_s=60`, {
      method: 'POST',
      headers: { authorization: `Bearer ${world.operator}`, 'content-type': 'application/json' },
      body: JSON.stringify({ session: id, claims: [{ protocol: 'tcp' }] }),
    });
    while ((await world.must(LeasePage, 'GET', `/v1/leases?session=${id}`)).items.length === 0)
      await new Promise((resolve) => setTimeout(resolve, 2));
    const began = performance.now();
    const closed = world.app.close();
    expect((await waiting).status).toBe(202);
    await closed;
    expect(performance.now() - began).toBeLessThan(2_000);
    await expect(get('/v1/pools')).rejects.toThrow();
  });
});
