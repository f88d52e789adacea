import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Desired, EventList } from '../../src/wire/agent.ts';
import { Attribution } from '../../src/wire/attribution.ts';
import { AuditPage } from '../../src/wire/audit.ts';
import { Lease } from '../../src/wire/leases.ts';
import { Holder } from '../../src/wire/machines.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const url = '/v1/machines/edge-1/holders/squid';
const remove = (ifMatch: string | null = '*', query = '') => f.world.call('DELETE', `${url}${query}`, { ifMatch });

describe('PUT /v1/machines/{id}/holders/{name} with If-None-Match', () => {
  const put = (name: string, headers: Record<string, string>) =>
    f.world.call('PUT', `/v1/machines/edge-1/holders/${name}`, { body: { kind: 'proxy', uid: 4_711 }, headers });

  it('makes what is not there, and leaves what is as it is', async () => {
    const before = await f.world.must(Holder, 'GET', url);
    const taken = await put('squid', { 'if-none-match': '*' });
    expect(taken.refusal).toEqual([412, 'precondition_failed']);
    expect(taken.problem.detail).toContain('is there already');
    expect(await f.world.must(Holder, 'GET', url)).toEqual(before);
    expect((await put('new', { 'if-none-match': '*' })).status).toBe(200);
    expect((await put('new', { 'if-none-match': '*' })).refusal).toEqual([412, 'precondition_failed']);
  });

  it('takes nothing else, and not both', async () => {
    for (const headers of [{ 'if-none-match': '"1"' }, { 'if-none-match': '*', 'if-match': '*' }])
      expect((await put('squid', headers)).refusal).toEqual([400, 'validation_failed']);
  });
});

describe('DELETE /v1/machines/{id}/holders/{name}', () => {
  it('is for who saw the holder as it is', async () => {
    const { revision } = await f.world.must(Holder, 'GET', url);
    const before = f.world.snapshot();
    expect((await remove(null)).refusal).toEqual([428, 'precondition_required']);
    expect((await remove(`"${revision + 1}"`)).refusal).toEqual([412, 'precondition_failed']);
    expect((await remove(`"${revision}"`, '?dry_run=true')).status).toBe(204);
    expect(f.world.snapshot()).toEqual(before);
    expect((await remove(`"${revision}"`)).status).toBe(204);
    expect((await f.world.call('GET', url)).refusal).toEqual([404, 'holder_not_found']);
    expect((await remove()).refusal).toEqual([404, 'holder_not_found']);
    const nowhere = await f.world.call('DELETE', '/v1/machines/edge-9/holders/squid');
    expect(nowhere.refusal).toEqual([404, 'machine_not_found']);
  });

  it('waits for its sessions and leases, and says which; the past is still told', async () => {
    const { id } = await f.world.openSession(f.squid, 'edge-1', 'squid');
    const [granted] = await f.world.grant(f.squid, id, [{ protocol: 'tcp', ports: 16 }]);
    if (granted === undefined) throw new Error('one was asked for');
    await f.world.report(f.agent, 'edge-1', [granted], 'active');
    const used = await remove();
    expect(used.refusal).toEqual([409, 'holder_in_use']);
    expect(used.problem.detail).toBe(`${id} of holder "squid" on "edge-1" is live`);
    f.world.clock.advance_s(1);
    const at = new Date(f.world.clock.now / 1e3).toISOString();
    f.world.clock.advance_s(1);
    await f.world.call('POST', '/v1/revocations', { body: { machine: 'edge-1', holder: 'squid', forced: true } });
    await f.world.call('DELETE', `/v1/sessions/${id}`);
    await f.world.run({ kind: 'sweep', itemsMax: 100 });
    await f.world.run({ kind: 'sweep', itemsMax: 100 });
    expect((await remove()).problem.detail).toBe(`${granted.id} of holder "squid" on "edge-1" is ending`);
    await f.world.report(f.agent, 'edge-1', [granted], 'empty');
    expect((await remove()).status).toBe(204);
    expect((await f.world.must(Lease, 'GET', `/v1/leases/${granted.id}`)).holder).toBe('squid');
    const query = `protocol=tcp&address=${granted.address}&port=${granted.ports.first}&at=${at}`;
    const answer = await f.world.must(Attribution, 'GET', `/v1/attribution?${query}`);
    expect(answer.holders.map(({ holder }) => holder)).toEqual(['squid']);
  });

  it('ends its tokens for good, and is told to its agent and written down', async () => {
    expect((await f.world.call('GET', '/v1/tokens/self', { token: f.squid })).status).toBe(200);
    const { revision } = await f.world.must(Holder, 'GET', url);
    expect((await remove()).status).toBe(204);
    expect((await f.world.call('GET', '/v1/tokens/self', { token: f.squid })).refusal).toEqual([
      401,
      'unauthenticated',
    ]);
    await f.world.must(Holder, 'PUT', url, { body: { kind: 'proxy', uid: 1_002 } });
    expect((await f.world.call('GET', '/v1/tokens/self', { token: f.squid })).refusal).toEqual([
      401,
      'unauthenticated',
    ]);
    expect((await f.world.call('GET', '/v1/tokens/self', { token: f.haproxy })).status).toBe(200);
    const told = await f.world.must(EventList, 'GET', `/v1/events?after=${revision}&machine=edge-1`);
    expect(told.events.filter(({ kind }) => kind === 'deleted')).toMatchObject([
      { kind: 'deleted', what: 'holder', id: 'squid', machine: 'edge-1' },
    ]);
    const desired = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    expect(desired.holders.map(({ name }) => name).toSorted()).toEqual(['fish', 'haproxy', 'squid']);
    const { items } = await f.world.must(AuditPage, 'GET', '/v1/audit?operation=deleteHolder');
    expect(items).toMatchObject([{ target: 'machines/edge-1/holders/squid', outcome: 'done' }]);
    const changed = z.array(z.object({ item: z.string() })).parse(items[0]?.changes);
    expect(changed.map(({ item }) => item)).toEqual([
      'machines/edge-1/holders/squid',
      expect.stringMatching(/^tokens\/token-\d+$/),
    ]);
  });

  it('comes again under its key without a word about another of the name', async () => {
    const again = () => f.world.call('DELETE', url, { headers: { 'idempotency-key': 'one' } });
    expect((await again()).status).toBe(204);
    const anew = await f.world.must(Holder, 'PUT', url, { body: { kind: 'proxy', uid: 1_002 } });
    const replayed = await again();
    expect([replayed.status, replayed.headers['idempotency-replayed']]).toEqual([204, 'true']);
    expect(await f.world.must(Holder, 'GET', url)).toEqual(anew);
  });
});
