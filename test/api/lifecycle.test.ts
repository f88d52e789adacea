import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppliedAnswer, Desired } from '../../src/wire/agent.ts';
import { Lease } from '../../src/wire/leases.ts';
import { Machine } from '../../src/wire/machines.ts';
import { Revocation, RevocationPage } from '../../src/wire/revocations.ts';
import { Slice, SliceList } from '../../src/wire/slices.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Slices and leases over their whole life, as an operator and an agent see it. */

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const post = (verb: string, body?: object) =>
  f.world.call('POST', `/v1/slices/${f.slice}/${verb}`, body === undefined ? {} : { body });
const sweep = () => f.world.run({ kind: 'sweep', itemsMax: 100 });
const read = () => f.world.must(Slice, 'GET', `/v1/slices/${f.slice}`);
const say = (machine: string, token: string, body: object) =>
  f.world.must(AppliedAnswer, 'POST', `/v1/machines/${machine}/applied`, {
    token,
    body: { revision: 0, leases: [], slices: [], ...body },
  });
async function lease(): Promise<Lease> {
  const { id } = await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
  const [granted] = await f.world.grant(f.haproxy, id, [{ protocol: 'tcp', ports: 16 }]);
  if (granted === undefined) throw new Error('one was asked for');
  return granted;
}
const look = ({ id }: Lease) => f.world.must(Lease, 'GET', `/v1/leases/${id}`);

describe('a slice', () => {
  it('moves by a deadline: its leases end then, and the other machine has it after the rest', async () => {
    const one = await lease();
    const moving = (await post('move', { machine: 'edge-2', deadline_s: 5 })).as(Slice);
    expect(moving).toMatchObject({ state: 'draining', next: { machine: 'edge-2', allocator: 'server' } });
    expect(moving.drain_by).not.toBeNull();
    expect((await look(one)).state).toBe('pending');
    f.world.clock.advance_s(6);
    await sweep();
    expect(await look(one)).toMatchObject({ state: 'ending', ending: 'moved' });
    await say('edge-1', f.agent, { leases: [{ lease: one.id, token: one.token, state: 'empty' }] });
    await say('edge-1', f.agent, { slices: [{ slice: f.slice, generation: 1, state: 'empty' }] });
    f.world.clock.advance_s(11);
    await sweep();
    await sweep();
    expect(await read()).toMatchObject({ state: 'assigning', machine: 'edge-2', generation: 2, next: null });
  });

  it('is not moved in two ways at once, nor to nowhere', async () => {
    const before = f.world.snapshot();
    const both = await post('move', { machine: 'edge-2', deadline_s: 5, force: true });
    expect(both.refusal).toEqual([400, 'validation_failed']);
    expect((await post('move', { machine: 'edge-9' })).refusal).toEqual([404, 'machine_not_found']);
    expect((await post('move', { machine: 'edge-1' })).refusal).toEqual([409, 'slice_there_already']);
    expect((await post('reclaim')).refusal).toEqual([409, 'machine_reachable']);
    expect((await post('allocator', { allocator: 'nobody' })).code).toBe('validation_failed');
    expect(f.world.snapshot()).toEqual(before);
  });

  it('is reclaimed from a machine that fell silent, which hears of it when it is back', async () => {
    await lease();
    f.world.clock.advance_s(30);
    await sweep();
    const early = await post('reclaim');
    expect(early.refusal).toEqual([409, 'reclaim_too_early']);
    const { retry_after_s = 0 } = early.problem;
    expect(retry_after_s).toBeGreaterThan(0);
    f.world.clock.advance_s(retry_after_s);
    const taken = (await post('reclaim')).as(Slice);
    expect(taken).toMatchObject({ state: 'draining', reclaimed: true });
    const keepalive = (applied_revision: number) =>
      f.world.call('POST', '/v1/machines/edge-1/keepalive', {
        token: f.agent,
        body: { boot_id: 'boot', version: '1', applied_revision },
      });
    expect((await keepalive(0)).refusal).toEqual([409, 'machine_behind']);
    const desired = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    expect([desired.slices.filter(({ id }) => id === f.slice), desired.leases]).toEqual([[], []]);
    const { rejected } = await say('edge-1', f.agent, {
      slices: [{ slice: f.slice, generation: 1, state: 'empty' }],
    });
    expect(rejected).toMatchObject([{ item: f.slice, code: 'reclaimed' }]);
    expect((await keepalive(desired.revision)).status).toBe(200);
  });

  it('is assigned and moved for the machine to grant in itself, and so are those that it wants', async () => {
    const pool = {
      id: 'own',
      prefixes: ['203.0.113.0/32'],
      slice_ports: 16_384,
      cooldown_s: { tcp: 0, udp: 0, icmp: 0 },
    };
    await f.world.call('POST', '/v1/pools', { body: pool });
    await f.world.call('POST', '/v1/machines', { body: { id: 'bare', enforcement: 'none' } });
    const assign = (machine: string, allocator?: string) =>
      f.world.call('POST', '/v1/slices', { body: { machine, pool: 'own', allocator } });
    expect((await assign('edge-1', 'machine')).as(SliceList).slices).toMatchObject([{ allocator: 'machine' }]);
    expect((await assign('edge-1')).as(SliceList).slices).toMatchObject([{ allocator: 'server' }]);
    const before = f.world.snapshot();
    expect((await assign('bare', 'machine')).refusal).toEqual([409, 'allocator_needs_agent']);
    expect((await assign('edge-1', 'nobody')).code).toBe('validation_failed');
    const toBare = { machine: 'bare', allocator: 'machine' };
    expect((await post('move', toBare)).refusal).toEqual([409, 'allocator_needs_agent']);
    const wants = [{ pool: 'own', allocator: 'machine', slices: 1 }];
    const wish = { body: { id: 'wisher', enforcement: 'none', wants } };
    expect((await f.world.call('POST', '/v1/machines', wish)).refusal).toEqual([409, 'allocator_needs_agent']);
    expect(f.world.snapshot()).toEqual(before);
    const wisher = await f.world.must(Machine, 'POST', '/v1/machines', { body: { id: 'wisher', wants } });
    expect(wisher.wants).toEqual([{ pool: 'own', allocator: 'machine', slices: 1, missing: 1 }]);
    expect((await post('move', { machine: 'edge-2', allocator: 'machine' })).as(Slice)).toMatchObject({
      next: { machine: 'edge-2', allocator: 'machine' },
    });
  });

  it('is handed to the allocator of its machine by way of a rest', async () => {
    expect((await post('allocator', { allocator: 'machine' })).as(Slice)).toMatchObject({
      state: 'draining',
      next: { machine: 'edge-1', allocator: 'machine' },
    });
    await say('edge-1', f.agent, { slices: [{ slice: f.slice, generation: 1, state: 'empty' }] });
    f.world.clock.advance_s(11);
    await sweep();
    expect(await read()).toMatchObject({ state: 'assigning', allocator: 'machine', generation: 2 });
  });
});

