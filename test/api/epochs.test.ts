import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentKeepaliveAnswer, Desired, EventList } from '../../src/wire/agent.ts';
import { Epoch } from '../../src/wire/epochs.ts';
import { Readiness } from '../../src/wire/server.ts';
import { Session } from '../../src/wire/sessions.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(() => f.world[Symbol.asyncDispose]());

const keepalive = { boot_id: 'boot', version: '0.1.0', applied_revision: 0 };
const newest = () => f.world.store.reader.revision();
const epoch = () => f.world.must(Epoch, 'GET', '/v1/server/epoch');
/** A read with a token of edge-1's agent, after what it has seen; the answer. */
const shown = (seen: string, token: string | null = f.agent) =>
  f.world.call('GET', '/v1/machines/edge-1', { token, headers: { 'fishery-seen': seen } });

describe('every answer', () => {
  it('says in which epoch the table is, and how far the log goes', async () => {
    const { id } = await epoch();
    const answer = await f.world.call('GET', '/v1/pools');
    expect(answer.headers).toMatchObject({ 'fishery-epoch': id, 'fishery-revision': String(await newest()) });
    const refused = await f.world.call('GET', '/v1/pools/none');
    expect(refused.headers['fishery-epoch']).toBe(id);
    const changed = await f.world.call('POST', '/v1/machines', { body: { id: 'edge-9' } });
    expect(changed.headers['fishery-revision']).toBe(String(await newest()));
  });

  it('tells strangers nothing of that', async () => {
    for (const answer of [await f.world.call('GET', '/healthz', { token: null }), await shown('x/1', null)])
      expect(answer.headers).not.toHaveProperty('fishery-epoch');
    expect((await epoch()).number).toBe(1);
  });
});

describe('a client that has seen', () => {
  it('what there is is answered', async () => {
    const { id } = await epoch();
    expect((await shown(`${id}/${await newest()}`)).status).toBe(200);
    expect((await shown(`${id}/0`)).status).toBe(200);
    expect((await epoch()).state).toBe('confirmed');
  });

  it.each<[string, (id: string, revision: number) => string, string]>([
    ['more than there is', (id, revision) => `${id}/${revision + 1}`, 'client_saw_more'],
    ['another table', () => 'b2f0a9c4-5d0e-4c39-8f57-0d8e6f1c7a11/3', 'client_knows_other'],
  ])('%s makes the server read-only before it is answered', async (_, seen, cause) => {
    const before = await newest();
    // Not even the request that shows it is carried out.
    const answer = await f.world.call('POST', '/v1/machines', {
      body: { id: 'edge-9' },
      headers: { 'fishery-seen': seen((await epoch()).id, before) },
    });
    expect(answer.refusal).toEqual([503, 'read_only_epoch']);
    const now = await epoch();
    expect(now).toMatchObject({ number: 2, state: 'in_doubt', cause, lost_after: before, confirmed_at: null });
    expect(now.detail).toMatch(/^token-\d+ \(operator t1\) has seen revision \d+/);
    expect(answer.headers['fishery-epoch']).toBe(now.id);
    expect(await newest()).toBe(1_000_000_000_001);
  });

  it.each(['', 'x', 'x/', '/3', 'x/-1', 'x/1e3', `x/${'9'.repeat(16)}`, `${'x'.repeat(300)}/1`])(
    'nothing that makes sense (%j) is told so, and nothing happens',
    async (seen) => {
      const answer = await shown(seen);
      expect(answer.refusal).toEqual([400, 'validation_failed']);
      expect(answer.paths).toEqual(['headers.fishery-seen']);
      expect((await epoch()).number).toBe(1);
    },
  );
});

