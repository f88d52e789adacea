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
    const answer = await explain({ machine: 'edge-1', holder: 'squid', claim: { ...claim, count: 2 } });
    expect(answer).toMatchObject({ granted: true, reason: null, machine_state: 'active', holder: 'squid' });
    expect(answer.leases).toHaveLength(2);
    expect(answer.leases[0]).toMatchObject({ slice: f.slice, pool: 'fra1', ports: { first: 10_224, last: 10_239 } });
    expect(answer.rooms).toEqual([
      {
        pool: 'fra1',
        family: 4,
        unsuitable: null,
        ports: { free: 2_048, withheld: 0, machine_allocated: 0, exclusive: 0, shared: 0, cooling: 0, blocked: 0 },
        largest_block_ports: 2_048,
      },
    ]);
    expect((await explain({ machine: 'edge-1', claim })).holder).toBeNull();
  });

  it('gives the reason why nothing would be granted as its problem would', async () => {
    const body = { claims: [{ ...claim, ports: 4_096 }] };
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const refused = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, ...body } });
    const { granted, reason, leases } = await explain({ session, claim: body.claims[0] }, f.squid);
    expect([granted, leases]).toEqual([false, []]);
    expect(reason?.code).toBe(refused.code);
    expect(reason?.detail).toBe(refused.problem.detail);
    expect(reason?.remedy).not.toBe('');
  });

  it('says that no wait helps for an address that the machine has nothing on', async () => {
    const there = { ...claim, address: '198.51.100.1' };
    expect((await explain({ machine: 'edge-1', claim: there })).reason?.code).toBe('no_slices');
    expect((await explain({ machine: 'edge-1', claim: { ...there, address: '198.51.100.0' } })).granted).toBe(true);
    const crooked = await f.world.call('POST', '/v1/explain', {
      body: { machine: 'edge-1', claim: { ...there, family: 6 } },
    });
    expect([...crooked.refusal, ...crooked.paths]).toEqual([400, 'validation_failed', 'body.claim.address']);
  });

  it('says with a remedy of its own that the machine grants itself, as a grant does', async () => {
    await handOver(f);
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const refused = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, claims: [claim] } });
    expect(refused.refusal).toEqual([409, 'machine_allocates']);
    expect(refused.problem).not.toHaveProperty('retry_after_s');
    const { granted, reason, rooms } = await explain({ session, claim }, f.squid);
    expect([granted, reason?.code, reason?.detail]).toEqual([false, 'machine_allocates', refused.problem.detail]);
    expect(reason?.remedy).toMatch(/broker on the host.*allocator/);
    expect(rooms).toMatchObject([{ unsuitable: 'machine_allocates', ports: { free: 0, machine_allocated: 2_048 } }]);
    const here = { ...claim, at: { address: '198.51.100.0', first_port: 8_192 } };
    const named = await f.world.call('POST', '/v1/leases', { token: f.squid, body: { session, claims: [here] } });
    expect(named.refusal).toEqual([409, 'machine_allocates']);
    expect(named.problem.detail).toBe(`"edge-1" grants in ${f.slice} itself`);
  });

  it('is about themselves for holders and agents, about everybody for viewers', async () => {
    expect((await explain({ machine: 'edge-1', claim }, f.squid)).holder).toBe('squid');
    const refusal = async (token: string, body: object) =>
      (await f.world.call('POST', '/v1/explain', { token, body })).refusal;
    expect(await refusal(f.squid, { machine: 'edge-1', holder: 'haproxy', claim })).toEqual([403, 'not_yours']);
    expect(await refusal(f.agent, { machine: 'edge-1', holder: 'haproxy', claim })).toEqual([403, 'not_yours']);
    expect(await refusal(f.agent, { machine: 'edge-1', claim })).toEqual([403, 'not_yours']);
    expect((await explain({ machine: 'edge-1', holder: 'fish', claim }, f.agent)).granted).toBe(true);
    const viewer = await f.world.token('viewer');
    expect((await explain({ machine: 'edge-1', holder: 'haproxy', claim }, viewer)).granted).toBe(true);
  });

  it('asks about a session or a machine, about something that is there', async () => {
    const refusal = async (body: object) => {
      const answer = await f.world.call('POST', '/v1/explain', { body });
      return answer.refusal[1] === 'validation_failed' ? answer.paths : answer.refusal;
    };
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    expect(await refusal({ claim })).toEqual(['body.session']);
    expect(await refusal({ session, machine: 'edge-1', claim })).toEqual(['body.session']);
    expect(await refusal({ session, holder: 'squid', claim })).toEqual(['body.holder']);
    expect(await refusal({ machine: 'edge-9', claim })).toEqual([404, 'machine_not_found']);
    expect(await refusal({ machine: 'edge-1', holder: 'nobody', claim })).toEqual([404, 'holder_not_found']);
    expect(await refusal({ session: 'session-999', claim })).toEqual([404, 'session_not_found']);
  });
});