describe('a revocation', () => {
  const revoke = (body: object) => f.world.call('POST', '/v1/revocations', { body });

  it('lets one lease go on until the deadline that an operator gives it', async () => {
    const [one, two] = [await lease(), await lease()];
    const path = `/v1/leases/${one.id}/revoke`;
    expect((await f.world.call('POST', path, { body: { deadline_s: 60, forced: true } })).code).toBe(
      'validation_failed',
    );
    const goesOn = await f.world.must(Lease, 'POST', path, { body: { deadline_s: 60, reason: 'maintenance' } });
    expect(goesOn).toMatchObject({ id: one.id, ending: null });
    const { items } = await f.world.must(RevocationPage, 'GET', '/v1/revocations?state=waiting');
    expect(items).toMatchObject([{ lease: one.id, reason: 'maintenance', ending: 'revoked' }]);
    const named = (await revoke({ lease: two.id, forced: true })).as(Revocation);
    expect(named).toMatchObject({ state: 'ending', lease: two.id });
    expect(await look(two)).toMatchObject({ state: 'ending', ending: 'revoked' });
    expect(await look(one)).toMatchObject({ ending: null });
    expect((await revoke({ lease: two.id, forced: true })).refusal).toEqual([410, 'lease_over']);
    expect((await revoke({ lease: 'lease-999999', deadline_s: 1 })).refusal).toEqual([404, 'lease_not_found']);
    expect((await f.world.must(Lease, 'POST', path, { body: { forced: true } })).ending).toBe('revoked');
  });

  it('takes every lease of a holder at once, and tells how far it has come', async () => {
    const leases = [await lease(), await lease()];
    const revocation = (await revoke({ holder: 'haproxy', forced: true, reason: 'abuse' })).as(Revocation);
    expect(revocation).toMatchObject({ state: 'ending', holder: 'haproxy', reason: 'abuse', leases_ended: 0 });
    for (const one of leases)
      expect(await look(one)).toMatchObject({ state: 'ending', ending: 'revoked', reason: 'abuse' });
    await sweep();
    const url = `/v1/revocations/${revocation.id}`;
    expect(await f.world.must(Revocation, 'GET', url)).toMatchObject({ state: 'done', leases_ended: 2 });
    const { items } = await f.world.must(RevocationPage, 'GET', '/v1/revocations?state=done');
    expect(items.map(({ id }) => id)).toEqual([revocation.id]);
    expect((await f.world.must(RevocationPage, 'GET', '/v1/revocations?state=waiting')).items).toEqual([]);
  });

  it('says which leases, and when; anything else changes nothing', async () => {
    const before = f.world.snapshot();
    for (const body of [
      {},
      { forced: true },
      { machine: 'edge-1' },
      { machine: 'edge-1', forced: true, deadline_s: 5 },
      { machine: 'edge-1', forced: false },
      { select: 'a b', forced: true },
      { select: '', forced: true },
      { prefix: '198.51.100.7/24', forced: true },
      { machine: 'edge-1', deadline_s: -1 },
    ])
      expect((await revoke(body)).code, JSON.stringify(body)).toBe('validation_failed');
    expect((await revoke({ select: 'country=nowhere', forced: true })).refusal).toEqual([422, 'nothing_selected']);
    const unknown = await f.world.call('GET', '/v1/revocations/revocation-999');
    expect(unknown.refusal).toEqual([404, 'revocation_not_found']);
    expect(f.world.snapshot()).toEqual(before);
  });
});

