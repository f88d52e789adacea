import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { access, rolesOf, type OperationId } from '../../src/api/access.ts';
import { formatSecret } from '../../src/api/bearer.ts';
import type { Role } from '../../src/leases/model.ts';
import { LeasePage, type Lease } from '../../src/wire/leases.ts';
import { Session } from '../../src/wire/sessions.ts';
import { TokenCreated, TokenInfo, TokenPage } from '../../src/wire/tokens.ts';
import { furnished, type Furnished, type Method } from '../support/api-world.ts';

/** A path that exists in the furnished world, for every placeholder of every operation. */
const paths: Readonly<Record<string, string>> = {
  '/v1/pools/:id': '/v1/pools/fra1',
  '/v1/slices/:id': '/v1/slices/slice-8',
  '/v1/slices/:id/extents': '/v1/slices/slice-8/extents',
  '/v1/slices/:id/drain': '/v1/slices/slice-999/drain',
  '/v1/slices/:id/move': '/v1/slices/slice-999/move',
  '/v1/slices/:id/reclaim': '/v1/slices/slice-999/reclaim',
  '/v1/slices/:id/allocator': '/v1/slices/slice-999/allocator',
  '/v1/revocations/:id': '/v1/revocations/revocation-999',
  '/v1/slices/:id/unblock': '/v1/slices/slice-999/unblock',
  '/v1/machines/:id/holders/:name': '/v1/machines/edge-1/holders/haproxy',
  '/v1/routers/:id': '/v1/routers/border-1',
  '/v1/routers/:id/applied': '/v1/routers/border-1/applied',
  '/v1/tokens/:id': '/v1/tokens/token-999',
};
const pathOf = (url: string): string =>
  paths[url] ??
  url
    .replace('/machines/:id', '/machines/edge-1')
    .replace('/sessions/:id', '/sessions/session-999')
    .replace('/leases/:id', '/leases/lease-999');

let f: Furnished;
beforeAll(async () => {
  f = await furnished({ metricsOpen: false });
});
afterAll(async () => f.world[Symbol.asyncDispose]());

const ids = Object.keys(access) as OperationId[];
const guarded = ids.filter((id) => rolesOf(id) !== 'open');

const tokensOf = (of: Furnished): Readonly<Record<Role, string>> => ({
  operator: of.world.operator,
  viewer: of.viewer,
  agent: of.agent,
  holder: of.haproxy,
  router: of.router,
});

/** Calls an operation with its own example. */
const call = (id: OperationId, token: string | null, of: Furnished = f) => {
  const route = of.world.app.operations.find(({ operation }) => operation.id === id);
  if (route === undefined) throw new Error(`${id} is not registered`);
  const { body } = route.operation.examples;
  return of.world.call(route.method as Method, pathOf(route.url), { token, ...(body === undefined ? {} : { body }) });
};

describe.each(guarded)('%s', (id) => {
  it('never says a secret again that it was shown in a wrong place', async () => {
    const route = f.world.app.operations.find(({ operation }) => operation.id === id);
    const secret = formatSecret(new Uint8Array(32).fill(7));
    const shown = f.world.logged.length;
    const body = { token: secret, secret, password: secret, claims: [{ authorization: secret }] };
    const url = `${pathOf(route?.url ?? '')}?token=${secret}&access_token=${secret}`;
    const headers = { 'idempotency-key': secret, 'if-match': secret, cookie: `token=${secret}` };
    for (const token of [f.world.operator, secret]) {
      const inBody = route?.operation.examples.body === undefined ? {} : { body };
      const answer = await f.world.call(route?.method as Method, url, { token, headers, ...inBody });
      expect(answer.text + JSON.stringify(answer.headers)).not.toContain(secret);
    }
    expect(f.world.logged.slice(shown).join()).not.toContain(secret);
  });

  it('asks who is there', async () => {
    const answer = await call(id, null);
    expect(answer.refusal).toEqual([401, 'unauthenticated']);
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="fishery"');
  });

  it('lets nobody in with a token that is made up', async () => {
    const before = f.world.snapshot();
    const unknown = formatSecret(new Uint8Array(32).fill(9));
    for (const token of [
      'garbage',
      unknown,
      `${unknown}x`,
      f.world.operator.toLowerCase(),
      f.world.operator.slice(0, -1),
    ]) {
      const answer = await call(id, token);
      expect(answer.refusal, token).toEqual([401, 'unauthenticated']);
      expect(answer.text).not.toContain(token);
    }
    expect(f.world.snapshot()).toEqual(before);
  });

  it('lets nobody in with a role that it is not for, and says which it is for', async () => {
    const before = f.world.snapshot();
    const allowed: readonly Role[] = access[id] === 'open' ? [] : access[id];
    for (const [role, token] of Object.entries(tokensOf(f))) {
      if (allowed.some((one) => one === role)) continue;
      const answer = await call(id, token);
      expect(answer.refusal, role).toEqual([403, 'forbidden']);
      for (const word of [role, ...allowed]) expect(answer.problem.detail).toContain(word);
    }
    expect(f.world.snapshot()).toEqual(before);
  });
});

