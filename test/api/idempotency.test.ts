import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { takesKey } from '../../src/api/provenance.ts';
import { AppliedAnswer } from '../../src/wire/agent.ts';
import { LeaseList, LeasePage } from '../../src/wire/leases.ts';
import { PoolPage } from '../../src/wire/pools.ts';
import { Session, SessionPage } from '../../src/wire/sessions.ts';
import { SliceList } from '../../src/wire/slices.ts';
import { TokenCreated, TokenPage } from '../../src/wire/tokens.ts';
import { furnished, type CallOptions, type Furnished, type Method } from '../support/api-world.ts';

let town: Furnished;
beforeEach(async () => void (town = await furnished()));
afterEach(() => town.world[Symbol.asyncDispose]());

const withKey = (key: string, rest: CallOptions = {}): CallOptions => ({
  ...rest,
  headers: { ...rest.headers, 'idempotency-key': key },
});
const tcp = { protocol: 'tcp', ports: 8 };

async function session(): Promise<string> {
  return (await town.world.openSession(town.haproxy, 'edge-1', 'haproxy')).id;
}

describe('the same request under the same Idempotency-Key', () => {
  it('is carried out once and answered as before, whatever it changes', async () => {
    const { world, haproxy, agent, slice } = town;
    const opened = await session();
    const [lease, other] = await world.grant(haproxy, opened, [tcp, tcp]);
    if (!lease || !other) throw new Error('no leases');
    const calls: readonly (readonly [Method, string, CallOptions])[] = [
      ['POST', '/v1/pools', { body: { id: 'ams1', prefixes: ['2001:db8::/48'] } }],
      ['PATCH', '/v1/pools/ams1', { body: { labels: { site: 'ams' } }, headers: { 'if-match': '*' } }],
      ['POST', '/v1/machines', { body: { id: 'edge-9' } }],
      ['PUT', '/v1/machines/edge-9/holders/web', { body: { kind: 'proxy', uid: 1_009 } }],
      ['POST', '/v1/slices', { body: { machine: 'edge-9', pool: 'ams1', count: 2 } }],
      ['POST', '/v1/sessions', { token: haproxy, body: { machine: 'edge-1', holder: 'haproxy', ttl_s: 60 } }],
      ['POST', '/v1/leases?wait=stored', { token: haproxy, body: { session: opened, claims: [tcp] } }],
      ['POST', `/v1/leases/${lease.id}/release`, { token: haproxy, body: { token: lease.token } }],
      ['POST', `/v1/leases/${other.id}/revoke`, { body: { reason: 'abuse' } }],
      ['DELETE', `/v1/sessions/${opened}`, { token: haproxy }],
    ];
    for (const [index, [method, url, options]] of calls.entries()) {
      const call = () => world.call(method, url, withKey(`key-${index}`, options));
      const first = await call();
      expect([method, url, first.status < 300, first.headers['idempotency-replayed']]).toEqual([
        ...[method, url, true],
        undefined,
      ]);
      const before = world.snapshot();
      const again = await call();
      expect([again.status, again.text, again.headers['idempotency-replayed']]).toEqual([
        ...[first.status, first.text],
        'true',
      ]);
      expect(world.snapshot()).toBe(before);
    }
    const { rejected } = await world.must(AppliedAnswer, 'POST', '/v1/machines/edge-1/applied', {
      token: agent,
      body: { revision: 0, leases: [], slices: [{ slice, generation: 1, state: 'assigned' }] },
    });
    expect(rejected).toEqual([]);
  });

  it('is carried out once when it comes many times at once', async () => {
    const { world, haproxy } = town;
    const body = { session: await session(), claims: [tcp, tcp] };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        world.call('POST', '/v1/leases?wait=stored', withKey('once', { token: haproxy, body })),
      ),
    );
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === 'true')).toHaveLength(19);
    expect((await world.must(LeasePage, 'GET', '/v1/leases')).items).toHaveLength(2);
  });

  it('is another request when it says something else: 422, and nothing changes', async () => {
    const { world, haproxy } = town;
    const opened = await session();
    const ask = (url: string, body: object) => world.call('POST', url, withKey('k', { token: haproxy, body }));
    expect((await ask('/v1/leases?wait=stored', { session: opened, claims: [tcp] })).status).toBe(201);
    const before = world.snapshot();
    for (const [url, body] of [
      ['/v1/leases?wait=stored', { session: opened, claims: [tcp, tcp] }],
      ['/v1/leases?wait=applied', { session: opened, claims: [tcp] }],
      ['/v1/sessions', { machine: 'edge-1', holder: 'haproxy', ttl_s: 60 }],
    ] as const) {
      const answer = await ask(url, body);
      expect(answer.refusal).toEqual([422, 'idempotency_key_reused']);
      expect(answer.problem.detail).toMatch(/^"k" was used for another request at \d{4}-/);
    }
    expect(world.snapshot()).toBe(before);
  });

  it('says the same whether or not it spells out what is the default, and however it is spaced', async () => {
    const { world } = town;
    const payloads = ['{"id":"m1"}', '{ "id": "m1", "labels": {}, "fence_s": 30 }'];
    const answers = await Promise.all(
      payloads.map((payload) => world.call('POST', '/v1/machines', withKey('k', { payload }))),
    );
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
  });

  it('is nobody else’s: every token has keys of its own', async () => {
    const { world, haproxy, squid } = town;
    for (const [token, holder] of [
      [haproxy, 'haproxy'],
      [squid, 'squid'],
    ] as const) {
      const body = { machine: 'edge-1', holder, ttl_s: 60 };
      const answer = await world.call('POST', '/v1/sessions', withKey('k', { token, body }));
      expect([answer.status, answer.headers['idempotency-replayed']]).toEqual([201, undefined]);
    }
    expect((await world.must(SessionPage, 'GET', '/v1/sessions')).items).toHaveLength(2);
  });

  it('is tried anew after it was refused, and after the store could not write it', async () => {
    const { world } = town;
    const ask = () => world.call('POST', '/v1/slices', withKey('k', { body: { machine: 'late', pool: 'fra1' } }));
    expect((await ask()).refusal).toEqual([404, 'machine_not_found']);
    world.failure = new Error('torn cable');
    expect((await ask()).status).toBe(500);
    world.failure = undefined;
    await world.call('POST', '/v1/machines', { body: { id: 'late' } });
    expect((await ask()).as(SliceList).slices).toHaveLength(1);
  });

  it('gets no lease back that is over: 410 with the state of each', async () => {
    const { world, haproxy, agent } = town;
    const body = { session: await session(), claims: [tcp, tcp] };
    const ask = () => world.call('POST', '/v1/leases?wait=stored', withKey('k', { token: haproxy, body }));
    const { leases } = (await ask()).as(LeaseList);
    const [first, last] = leases;
    if (!first || !last) throw new Error('no leases');
    await world.report(agent, 'edge-1', [first], 'active');
    expect((await ask()).as(LeaseList).leases.map(({ state }) => state)).toEqual(['active', 'pending']);
    await world.report(agent, 'edge-1', [last], 'refused');
    const answer = await ask();
    expect([answer.refusal, answer.headers['idempotency-replayed']]).toEqual([[410, 'replay_over'], 'true']);
    expect(answer.problem.errors).toEqual([
      { path: first.id, message: `${first.id} is active` },
      { path: last.id, message: `${last.id} is refused` },
    ]);
    await world.call('DELETE', `/v1/sessions/${body.session}`, { token: haproxy });
    expect((await ask()).problem.errors?.[0]).toEqual({ path: first.id, message: `${first.id} is ending (released)` });
  });

  it('gets no session back that has ended', async () => {
    const { world, haproxy } = town;
    const body = { machine: 'edge-1', holder: 'haproxy', ttl_s: 60 };
    const ask = () => world.call('POST', '/v1/sessions', withKey('k', { token: haproxy, body }));
    const { id } = (await ask()).as(Session);
    await world.call('DELETE', `/v1/sessions/${id}`, { token: haproxy });
    const answer = await ask();
    expect(answer.refusal).toEqual([410, 'replay_over']);
    expect(answer.problem.detail).toBe(`granted to the same request before: ${id} is ended (released)`);
  });

  it('never shows a secret twice, and says which token it is that was made', async () => {
    const { world } = town;
    const ask = () => world.call('POST', '/v1/tokens', withKey('k', { body: { name: 'ci', role: 'viewer' } }));
    const made = (await ask()).as(TokenCreated);
    const answer = await ask();
    expect(answer.refusal).toEqual([409, 'secret_shown_once']);
    expect(answer.problem.detail).toContain(made.token.id);
    expect(answer.text).not.toContain(made.secret);
    const named = (await world.must(TokenPage, 'GET', '/v1/tokens')).items.filter(({ name }) => name === 'ci');
    expect(named.map(({ id }) => id)).toEqual([made.token.id]);
  });

  it('is as good as new when it was only tried before', async () => {
    const { world } = town;
    const body = { id: 'ams1', prefixes: ['192.0.2.0/24'] };
    const first = await world.call('POST', '/v1/pools?dry_run=true', withKey('k', { body }));
    const second = await world.call('POST', '/v1/pools', withKey('k', { body }));
    expect([first.status, second.status, second.headers['idempotency-replayed']]).toEqual([201, 201, undefined]);
    expect((await world.must(PoolPage, 'GET', '/v1/pools')).items.map(({ id }) => id)).toEqual(['ams1', 'fra1']);
  });
});

