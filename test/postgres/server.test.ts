import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FisheryClient, followEvents } from '../../src/sdk/index.ts';
import type { LogEntry } from '../../src/wire/agent.ts';
import { temporaryDatabase, urlWith, type TemporaryDatabase } from '../support/postgres/database.ts';
import { ServerProcess } from '../support/server-process.ts';

let folder: string;
let database: TemporaryDatabase;
let runs: ServerProcess[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-server-'));
  database = await temporaryDatabase('');
  runs = [];
});
afterEach(async () => {
  for (const run of runs) run.child.kill('SIGKILL');
  await Promise.all(runs.map(({ ended }) => ended));
  await database[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function start(name: string, url = database.url): ServerProcess {
  const run = new ServerProcess(['--data-dir', join(folder, name), '--port', '0'], { FISHERY_DATABASE_URL: url });
  runs.push(run);
  return run;
}

describe('fishery server on PostgreSQL', () => {
  it('is one of several: what one does the others know and tell, also when it is killed', async () => {
    const [a, b] = [start('a'), start('b')];
    const urls = [await a.url(), await b.url()] as const;
    const secrets = ['a', 'b'].map((name) => {
      try {
        return readFileSync(join(folder, name, 'operator.token'), 'utf8').trim();
      } catch {
        return undefined;
      }
    });
    // Whoever came first made the operator; both may have, when they started at once.
    const token = secrets.find((secret) => secret !== undefined) ?? '';
    const [one, other] = urls.map((url) => new FisheryClient({ url, token, attemptsMax: 1 }));
    if (!one || !other) throw new Error('no clients');

    await one.pools.create({ id: 'p', prefixes: ['198.51.100.0/28'] });
    await other.machines.create({ id: 'm', enforcement: 'none' });
    await one.machines.putHolder('m', 'h', { kind: 'proxy' });
    await other.slices.assign({ machine: 'm', pool: 'p', count: 1 });
    const session = (await one.sessions.open({ machine: 'm', holder: 'h', ttl_s: 600 })).id;
    const granted = await other.leases.grant({ session, claims: [{ protocol: 'tcp', ports: 64 }] });
    expect((await one.leases.get(granted.leases[0]?.id ?? '')).state).toBe('active');

    // Whom to ask for the log makes no difference either: what each streams is what each has in its pages.
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      const { events } = await to.events({ kind: 'machine,slice,lease' });
      const seen: LogEntry[] = [];
      for await (const item of followEvents(from, { kind: 'machine,slice,lease' }, { from: 0 }))
        if (item.type === 'bookmark') break;
        else seen.push(item.change);
      expect(seen).toEqual(events);
    }
    const { revision: now } = await one.server.readiness();
    const next = followEvents(other, { kind: 'machine' }, { from: now });
    await expect(next.next()).resolves.toMatchObject({ value: { type: 'bookmark' } });
    await one.machines.create({ id: 'm2', enforcement: 'none' });
    await expect(next.next()).resolves.toMatchObject({ value: { change: { machine: { id: 'm2' } } } });
    await next.return();

    // A token that is revoked here is refused there, and not only once it was forgotten.
    const spare = await one.tokens.create({ name: 'spare', role: 'viewer' });
    const viewer = new FisheryClient({ url: urls[1], token: spare.secret, attemptsMax: 1 });
    expect((await viewer.pools.list()).items).toHaveLength(1);
    await one.tokens.revoke(spare.token.id);
    await expect
      .poll(
        () =>
          viewer.pools.list().then(
            () => 'let in',
            () => 'refused',
          ),
        { timeout: 3_000 },
      )
      .toBe('refused');

    a.child.kill('SIGKILL');
    await a.ended;
    await other.sessions.keepalive(session);
    expect((await other.leases.get(granted.leases[0]?.id ?? '')).state).toBe('active');
    expect((await fetch(`${urls[1]}/readyz`)).status).toBe(200);
    b.child.kill('SIGTERM');
    expect(await b.ended).toBe(0);
    expect(a.out + a.err + b.out + b.err).not.toContain('not-a-secret');
  });

  it.each<[string, () => string, RegExp, number]>([
    [
      'a wrong password',
      () => urlWith({ password: 'hidden-1' }),
      /^fishery server: 127\.0\.0\.1:\d+\/postgres: the database refuses the password.*$/,
      1,
    ],
    [
      'nobody there',
      () => urlWith({ port: '1', password: 'hidden-1' }),
      /^fishery server: .*cannot be reached.*ECONNREFUSED.*$/,
      1,
    ],
    [
      'another kind of URL',
      () => 'mysql://a:hidden-1@b/c',
      /^fishery server: FISHERY_DATABASE_URL: got a value that is not shown: expected postgres:\/\/.*$/,
      2,
    ],
  ])('says in one line what is wrong: %s', async (_, url, line, code) => {
    const run = start('x', url());
    expect(await run.ended).toBe(code);
    expect(run.err.trim()).toMatch(line);
    expect(run.err).not.toContain('hidden-1');
  });
});