describe('who may', () => {
  // Streams never end by themselves; their own tests open them with every role that may.
  it.each(guarded.filter((id) => id !== 'watchMachine' && id !== 'watchRoutes' && id !== 'watchEvents'))(
    '%s is let through to the decision',
    async (id) => {
      const own = await furnished({ metricsOpen: false });
      await using _world = own.world;
      for (const role of access[id]) {
        const answer = await call(id, tokensOf(own)[role as Role], own);
        expect([401, 405, 500], `${role}: ${answer.text}`).not.toContain(answer.status);
        expect(answer.code, role).not.toBe('forbidden');
      }
    },
  );

  it.each(ids.filter((id) => rolesOf(id) === 'open'))('%s is open to everybody', async (id) => {
    expect((await call(id, null)).status).toBe(200);
    expect((await call(id, 'garbage')).status).toBe(200);
  });
});

describe('a token', () => {
  it('is refused from the moment it is revoked', async () => {
    const secret = await f.world.token('viewer');
    const { items } = await f.world.must(TokenPage, 'GET', '/v1/tokens?limit=1000');
    const id = items.at(-1)?.id ?? '';
    expect((await f.world.call('GET', '/v1/pools', { token: secret })).status).toBe(200);
    await f.world.must(TokenInfo, 'DELETE', `/v1/tokens/${id}`);
    expect((await f.world.call('GET', '/v1/pools', { token: secret })).status).toBe(401);
  });

  it('is shown once, stored as a hash, and neither logged nor listed', async () => {
    const body = { name: 'one', role: 'holder', machine: 'edge-1', holder: 'squid' };
    const { token, secret } = await f.world.must(TokenCreated, 'POST', '/v1/tokens', { body });
    expect(token).toMatchObject({ ...body, revoked_at: null });
    expect((await f.world.call('GET', '/v1/leases', { token: secret })).status).toBe(200);
    const everywhere = [
      (await f.world.call('GET', '/v1/tokens?limit=1000')).text,
      (await f.world.call('GET', '/v1/events?limit=1000')).text,
      f.world.snapshot(),
      f.world.logged.join(),
    ].join();
    expect(everywhere).not.toContain(secret);
    expect(everywhere).toContain(token.id.slice('token-'.length));
  });

  it('is accepted whatever the case of the scheme, and from no other place', async () => {
    const with_ = (headers: Record<string, string>) => f.world.call('GET', '/v1/pools', { token: null, headers });
    expect((await with_({ authorization: `bEARER ${f.viewer}` })).status).toBe(200);
    expect((await with_({ authorization: `Basic ${f.viewer}` })).status).toBe(401);
    expect((await with_({ 'x-api-key': f.viewer })).status).toBe(401);
    expect((await f.world.call('GET', `/v1/pools?access_token=${f.viewer}`, { token: null })).status).toBe(401);
  });
});

