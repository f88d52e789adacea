import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Desired } from '../../src/wire/agent.ts';
import { Lease, LeaseList, LeasePage, type Claim } from '../../src/wire/leases.ts';
import { Holder, Machine } from '../../src/wire/machines.ts';
import { Session } from '../../src/wire/sessions.ts';
import { ExtentList, SliceList } from '../../src/wire/slices.ts';
import { furnished, type Answer, type Furnished, type LeaseReportState } from '../support/api-world.ts';

/** How a grant waits for the agent, played by the test: it reports what each test says, when it says so. */

let f: Furnished;
let session: string;
beforeEach(async () => {
  f = await furnished();
  session = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy', 60)).id;
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const claim: Partial<Claim> = { protocol: 'tcp', ports: 16 };
const grant = (count: number, query = ''): Promise<Answer> =>
  f.world.call('POST', `/v1/leases${query}`, {
    token: f.haproxy,
    body: { session, claims: Array.from({ length: count }, () => claim) },
  });
const leasesIn = (answer: Answer): readonly Lease[] => answer.as(LeaseList).leases;

/** What the agent has to make true, once there are three pending leases (or as many as are asked for). */
async function pending(count: 1): Promise<[Lease]>;
async function pending(count: 2): Promise<[Lease, Lease]>;
async function pending(count: 3): Promise<[Lease, Lease, Lease]>;
async function pending(count: number): Promise<Lease[]> {
  for (;;) {
    const { leases } = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    const found = leases.filter((lease) => lease.state === 'pending');
    if (found.length === count) return found;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const report = (state: LeaseReportState, ...leases: Lease[]) => f.world.report(f.agent, 'edge-1', leases, state);
const statesOf = (leases: readonly Lease[]): Promise<string[]> =>
  Promise.all(leases.map(async ({ id }) => (await f.world.must(Lease, 'GET', `/v1/leases/${id}`)).state));

describe('a grant', () => {
  it('answers 201 once the agent has made every lease true', async () => {
    const asked = grant(3);
    const [a, b, c] = await pending(3);
    await report('active', a, c);
    const early = await Promise.race([asked, new Promise((resolve) => setTimeout(() => resolve('waiting'), 30))]);
    expect(early).toBe('waiting');
    await report('active', b);
    const answer = await asked;
    expect(answer.status).toBe(201);
    const { leases, revision } = answer.as(LeaseList);
    expect(leases.map((lease) => [lease.id, lease.state])).toEqual([a, b, c].map((lease) => [lease.id, 'active']));
    expect(revision).toBe(Math.max(...leases.map((lease) => lease.revision)));
  });

  it('answers at once, with pending leases, when told not to wait', async () => {
    const answer = await grant(2, '?wait=stored');
    expect(answer.status).toBe(201);
    expect(leasesIn(answer).map((lease) => lease.state)).toEqual(['pending', 'pending']);
  });

  it('answers at once where no agent is', async () => {
    const { world } = f;
    await world.must(Machine, 'POST', '/v1/machines', { body: { id: 'bare', enforcement: 'none' } });
    await world.must(Holder, 'PUT', '/v1/machines/bare/holders/app', { body: { kind: 'proxy' } });
    await world.must(SliceList, 'POST', '/v1/slices', { body: { machine: 'bare', pool: 'fra1' } });
    const { id } = await world.openSession(world.operator, 'bare', 'app');
    const answer = await world.call('POST', '/v1/leases', { body: { session: id, claims: [claim] } });
    expect([answer.status, leasesIn(answer)[0]?.state]).toEqual([201, 'active']);
  });

  it('answers 202 when its time is over, and the leases stay', async () => {
    const answer = await grant(2, '?timeout_s=0.05');
    expect(answer.status).toBe(202);
    expect(await statesOf(leasesIn(answer))).toEqual(['pending', 'pending']);
    const [a, b] = await pending(2);
    await report('active', a, b);
    expect(await statesOf(leasesIn(answer))).toEqual(['active', 'active']);
  });

  it('answers 202 at once with a time of zero', async () => {
    expect((await grant(1, '?timeout_s=0')).status).toBe(202);
  });

  it('is over when its session ends meanwhile', async () => {
    const asked = grant(2);
    await pending(2);
    await f.world.must(Session, 'DELETE', `/v1/sessions/${session}`);
    const answer = await asked;
    expect(answer.refusal).toEqual([410, 'session_ended']);
    expect(answer.problem.detail).toContain('revoked');
  });

  it('is over when an operator revokes a part of it meanwhile', async () => {
    const asked = grant(2);
    const [a, b] = await pending(2);
    await report('active', b);
    await f.world.must(Lease, 'POST', `/v1/leases/${a.id}/revoke`, { body: { reason: 'test' } });
    const answer = await asked;
    expect(answer.refusal).toEqual([410, 'lease_over']);
    expect(await statesOf([a, b])).toEqual(['ending', 'ending']);
  });

  it('is answered with what there is when the server stops, and nothing is lost', async () => {
    const asked = grant(1, '?timeout_s=60');
    const [lease] = await pending(1);
    await f.world.app.close();
    const answer = await asked;
    expect([answer.status, leasesIn(answer)[0]?.id]).toEqual([202, lease.id]);
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
    leaving.abort();
    await expect(asked).rejects.toThrow();
    await report('active', lease);
    const { items } = await world.must(LeasePage, 'GET', `/v1/leases?session=${session}`, { token: f.haproxy });
    expect(items).toMatchObject([{ id: lease.id, state: 'active' }]);
  });

  it('of the fish of a machine is for its agent, and of a proxy is not', async () => {
    const open = (holder: string) =>
      f.world.call('POST', '/v1/sessions', { token: f.agent, body: { machine: 'edge-1', holder } });
    const fish = (await open('fish')).as(Session);
    const claims = [
      { protocol: 'tcp', mode: 'shared' },
      { protocol: 'udp', ports: 64 },
    ];
    const [shared] = await f.world.grant(f.agent, fish.id, claims);
    expect(shared).toMatchObject({ mode: 'shared', binding: 'late', holder: 'fish' });
    expect((await open('haproxy')).code).toBe('not_yours');
  });
});

describe('a claim with count', () => {
  it('is that many leases, each of which the kernel may refuse and the server replace', async () => {
    const asked = f.world.call('POST', '/v1/leases', {
      token: f.haproxy,
      body: { session, claims: [{ protocol: 'udp' }, { ...claim, count: 2 }], placement: 'same_address' },
    });
    const [a, b, c] = await pending(3);
    expect([a, b, c].map(({ protocol }) => protocol)).toEqual(['udp', 'tcp', 'tcp']);
    await report('active', a, c);
    await report('refused', b);
    const [elsewhere] = await pending(1);
    expect(elsewhere.address).toBe(b.address);
    await report('active', elsewhere);
    expect(leasesIn(await asked).map(({ id }) => id)).toEqual([a.id, elsewhere.id, c.id]);
  });

  it('names the claim, and not the lease, when it is refused for good', async () => {
    const first_port = 8_192;
    const claims = [
      { protocol: 'udp', count: 2 },
      { ...claim, at: { address: '198.51.100.0', first_port } },
    ];
    const asked = f.world.call('POST', '/v1/leases', { token: f.haproxy, body: { session, claims } });
    const [, , exact] = await pending(3);
    await report('refused', exact);
    const answer = await asked;
    expect([...answer.refusal, ...answer.paths]).toEqual([409, 'claim_refused', 'body.claims[1]']);
  });

  it('of a thousand is one small request', async () => {
    const { world } = f;
    const leases = await world.grant(f.haproxy, session, [{ protocol: 'tcp', count: 1_000 }]);
    expect(new Set(leases.map(({ ports }) => ports.first)).size).toBe(1_000);
  });
});

describe('a claim that the kernel refuses', () => {
  const blocked = async () =>
    (await f.world.must(ExtentList, 'GET', `/v1/slices/${f.slice}/extents`)).extents.filter(
      ({ state }) => state === 'blocked',
    );
  const ask = (claims: readonly object[]): Promise<Answer> =>
    f.world.call('POST', '/v1/leases', { token: f.haproxy, body: { session, claims } });

  it('is granted elsewhere, while the others of the request stay as they are', async () => {
    const asked = grant(3);
    const [a, b, c] = await pending(3);
    await report('active', a, c);
    await report('refused', b);
    const [elsewhere] = await pending(1);
    await report('active', elsewhere);
    const answer = await asked;
    expect(answer.status).toBe(201);
    expect(leasesIn(answer).map(({ id, state }) => [id, state])).toEqual(
      [a, elsewhere, c].map(({ id }) => [id, 'active']),
    );
    expect(await statesOf([a, b, elsewhere, c])).toEqual(['active', 'refused', 'active', 'active']);
    expect(elsewhere.ports).not.toEqual(b.ports);
    expect((await blocked()).map(({ ports }) => ports)).toEqual([b.ports]);
  });

  it('is granted elsewhere before the others are known', async () => {
    const asked = grant(2);
    const [a, b] = await pending(2);
    await report('refused', a);
    const [, elsewhere] = await pending(2);
    await report('active', b, elsewhere);
    expect(leasesIn(await asked).map(({ id }) => id)).toEqual([elsewhere.id, b.id]);
  });

  it('is granted elsewhere several times, each claim on its own', async () => {
    const asked = grant(2);
    const [a, b] = await pending(2);
    await report('refused', a, b);
    const [a2, b2] = await pending(2);
    await report('active', b2);
    await report('refused', a2);
    const [a3] = await pending(1);
    await report('refused', a3);
    const [a4] = await pending(1);
    await report('active', a4);
    expect(leasesIn(await asked).map(({ id }) => id)).toEqual([a4.id, b2.id]);
    expect(await blocked()).toHaveLength(4);
  });

  it('stays pending elsewhere when the time is over', async () => {
    const asked = grant(2, '?timeout_s=0.3');
    const [a, b] = await pending(2);
    await report('active', b);
    await report('refused', a);
    const answer = await asked;
    expect(answer.status).toBe(202);
    expect(leasesIn(answer).map(({ state }) => state)).toEqual(['pending', 'active']);
    expect(await statesOf([a, b])).toEqual(['refused', 'active']);
  });

  it('ends the whole request when it is refused everywhere, and says which it was and why', async () => {
    const asked = grant(3);
    const [a, b, c] = await pending(3);
    await report('active', a, c);
    await report('refused', b);
    let last = b;
    for (let regrant = 1; regrant <= 3; regrant++) {
      [last] = await pending(1);
      await report('refused', last);
    }
    const answer = await asked;
    expect(answer.refusal).toEqual([409, 'claim_refused']);
    expect(answer.paths).toEqual(['body.claims[1]']);
    for (const part of ['EADDRINUSE', 'sshd (pid 812)', last.id, last.address])
      expect(answer.problem.errors?.[0]?.message).toContain(part);
    expect(await statesOf([a, b, last, c])).toEqual(['ending', 'refused', 'refused', 'ending']);
    expect(await blocked()).toHaveLength(4);
  });

  it('ends the whole request at once when it is for one block, and releases what is still pending', async () => {
    const asked = ask([{ ...claim, at: { address: '198.51.100.0', first_port: 8_192 } }, claim]);
    const [a, b] = await pending(2);
    await report('refused', a);
    const answer = await asked;
    expect([...answer.refusal, ...answer.paths]).toEqual([409, 'claim_refused', 'body.claims[0]']);
    expect(await statesOf([a, b])).toEqual(['refused', 'ending']);
    expect((await blocked()).map(({ ports }) => ports)).toEqual([{ first: 8_192, last: 8_207 }]);
  });

  it('ends the whole request when there is nothing elsewhere', async () => {
    const asked = ask([claim, { protocol: 'udp', ports: 2_048 }]);
    const [a, b] = await pending(2);
    await report('active', a);
    await report('refused', b);
    const answer = await asked;
    expect([...answer.refusal, ...answer.paths]).toEqual([409, 'claim_refused', 'body.claims[1]']);
    expect(answer.problem.detail).toContain('cannot be granted elsewhere: no free block of 2048 udp ports');
    expect(await statesOf([a, b])).toEqual(['ending', 'refused']);
  });
});

describe('ports that rest', () => {
  it('are said to leave their cooldown when there are no others', async () => {
    const { world } = f;
    const body = { session, claims: [{ protocol: 'udp', ports: 2_048 }] };
    const [lease] = await world.grant(f.haproxy, session, body.claims);
    if (lease === undefined) throw new Error('one was asked for');
    const full = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([...full.refusal, full.problem.retry_after_s]).toEqual([503, 'no_ports', undefined]);
    const release = { token: f.haproxy, body: { token: lease.token } };
    await world.must(Lease, 'POST', `/v1/leases/${lease.id}/release`, release);
    await report('empty', lease);
    const resting = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([...resting.refusal, resting.problem.retry_after_s]).toEqual([503, 'no_ports', 10]);
    expect(resting.headers['retry-after']).toBe('10');
    world.clock.advance_s(10);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    expect((await world.call('POST', '/v1/leases?wait=stored', { token: f.haproxy, body })).status).toBe(201);
  });

  it('are waited for by the time that is said, also when nobody has leased them since an operator unblocked them', async () => {
    const { world } = f;
    const body = { session, claims: [{ protocol: 'udp', ports: 2_048 }] };
    const [lease] = await world.grant(f.haproxy, session, body.claims);
    if (lease === undefined) throw new Error('one was asked for');
    await report('refused', lease);
    const strange = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([...strange.refusal, strange.problem.retry_after_s]).toEqual([503, 'no_ports', undefined]);
    const unblock = { body: { protocol: 'udp', ports: lease.ports } };
    expect((await world.call('POST', `/v1/slices/${f.slice}/unblock`, unblock)).status).toBe(200);
    world.clock.advance_s(3);
    const resting = await world.call('POST', '/v1/leases', { token: f.haproxy, body });
    expect([...resting.refusal, resting.problem.retry_after_s]).toEqual([503, 'no_ports', 7]);
    expect(resting.headers['retry-after']).toBe('7');
    world.clock.advance_s(7);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    expect((await world.call('POST', '/v1/leases?wait=stored', { token: f.haproxy, body })).status).toBe(201);
  });
});