describe('a grant that waits for the agent, and comes again', () => {
  const ask = async (opened: string, query = 'timeout_s=10') => {
    const body = { session: opened, claims: [tcp, tcp] };
    return town.world.call('POST', `/v1/leases?${query}`, withKey('k', { token: town.haproxy, body }));
  };
  const pending = async () =>
    (await town.world.must(LeasePage, 'GET', '/v1/leases?state=pending')).items.sort((a, b) =>
      a.granted_at < b.granted_at ? -1 : 1,
    );
  const untilPending = async (count: number) => {
    for (let tries = 0; tries < 500; tries++) {
      const leases = await pending();
      if (leases.length === count) return leases;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`there are never ${count} pending leases`);
  };

  it('waits as the first does, and both get the same leases', async () => {
    const opened = await session();
    const both = Promise.all([ask(opened), ask(opened)]);
    const leases = await untilPending(2);
    await town.world.report(town.agent, 'edge-1', leases, 'active');
    const [one, other] = await both;
    expect([one.status, other.status]).toEqual([201, 201]);
    expect(other.text).toBe(one.text);
  });

  it('shares what is granted elsewhere for what the kernel refused, and nothing is granted twice', async () => {
    const opened = await session();
    const both = Promise.all([ask(opened), ask(opened)]);
    const [first, last] = await untilPending(2);
    if (!first || !last) throw new Error('no leases');
    await town.world.report(town.agent, 'edge-1', [last], 'active');
    await town.world.report(town.agent, 'edge-1', [first], 'refused');
    const [instead] = await untilPending(1);
    if (!instead) throw new Error('nothing instead');
    await town.world.report(town.agent, 'edge-1', [instead], 'active');
    for (const answer of await both)
      expect(answer.as(LeaseList).leases.map(({ id, state }) => [id, state])).toEqual([
        [instead.id, 'active'],
        [last.id, 'active'],
      ]);
    const { items } = await town.world.must(LeasePage, 'GET', '/v1/leases');
    expect(items.map(({ id }) => id).sort()).toEqual([first.id, last.id, instead.id].sort());
    // Long after it was answered, too.
    expect((await ask(opened)).as(LeaseList).leases.map(({ id }) => id)).toEqual([instead.id, last.id]);
  });

  it('goes on where the first stopped when that one’s time was over', async () => {
    const opened = await session();
    const late = await ask(opened, 'timeout_s=0');
    expect([late.status, late.headers['retry-after']]).toEqual([202, '1']);
    const leases = await pending();
    await town.world.report(town.agent, 'edge-1', leases, 'active');
    const again = await ask(opened, 'timeout_s=0');
    expect([again.status, again.headers['idempotency-replayed']]).toEqual([201, 'true']);
  });
});

