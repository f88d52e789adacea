import { describe, expect, it } from 'vitest';
import { Buckets, RateLimits } from '../../src/api/rate-limits.ts';
import { AgentKeepaliveAnswer } from '../../src/wire/agent.ts';
import { TokenCreated } from '../../src/wire/tokens.ts';
import { furnished } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

describe('a bucket', () => {
  const world = (keys_max = 10) => {
    const state = { now: 1_000_000_000 };
    return { state, buckets: new Buckets<string>({ nowUs: () => state.now, keys_max }) };
  };
  const rate = { perS: 10, burst: 5 };

  it('lets a burst through at once, then one for each interval, and says how long to wait', () => {
    const { state, buckets } = world();
    const remaining = Array.from({ length: 5 }, () => buckets.take('a', rate)).map((verdict) => verdict.remaining);
    expect(remaining).toEqual([4, 3, 2, 1, 0]);
    const refused = buckets.take('a', rate);
    expect([refused.isAllowed, refused.nextInS]).toEqual([false, 0.1]);
    state.now += 99_000;
    expect(buckets.take('a', rate).isAllowed).toBe(false);
    state.now += 1_000;
    expect(buckets.take('a', rate).isAllowed).toBe(true);
    expect(buckets.take('a', rate).isAllowed).toBe(false);
  });

  it('is full again after a rest, and no fuller', () => {
    const { state, buckets } = world();
    for (let i = 0; i < 5; i++) buckets.take('a', rate);
    state.now += 3_600_000_000;
    const allowed = Array.from({ length: 9 }, () => buckets.take('a', rate).isAllowed);
    expect(allowed.filter(Boolean)).toHaveLength(5);
  });

  it('in the long run lets through what the rate says, however hard it is tried', () => {
    const { state, buckets } = world();
    let allowed = 0;
    for (let ms = 0; ms < 10_000; ms++) {
      state.now += 1_000;
      for (let i = 0; i < 3; i++) if (buckets.take('a', rate).isAllowed) allowed++;
    }
    expect(allowed).toBeGreaterThanOrEqual(100);
    expect(allowed).toBeLessThanOrEqual(105);
  });

  it('is each caller’s own, and there are no more than there may be', () => {
    const { buckets } = world(3);
    for (let i = 0; i < 6; i++) buckets.take('greedy', rate);
    expect(buckets.take('other', rate).isAllowed).toBe(true);
    for (let i = 0; i < 100; i++) buckets.take(`caller-${i}`, rate);
    expect(buckets.size).toBe(3);
  });
});

describe('addresses', () => {
  it('of one IPv6 network count as one, and IPv4 ones each for itself', () => {
    const options = { token_requests_per_s: null, token_requests_burst: null };
    const strangers = { stranger_requests_per_s: 1, stranger_requests_burst: 1 };
    const rates = new RateLimits({ nowUs: () => 5, ...options, ...strangers });
    const isAllowed = (address: string) => rates.ofStranger(address)?.isAllowed;
    expect(['2001:db8::1', '2001:db8:0:0:9::1', '2001:db8:0:1::1'].map(isAllowed)).toEqual([true, false, true]);
    expect(['192.0.2.1', '192.0.2.2', '192.0.2.1', '::ffff:192.0.2.3'].map(isAllowed)).toEqual([
      ...[true, true, false, true],
    ]);
  });
});

