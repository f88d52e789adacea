import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Explanation } from '../../src/wire/explain.ts';
import { furnished, handOver, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const explain = (body: object, token: string = f.world.operator) =>
  f.world.must(Explanation, 'POST', '/v1/explain', { token, body });
const claim = { protocol: 'tcp', ports: 16 };

describe('POST /v1/explain', () => {
  it('says what would be granted, and how full the machine is', async () => {
    const answer = await explain({ machine: 'edge-1', holder: 'squid', claims: [{ ...claim, count: 2 }] });
    expect(answer).toMatchObject({ granted: true, reason: null, machine_state: 'active', holder: 'squid' });
    expect(answer.leases).toHaveLength(2);
    expect(answer.leases[0]).toMatchObject({ slice: f.slice, pool: 'fra1', ports: { first: 10_224, last: 10_239 } });
    expect(answer.claims[0]?.rooms).toEqual([
      {
        pool: 'fra1',
        family: 4,
        unsuitable: null,
        ports: { free: 2_048, withheld: 0, machine_allocated: 0, exclusive: 0, shared: 0, cooling: 0, blocked: 0 },
        largest_block_ports: 2_048,
      },
    ]);
    expect((await explain({ machine: 'edge-1', claims: [claim] })).holder).toBeNull();
  });

  it('takes what a grant takes, and tells of each claim what is in its way', async () => {
    const claims = [
      claim,
      { protocol: 'tcp', ports: 4_096 },
      { protocol: 'udp', count: 3 },
      { ...claim, pool: 'other' },
    ];
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const body = { session, claims, placement: 'spread' };
    const refused = await f.world.call('POST', '/v1/leases', { token: f.squid, body });
    const answer = await explain(body, f.squid);
    expect(answer).toMatchObject({ granted: false, failed_claim: 1, leases: [] });
    expect(answer.reason?.detail).toBe(refused.problem.detail);
    expect(answer.claims.map(({ granted, reason }) => [granted, reason?.code])).toEqual([
      [true, undefined],
      [false, refused.code],
      [true, undefined],
      [false, 'pool_not_found'],
    ]);
    expect(answer.claims[1]?.reason).toEqual(answer.reason);
    const all = await explain({ session, claims: [claim, { protocol: 'udp', count: 3 }] }, f.squid);
    expect(all).toMatchObject({ granted: true, reason: null, failed_claim: null });
    expect(all.leases.map(({ protocol }) => protocol)).toEqual(['tcp', 'udp', 'udp', 'udp']);
    const many = {
      session,
      claims: [
        { ...claim, count: 1_000 },
        { ...claim, count: 25 },
      ],
    };
    const answered = await f.world.call('POST', '/v1/explain', { token: f.squid, body: many });
    expect([answered.status, ...answered.paths]).toEqual([400, 'body.claims']);
  });

  it('gives the reason why nothing would be granted as its problem would', async () => {
    const body = { claims: [{ ...claim, ports: 4_096 }] };
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const refused = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, ...body } });
    const { granted, reason, leases } = await explain({ session, ...body }, f.squid);
    expect([granted, leases]).toEqual([false, []]);
    expect(reason?.code).toBe(refused.code);
    expect(reason?.detail).toBe(refused.problem.detail);
    expect(reason?.remedy).not.toBe('');
  });

  it('says that no wait helps for an address that the machine has nothing on', async () => {
    const there = { ...claim, address: '198.51.100.1' };
    const nowhere = await explain({ machine: 'edge-1', claims: [there] });
    expect([nowhere.reason?.code, nowhere.reason?.detail]).toEqual([
      'no_slices',
      'machine "edge-1" has no assigned slice on 198.51.100.1 that matches',
    ]);
    expect(nowhere.claims[0]?.rooms.map(({ unsuitable }) => unsuitable)).toEqual(['other_address']);
    const full = { ...claim, ports: 2_048, address: '198.51.100.0' };
    const twice = await explain({ machine: 'edge-1', claims: [full, full] });
    expect(twice.reason?.detail).toBe('no free block of 2048 tcp ports on 198.51.100.0 of "edge-1"');
    expect(twice.claims[1]?.rooms.map(({ unsuitable }) => unsuitable)).toEqual([null]);
    expect((await explain({ machine: 'edge-1', claims: [{ ...there, address: '198.51.100.0' }] })).granted).toBe(true);
    const crooked = await f.world.call('POST', '/v1/explain', {
      body: { machine: 'edge-1', claims: [{ ...there, family: 6 }] },
    });
    expect([...crooked.refusal, ...crooked.paths]).toEqual([400, 'validation_failed', 'body.claims[0].address']);
  });

  it('says with a remedy of its own that the machine grants itself, as a grant does', async () => {
    await handOver(f);
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const refused = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, claims: [claim] } });
    expect(refused.refusal).toEqual([409, 'machine_allocates']);
    expect(refused.problem).not.toHaveProperty('retry_after_s');
    const { granted, reason, claims } = await explain({ session, claims: [claim] }, f.squid);
    expect([granted, reason?.code, reason?.detail]).toEqual([false, 'machine_allocates', refused.problem.detail]);
    expect(reason?.remedy).toMatch(/broker on the host.*allocator/);
    expect(claims[0]?.rooms).toMatchObject([
      { unsuitable: 'machine_allocates', ports: { free: 0, machine_allocated: 2_048 } },
    ]);
    const here = { ...claim, at: { address: '198.51.100.0', first_port: 8_192 } };
    const named = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, claims: [here] } });
    expect(named.refusal).toEqual([409, 'machine_allocates']);
    expect(named.problem.detail).toBe(`"edge-1" grants in ${f.slice} itself`);
  });

  it('is about themselves for holders and agents, about everybody for viewers', async () => {
    expect((await explain({ machine: 'edge-1', claims: [claim] }, f.squid)).holder).toBe('squid');
    const refusal = async (token: string, body: object) =>
      (await f.world.call('POST', '/v1/explain', { token, body })).refusal;
    expect(await refusal(f.squid, { machine: 'edge-1', holder: 'haproxy', claims: [claim] })).toEqual([
      403,
      'not_yours',
    ]);
    expect(await refusal(f.agent, { machine: 'edge-1', holder: 'haproxy', claims: [claim] })).toEqual([
      403,
      'not_yours',
    ]);
    expect(await refusal(f.agent, { machine: 'edge-1', claims: [claim] })).toEqual([403, 'not_yours']);
    expect((await explain({ machine: 'edge-1', holder: 'fish', claims: [claim] }, f.agent)).granted).toBe(true);
    const viewer = await f.world.token('viewer');
    expect((await explain({ machine: 'edge-1', holder: 'haproxy', claims: [claim] }, viewer)).granted).toBe(true);
  });

  it('asks about a session or a machine, about something that is there', async () => {
    const refusal = async (body: object) => {
      const answer = await f.world.call('POST', '/v1/explain', { body });
      return answer.refusal[1] === 'validation_failed' ? answer.paths : answer.refusal;
    };
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    expect(await refusal({ claims: [claim] })).toEqual(['body.session']);
    expect(await refusal({ session, machine: 'edge-1', claims: [claim] })).toEqual(['body.session']);
    expect(await refusal({ session, holder: 'squid', claims: [claim] })).toEqual(['body.holder']);
    expect(await refusal({ machine: 'edge-9', claims: [claim] })).toEqual([404, 'machine_not_found']);
    expect(await refusal({ machine: 'edge-1', holder: 'nobody', claims: [claim] })).toEqual([404, 'holder_not_found']);
    expect(await refusal({ session: 'session-999', claims: [claim] })).toEqual([404, 'session_not_found']);
  });
});