describe('a machine', () => {
  const change = (id: string, body: object) => f.world.call('PATCH', `/v1/machines/${id}`, { body });
  const remove = (id: string) => f.world.call('DELETE', `/v1/machines/${id}`);

  it('drains: its slices follow, and its leases end by the deadline', async () => {
    const one = await lease();
    const draining = (await change('edge-1', { state: 'draining', drain_deadline_s: 5 })).as(Machine);
    expect(draining).toMatchObject({ state: 'draining', intent: 'draining' });
    expect(draining.drain_by).not.toBeNull();
    await sweep();
    expect(await read()).toMatchObject({ state: 'draining', drain_by: draining.drain_by });
    f.world.clock.advance_s(6);
    await sweep();
    expect(await look(one)).toMatchObject({ state: 'ending', ending: 'revoked' });
    expect((await change('edge-1', { state: 'active' })).as(Machine)).toMatchObject({
      state: 'active',
      drain_by: null,
    });
    expect(await read()).toMatchObject({ state: 'draining' });
  });

  it('that is lost is not answered, and loses its slices', async () => {
    expect((await change('edge-1', { state: 'lost' })).as(Machine)).toMatchObject({ state: 'lost', intent: 'lost' });
    const body = { boot_id: 'b', version: '1', applied_revision: 0 };
    const keepalive = await f.world.call('POST', '/v1/machines/edge-1/keepalive', { token: f.agent, body });
    expect(keepalive.refusal).toEqual([409, 'machine_lost']);
    f.world.clock.advance_s(40);
    await sweep();
    expect(await read()).toMatchObject({ reclaimed: true });
  });

  it('is deleted when nothing lives there, and its agent has no token any more', async () => {
    const before = f.world.snapshot();
    expect((await remove('edge-1')).refusal).toEqual([409, 'machine_in_use']);
    expect((await remove('edge-9')).refusal).toEqual([404, 'machine_not_found']);
    expect(f.world.snapshot()).toEqual(before);
    await f.world.run({ kind: 'createMachine', id: 'edge-7', labels: {}, enforcement: 'agent', fenceUs: 1e6 });
    const secret = await f.world.token('agent', 'edge-7');
    const own = () => f.world.call('GET', '/v1/machines/edge-7', { token: secret });
    expect((await own()).status).toBe(200);
    expect((await remove('edge-7')).status).toBe(204);
    expect((await own()).refusal).toEqual([401, 'unauthenticated']);
    expect((await f.world.call('GET', '/v1/machines/edge-7')).refusal).toEqual([404, 'machine_not_found']);
  });

  it('gets the slices that it wants, and says what it lacks', async () => {
    const pool = { id: 'two', prefixes: ['203.0.113.0/31'], labels: { tier: 'gold' }, slice_ports: 65_536 };
    expect((await f.world.call('POST', '/v1/pools', { body: { ...pool, usable_ports: whole } })).status).toBe(201);
    const wants = [{ select: 'tier in (gold)', slices: 3 }];
    const said = (await change('edge-1', { wants })).as(Machine);
    expect(said.wants).toEqual([{ select: 'tier=gold', allocator: 'server', slices: 3, missing: 3 }]);
    await sweep();
    const machine = await f.world.must(Machine, 'GET', '/v1/machines/edge-1');
    expect(machine.wants).toEqual([{ select: 'tier=gold', allocator: 'server', slices: 3, missing: 1 }]);
    const metrics = (await f.world.call('GET', '/metrics')).text;
    expect(metrics).toContain('fishery_machine_wants_unmet_slices{machine="edge-1"} 1');
    expect((await change('edge-1', { wants: [{ pool: 'gone', slices: 1 }] })).refusal).toEqual([404, 'pool_not_found']);
    expect((await change('edge-1', { wants: [] })).as(Machine).wants).toEqual([]);
  });
  const whole = { first: 0, last: 65_535 };

  it.each([
    { state: 'fenced' },
    { state: 'gone' },
    { wants: [{ slices: 1 }] },
    { wants: [{ pool: 'a', select: 'b', slices: 1 }] },
    { wants: [{ pool: 'a', slices: 0 }] },
    { wants: [{ select: '=', slices: 1 }] },
    { wants: [{ pool: 'a', family: 5, slices: 1 }] },
    { wants: [{ pool: 'a', allocator: 'nobody', slices: 1 }] },
    { drain_deadline_s: 5 },
    { state: 'cordoned', drain_deadline_s: 5 },
    { state: 'draining', drain_deadline_s: -1 },
    { state: 'draining', drain_deadline_s: 1e9 },
  ])('is nothing like %j', async (body) => {
    const before = f.world.snapshot();
    expect((await change('edge-1', body)).refusal).toEqual([400, 'validation_failed']);
    expect(f.world.snapshot()).toEqual(before);
  });
});
