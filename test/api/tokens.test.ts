import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TokenCreated, TokenInfo, TokenPage } from '../../src/wire/tokens.ts';
import { furnished, type Furnished } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const make = (body: object = {}) =>
  f.world.must(TokenCreated, 'POST', '/v1/tokens', { body: { name: 'ci', role: 'viewer', ...body } });
const works = async (secret: string) => (await f.world.call('GET', '/v1/pools', { token: secret })).status;
const rotate = (id: string, body: object = {}) =>
  f.world.must(TokenCreated, 'POST', `/v1/tokens/${id}/rotate`, { body });

describe('a token with an expiry', () => {
  it('is good until then, and tells so itself', async () => {
    const { token, secret } = await make({ ttl_s: 60 });
    const own = await f.world.must(TokenInfo, 'GET', '/v1/tokens/self', { token: secret });
    expect(own).toEqual(token);
    expect(await works(secret)).toBe(200);
    f.world.clock.advance_s(61);
    const refused = await f.world.call('GET', '/v1/pools', { token: secret });
    expect(refused.refusal).toEqual([401, 'unauthenticated']);
    expect(refused.problem.detail).toContain('expired');
  });

  it('takes an instant in any offset, and none that is past', async () => {
    const { token } = await make({ expires_at: '2126-01-31T15:03:07+01:00' });
    expect(token.expires_at).toBe('2126-01-31T14:03:07.000000Z');
    const before = f.world.snapshot();
    const past = { name: 'ci', role: 'viewer', expires_at: '2020-01-01T00:00:00Z' };
    expect((await f.world.call('POST', '/v1/tokens', { body: past })).refusal).toEqual([422, 'token_expiry_past']);
    const both = { name: 'ci', role: 'viewer', expires_at: '2126-01-01T00:00:00Z', ttl_s: 5 };
    expect((await f.world.call('POST', '/v1/tokens', { body: both })).refusal).toEqual([400, 'validation_failed']);
    expect(f.world.snapshot()).toBe(before);
  });

  it('can be given another one, or none', async () => {
    const { token, secret } = await make({ ttl_s: 60 });
    const path = `/v1/tokens/${token.id}`;
    expect((await f.world.must(TokenInfo, 'PATCH', path, { body: { expires_at: null } })).expires_at).toBeNull();
    f.world.clock.advance_s(61);
    expect(await works(secret)).toBe(200);
    await f.world.must(TokenInfo, 'PATCH', path, { body: { ttl_s: 1 } });
    f.world.clock.advance_s(2);
    expect(await works(secret)).toBe(401);
    expect((await f.world.call('PATCH', path, { body: { ttl_s: 60 } })).refusal).toEqual([409, 'token_not_live']);
  });
});

describe('rotating a token', () => {
  it('makes a new secret, and accepts the former one for its grace', async () => {
    const { token, secret } = await make();
    const rotated = await rotate(token.id, { grace_s: 30 });
    expect(rotated.token).toMatchObject({ id: token.id, name: 'ci', role: 'viewer' });
    expect(rotated.secret).not.toBe(secret);
    expect([await works(secret), await works(rotated.secret)]).toEqual([200, 200]);
    f.world.clock.advance_s(31);
    expect([await works(secret), await works(rotated.secret)]).toEqual([401, 200]);
  });

  it('without grace refuses the former secret with the next request', async () => {
    const { token, secret } = await make();
    expect(await works(secret)).toBe(200);
    const rotated = await rotate(token.id, { grace_s: 0 });
    expect([await works(secret), await works(rotated.secret)]).toEqual([401, 200]);
  });

  it('refuses the secret before the former one at once', async () => {
    const first = await make();
    const second = await rotate(first.token.id);
    const third = await rotate(first.token.id);
    expect(await Promise.all([first, second, third].map(({ secret }) => works(secret)))).toEqual([401, 200, 200]);
  });

  it('leaves no secret anywhere but in its answer', async () => {
    const { token, secret } = await make();
    const rotated = await rotate(token.id);
    const everywhere = [
      (await f.world.call('GET', '/v1/tokens?limit=1000')).text,
      (await f.world.call('GET', `/v1/tokens/${token.id}`)).text,
      (await f.world.call('GET', '/v1/events?limit=1000')).text,
      f.world.snapshot(),
      f.world.logged.join(),
    ].join();
    for (const one of [secret, rotated.secret]) expect(everywhere).not.toContain(one);
  });
});

describe('a stream', () => {
  const open = async (token: string): Promise<TestStream> => {
    const stream = await TestStream.open(f.world.app, 'edge-1', { token });
    expect(stream.response.statusCode).toBe(200);
    return stream;
  };
  beforeEach(async () => {
    await f.world.app.listen({ host: '127.0.0.1', port: 0 });
  });

  it('of a revoked token ends, and those of others go on', async () => {
    const { token, secret } = await make();
    const [cut, other] = [await open(secret), await open(f.viewer)];
    await f.world.must(TokenInfo, 'DELETE', `/v1/tokens/${token.id}`);
    expect(await cut.over).toBe('end');
    expect(other.response.complete).toBe(false);
  });

  it('ends when its token expires, without anybody doing anything', async () => {
    const { secret } = await make({ ttl_s: 1 });
    const stream = await open(secret);
    expect(await stream.over).toBe('end');
  });

  it('ends when the expiry of its token is moved to now', async () => {
    const { token, secret } = await make({ ttl_s: 3_600 });
    const stream = await open(secret);
    await f.world.must(TokenInfo, 'PATCH', `/v1/tokens/${token.id}`, { body: { ttl_s: 1 } });
    expect(await stream.over).toBe('end');
  });

  it('that the former secret opened ends with its grace, and one of the new secret goes on', async () => {
    const { token, secret } = await make();
    const old = await open(secret);
    const { secret: fresh } = await rotate(token.id, { grace_s: 1 });
    const current = await open(fresh);
    expect(await old.over).toBe('end');
    expect(current.response.complete).toBe(false);
  });

  it('that a replaced secret opened ends at once when there is no grace', async () => {
    const { token, secret } = await make();
    const old = await open(secret);
    await rotate(token.id, { grace_s: 0 });
    expect(await old.over).toBe('end');
  });
});

describe('the list of tokens', () => {
  it('is narrowed by role, machine and holder', async () => {
    const names = async (query: string) =>
      (await f.world.must(TokenPage, 'GET', `/v1/tokens?limit=1000${query}`)).items.map(
        ({ role, machine, holder }) => `${role} ${machine} ${holder}`,
      );
    expect(new Set(await names('&role=router'))).toEqual(new Set(['router null null']));
    expect(await names('&machine=edge-1&role=holder')).toEqual(['holder edge-1 haproxy', 'holder edge-1 squid']);
    expect(await names('&holder=squid')).toEqual(['holder edge-1 squid']);
  });

  it('tells when each was used last, about', async () => {
    const { token, secret } = await make();
    expect(token.last_used_at).toBeNull();
    await works(secret);
    const usedAt = f.world.clock.now;
    f.world.clock.advance_s(50);
    await f.world.app.close();
    const stored = await f.world.store.reader.accessTokenById(Number(token.id.slice('token-'.length)));
    expect(Math.abs((stored?.lastUsedAt ?? 0) - usedAt)).toBeLessThan(1_000_000);
  });
});
