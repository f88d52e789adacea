import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ForwardedRequest } from '../../src/wire/broker.ts';
import { endedSession, granted, releasedLease, revokedLease } from '../../src/api/examples.ts';
import { explanation } from '../../src/api/examples/explain.ts';
import { Explanation } from '../../src/wire/explain.ts';
import { Session } from '../../src/wire/sessions.ts';
import { furnished, type Answer, type CallOptions, type Furnished, type Method } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

let f: Furnished;
let streams: TestStream[];
beforeEach(async () => {
  f = await furnished({ limits: { forward_ms: 200 } });
  await f.world.app.listen({ host: '127.0.0.1', port: 0 });
  streams = [];
});
afterEach(async () => {
  for (const stream of streams) stream.close();
  await f.world[Symbol.asyncDispose]();
});

const session: Session = {
  id: 'session-3',
  machine: 'edge-1',
  holder: 'haproxy',
  state: 'live',
  ending: null,
  ttl_s: 30,
  expires_at: '2026-01-31T14:03:30.000000Z',
  opened_at: '2026-01-31T14:03:00.000000Z',
  ended_at: null,
  revision: 3,
};
const problem = {
  ...{ type: '/docs/errors#session_ended', title: 'The session is over', status: 409, code: 'session_ended' },
  ...{ detail: 'session-3 is over: expired', instance: '/v1/sessions/session-3/keepalive' },
};

type Said = Readonly<{ status: number; content_type?: string; body: unknown; retry_after_s?: number; replayed?: true }>;

/** The agent of edge-1, whose broker answers like this. What it was asked is remembered. */
async function broker(answer: (request: ForwardedRequest) => Said | null): Promise<ForwardedRequest[]> {
  const stream = await TestStream.open(f.world.app, 'edge-1', { token: f.agent });
  streams.push(stream);
  await stream.until((events) => events.length > 0);
  const asked: ForwardedRequest[] = [];
  void stream
    .until((events) => {
      for (const { data } of events.filter(({ event }) => event === 'request').slice(asked.length)) {
        const request = ForwardedRequest.parse(JSON.parse(data));
        asked.push(request);
        const said = answer(request);
        if (said === null) continue;
        const body = { id: request.id, ...said };
        void f.world.call('POST', '/v1/machines/edge-1/answers', { token: f.agent, body });
      }
      return false;
    })
    .catch(() => {});
  return asked;
}

const elsewhere = 'allocator=machine&machine=edge-1';
const ask = (method: Method, path: string, options: CallOptions = {}): Promise<Answer> =>
  f.world.call(method, path, { token: f.haproxy, ...options });

