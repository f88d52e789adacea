import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SteadyClock } from '../../src/ops/clock.ts';
import { onPostgres, temporaryDatabase, TemporaryDatabase } from '../support/postgres/database.ts';
import { Replica } from '../support/replica.ts';
import { flawsOf } from '../support/tiling.ts';

let database: TemporaryDatabase;
beforeEach(async () => {
  database = await temporaryDatabase();
});
afterEach(() => database[Symbol.asyncDispose]());

let ids = 0;
const replica = async (of = database): Promise<Replica> =>
  Replica.start(await of.open({ newEpoch: () => `epoch-${++ids}` }), new SteadyClock());
const machine = () =>
  ({ kind: 'createMachine', id: `m-${++ids}`, labels: {}, enforcement: 'none', fenceUs: 1 }) as const;
/** What comes of a change: done, or the code it is refused with. */
const change = async ({ service }: Replica): Promise<string> => {
  const result = await service.execute(machine());
  return result.ok ? 'done' : result.error.code;
};

describe('a database that was copied or restored', () => {
  it('is known by the database that it is now, also within one system', async () => {
    await using original = await replica();
    for (let index = 0; index < 3; index++) expect(await change(original)).toBe('done');
    await original[Symbol.asyncDispose]();
    await original.store.close();
    const name = `${database.name}_copy`;
    await onPostgres(`CREATE DATABASE ${name} TEMPLATE ${database.name}`);
    await using copy = new TemporaryDatabase(name);
    await using server = await replica(copy);
    expect(await change(server)).toBe('read_only_epoch');
    const { number, cause, detail, id } = await server.store.reader.epoch();
    expect([number, cause]).toEqual([2, 'other_database']);
    expect(detail).toMatch(/^this is database \d+\.1\.\d+\.\d+, and \d+\.1\.\d+\.\d+ wrote last$/);
    // The identity that clients get to know has the system and its timeline in it.
    expect(id).toMatch(/^epoch-\d+\.\d+\.1\.\d+\.\d+$/);
    // Nobody was asked anything of the empty one that tests begin with: it is taken as it is.
    expect((await copy.read()).tables.epochs.size).toBe(2);
  });

  it('with another timeline is another history', async () => {
    await using server = await replica();
    expect(await change(server)).toBe('done');
    const { id } = await server.store.reader.epoch();
    await database.query(`UPDATE log_end SET cluster = regexp_replace(cluster, '^(\\d+)\\.1\\.', '\\1.7.')`);
    expect(await change(server)).toBe('read_only_epoch');
    expect((await server.store.reader.epoch()).id).not.toBe(id);
    expect(await server.service.execute({ kind: 'confirmEpoch', number: 2, by: 'a test' })).toMatchObject({ ok: true });
    expect(await change(server)).toBe('done');
  });
});

describe('a database after a failover', () => {
  it('goes on by itself when every machine told that it has nothing which is lost', async () => {
    await using server = await replica();
    const made = { kind: 'createMachine', labels: {}, enforcement: 'agent', fenceUs: 30_000_000 } as const;
    for (const id of ['one', 'two']) await server.service.execute({ ...made, id });
    await database.query(`UPDATE log_end SET cluster = regexp_replace(cluster, '^(\\d+)\\.1\\.', '\\1.7.')`);
    const tell = (id: string, appliedRevision: number) =>
      server.service.execute({ kind: 'agentKeepalive', machine: id, bootId: 'b', version: '1', appliedRevision });
    const stands = async () => (await server.store.reader.epoch()).confirmedBy;
    await tell('one', 2);
    await database.query(`UPDATE epochs SET began_at = began_at - 3602000000 WHERE number = 2`);
    await tell('one', 2);
    await tell('two', 3);
    await tell('one', 2);
    expect(await stands()).toBeNull();
    await tell('two', 1);
    expect(await stands()).toBe('machines');
    expect(await change(server)).toBe('done');
  });
});

describe('a log that loses its end under servers that run', () => {
  it('is noticed by the server that had seen more, and by all others through it', async () => {
    await using one = await replica();
    await using two = await replica();
    for (let index = 0; index < 5; index++) expect(await change(one)).toBe('done');
    await vi.waitFor(() => expect(two.seen.length).toBe(5));
    // As a failover to a standby that lagged behind would leave it, but for the timeline.
    await database.query(`DELETE FROM machines WHERE revision > 3; DELETE FROM events WHERE revision > 3;
      UPDATE log_end SET revision = 3, last_event_at = (SELECT max(at) FROM events)`);
    expect(await change(one)).toBe('read_only_epoch');
    expect(await change(two)).toBe('read_only_epoch');
    expect(await two.store.reader.epoch()).toMatchObject({
      ...{ number: 2, cause: 'log_went_back', after: 3, from: 1_000_000_000_001 },
      detail: 'the log ends at revision 3, and 5 had been committed',
    });
    expect(await two.service.execute({ kind: 'confirmEpoch', number: 2, by: 'a test' })).toMatchObject({ ok: true });
    for (const server of [one, two]) expect(await change(server)).toBe('done');
    const { tables, events } = await database.read();
    expect(flawsOf(tables, events)).toEqual([]);
    expect(events.map(({ revision }) => revision % 1_000_000_000_000)).toEqual([1, 2, 3, 1, 2, 3, 4]);
    expect([...one.troubles, ...two.troubles]).toEqual([]);
  });
});

describe('a client that has seen more than there is', () => {
  it('makes every server on the database read-only, whichever it asks', async () => {
    const one = await replica();
    const servers = [one, await replica(), await replica()];
    expect(await change(one)).toBe('done');
    const { id } = await one.store.reader.epoch();
    const seen = { kind: 'weighSeen', epoch: id, revision: 9, witness: 'token-1' } as const;
    const weighed = await Promise.all(
      servers.map(({ service }, index) => service.execute({ ...seen, newId: `epoch-by-${index}` })),
    );
    // All were shown it at once: one epoch is enough.
    expect(weighed.map((result) => result.ok && result.value.epoch)).toEqual([2, 2, 2]);
    expect(await Promise.all(servers.map(change))).toEqual(['read_only_epoch', 'read_only_epoch', 'read_only_epoch']);
    for (const server of servers) {
      await vi.waitFor(() => expect(server.seen.at(-1)).toMatchObject({ kind: 'epoch', revision: 1_000_000_000_001 }));
      await server[Symbol.asyncDispose]();
    }
  });
});
