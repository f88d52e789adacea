import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { formatToken, type HolderLimits, type Lease, type Session } from '../../src/leases/model.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';
import { Replica } from '../support/replica.ts';
import { flawsOf } from '../support/tiling.ts';
import { at, keyed, must, shared, tcp, udp, World } from '../support/world.ts';

/** A machine without an agent, so that what is released may be granted at once, on a pool of a few ports. */
async function furnish(database: TemporaryDatabase): Promise<readonly Session[]> {
  const world = new World(await database.open({ clock: 'server' }));
  world.clock.us = new SteadyClock().nowUs();
  await world.pool('v4', ['198.51.100.0/28'], { slicePorts: 256, cooldownUs: { tcp: 0, udp: 0, icmp: 0 } });
  await world.machine('bare', 'none');
  for (const holder of ['web', 'mail']) await world.holder('bare', holder);
  await world.ready('bare', 'v4', 8);
  return [await world.session('bare', 'web', 3_600), await world.session('bare', 'mail', 3_600)];
}

async function replicas(database: TemporaryDatabase, count: number): Promise<readonly Replica[]> {
  // Their own clocks are an hour apart: the database's decides.
  const clocks = Array.from({ length: count }, (_, index) => {
    const clock = new SteadyClock();
    return { nowUs: () => clock.nowUs() + index * 3_600_000_000 };
  });
  return Promise.all(clocks.map(async (clock) => Replica.start(await database.open(), clock)));
}

/** Everything that a replica's follower has seen is the log, to its end. */
async function expectSameHistory(database: TemporaryDatabase, all: readonly Replica[]): Promise<void> {
  const { tables, events } = await database.read();
  expect(events.map(({ revision }) => revision)).toEqual(events.map((_, index) => index + 1));
  expect(flawsOf(tables, events)).toEqual([]);
  for (const replica of all) {
    await vi.waitFor(() => expect(replica.seen.length).toBe(events.length), 5_000);
    expect(replica.seen).toEqual(events);
    expect(replica.troubles).toEqual([]);
  }
}

