import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AppliedAnswer, Desired } from '../../src/wire/agent.ts';
import { Lease, LeaseList, LeasePage } from '../../src/wire/leases.ts';
import { ExtentList } from '../../src/wire/slices.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const reservation = { machine: 'edge-1', holder: 'squid', unit: 'squid.service' };
const claims = [{ protocol: 'tcp', ports: 16 }];
const reserve = async (body: object = { reservation, claims }): Promise<Lease> => {
  const { leases } = await f.world.must(LeaseList, 'POST', '/v1/leases?wait=stored', { body });
  const [lease] = leases;
  if (lease === undefined) throw new Error('one was asked for');
  return lease;
};
const applied = (body: object) =>
  f.world.must(AppliedAnswer, 'POST', '/v1/machines/edge-1/applied', {
    token: f.agent,
    body: { revision: 0, leases: [], slices: [], ...body },
  });

describe('a reservation', () => {
  it('is an operator’s to give, and waits for the agent like any grant', async () => {
    const asked = f.world.call('POST', '/v1/leases', { body: { reservation, claims } });
    const pending = await vi.waitUntil(async () => {
      const { leases } = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
      return leases[0];
    });
    expect(pending).toMatchObject({ session: null, unit: 'squid.service', holder: 'squid' });
    await f.world.report(f.agent, 'edge-1', [pending], 'active');
    const answer = await asked;
    expect([answer.status, answer.as(LeaseList).leases[0]?.state]).toEqual([201, 'active']);
  });

  it('is nothing for other roles', async () => {
    for (const token of [f.agent, f.squid])
      expect((await f.world.call('POST', '/v1/leases', { token, body: { reservation, claims } })).refusal).toEqual([
        403,
        'forbidden',
      ]);
  });

  it('stands instead of a session, never beside one', async () => {
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const refusal = async (body: object) => {
      const answer = await f.world.call('POST', '/v1/leases', { body });
      return [...answer.refusal, ...answer.paths];
    };
    const wrong = [400, 'validation_failed', 'body.session'];
    expect(await refusal({ session, reservation, claims })).toEqual(wrong);
    expect(await refusal({ claims })).toEqual(wrong);
    expect(await refusal({ reservation: { ...reservation, unit: '../x' }, claims })).toEqual([
      ...[400, 'validation_failed', 'body.reservation.unit'],
    ]);
    expect(await refusal({ reservation: { ...reservation, machine: 'edge-9' }, claims })).toEqual([
      404,
      'machine_not_found',
    ]);
    expect(await refusal({ reservation: { ...reservation, holder: 'feed' }, claims })).toEqual([
      404,
      'holder_not_found',
    ]);
  });

  it('is listed with reserved=true, and released by its holder with its token', async () => {
    const lease = await reserve();
    const session = await f.world.openSession(f.squid, 'edge-1', 'squid');
    await f.world.grant(f.squid, session.id, claims);
    const list = (query: string) => f.world.must(LeasePage, 'GET', `/v1/leases?${query}`, { token: f.squid });
    expect((await list('reserved=true')).items.map(({ id }) => id)).toEqual([lease.id]);
    expect((await list('reserved=true&state=active')).items).toEqual([]);
    expect((await list('')).items).toHaveLength(2);
    const both = await f.world.call('GET', `/v1/leases?reserved=true&session=${session.id}`);
    expect([...both.refusal, ...both.paths]).toEqual([400, 'validation_failed', 'query.reserved']);
    const release = { token: f.squid, body: { token: lease.token } };
    expect((await f.world.must(Lease, 'POST', `/v1/leases/${lease.id}/release`, release)).ending).toBe('released');
  });

  it('ends when the agent reports that its unit is gone', async () => {
    const { id, token } = await reserve();
    expect((await applied({ leases: [{ lease: id, token, state: 'unit_gone' }] })).rejected).toEqual([]);
    expect(await f.world.must(Lease, 'GET', `/v1/leases/${id}`)).toMatchObject({
      state: 'ending',
      ending: 'released',
      reason: 'the unit squid.service is gone',
    });
    const other = await reserve({ reservation: { machine: 'edge-1', holder: 'squid' }, claims });
    const { rejected } = await applied({ leases: [{ lease: other.id, token: other.token, state: 'unit_gone' }] });
    expect(rejected.map(({ item, code }) => [item, code])).toEqual([[other.id, 'no_unit']]);
  });
});

describe('blocked ports', () => {
  it('are in the snapshot of the agent, which reports when their stranger is gone', async () => {
    const lease = await reserve();
    await f.world.report(f.agent, 'edge-1', [lease], 'refused');
    const snapshot = () => f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    const { blocked } = await snapshot();
    expect(blocked).toEqual([{ slice: f.slice, generation: 1, protocol: 'tcp', ports: lease.ports }]);
    const stale = blocked.map((ports) => ({ ...ports, generation: 2 }));
    expect((await applied({ clear: stale })).rejected.map(({ code }) => code)).toEqual(['stale_token']);
    expect((await applied({ clear: blocked })).rejected).toEqual([]);
    expect((await applied({ clear: blocked })).rejected.map(({ code }) => code)).toEqual(['nothing_blocked']);
    expect((await snapshot()).blocked).toEqual([]);
  });

  it('are shown on a shared extent too', async () => {
    const session = async (token: string, holder: string) => (await f.world.openSession(token, 'edge-1', holder)).id;
    const shared = [{ protocol: 'tcp', mode: 'shared', ports: 64 }];
    const [first] = await f.world.grant(f.haproxy, await session(f.haproxy, 'haproxy'), shared);
    const [second] = await f.world.grant(f.squid, await session(f.squid, 'squid'), shared);
    if (!first || !second) throw new Error('two were asked for');
    expect(second.ports).toEqual(first.ports);
    await f.world.report(f.agent, 'edge-1', [second], 'refused');
    const { extents } = await f.world.must(ExtentList, 'GET', `/v1/slices/${f.slice}/extents`);
    const extent = extents.find(({ state }) => state === 'shared');
    expect(extent).toMatchObject({ ports: first.ports, leases: [first.id] });
    expect(extent?.blocked?.reason).toContain('sshd (pid 812)');
  });
});
