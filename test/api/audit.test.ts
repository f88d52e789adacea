import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { z } from 'zod';
import { AuditPage } from '../../src/wire/audit.ts';
import { Lease, LeaseList } from '../../src/wire/leases.ts';
import { Revocation } from '../../src/wire/revocations.ts';
import { Slice } from '../../src/wire/slices.ts';
import { TokenCreated } from '../../src/wire/tokens.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let town: Furnished;
beforeEach(async () => void (town = await furnished()));
afterEach(() => town.world[Symbol.asyncDispose]());

const audit = async (query = '') => (await town.world.must(AuditPage, 'GET', `/v1/audit?${query}`)).items;
/** Denied requests are written a little later; the app does it at its end too. */
const denied = async () => {
  await town.world.denials();
  return audit('outcome=denied');
};

describe('GET /v1/audit', () => {
  it('shows who did what, with the names and forms of every other answer', async () => {
    const { world } = town;
    const answer = await world.call('PATCH', '/v1/machines/edge-1', {
      body: { labels: { site: 'fra' } },
      headers: { 'if-match': '*', 'x-request-id': 'ticket-4711' },
    });
    expect([answer.status, answer.headers['x-request-id']]).toEqual([200, 'ticket-4711']);
    const [entry] = await audit();
    expect(entry).toMatchObject({
      ...{ actor: { name: 't1', role: 'operator' }, request_id: 'ticket-4711', remote_address: '127.0.0.1' },
      ...{ operation: 'updateMachine', target: 'machines/edge-1', outcome: 'done', code: null, changes_omitted: 0 },
      changes: [{ item: 'machines/edge-1', fields: { labels: { before: {}, after: { site: 'fra' } } } }],
    });
    expect(Object.keys(entry?.changes[0]?.fields ?? {})).toEqual(['labels']);
  });

  it('has the whole of what is new, in seconds and with identifiers as elsewhere', async () => {
    await town.world.call('POST', '/v1/pools', {
      body: { id: 'v6', prefixes: ['2001:db8::/32'], cooldown_s: { tcp: 7 } },
    });
    const [entry] = await audit('target=pools/v6');
    expect(entry?.changes[0]?.fields).toMatchObject({
      id: { before: null, after: 'v6' },
      cooldown_s: { before: null, after: { tcp: 7 } },
    });
  });

  it('has refused requests, and denied ones of anybody', async () => {
    const { world, haproxy, viewer } = town;
    await world.call('POST', '/v1/machines', { body: { id: 'edge-1' } });
    const [refused] = await audit();
    expect(refused).toMatchObject({ outcome: 'refused', code: 'machine_exists', revision: null, changes: [] });

    await world.call('POST', '/v1/pools', { token: null, body: {} });
    await world.call('POST', '/v1/pools', { token: viewer, body: {} });
    await world.call('GET', '/v1/leases?machine=edge-2', { token: haproxy });
    await world.call('DELETE', '/v1/tokens/token-1', { token: 'fsh_nonsense' });
    expect(
      (await denied()).map(({ operation, target, code, actor }) => [operation, target, code, actor?.role]),
    ).toEqual([
      ['revokeToken', 'tokens/token-1', 'unauthenticated', undefined],
      ['listLeases', 'leases', 'not_yours', 'holder'],
      ['createPool', 'pools', 'forbidden', 'viewer'],
      ['createPool', 'pools', 'unauthenticated', undefined],
    ]);
  });

  it('writes down a bounded number of denied requests at once, and counts the others', async () => {
    const { world } = town;
    for (let knock = 0; knock < limits.denials_max + 5; knock++) await world.call('GET', '/v1/pools', { token: null });
    expect((await denied()).length).toBe(Math.min(100, limits.denials_max));
    const metrics = await world.call('GET', '/metrics');
    expect(metrics.text).toMatch(/^fishery_audit_denials_dropped_total 5$/m);
    // And takes down those that come after.
    await world.call('GET', '/v1/machines', { token: null });
    expect((await denied())[0]).toMatchObject({ operation: 'listMachines' });
  });

  it('is not written for what holders and agents do, nor for what is said again and again', async () => {
    const { world, haproxy, agent } = town;
    const before = (await audit()).length;
    const { id } = await world.openSession(haproxy, 'edge-1', 'haproxy');
    const leases = await world.grant(haproxy, id, [{ protocol: 'tcp' }]);
    await world.report(agent, 'edge-1', leases, 'active');
    await world.call('POST', `/v1/sessions/${id}/keepalive`);
    expect((await audit()).length).toBe(before);
  });

  it('finds by actor, role, operation, target, outcome and time, the newest first, page by page', async () => {
    const { world } = town;
    const made = await world.must(TokenCreated, 'POST', '/v1/tokens', { body: { name: 'bob', role: 'operator' } });
    const start = world.clock.now;
    for (const id of ['m1', 'm2', 'm3', 'm2']) {
      world.clock.advance_s(10);
      await world.call('POST', '/v1/machines', { token: made.secret, body: { id } });
    }
    const targets = async (query: string) => (await audit(query)).map(({ target }) => target);
    const bobs = `actor=${made.token.id}`;
    expect(await targets(bobs)).toEqual(['machines', 'machines/m3', 'machines/m2', 'machines/m1']);
    expect(await targets(`${bobs}&outcome=done&operation=createMachine`)).toEqual([
      'machines/m3',
      'machines/m2',
      'machines/m1',
    ]);
    expect(await targets('target=machines/m2')).toEqual(['machines/m2']);
    expect(await targets('role=router')).toEqual([]);
    const instant = (s: number) => new Date((start + s * 1e6) / 1e3).toISOString();
    expect(await targets(`since=${instant(15)}&until=${instant(35)}`)).toEqual(['machines/m3', 'machines/m2']);
    expect(await targets(`until=${instant(-3600)}`)).toEqual([]);
    expect(await targets(`since=${instant(3600)}`)).toEqual([]);

    const walked: string[] = [];
    for (let query: string | null = `${bobs}&limit=1`; query !== null;) {
      const page: z.output<typeof AuditPage> = await world.must(AuditPage, 'GET', `/v1/audit?${query}`);
      walked.push(...page.items.map(({ target }) => target));
      query = page.next === null ? null : `${bobs}&limit=1&cursor=${page.next}`;
    }
    expect(walked).toEqual(['machines', 'machines/m3', 'machines/m2', 'machines/m1']);
  });

  it('finds what one request came to, and who granted a lease, by itself or among many', async () => {
    const { world } = town;
    const body = {
      reservation: { machine: 'edge-1', holder: 'haproxy' },
      claims: [{ protocol: 'tcp', count: 3 }, { protocol: 'udp' }],
    };
    const answer = await world.call('POST', '/v1/leases?wait=stored', {
      body,
      headers: { 'x-request-id': 'ticket-7' },
    });
    const { leases } = answer.as(LeaseList);
    expect(leases).toHaveLength(4);
    const { id } = await world.openSession(town.haproxy, 'edge-1', 'haproxy');
    const [own] = await world.grant(town.haproxy, id, [{ protocol: 'tcp' }]);
    const acts = async (query: string) =>
      (await audit(query)).map(({ operation, request_id, actor }) => `${operation} ${request_id} ${actor?.name}`);
    expect(await acts('request_id=ticket-7')).toEqual(['grantLeases ticket-7 t1']);
    for (const lease of leases)
      for (const target of [lease.id, `leases/${lease.id}`])
        expect(await acts(`target=${target}`)).toEqual(['grantLeases ticket-7 t1']);
    await world.call('POST', `/v1/leases/${leases[1]?.id}/revoke`, { headers: { 'x-request-id': 'ticket-8' } });
    expect(await acts(`target=${leases[1]?.id}`)).toEqual(['revokeLease ticket-8 t1', 'grantLeases ticket-7 t1']);
    // What a holder did for itself is in the log of events.
    expect(await acts(`target=${own?.id}`)).toEqual([]);
    expect(await acts('request_id=none')).toEqual([]);
    const [entry] = await audit('request_id=ticket-7');
    expect((entry?.revision ?? 0) - (entry?.first_revision ?? 0)).toBe(3);
  });

  it('finds who ended a lease by what ended it, where that was not the lease by name', async () => {
    const { world } = town;
    const operations = async (target: string) => (await audit(`target=${target}`)).map(({ operation }) => operation);
    const leaseOf = async (id: string) => world.must(Lease, 'GET', `/v1/leases/${id}`);
    const session = await world.openSession(town.haproxy, 'edge-1', 'haproxy');
    const [one] = await world.grant(town.haproxy, session.id, [{ protocol: 'tcp' }]);
    const reservation = { machine: 'edge-1', holder: 'squid' };
    const body = { reservation, claims: [{ protocol: 'tcp' }] };
    const [other] = (await world.must(LeaseList, 'POST', '/v1/leases?wait=stored', { body })).leases;

    const abuse = { holder: 'squid', forced: true, reason: 'abuse' };
    const revocation = await world.must(Revocation, 'POST', '/v1/revocations', { body: abuse });
    expect(await leaseOf(other?.id ?? '')).toMatchObject({ ending: 'revoked', reason: 'abuse' });
    expect(await operations(other?.id ?? '')).toEqual(['grantLeases']);
    expect(await operations(revocation.id)).toEqual(['revokeLeases']);

    expect((await world.call('DELETE', `/v1/sessions/${session.id}`)).status).toBeLessThan(300);
    expect(await leaseOf(one?.id ?? '')).toMatchObject({ ending: 'revoked', session: session.id });
    expect(await operations(one?.id ?? '')).toEqual([]);
    expect(await operations(session.id)).toEqual(['endSession']);

    await world.must(Slice, 'POST', `/v1/slices/${town.slice}/drain`, { body: { force: true } });
    expect(await operations(town.slice)).toContain('drainSlice');
  });

  it('has no secret in it', async () => {
    const { world } = town;
    const made = await world.must(TokenCreated, 'POST', '/v1/tokens', { body: { name: 'bob', role: 'viewer' } });
    await world.call('POST', `/v1/tokens/${made.token.id}/rotate`, { body: {} });
    await world.call('GET', '/v1/tokens', { token: made.secret });
    await denied();
    const answer = await world.call('GET', '/v1/audit?limit=1000');
    expect(answer.text).not.toContain(made.secret);
    expect(answer.text).not.toMatch(/hash|fsh_/);
  });
});

describe('every answer', () => {
  it('says which request it is of, as the log and the audit log do', async () => {
    const { world } = town;
    const own = await world.call('GET', '/v1/pools/nothing', { headers: { 'x-request-id': 'not a good one!' } });
    expect(own.headers['x-request-id']).toMatch(/^[0-9a-f]{8}-[0-9a-z]+$/);
    expect(own.problem.request_id).toBe(own.headers['x-request-id']);
  });

  it('lets no other site read it', async () => {
    const { world } = town;
    const headers = { origin: 'https://elsewhere.example', 'access-control-request-method': 'GET' };
    const answer = await world.call('GET', '/v1/pools', { headers });
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    const preflight = await world.app.inject({ method: 'OPTIONS', url: '/v1/pools', headers });
    expect([preflight.statusCode, preflight.headers['access-control-allow-origin']]).toEqual([405, undefined]);
  });
});