describe('several servers on one database', () => {
  it('keep to the limits of a holder together, to the port and to the session', async () => {
    await using database = await temporaryDatabase();
    const [web, mail] = await furnish(database);
    if (!web || !mail) throw new Error('no sessions');
    const all = await replicas(database, 3);
    const [first] = all;
    const limit = (name: string, uid: number, limits: HolderLimits) =>
      first?.service.execute({ kind: 'putHolder', machine: 'bare', name, holderKind: 'proxy', uid, limits });
    const none = { tcp: 0, udp: 0, icmp: 0 };
    await limit('web', 900, { portsMin: none, portsMax: { tcp: 100, udp: null, icmp: null }, sessionsMax: 4 });
    // Of 2,048 ports so many are kept that 148 are left for others.
    await limit('mail', 901, {
      portsMin: { ...none, udp: 1_900 },
      portsMax: { ...none, tcp: 7, icmp: 0 },
      sessionsMax: null,
    });
    const held: Lease[] = [];
    const codes = new Set<string>();
    const work = async (replica: Replica, turn: number) => {
      for (let round = 0; round < 5; round++) {
        for (const [session, one] of [
          [web, tcp(1)],
          [web, tcp(2)],
          [web, udp(4)],
          [mail, tcp(1)],
        ] as const) {
          const result = await replica.service.execute({
            kind: 'grantLeases',
            scope: {},
            session: session.id,
            claims: [one],
          });
          if (!result.ok) codes.add(result.error.code);
          else if ((turn + round) % 3 > 0) held.push(...result.value);
          else
            for (const lease of result.value)
              must(
                await replica.service.execute({
                  kind: 'releaseLease',
                  scope: {},
                  id: lease.id,
                  token: formatToken(lease),
                }),
              );
        }
      }
    };
    await Promise.all(all.flatMap((replica) => Array.from({ length: 6 }, (_, turn) => work(replica, turn))));
    expect([...codes].sort()).toEqual(['holder_ports_exceeded', 'ports_kept_for_others']);
    // What was released rests until somebody sweeps.
    await first?.service.execute({ kind: 'sweep', itemsMax: 250 });
    const fill = async (session: Session, one: ReturnType<typeof tcp>) => {
      for (;;) {
        const result = await first?.service.execute({
          kind: 'grantLeases',
          scope: {},
          session: session.id,
          claims: [one],
        });
        if (!result?.ok) return;
        held.push(...result.value);
      }
    };
    for (const [session, one] of [
      [web, tcp(1)],
      [web, udp(1)],
      [mail, tcp(1)],
    ] as const)
      await fill(session, one);
    const portsOf = (holder: string, protocol: string) =>
      held
        .filter((lease) => lease.holder === holder && lease.protocol === protocol)
        .reduce((sum, { ports }) => sum + ports.last - ports.first + 1, 0);
    expect([portsOf('web', 'tcp'), portsOf('mail', 'tcp'), portsOf('web', 'udp')]).toEqual([100, 7, 148]);
    const opened = await Promise.all(
      all.flatMap(({ service }) =>
        [1, 2, 3].map(() =>
          service.execute({ kind: 'openSession', scope: {}, machine: 'bare', holder: 'web', ttlUs: 60_000_000 }),
        ),
      ),
    );
    expect(opened.filter(({ ok }) => ok)).toHaveLength(3);
    await using snapshot = await openSnapshot({ url: database.url, directory: '' });
    expect((await check(snapshot)).flaws).toEqual([]);
    await expectSameHistory(database, all);
  });

  it('grant and take back at the same time, and no port twice', async () => {
    await using database = await temporaryDatabase();
    const [web, mail] = await furnish(database);
    if (!web || !mail) throw new Error('no sessions');
    const all = await replicas(database, 3);
    const granted: Lease[] = [];
    const work = async (replica: Replica, turn: number) => {
      for (let round = 0; round < 6; round++) {
        const session = (turn + round) % 2 === 0 ? web : mail;
        const claims = [tcp(1 + ((turn + round) % 8)), udp(4), shared(16)].slice(round % 3);
        const result = await replica.service.execute({ kind: 'grantLeases', scope: {}, session: session.id, claims });
        if (!result.ok) {
          expect(result.error.code).toBe('no_ports');
          await replica.service.execute({ kind: 'sweep', itemsMax: 50 });
          continue;
        }
        granted.push(...result.value);
        // Another server takes back what this one gave.
        const other = all[(turn + round) % all.length] ?? replica;
        for (const lease of round % 2 === 0 ? result.value : [])
          must(
            await other.service.execute({ kind: 'releaseLease', scope: {}, id: lease.id, token: formatToken(lease) }),
          );
      }
    };
    await Promise.all(all.flatMap((replica) => Array.from({ length: 12 }, (_, turn) => work(replica, turn))));
    expect(granted.length).toBeGreaterThan(200);
    expect(new Set(granted.map(({ id }) => id)).size).toBe(granted.length);
    await expectSameHistory(database, all);
    for (const replica of all) await replica[Symbol.asyncDispose]();
  });

  it('give one block, one slice, one name to one of those who ask for it at once', async () => {
    await using database = await temporaryDatabase();
    const [web] = await furnish(database);
    const all = await replicas(database, 4);
    const block = at('198.51.100.0', 1_024);
    const winners = async (ask: (replica: Replica, index: number) => Promise<{ ok: boolean }>) =>
      (await Promise.all(all.map(ask))).filter(({ ok }) => ok).length;
    const id = web?.id ?? 0;
    expect(
      await winners(({ service }) =>
        service.execute({ kind: 'grantLeases', scope: {}, session: id, claims: [tcp(64, block)] }),
      ),
    ).toBe(1);
    expect(
      await winners(({ service }) =>
        service.execute({ kind: 'createMachine', id: 'edge-9', labels: {}, enforcement: 'none', fenceUs: 1 }),
      ),
    ).toBe(1);
    const slices = await Promise.all(
      all.map(({ service }) =>
        service.execute({ kind: 'assignSlices', machine: 'edge-9', pool: 'v4', count: 3, family: null, at: null }),
      ),
    );
    const places = slices.flatMap((result) => must(result)).map((slice) => `${slice.address}:${slice.ports.first}`);
    expect(new Set(places).size).toBe(12);
    expect(
      await winners(({ service }) => service.execute({ kind: 'endSession', scope: {}, id, ending: 'released' })),
    ).toBe(1);
    await expectSameHistory(database, all);
    for (const replica of all) await replica[Symbol.asyncDispose]();
  });

  it('carry a request out once, whichever of them it comes to, and give its answer at each', async () => {
    await using database = await temporaryDatabase();
    const [web] = await furnish(database);
    const all = await replicas(database, 3);
    const claims = [tcp(4), shared(16)];
    const ask = (replica: Replica, key: string) =>
      replica.service.execute({ kind: 'grantLeases', scope: {}, session: web?.id ?? 0, claims }, keyed(key));
    const keys = Array.from({ length: 20 }, (_, index) => `k${index}`);
    // Every key at every server, twice, all at once.
    const answers = await Promise.all(
      [...all, ...all].flatMap((replica) => keys.map(async (key) => ({ key, answer: await ask(replica, key) }))),
    );
    for (const [, same] of Map.groupBy(answers, ({ key }) => key)) {
      expect(
        new Set(
          same.map(({ answer }) =>
            must(answer)
              .map(({ id }) => id)
              .join(),
          ),
        ).size,
      ).toBe(1);
      expect(same.filter(({ answer }) => answer.replayed !== true)).toHaveLength(1);
    }
    const { tables } = await database.read();
    expect(tables.leases.size).toBe(keys.length * claims.length);
    expect(tables.keptAnswers.size).toBe(keys.length);
    await expectSameHistory(database, all);
    for (const replica of all) await replica[Symbol.asyncDispose]();
  });

  it('go by the clock of the database, and give every session its time after a start', async () => {
    await using database = await temporaryDatabase();
    await furnish(database);
    const [one, ahead] = await replicas(database, 2);
    if (!one || !ahead) throw new Error('no replicas');
    const open = { kind: 'openSession', scope: {}, machine: 'bare', holder: 'web', ttlUs: 1_500_000 } as const;
    const kept = must(await one.service.execute(open));
    // To the server that is an hour ahead it is as young as to the other.
    expect((await ahead.service.execute({ kind: 'keepSession', scope: {}, id: kept.id })).ok).toBe(true);
    await sleep(1_700);
    // This one has just started, and cannot know whether anybody could have kept it alive.
    const [late] = await replicas(database, 1);
    if (!late) throw new Error('no replica');
    expect((await late.service.execute({ kind: 'keepSession', scope: {}, id: kept.id })).ok).toBe(true);
    await sleep(1_700);
    expect(await ahead.service.execute({ kind: 'keepSession', scope: {}, id: kept.id })).toMatchObject({ ok: false });
    for (const replica of [one, ahead, late]) await replica[Symbol.asyncDispose]();
  });

  it('hear of each other again after their connections were cut, and miss nothing', async () => {
    await using database = await temporaryDatabase();
    await furnish(database);
    const all = await replicas(database, 2);
    const [one, two] = all;
    if (!one || !two) throw new Error('no replicas');
    const machine = (id: string) =>
      ({ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 1 }) as const;
    for (let round = 0; round < 3; round++) {
      await database.cutConnections();
      // A connection that was cut while idle is replaced without anybody noticing.
      must(await one.service.execute(machine(`a-${round}`)));
      must(await two.service.execute(machine(`b-${round}`)));
    }
    await expectSameHistory(database, all);
    for (const replica of all) await replica[Symbol.asyncDispose]();
  });
});
