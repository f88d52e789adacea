import { fc, test } from '@fast-check/vitest';
import { cpSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FisheryClient, isFisheryError } from '../../src/sdk/index.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { until } from '../support/broker-world.ts';
import { insist } from '../support/insist.ts';
import type { Cut } from '../support/link.ts';
import { LinkedBroker } from '../support/linked-broker.ts';

const here = { allocator: 'machine', machine: 'edge' } as const;
const tcp = (ports: number) => [{ protocol: 'tcp' as const, ports }];

/** Every verb, asked for on the host and over the server, from when the slice comes until it is back in another generation. */
async function story(w: LinkedBroker): Promise<void> {
  const server = new FisheryClient({ url: w.server.url, token: w.server.secret, attemptsMax: 1 });
  const assign = () => server.slices.assign({ machine: 'edge', pool: 'pool', allocator: 'machine' });
  const [slice] = (await assign()).slices;
  const stateOf = async () => (await server.slices.get(slice?.id ?? '')).state;
  await until(async () => (await stateOf()) === 'assigned');
  const local = w.local(1);
  const open = () => insist(() => local.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 }));
  const grantHere = async (session: string): Promise<Lease> => {
    for (;;) {
      try {
        const [lease] = (await local.leases.grant({ session, claims: tcp(8) })).leases;
        if (lease?.state === 'active') return lease;
      } catch (error) {
        // The server has assigned it, and the broker has not heard of that yet.
        if (!isFisheryError(error) || !(error.retryable || error.code === 'no_slices')) throw error;
        await sleep(20);
      }
    }
  };
  const mine = await open();
  const first = await grantHere(mine.id);
  const theirs = await insist((idempotencyKey) =>
    server.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600, allocator: 'machine' }, { idempotencyKey }),
  );
  const granted = await insist((idempotencyKey) =>
    server.leases.grant({ session: theirs.id, claims: tcp(16) }, { idempotencyKey, timeoutS: 1, ...here }),
  );
  await insist(() => server.sessions.keepalive(theirs.id, here));
  await local.leases.release(first);
  await grantHere(mine.id);
  const [far] = granted.leases;
  if (!far) throw new Error('nothing was granted over the server');
  await insist((idempotencyKey) => server.leases.release(far, { idempotencyKey, ...here }));
  await insist(async () => {
    try {
      await server.sessions.end(theirs.id, here);
    } catch (error) {
      // It was carried out, and the word of it was lost.
      if (!isFisheryError(error, 'session_ended')) throw error;
    }
  });
  await server.slices.drain({ id: slice?.id ?? '', revision: '*' }, { deadline_s: 0 });
  await until(async () => (await stateOf()) === 'free');
  await assign();
  await until(async () => (await stateOf()) === 'assigned');
  const again = await open();
  await grantHere(again.id);
  await local.sessions.end(mine.id);
}

type Row = Readonly<{
  id: number;
  state: string;
  from: number;
  until: number | null;
  first: number;
  last: number;
  generation: number;
}>;
type Told = Pick<Row, 'id' | 'state'> & Record<string, unknown>;

/** By nothing of the engine: every lease that there ever was, and where two had a port at once. */
function givenTwice(rows: readonly Row[]): readonly string[] {
  return rows.flatMap((a) =>
    rows.flatMap((b) => {
      const isSamePort = a.first <= b.last && b.first <= a.last;
      const isSameTime = (a.until === null || b.from < a.until) && (b.until === null || a.from < b.until);
      return a.id < b.id && isSamePort && isSameTime ? [`lease-${a.id} and lease-${b.id} at once`] : [];
    }),
  );
}

const instant = (text: string | null): number | null => (text === null ? null : Date.parse(text));
const numberOf = (id: string) => Number(id.split('-')[1]);

async function judge(w: LinkedBroker): Promise<void> {
  const { items } = await w.local().leases.list({ limit: 1_000 });
  const rows = items.map(({ id, state, granted_at, ended_at, ports, token }): Row => ({
    ...{ id: numberOf(id), state, from: instant(granted_at) ?? 0, until: instant(ended_at) },
    ...{ first: ports.first, last: ports.last, generation: Number(token.split('.')[0]) },
  }));
  expect(givenTwice(rows)).toEqual([]);
  // Each of four grants was carried out once, however often it was asked for.
  expect(rows.map(({ last, first }) => last - first + 1).sort((a, b) => a - b)).toEqual([8, 8, 8, 16]);
  expect(rows.map(({ generation }) => generation).sort()).toEqual([1, 1, 1, 2]);
  const { reportedLeases, reportedSessions, brokers } = w.server.store.tables;
  expect(brokers.get('edge')?.epoch).toBe(w.broker.epoch);
  expect(reportedSessions.size).toBe(3);
  // That a rest is over is not told: it follows by itself.
  const settled = (state: string) => (state === 'cooling' ? 'ended' : state);
  const told = [...reportedLeases.values()].map(({ id, state, ports }): Told => ({
    id,
    state: settled(state),
    ...ports,
  }));
  const known = rows.map(({ id, state, first, last }): Told => ({ id, state: settled(state), first, last }));
  const byId = (a: Told, b: Told) => a.id - b.id;
  expect(told.sort(byId)).toEqual(known.sort(byId));
}

