import { describe, expect, inject, it } from 'vitest';
import { openPool } from '../../src/db/postgres/connections.ts';
import { openPostgresStore, problemOf } from '../../src/db/postgres/open.ts';
import { onPostgres, temporaryDatabase, urlWith } from '../support/postgres/database.ts';
import { World } from '../support/world.ts';

const open = (url: string) => openPostgresStore({ url, newEpoch: () => 'epoch-1' });

describe('a database that cannot be used', () => {
  it.each<[string, () => string, RegExp]>([
    ['a wrong password', () => urlWith({ password: 'wrong' }), /refuses the password/],
    ['a role that there is not', () => urlWith({ user: 'nobody' }), /refuses the password/],
    ['a database that there is not', () => urlWith({ database: 'nothing' }), /no such database/],
    ['a port where nobody listens', () => urlWith({ port: '1' }), /cannot be reached.*ECONNREFUSED/],
    [
      'a name of several addresses',
      () => urlWith({ host: 'localhost', port: '1' }),
      /cannot be reached \(.*ECONNREFUSED/,
    ],
    ['no password', () => urlWith({ password: '' }), /asks for a password/],
    ['a host that there is not', () => 'postgres://a:hidden@nothing.invalid/c', /cannot be reached/],
  ])('%s: is told in a line that names it, without the password', async (_, url, says) => {
    const secret = new URL(url()).password;
    const error = await open(url()).then(
      () => new Error('it opened'),
      (cause: unknown) => (cause instanceof Error ? cause : new Error(String(cause))),
    );
    expect(error).toMatchObject({ name: 'StoreError', failure: 'io', message: expect.stringMatching(says) as string });
    expect(error.message).toContain(new URL(url()).hostname);
    if (secret !== '') expect(error.message).not.toContain(secret);
    expect(error.message).not.toContain('\n');
  });

  it.each([
    [{ number: 130_012, version: '13.12', encoding: 'UTF8', standby: false }, /13\.12 is too old: 14 or newer/],
    [{ number: 180_004, version: '18.4', encoding: 'SQL_ASCII', standby: false }, /encoding is SQL_ASCII/],
    [{ number: 180_004, version: '18.4', encoding: 'UTF8', standby: true }, /standby/],
  ])('%o: is refused', (server, says) => {
    expect(problemOf(server)?.message).toMatch(says);
    expect(problemOf({ number: 140_000, version: '14', encoding: 'UTF8', standby: false })).toBeUndefined();
  });

  it('of another encoding is refused before anything is made in it', async () => {
    await using database = await temporaryDatabase(`ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
    await expect(open(database.url)).rejects.toThrow(/LATIN1.*ENCODING 'UTF8'/);
    expect(await database.query(`SELECT 1 FROM pg_tables WHERE schemaname = 'public'`)).toEqual([]);
  });

  it('is told to be of a newer Fishery, and left as it is', async () => {
    await using database = await temporaryDatabase('');
    await database.open();
    await database.query(`INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('of tomorrow', 9)`);
    await expect(open(database.url)).rejects.toThrow(/newer Fishery.*upgrade this server/);
  });
});

describe('a role without rights', () => {
  it('needs no more than to make tables, and is told what it lacks', async () => {
    await using database = await temporaryDatabase('');
    const role = `plain_${database.name}`;
    await onPostgres(`CREATE ROLE ${role} LOGIN PASSWORD 'p'`);
    const url = urlWith({ database: database.name, user: role, password: 'p' });
    try {
      await expect(open(url)).rejects.toThrow(/may not make tables here.*grant it CREATE on the schema/);
      await database.query(`GRANT CREATE ON SCHEMA public TO ${role}`);
      await expect(open(url)).rejects.toThrow(/may not create the extension btree_gist.*CREATE EXTENSION btree_gist/);
      await database.query('CREATE EXTENSION btree_gist');
      const store = await open(url);
      expect(await new World(store).machine('edge-1')).toBe('edge-1');
      await store.close();
    } finally {
      await database.query(`DROP OWNED BY ${role}`);
      await onPostgres(`DROP ROLE ${role}`);
    }
  });

  it('may have its tables in a schema of its own', async () => {
    await using database = await temporaryDatabase('');
    await database.query('CREATE SCHEMA fishery');
    const store = await database.open({
      url: `${database.url}?options=-c%20search_path%3Dfishery,public`,
      clock: 'server',
    });
    const world = new World(store);
    await world.machine('edge-1');
    expect(await world.holder('edge-1', 'web')).toBe('web 900');
    expect(await database.query('SELECT id FROM fishery.machines')).toEqual([{ id: 'edge-1' }]);
  });
});

describe('a connection', () => {
  it.each([
    ['off', 'on'],
    ['local', 'on'],
    ['remote_apply', 'remote_apply'],
  ])('commits durably where the database says %s', async (given, wanted) => {
    await using database = await temporaryDatabase();
    await database.query(`ALTER DATABASE ${database.name} SET synchronous_commit = ${given}`);
    const pool = openPool(database.url, 1);
    try {
      const { rows } = await pool.query<{ is: string }>(`SELECT current_setting('synchronous_commit') AS is`);
      expect(rows).toEqual([{ is: wanted }]);
    } finally {
      await pool.end();
    }
  });
});

describe('servers that start at once on an empty database', () => {
  it('make its tables once, and are one and the same', async () => {
    await using database = await temporaryDatabase('');
    const stores = await Promise.all(['a', 'b', 'c', 'd'].map((epoch) => database.open({ newEpoch: () => epoch })));
    const all = await Promise.all(stores.map(({ reader }) => reader.epoch()));
    const epochs = new Set(all.map(({ id }) => id));
    expect(epochs.size).toBe(1);
    const [made] = all;
    for (const epoch of all) expect(epoch).toEqual(made);
    expect(made?.confirmedAt).toBe(made?.beganAt);
    expect(Math.abs((made?.beganAt ?? 0) - Date.now() * 1_000)).toBeLessThan(60_000_000);
    const [end] = await database.query('SELECT confirmed_at::text AS at FROM log_end');
    expect(Number(end?.['at'])).toBe(made?.confirmedAt);
    // System identifier and timeline: after a failover, or on a restored copy, it is another.
    const [here] = await onPostgres(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
      inject('postgresUrl'),
    );
    expect([...epochs][0]).toMatch(new RegExp(`^[abcd]\\.${String(here?.['id'])}\\.1\\.\\d+\\.\\d+$`));
  });
});