describe('a token with a limit', () => {
  const limited = async (body: object) => {
    const f = await furnished();
    const made = await f.world.must(TokenCreated, 'POST', '/v1/tokens', { body: { name: 'ci', ...body } });
    return { ...f, ...made };
  };

  it('is told where it stands with each answer, and refused beyond it with how long to wait', async () => {
    const { world, secret } = await limited({ role: 'viewer', limits: { requests_per_s: 2, requests_burst: 3 } });
    await using _world = world;
    const get = () => world.call('GET', '/v1/pools', { token: secret });
    const first = await get();
    expect(first.headers).toMatchObject({ 'ratelimit-policy': '"token";q=3;w=2', ratelimit: '"token";r=2;t=1' });
    expect([(await get()).status, (await get()).status]).toEqual([200, 200]);
    const refused = await get();
    expect(refused.refusal).toEqual([429, 'rate_limited']);
    expect(refused.headers).toMatchObject({ 'retry-after': '1', ratelimit: '"token";r=0;t=2' });
    world.clock.advance_s(1);
    expect([(await get()).status, (await get()).status, (await get()).status]).toEqual([200, 200, 429]);
  });

  it('does not touch others, which have none', async () => {
    const { world, secret, viewer } = await limited({ role: 'viewer', limits: { requests_per_s: 1 } });
    await using _world = world;
    for (let i = 0; i < 5; i++) await world.call('GET', '/v1/pools', { token: secret });
    const other = await world.call('GET', '/v1/pools', { token: viewer });
    expect([other.status, other.headers['ratelimit']]).toEqual([200, undefined]);
  });

  it('keeps its machine alive however much else it asks for', async () => {
    const body = { role: 'agent', machine: 'edge-1', limits: { requests_per_s: 1, requests_burst: 1 } };
    const { world, secret: token } = await limited(body);
    await using _world = world;
    for (let i = 0; i < 20; i++) await world.call('GET', '/v1/machines/edge-1', { token });
    expect((await world.call('GET', '/v1/machines/edge-1', { token })).status).toBe(429);
    const keepalive = { boot_id: 'boot', version: '1', applied_revision: 0 };
    for (let i = 0; i < 50; i++)
      await world.must(AgentKeepaliveAnswer, 'POST', '/v1/machines/edge-1/keepalive', { token, body: keepalive });
  });

  it('of streams may have so many open, and another when one is closed', async () => {
    const { world, secret: token } = await limited({ role: 'viewer', limits: { watchers_max: 1 } });
    await using _world = world;
    await world.app.listen({ host: '127.0.0.1', port: 0 });
    const open = () => TestStream.open(world.app, 'edge-1', { token });
    const first = await open();
    expect((await open()).response.statusCode).toBe(503);
    first.response.destroy();
    await expect.poll(async () => (await open()).response.statusCode).toBe(200);
  });
});

describe('a stranger', () => {
  const limits = { stranger_requests_per_s: 1, stranger_requests_burst: 4 };

  it('is refused by address after a while, and the health of the server can still be asked for', async () => {
    const { world } = await furnished({ limits });
    await using _world = world;
    const tries = [null, 'garbage', null, 'x', 'y'].map((token) => world.call('GET', '/v1/pools', { token }));
    expect((await Promise.all(tries)).map(({ status }) => status)).toEqual([401, 401, 401, 401, 429]);
    expect((await world.call('GET', '/openapi.json', { token: null })).status).toBe(429);
    for (const url of ['/healthz', '/readyz']) expect((await world.call('GET', url, { token: null })).status).toBe(200);
    world.clock.advance_s(1);
    expect((await world.call('GET', '/v1/pools', { token: null })).status).toBe(401);
  });

  it('with garbage takes nothing from those behind the same address whose tokens are known', async () => {
    const { world, viewer } = await furnished({ limits });
    await using _world = world;
    const get = (token: string | null) => world.call('GET', '/v1/pools', { token });
    expect((await get(viewer)).status).toBe(200);
    for (let i = 0; i < 9; i++) await get('garbage');
    for (let i = 0; i < 9; i++) expect((await get(viewer)).status).toBe(200);
    world.clock.advance_s(10);
    for (let i = 0; i < 9; i++) await get('garbage');
    // Known for longer than the cache answers by itself.
    expect((await get(viewer)).status).toBe(200);
  });

  it('is nobody who comes with a good token, however many requests come with it at once', async () => {
    const { world, viewer } = await furnished({ limits });
    await using _world = world;
    const crowd = (token: string) =>
      Promise.all(Array.from({ length: 20 }, async () => (await world.call('GET', '/v1/pools', { token })).status));
    expect(new Set(await crowd(viewer))).toEqual(new Set([200]));
    const unknown = `${viewer.slice(0, -1)}${viewer.endsWith('A') ? 'B' : 'A'}`;
    expect((await crowd(unknown)).filter((status) => status === 401).length).toBeLessThanOrEqual(4);
  });
});