describe('the Idempotency-Key itself', () => {
  it.each(['', ' ', 'a b', 'ä', 'x'.repeat(256)])('is refused as %j', async (key) => {
    const answer = await town.world.call('POST', '/v1/machines', withKey(key, { body: { id: 'm1' } }));
    expect([answer.refusal, answer.paths]).toEqual([[400, 'validation_failed'], ['header.idempotency-key']]);
  });

  it('is looked at neither where nothing changes, nor where coming again is harmless', async () => {
    const { world, haproxy } = town;
    const opened = await session();
    const calls = [
      ['GET', '/v1/pools', world.operator],
      ['POST', `/v1/sessions/${opened}/keepalive`, haproxy],
    ] as const;
    for (const [method, url, token] of [...calls, ...calls]) {
      const answer = await world.call(method, url, withKey('k', { token }));
      expect([answer.status, answer.headers['idempotency-replayed']]).toEqual([200, undefined]);
    }
    expect(JSON.parse(world.snapshot())).toMatchObject({ keptAnswers: [] });
  });

  it('is taken by every operation that changes something, and said so in the document', () => {
    const without = town.world.app.operations.filter(({ method, operation }) => !takesKey(method, operation));
    expect(
      without
        .filter(({ method }) => method !== 'GET')
        .map(({ operation }) => operation.id)
        .sort(),
    ).toEqual([
      'answerFlowQuery',
      'answerRequest',
      'attributeBulk',
      'explainGrant',
      'keepMachine',
      'keepSession',
      'reportApplied',
      'reportGranted',
      'reportRoutesApplied',
    ]);
  });
});
