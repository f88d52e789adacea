import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Claim, Lease } from '../../src/wire/leases.ts';
import { furnished, type Answer, type Furnished } from '../support/api-world.ts';

/** How a grant waits for the agent, played by the test: it reports what each test says, when it says so. */

let f: Furnished;
let session: string;
beforeEach(async () => {
  f = await furnished();
  const opened = await f.world.must('POST', '/v1/sessions', {
    token: f.haproxy,
    body: { machine: 'edge-1', holder: 'haproxy', ttl_s: 60 },
  });
  session = opened.id;
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const claim: Partial<Claim> = { protocol: 'tcp', ports: 16 };
const grant = (count: number, query = ''): Promise<Answer> =>
  f.world.call('POST', `/v1/leases${query}`, {
    token: f.haproxy,
    body: { session, claims: Array.from({ length: count }, () => claim) },
  });

/** What the agent has to make true, once there are `count` pending leases. */
async function pending(count: number): Promise<Lease[]> {
  for (;;) {
    const { leases } = await f.world.must('GET', '/v1/machines/edge-1/desired', { token: f.agent });
    const found = (leases as Lease[]).filter((lease) => lease.state === 'pending');
    if (found.length >= count) return found;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

type Report = 'active' | 'refused' | 'empty';
async function report(...reports: readonly (readonly [lease: Lease, state: Report])[]): Promise<void> {
  const leases = reports.map(([lease, state]) => ({
    lease: lease.id,
    token: lease.token,
    state,
    ...(state === 'refused'
      ? { errno: 'EADDRINUSE', detail: `port ${lease.ports.first} is bound by sshd (pid 812)` }
      : {}),
  }));
  const answer = await f.world.must('POST', '/v1/machines/edge-1/applied', {
    token: f.agent,
    body: { revision: 0, leases, slices: [] },
  });
  expect(answer.rejected).toEqual([]);
}
const statesOf = async (leases: readonly Lease[]): Promise<string[]> =>
  Promise.all(leases.map(async ({ id }) => (await f.world.must('GET', `/v1/leases/${id}`)).state));

describe('a grant', () => {
  it('answers 201 once the agent has made every lease true', async () => {
    const asked = grant(3);
    const [a, b, c] = await pending(3);
    if (!a || !b || !c) throw new Error('three were asked for');
    await report([a, 'active'], [c, 'active']);
    const early = await Promise.race([asked, new Promise((resolve) => setTimeout(() => resolve('waiting'), 30))]);
    expect(early).toBe('waiting');
    await report([b, 'active']);
    const answer = await asked;
    expect(answer.status).toBe(201);
    expect(answer.body.leases.map((lease: Lease) => [lease.id, lease.state])).toEqual(
      [a, b, c].map((lease) => [lease.id, 'active']),
    );
    expect(answer.body.revision).toBe(Math.max(...answer.body.leases.map((lease: Lease) => lease.revision)));
  });

  it('answers at once, with pending leases, when told not to wait', async () => {
    const answer = await grant(2, '?wait=stored');
    expect(answer.status).toBe(201);
    expect(answer.body.leases.map((lease: Lease) => lease.state)).toEqual(['pending', 'pending']);
  });

  it('answers at once where no agent is', async () => {
    const { world } = f;
    await world.must('POST', '/v1/machines', { body: { id: 'bare', enforcement: 'none' } });
    await world.must('PUT', '/v1/machines/bare/holders/app', { body: { kind: 'proxy' } });
    await world.must('POST', '/v1/slices', { body: { machine: 'bare', pool: 'fra1' } });
    const opened = await world.must('POST', '/v1/sessions', { body: { machine: 'bare', holder: 'app' } });
    const answer = await world.call('POST', '/v1/leases', { body: { session: opened.id, claims: [claim] } });
    expect([answer.status, answer.body.leases[0].state]).toEqual([201, 'active']);
  });

  it('answers 202 when its time is over, and the leases stay', async () => {
    const answer = await grant(2, '?timeout_s=0.05');
    expect(answer.status).toBe(202);
    expect(await statesOf(answer.body.leases)).toEqual(['pending', 'pending']);
    const [a, b] = await pending(2);
    if (!a || !b) throw new Error('two were asked for');
    await report([a, 'active'], [b, 'active']);
    expect(await statesOf(answer.body.leases)).toEqual(['active', 'active']);
  });

  it('answers 202 at once with a time of zero', async () => {
    expect((await grant(1, '?timeout_s=0')).status).toBe(202);
  });

  it('is over as a whole when the kernel refuses a part of it, and says which part and why', async () => {
    const asked = grant(3);
    const [a, b, c] = await pending(3);
    if (!a || !b || !c) throw new Error('three were asked for');
    await report([a, 'active'], [b, 'refused'], [c, 'active']);
    const answer = await asked;
    expect([answer.status, answer.body.code]).toEqual([409, 'claim_refused']);
    expect(answer.body.errors).toHaveLength(1);
    expect(answer.body.errors[0].path).toBe('body.claims[1]');
    for (const part of ['EADDRINUSE', 'sshd (pid 812)', b.id, b.address])
      expect(answer.body.errors[0].message).toContain(part);
    expect(await statesOf([a, b, c])).toEqual(['ending', 'refused', 'ending']);
    const { extents } = await f.world.must('GET', `/v1/slices/${f.slice}/extents`);
    expect(extents).toContainEqual(expect.objectContaining({ state: 'blocked', ports: b.ports }));
  });

  it('releases what is still pending beside a refusal', async () => {
    const asked = grant(2);
    const [a, b] = await pending(2);
    if (!a || !b) throw new Error('two were asked for');
    await report([a, 'refused']);
    // The other one takes its time: only when all is settled is the whole known.
    await report([b, 'refused']);
    expect((await asked).body.errors.map((error: { path: string }) => error.path)).toEqual([
      'body.claims[0]',
      'body.claims[1]',
    ]);
  });

  it('tells of a refusal also when its time is over before the rest is known', async () => {
    const asked = grant(2, '?timeout_s=0.1');
    const [a, b] = await pending(2);
    if (!a || !b) throw new Error('two were asked for');
    await report([a, 'refused']);
    const answer = await asked;
    expect([answer.status, answer.body.code]).toEqual([409, 'claim_refused']);
    expect(await statesOf([a, b])).toEqual(['refused', 'ending']);
  });

  it('is over when its session ends meanwhile', async () => {
    const asked = grant(2);
    await pending(2);
    await f.world.must('DELETE', `/v1/sessions/${session}`);
    const answer = await asked;
    expect([answer.status, answer.body.code]).toEqual([410, 'session_ended']);
    expect(answer.body.detail).toContain('revoked');
  });

  it('is over when an operator revokes a part of it meanwhile', async () => {
    const asked = grant(2);
    const [a, b] = await pending(2);
    if (!a || !b) throw new Error('two were asked for');
    await report([b, 'active']);
    await f.world.must('POST', `/v1/leases/${a.id}/revoke`, { body: { reason: 'test' } });
    const answer = await asked;
    expect([answer.status, answer.body.code]).toEqual([410, 'lease_over']);
    expect(await statesOf([a, b])).toEqual(['ending', 'ending']);
  });

  it('is answered with what there is when the server stops, and nothing is lost', async () => {
    const asked = grant(1, '?timeout_s=60');
    const [lease] = await pending(1);
    if (!lease) throw new Error('one was asked for');
    await f.world.app.close();
    const answer = await asked;
    expect([answer.status, answer.body.leases[0].id]).toEqual([202, lease.id]);
    expect(answer.headers['connection']).toBe('close');
    expect(await f.world.store.reader.lease(Number(lease.id.slice('lease-'.length)))).toMatchObject({
      state: 'pending',
    });
  });

  it('stays when its caller goes away before the answer', async () => {
    const { world } = f;
    const url = await world.app.listen({ host: '127.0.0.1', port: 0 });
    const leaving = new AbortController();
    const asked = fetch(`${url}/v1/leases`, {
      method: 'POST',
      headers: { authorization: `Bearer ${f.haproxy}`, 'content-type': 'application/json' },
      body: JSON.stringify({ session, claims: [claim] }),
      signal: leaving.signal,
    });
    const [lease] = await pending(1);
    if (!lease) throw new Error('one was asked for');
    leaving.abort();
    await expect(asked).rejects.toThrow();
    await report([lease, 'active']);
    const { items } = await world.must('GET', `/v1/leases?session=${session}`, { token: f.haproxy });
    expect(items).toMatchObject([{ id: lease.id, state: 'active' }]);
  });

  it('says when the next ports leave their cooldown, when there are none', async () => {
    const { world } = f;
    const body = { session, claims: [{ protocol: 'udp', ports: 2_048 }] };
    const { leases } = await world.must('POST', '/v1/leases?wait=stored', { token: f.haproxy, body });
    const full = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([full.status, full.body.code, full.body.retry_after_s]).toEqual([503, 'no_ports', undefined]);
    await world.must('POST', `/v1/leases/${leases[0].id}/release`, {
      token: f.haproxy,
      body: { token: leases[0].token },
    });
    await report([leases[0], 'empty']);
    const resting = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([resting.status, resting.body.code, resting.body.retry_after_s]).toEqual([503, 'no_ports', 10]);
    expect(resting.headers['retry-after']).toBe('10');
    world.clock.advance_s(10);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    expect((await world.call('POST', '/v1/leases?wait=stored', { token: f.haproxy, body })).status).toBe(201);
  });

  it('of the fish of a machine is for its agent, and of a proxy is not', async () => {
    const open = (holder: string) =>
      f.world.call('POST', '/v1/sessions', { token: f.agent, body: { machine: 'edge-1', holder } });
    const fish = await open('fish');
    expect(fish.status).toBe(201);
    const granted = await f.world.call('POST', '/v1/leases?wait=stored', {
      token: f.agent,
      body: {
        session: fish.body.id,
        claims: [
          { protocol: 'tcp', mode: 'shared' },
          { protocol: 'udp', ports: 64 },
        ],
      },
    });
    expect(granted.status).toBe(201);
    expect(granted.body.leases[0]).toMatchObject({ mode: 'shared', binding: 'late', holder: 'fish' });
    expect((await open('haproxy')).body.code).toBe('not_yours');
  });
});
