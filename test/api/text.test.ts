import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { dump } from '../../src/db/dump/dump.ts';
import { restore } from '../../src/db/dump/restore.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { Lease } from '../../src/wire/leases.ts';
import { Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Revocation } from '../../src/wire/revocations.ts';
import { furnished, type Furnished, type Method } from '../support/api-world.ts';
import { readTables } from '../support/stored-tables.ts';
import { temporaryStore } from '../support/temporary-store.ts';

/** Whatever is written freely comes back as it was written, from wherever it is kept: or it is refused. */

let f: Furnished;
let leases: readonly Lease[];
beforeAll(async () => {
  f = await furnished();
  const { id } = await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
  leases = await f.world.grant(f.haproxy, id, [{ protocol: 'tcp' }, { protocol: 'udp' }]);
});
afterAll(async () => f.world[Symbol.asyncDispose]());

const refused = (part: object) => {
  const [{ id: lease, token } = { id: '', token: '' }] = leases;
  const refusal = { lease, token, state: 'refused', errno: 'EPERM', detail: '', ...part };
  return { revision: 0, leases: [refusal], slices: [] };
};
const alive = (part: object) => ({ boot_id: 'b', version: '1', applied_revision: 0, ...part });
const applied = '/v1/machines/edge-1/applied';
const keepalive = '/v1/machines/edge-1/keepalive';

describe('text that is kept', () => {
  it.each<[string, string, Method, string | (() => string), (text: string) => object]>([
    [
      'a reason to revoke a lease',
      'reason',
      'POST',
      () => `/v1/leases/${leases[0]?.id}/revoke`,
      (reason) => ({ reason }),
    ],
    [
      'a reason to revoke many',
      'reason',
      'POST',
      '/v1/revocations',
      (reason) => ({ pool: 'fra1', forced: true, reason }),
    ],
    ['an errno', 'leases[0].errno', 'POST', applied, (errno) => refused({ errno })],
    ['a detail', 'leases[0].detail', 'POST', applied, (detail) => refused({ detail })],
    ['a boot', 'boot_id', 'POST', keepalive, (boot_id) => alive({ boot_id })],
    ['a version', 'version', 'POST', keepalive, (version) => alive({ version })],
    ['a label', 'labels.note', 'PATCH', '/v1/pools/fra1', (note) => ({ labels: { note } })],
    ['a label of a machine', 'labels.note', 'PATCH', '/v1/machines/edge-1', (note) => ({ labels: { note } })],
    ['a label of a router', 'labels.note', 'PUT', '/v1/routers/border-1', (note) => ({ labels: { note } })],
    ['the key of a label', 'labels[', 'PATCH', '/v1/pools/fra1', (key) => ({ labels: { [key]: '' } })],
    [
      'routers by label',
      'routers.select',
      'PATCH',
      '/v1/pools/fra1',
      (text) => ({ routers: { select: `note="${text}"` } }),
    ],
    [
      'slices by label',
      'wants[0].select',
      'PATCH',
      '/v1/machines/edge-1',
      (text) => ({ wants: [{ select: `note="${text}"`, slices: 1 }] }),
    ],
  ])(
    'is nothing for %s with a control character or half of a surrogate pair in it',
    async (_what, path, method, url, bodyOf) => {
      const before = f.world.snapshot();
      for (const text of ['a\u0000b', '\ud800', 'a\nb', '\udc1f🐟', '\u0085']) {
        const token = String(url) === applied || String(url) === keepalive ? f.agent : f.world.operator;
        const answer = await f.world.call(method, typeof url === 'string' ? url : url(), { token, body: bodyOf(text) });
        expect([text, ...answer.refusal]).toEqual([text, 400, 'validation_failed']);
        expect(answer.paths.join()).toContain(`body.${path}`);
      }
      expect(f.world.snapshot()).toBe(before);
    },
  );

  it('may be anything else, and is the same in the rows, in the log, and in what is restored from a dump', async () => {
    const odd = `🐟 "größer" \\ \\u0000 ' ; -- \u2028 \ufeff \uffff %s $1 e\u0301`;
    const { world } = f;
    const labels = { note: odd };
    const select = `note=${JSON.stringify(odd)}`;
    const { store } = world;
    expect((await world.must(Pool, 'PATCH', '/v1/pools/fra1', { body: { labels } })).labels).toEqual(labels);
    const wants = [{ select, slices: 1 }];
    expect((await world.must(Machine, 'PATCH', '/v1/machines/edge-1', { body: { labels, wants } })).labels).toEqual(
      labels,
    );
    const [one, other] = leases;
    const body = refused({ errno: odd.slice(0, 8), detail: odd });
    expect((await world.call('POST', applied, { token: f.agent, body })).status).toBe(200);
    const look = (id = '') => world.must(Lease, 'GET', `/v1/leases/${id}`);
    expect((await look(one?.id)).refusal).toEqual({ errno: odd.slice(0, 8), detail: odd });
    await world.must(Lease, 'POST', `/v1/leases/${other?.id}/revoke`, { body: { reason: odd } });
    expect((await look(other?.id)).reason).toBe(odd);
    const revoke = { holder: 'haproxy', machine: 'edge-1', forced: true, reason: odd };
    expect((await world.must(Revocation, 'POST', '/v1/revocations', { body: revoke })).reason).toBe(odd);
    // Another boot is heard once the guard of the one before has shut.
    world.clock.advance_s(120);
    const kept = alive({ boot_id: odd, version: odd });
    const told = await world.call('POST', keepalive, { token: f.agent, body: kept });
    expect(told.status, told.text).toBe(200);

    await using snapshot = await openSnapshot({ url: undefined, directory: world.directory });
    expect((await check(snapshot)).flaws).toEqual([]);
    await using target = await temporaryStore();
    await target.store.close();
    await restore({ url: undefined, directory: target.directory }, dump(snapshot), { newEpoch: () => 'restored' });
    const stored = readTables(world.directory);
    expect(readTables(target.directory)).toEqual(stored);
    expect(stored.tables.pools.get('fra1')?.labels).toEqual(labels);
    expect(stored.events).toHaveLength(await store.reader.revision());
  });
});