describe('what is somebody else’s', () => {
  let session: string;
  let lease: Lease;
  beforeAll(async () => {
    session = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy')).id;
    const [granted] = await f.world.grant(f.haproxy, session, [{ protocol: 'tcp', ports: 8 }]);
    if (granted === undefined) throw new Error('one was asked for');
    lease = granted;
  });

  const strangers = () => ({
    squid: f.squid,
    'another machine': f.otherHolder,
    'the agent': f.agent,
    'another agent': f.otherAgent,
  });

  it.each(['squid', 'another machine', 'the agent', 'another agent'] as const)(
    'cannot be ended, kept, granted from or released by %s',
    async (who) => {
      const token = strangers()[who];
      const before = f.world.snapshot();
      const claims = [{ protocol: 'tcp' }];
      const attempts = [
        await f.world.call('POST', `/v1/sessions/${session}/keepalive`, { token }),
        await f.world.call('DELETE', `/v1/sessions/${session}`, { token }),
        await f.world.call('POST', '/v1/leases?wait=stored', { token, body: { session, claims } }),
        await f.world.call('POST', `/v1/leases/${lease.id}/release`, { token, body: { token: lease.token } }),
        await f.world.call('POST', '/v1/sessions', { token, body: { machine: 'edge-1', holder: 'haproxy' } }),
      ];
      for (const { refusal } of attempts) expect(refusal).toEqual([403, 'not_yours']);
      expect(f.world.snapshot()).toEqual(before);
    },
  );

  it('cannot be read by another holder, and can by its machine’s agent', async () => {
    for (const path of [`/v1/leases/${lease.id}`, `/v1/sessions/${session}`]) {
      for (const token of [f.squid, f.otherHolder, f.otherAgent])
        expect((await f.world.call('GET', path, { token })).code, path).toBe('not_yours');
      for (const token of [f.haproxy, f.agent, f.viewer, f.world.operator])
        expect((await f.world.call('GET', path, { token })).status, path).toBe(200);
    }
  });

  it('is missing from a list of one’s own, and asking for it by name is refused', async () => {
    const list = (token: string, query = '') => f.world.call('GET', `/v1/leases${query}`, { token });
    expect((await list(f.haproxy)).as(LeasePage).items).toHaveLength(1);
    expect((await list(f.agent)).as(LeasePage).items).toHaveLength(1);
    expect((await list(f.squid)).as(LeasePage).items).toEqual([]);
    expect((await list(f.otherHolder)).as(LeasePage).items).toEqual([]);
    expect((await list(f.squid, '?holder=haproxy')).code).toBe('not_yours');
    expect((await list(f.otherAgent, '?machine=edge-1')).code).toBe('not_yours');
    expect((await list(f.haproxy, '?machine=edge-1&holder=haproxy')).as(LeasePage).items).toHaveLength(1);
  });

  it('of another machine is out of reach for its agent', async () => {
    const before = f.world.snapshot();
    const keepalive = { boot_id: 'x', version: '1', applied_revision: 0 };
    const attempts = [
      await f.world.call('GET', '/v1/machines/edge-1', { token: f.otherAgent }),
      await f.world.call('GET', '/v1/machines/edge-1/holders', { token: f.otherAgent }),
      await f.world.call('GET', '/v1/machines/edge-1/desired', { token: f.otherAgent }),
      await f.world.call('GET', '/v1/machines/edge-1/watch', { token: f.otherAgent }),
      await f.world.call('POST', '/v1/machines/edge-1/keepalive', { token: f.otherAgent, body: keepalive }),
      await f.world.call('POST', '/v1/machines/edge-1/applied', {
        token: f.otherAgent,
        body: { revision: 0, leases: [], slices: [] },
      }),
      await f.world.call('POST', '/v1/machines/edge-1/flow-answers', {
        token: f.otherAgent,
        body: { id: 'flow-1', covers_since: null, covers_through: null, clock_margin_s: 0, flows: [] },
      }),
    ];
    for (const { refusal } of attempts) expect(refusal).toEqual([403, 'not_yours']);
    expect(f.world.snapshot()).toEqual(before);
  });

  it('is nobody’s for an operator', async () => {
    const kept = await f.world.call('POST', `/v1/sessions/${session}/keepalive`);
    expect(kept.status).toBe(200);
    const ended = await f.world.must(Session, 'DELETE', `/v1/sessions/${session}`);
    expect(ended).toMatchObject({ state: 'ended', ending: 'revoked' });
  });
});