describe('what is asked of the server about what a machine grants itself', () => {
  it('is carried out by the broker of the machine: method, path, body, key, and who asks', async () => {
    const asked = await broker(() => ({ status: 201, body: session }));
    const body = { machine: 'edge-1', holder: 'haproxy', ttl_s: 30 };
    const headers = { 'idempotency-key': 'k-1' };
    const answer = await ask('POST', '/v1/sessions', { body: { ...body, allocator: 'machine' }, headers });
    expect([answer.status, answer.as(Session)]).toEqual([201, session]);
    expect(asked).toEqual([
      {
        ...{ id: asked[0]?.id, request_id: answer.headers['x-request-id'], method: 'POST', path: '/v1/sessions', body },
        idempotency_key: 'k-1',
        principal: {
          token: asked[0]?.principal.token,
          name: asked[0]?.principal.name,
          role: 'holder',
          holder: 'haproxy',
        },
        timeout_s: 0.2,
      },
    ]);
    expect((await f.world.store.reader.sessions({}, { limit: 9, cursor: null })).items).toEqual([]);
  });

  it('is told of without what only says who is asked, and with all the rest', async () => {
    const asked = await broker(({ method, path }) => {
      if (path.endsWith('/release')) return { status: 200, body: releasedLease };
      if (path.endsWith('/revoke')) return { status: 200, body: revokedLease };
      if (path.startsWith('/v1/leases')) return { status: 201, body: granted };
      return { status: 200, body: method === 'DELETE' ? endedSession : session };
    });
    await ask('POST', `/v1/sessions/session-3/keepalive?${elsewhere}`);
    await ask('DELETE', `/v1/sessions/session-3?dry_run=true&${elsewhere}`);
    await ask('POST', `/v1/leases/lease-4/release?${elsewhere}`, { body: { token: '1.1.4' } });
    const claims = [{ protocol: 'tcp', ports: 8 }];
    await ask('POST', `/v1/leases?${elsewhere}&wait=stored`, { body: { session: 'session-3', claims } });
    await ask('POST', `/v1/leases?timeout_s=1&${elsewhere}`, { body: { session: 'session-3', claims } });
    await ask('POST', `/v1/leases/lease-4/revoke?${elsewhere}`, { token: f.world.operator, body: { reason: 'why' } });
    expect(asked.map(({ method, path, timeout_s }) => `${method} ${path} ${timeout_s}`)).toEqual([
      'POST /v1/sessions/session-3/keepalive 0.2',
      'DELETE /v1/sessions/session-3?dry_run=true 0.2',
      'POST /v1/leases/lease-4/release 0.2',
      'POST /v1/leases?wait=stored 0.2',
      'POST /v1/leases?timeout_s=1 1.2',
      'POST /v1/leases/lease-4/revoke 0.2',
    ]);
    expect(asked[2]?.body).toEqual({ token: '1.1.4' });
    expect(asked[3]?.body).toMatchObject({ session: 'session-3', claims: [{ protocol: 'tcp', ports: 8 }] });
    expect(asked.map(({ principal }) => principal.role)).toEqual([...Array<string>(5).fill('holder'), 'operator']);
  });

  it('is explained there, to whoever may have it explained here', async () => {
    const asked = await broker(() => ({ status: 200, body: explanation }));
    const body = { session: 'session-3', claims: [{ protocol: 'tcp', ports: 8 }] };
    for (const token of [f.haproxy, f.viewer, f.world.operator])
      expect((await ask('POST', `/v1/explain?${elsewhere}`, { token, body })).as(Explanation)).toEqual(explanation);
    expect((await ask('POST', `/v1/explain?${elsewhere}`, { token: f.otherHolder, body })).refusal).toEqual([
      403,
      'not_yours',
    ]);
    expect(asked.map(({ path, principal }) => `${path} ${principal.role}`)).toEqual(
      ['holder', 'viewer', 'operator'].map((role) => `/v1/explain ${role}`),
    );
    expect(asked[0]?.body).toMatchObject(body);
  });

  it('is refused as the broker refuses it', async () => {
    await broker(() => ({
      ...{ status: 409, content_type: 'application/problem+json', retry_after_s: 7, replayed: true },
      body: problem,
    }));
    const answer = await ask('POST', `/v1/sessions/session-3/keepalive?${elsewhere}`);
    expect(answer.refusal).toEqual([409, 'session_ended']);
    expect(answer.problem).toEqual(problem);
    expect([answer.headers['retry-after'], answer.headers['idempotency-replayed']]).toEqual(['7', 'true']);
  });

  it('does not reach a broker on somebody else’s behalf', async () => {
    const asked = await broker(() => ({ status: 200, body: session }));
    const keep = `/v1/sessions/session-3/keepalive?${elsewhere}`;
    expect((await ask('POST', keep, { token: f.otherHolder })).refusal).toEqual([403, 'not_yours']);
    expect((await ask('POST', keep, { token: f.otherAgent })).refusal).toEqual([403, 'not_yours']);
    expect((await ask('POST', keep, { token: f.viewer })).refusal).toEqual([403, 'forbidden']);
    const revoke = `/v1/leases/lease-4/revoke?${elsewhere}`;
    expect((await ask('POST', revoke)).refusal).toEqual([403, 'forbidden']);
    expect(asked).toEqual([]);
    expect((await ask('POST', keep, { token: f.agent })).status).toBe(200);
    expect(asked.map(({ principal }) => principal)).toMatchObject([{ role: 'agent', holder: null }]);
  });

  it('is refused where it does not say which machine, or says two', async () => {
    const keep = '/v1/sessions/session-3/keepalive';
    for (const [query, message] of [
      ['?allocator=machine', 'query.machine: is required with allocator=machine'],
      ['?machine=edge-1', 'query.machine: goes with allocator=machine'],
      ['?allocator=nobody', 'query.allocator: '],
    ] as const)
      expect((await ask('POST', `${keep}${query}`)).problem).toMatchObject({
        code: 'validation_failed',
        detail: expect.stringContaining(message) as string,
      });
    const body = { machine: 'edge-2', holder: 'haproxy' };
    expect((await ask('POST', `/v1/sessions?${elsewhere}`, { body })).paths).toEqual(['query.machine']);
    const nowhere = '?allocator=machine&machine=nowhere';
    expect((await ask('POST', `${keep}${nowhere}`, { token: f.world.operator })).refusal).toEqual([
      404,
      'machine_not_found',
    ]);
    await f.world.call('POST', '/v1/machines', { body: { id: 'bare', enforcement: 'none' } });
    const bare = '?allocator=machine&machine=bare';
    expect((await ask('POST', `${keep}${bare}`, { token: f.world.operator })).code).toBe('allocator_needs_agent');
  });

  it('cannot be asked when the agent does not listen, or does not answer in time', async () => {
    const keep = `/v1/sessions/session-3/keepalive?${elsewhere}`;
    const away = await ask('POST', keep);
    expect([...away.refusal, away.headers['retry-after']]).toEqual([503, 'machine_unreachable', '5']);
    expect(away.problem.detail).toContain('nothing was carried out');
    const asked = await broker(() => null);
    const silent = await ask('POST', keep);
    expect([...silent.refusal, silent.headers['retry-after']]).toEqual([503, 'machine_unreachable', '2']);
    expect(silent.problem.detail).toContain('nobody says');
    expect(asked).toHaveLength(1);
    const late = { id: asked[0]?.id, status: 200, body: session };
    const answers = '/v1/machines/edge-1/answers';
    expect((await f.world.call('POST', answers, { token: f.agent, body: late })).refusal).toEqual([
      410,
      'request_over',
    ]);
    expect((await f.world.call('POST', answers, { token: f.otherAgent, body: late })).code).toBe('not_yours');
  });

  it('does not keep a server from stopping', async () => {
    await broker(() => null);
    const waiting = f.world.app.inject({
      method: 'POST',
      url: `/v1/leases?${elsewhere}&timeout_s=60`,
      headers: { authorization: `Bearer ${f.haproxy}`, 'content-type': 'application/json' },
      payload: JSON.stringify({ session: 'session-3', claims: [{ protocol: 'tcp' }] }),
    });
    await expect.poll(() => streams[0]?.named('request').length).toBe(1);
    await f.world.app.close();
    const { statusCode, body } = await waiting;
    expect([statusCode, z.object({ code: z.string() }).parse(JSON.parse(body)).code]).toEqual([
      503,
      'machine_unreachable',
    ]);
  });
});