/** Until the server has heard of everything, however often it takes. */
async function settle(w: LinkedBroker): Promise<void> {
  w.link.cut = () => undefined;
  for (;;) {
    const { items } = await w.local().leases.list({ limit: 1_000 });
    const { told_through } = w.broker.status();
    const isQuiet = items.every((lease) => !['pending', 'ending', 'cooling'].includes(lease.state));
    const newest = Math.max(0, ...items.map(({ revision }) => revision));
    if (isQuiet && (told_through ?? 0) >= newest) return;
    await sleep(20);
  }
}

async function play(cut: (number: number, name: string) => Cut | undefined): Promise<readonly string[]> {
  await using w = await LinkedBroker.open({ forward_ms: 300 });
  w.link.cut = cut;
  await story(w);
  await settle(w);
  await judge(w);
  return w.link.names;
}

describe('a link that is cut', () => {
  it('nowhere: both tables agree', { timeout: 120_000 }, async () => {
    const names = await play(() => undefined);
    expect(new Set(names)).toEqual(new Set(['desired', 'watch', 'granted', 'applied', 'request', 'answers']));
  });

  it.each(['desired', 'watch', 'granted', 'applied', 'request', 'answers'])(
    'at every %s, before it arrives and after: nothing is given twice, and both tables agree',
    { timeout: 120_000 },
    async (verb) => {
      // Before, after, and not at all, in turn: each step of the story has its turn of each in one of the runs.
      const most = 15;
      const turns = [
        ['request', 'answer', undefined],
        ['answer', undefined, 'request'],
      ] as const;
      await Promise.all(
        turns.map((turn) => {
          let count = 0;
          return play((_number, name) => (name === verb && count < most ? turn[count++ % 3] : undefined));
        }),
      );
    },
  );

  test.prop(
    [fc.array(fc.constantFrom<Cut | undefined>('request', 'answer', undefined), { minLength: 20, maxLength: 60 })],
    {
      numRuns: 2,
    },
  )(
    'anywhere, again and again',
    async (cuts) => {
      await play((number) => cuts[number]);
    },
    240_000,
  );
});

describe('a table that was restored', () => {
  it(
    'is begun anew as soon as the server says so: what was granted since is not given twice',
    { timeout: 120_000 },
    async () => {
      await using w = await LinkedBroker.open();
      await w.server.client.slices.assign({ machine: 'edge', pool: 'pool', allocator: 'machine' });
      const local = w.local();
      const grants = async (): Promise<Lease> => {
        for (;;) {
          try {
            const { id } = await local.sessions.open({ machine: 'edge', holder: 'web', ttl_s: 600 });
            const [lease] = (await local.leases.grant({ session: id, claims: tcp(8) }, { wait: 'stored' })).leases;
            if (lease) return lease;
          } catch (error) {
            if (!isFisheryError(error) || !(error.retryable || error.code === 'no_slices')) throw error;
            await sleep(20);
          }
        }
      };
      await grants();
      const backup = `${w.table}.backup`;
      await w.restart(() => cpSync(w.table, backup, { recursive: true }));
      const since = await grants();
      await until(() => w.server.store.tables.reportedLeases.size === 2);
      const { epoch } = w.broker;
      await w.restart(() => {
        rmSync(w.table, { recursive: true });
        cpSync(backup, w.table, { recursive: true });
      });
      await until(() => w.broker.epoch !== epoch);
      await until(() => w.server.store.tables.brokers.get('edge')?.epoch === w.broker.epoch);
      const again = await local.leases.get(since.id).catch((error: unknown) => error);
      expect(again).toMatchObject({ code: 'lease_not_found' });
      // Nor does it stay on the host.
      await until(() => w.held.length === 0);
      const { extents } = await local.slices.extents(since.slice);
      expect(new Set(extents.map(({ state }) => state))).toEqual(new Set(['blocked']));
    },
  );
});