describe('a server in doubt', () => {
  const doubt = () => shown('another/7');
  const session = () => f.world.openSession(f.haproxy, 'edge-1', 'haproxy', 60);

  it('answers keepalives and reads, and changes nothing else', async () => {
    const { id } = await session();
    await doubt();
    const alive = { token: f.agent, body: keepalive };
    expect(await f.world.must(AgentKeepaliveAnswer, 'POST', '/v1/machines/edge-1/keepalive', alive)).toMatchObject({
      epoch: (await epoch()).id,
      fence_s: 30,
    });
    await f.world.must(Session, 'POST', `/v1/sessions/${id}/keepalive`, { token: f.haproxy });
    expect((await f.world.call('GET', '/v1/leases')).status).toBe(200);
    for (const [url, token, body] of [
      ['/v1/leases', f.haproxy, { session: id, claims: [{ protocol: 'tcp', ports: 1 }] }],
      ['/v1/sessions', f.haproxy, { machine: 'edge-1', holder: 'haproxy', ttl_s: 60 }],
      ['/v1/slices', f.world.operator, { machine: 'edge-1', pool: 'fra1' }],
      ['/v1/machines/edge-1/applied', f.agent, { revision: 0, leases: [], slices: [] }],
    ] as const) {
      const answer = await f.world.call('POST', url, { token, body });
      expect([url, ...answer.refusal]).toEqual([url, 503, 'read_only_epoch']);
    }
  });

  it('tells no agent what to make true: it keeps what it has', async () => {
    await doubt();
    for (const url of ['/v1/machines/edge-1/desired', '/v1/machines/edge-1/watch?from=1'])
      expect([url, ...(await f.world.call('GET', url, { token: f.agent })).refusal]).toEqual([
        ...[url, 503, 'read_only_epoch'],
      ]);
    expect((await f.world.call('GET', '/v1/machines/edge-1/desired')).status).toBe(200);
  });

  it('stays in service, and says why it is read-only', async () => {
    await doubt();
    expect(await f.world.must(Readiness, 'GET', '/readyz', { token: null })).toEqual({
      status: 'read_only',
      reason: expect.stringMatching(/^epoch 2 is in doubt: token-\d+ \(agent t\d+\) has seen revision 7/) as string,
      revision: 1_000_000_000_001,
    });
  });

  it('goes on when an operator confirms, and nobody else can', async () => {
    await doubt();
    const confirm = (number: number, token = f.world.operator) =>
      f.world.call('POST', '/v1/server/confirm-epoch', { token, body: { epoch: number } });
    expect((await confirm(2, f.agent)).refusal).toEqual([403, 'forbidden']);
    expect((await confirm(1)).refusal).toEqual([409, 'epoch_superseded']);
    const confirmed = (await confirm(2)).as(Epoch);
    expect(confirmed).toMatchObject({ number: 2, state: 'confirmed' });
    expect(confirmed.confirmed_by).toMatch(/^token-\d+ \(operator t1\)$/);
    expect((await f.world.call('POST', '/v1/machines', { body: { id: 'edge-9' } })).status).toBe(201);
    expect((await f.world.must(Readiness, 'GET', '/readyz', { token: null })).status).toBe('ready');
  });

  it('still learns from an agent what it lacks, and lets its guard open after a snapshot only', async () => {
    const { id } = await epoch();
    const lost = (await newest()) + 5;
    const alive = (applied_revision: number, seen?: string) =>
      f.world.call('POST', '/v1/machines/edge-1/keepalive', {
        token: f.agent,
        body: { ...keepalive, applied_revision },
        ...(seen === undefined ? {} : { headers: { 'fishery-seen': seen } }),
      });
    // Whoever shows nothing with it proves nothing.
    expect((await alive(lost)).refusal).toEqual([409, 'revision_unknown']);
    const applied = { token: f.agent, body: { revision: lost, leases: [], slices: [] } };
    expect((await f.world.call('POST', '/v1/machines/edge-1/applied', applied)).refusal).toEqual([
      ...[409, 'revision_unknown'],
    ]);
    expect((await epoch()).state).toBe('confirmed');
    // The host goes on as it is, as long as nobody knows what was lost.
    expect((await alive(lost, `${id}/${lost}`)).status).toBe(200);
    expect(await epoch()).toMatchObject({ number: 2, state: 'in_doubt', cause: 'client_saw_more' });
    await f.world.must(Epoch, 'POST', '/v1/server/confirm-epoch', { body: { epoch: 2 } });
    expect((await alive(lost)).refusal).toEqual([409, 'machine_behind']);
    const { revision } = await f.world.must(Desired, 'GET', '/v1/machines/edge-1/desired', { token: f.agent });
    expect((await alive(revision)).status).toBe(200);
  });

  it('has lost revisions that nobody goes on from', async () => {
    const last = await newest();
    await doubt();
    await f.world.must(Epoch, 'POST', '/v1/server/confirm-epoch', { body: { epoch: 2 } });
    expect((await f.world.call('GET', `/v1/events?after=${last + 1}`)).refusal).toEqual([409, 'revision_unknown']);
    const { events } = await f.world.must(EventList, 'GET', `/v1/events?after=${last}`);
    expect(events.map(({ kind, revision }) => [kind, revision])).toEqual([
      ['epoch', 1_000_000_000_001],
      ['epoch', 1_000_000_000_002],
    ]);
    const watch = await f.world.call('GET', `/v1/machines/edge-1/watch?from=${last + 1}`, { token: f.agent });
    expect(watch.text).toContain('event: compacted');
  });
});
