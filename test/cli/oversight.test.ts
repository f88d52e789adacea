import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { AuditEntry } from '../../src/wire/audit.ts';
import { Revocation } from '../../src/wire/revocations.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';
import { RealServer } from '../support/real-server.ts';
import { runFishery } from '../support/run-fishery.ts';

/** Finding things among many, taking back many at once, and who did it. */

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
  const { client } = server;
  for (const [country, octet] of [
    ['de', 1],
    ['fr', 2],
  ] as const) {
    await client.pools.create({ id: country, prefixes: [`198.51.${octet}.0/30`], labels: { country } });
    await client.machines.create({ id: `in-${country}`, enforcement: 'none', labels: { site: `${country}1` } });
    await client.machines.putHolder(`in-${country}`, 'web', { kind: 'proxy' });
    await client.slices.assign({ machine: `in-${country}`, pool: country });
    const { id } = await client.sessions.open({ machine: `in-${country}`, holder: 'web', ttl_s: 600 });
    await client.leases.grant({ session: id, claims: [{ protocol: 'tcp', ports: 16, count: 2 }] });
  }
});
afterAll(() => server[Symbol.asyncDispose]());

const fishery = (...words: string[]) =>
  runFishery(words, {
    env: { FISHERY_SERVER: server.url, FISHERY_TOKEN: server.secret },
    terminal: fakeTerminal(),
  });
async function must(...words: string[]): Promise<string> {
  const { code, out, err } = await fishery(...words);
  expect({ words, code, err }).toEqual({ words, code: 0, err: '' });
  return out;
}

describe('lists', () => {
  it.each([
    ['pools list --ids --select country=de', 'de'],
    ['pools list --ids --address 198.51.2.1', 'fr'],
    ['machines list --ids --select site!=de1', 'in-fr'],
    ['machines list --ids --state cordoned', ''],
    ['holders list in-de --ids --kind fish', ''],
  ])('%s', async (line, found) => {
    expect((await must(...line.split(' '))).trim()).toBe(found);
  });

  it('of slices, sessions and leases are looked through by the labels of pools and machines', async () => {
    const count = async (what: string, ...flags: string[]) =>
      z.array(z.unknown()).parse(JSON.parse(await must(what, 'list', '--json', ...flags))).length;
    expect(await count('slices', '--select', 'country in (de,fr)')).toBe(2);
    expect(await count('slices', '--select', 'country=de', '--select-machine', 'site=fr1')).toBe(0);
    expect(await count('sessions', '--select-machine', 'site=fr1')).toBe(1);
    expect(await count('leases', '--select', 'country=fr', '--mode', 'exclusive')).toBe(2);
  });

  it('do not trouble the server with a selector that nobody can read', async () => {
    const { code, err } = await fishery('leases', 'list', '--select', 'country in (', '--server', 'http://127.0.0.1:9');
    expect(code).toBe(2);
    expect(err).toMatch(/--select/);
  });
});

describe('the audit log', () => {
  const entries = async (...flags: string[]) =>
    z.array(AuditEntry).parse(JSON.parse(await must('audit', 'list', '--json', ...flags)));

  it('tells who took back what, and what came of it', async () => {
    const revoked = Revocation.parse(
      JSON.parse(
        await must(...'revocations create --select country=de --reason abuse --yes --json'.split(' ')),
      ) as unknown,
    );
    expect(await must('revocations', 'list', '--ids')).toBe(`${revoked.id}\n`);
    expect(await must('revocations', 'get', revoked.id)).toMatch(/^reason +abuse$/m);
    expect((await fishery(...'pools delete de --yes'.split(' '))).code).toBe(4);

    const [refused, done] = await entries('--since', '1h');
    expect(refused).toMatchObject({ operation: 'deletePool', target: 'pools/de', outcome: 'refused', changes: [] });
    expect(done).toMatchObject({ operation: 'revokeLeases', target: `revocations/${revoked.id}`, outcome: 'done' });
    expect(done?.changes[0]).toMatchObject({ fields: { reason: { before: null, after: 'abuse' } } });
    expect(done?.actor?.role).toBe('operator');
    expect((await entries('--operation', 'createPool')).map(({ target }) => target)).toEqual(['pools/fr', 'pools/de']);
    expect(await entries('--until', '1h')).toEqual([]);
    expect(await must('audit', 'list', '--outcome', 'refused')).toMatch(
      /^AT +ACTOR .*\n\S+Z +\S+ \(token-\d+\) +127\.0\.0\.1 +deletePool +pools\/de +refused \(\w+\)/,
    );
  });
});
