import { describe, expect, it } from 'vitest';
import type { Lease } from '../../src/leases/model.ts';
import type { PageRequest, Store, UsesFilter } from '../../src/leases/store.ts';
import { address, at, ledger, must, second, shared, tcp, udp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/** What every store promises about the past: who had what when, to the microsecond, and for how long it is known. */
export function historyContract(name: string, open: () => Promise<Opened>): void {
  const place = address('198.51.100.0');
  const all: PageRequest = { limit: 1_000, cursor: null };

  /** Two machines, three holders on each, slices of 2,048 ports on the first. */
  async function town(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/31']);
    for (const machine of ['edge-1', 'edge-2']) {
      await world.machine(machine);
      for (const holder of ['mail', 'web', 'news']) await world.holder(machine, holder);
    }
    await world.ready('edge-1', 'v4');
    return world;
  }

  const lastAt = (world: World): number => world.events.at(-1)?.at ?? 0;
  const first = <T>(items: readonly T[]): T => {
    const [item] = items;
    if (item === undefined) throw new Error('one is expected');
    return item;
  };

  /** Holders at an instant, with the machine in front. */
  const whoHad = async ({ store }: World, port: number, when: number, protocol: 'tcp' | 'udp' = 'tcp') => {
    const { tenure, leases } = await store.reader.whoHad({ address: place, protocol, port, at: when });
    return [tenure?.machine ?? 'nobody', ...leases.map((lease) => lease.holder)].join(' ');
  };

  async function usesOf({ store }: World, filter: UsesFilter, limit = 1_000): Promise<readonly Lease[]> {
    const found: Lease[] = [];
    let cursor: string | null = null;
    for (let pages = 0; pages < 1_000; pages++) {
      const page: Awaited<ReturnType<Store['reader']['uses']>> = await store.reader.uses(filter, { limit, cursor });
      expect(page.items.length).toBeLessThanOrEqual(limit);
      found.push(...page.items);
      if (page.next === null) return found;
      cursor = page.next;
    }
    throw new Error('the list has no end');
  }
  const ids = (leases: readonly Lease[]): readonly number[] => leases.map(({ id }) => id);

  describe(`${name}, as the history`, () => {
    it('knows whose a port was, exact to the microsecond, through the life of a lease', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 3_600);
      world.clock.passSeconds(10);
      const lease = first(await world.leases(web, tcp(256)));
      const granted = lastAt(world);
      world.clock.passSeconds(10);
      await world.report(lease, 'active');
      const active = lastAt(world);
      world.clock.passSeconds(10);
      await world.release(lease);
      const released = lastAt(world);
      world.clock.passSeconds(10);
      await world.report(lease, 'empty');
      const empty = lastAt(world);
      await world.pass(120);
      world.clock.passSeconds(5);
      const next = first(await world.leases(web, tcp(256, at('198.51.100.0', lease.ports.first))));
      const granted2 = lastAt(world);
      const { first: low, last: high } = lease.ports;
      expect(next.ports).toEqual(lease.ports);
      const who = (when: number, port = low) => whoHad(world, port, when);
      await ledger([
        ['before the grant', () => who(granted - 1), 'edge-1'],
        ['at the grant', () => who(granted), 'edge-1 web'],
        ['when it became active', () => who(active), 'edge-1 web'],
        ['at the release, when its users may still be there', () => who(released), 'edge-1 web'],
        ['before they were proven gone', () => who(empty - 1), 'edge-1 web'],
        ['when they were', () => who(empty), 'edge-1'],
        ['in the rest', () => who(empty + 60 * second), 'edge-1'],
        ['at the end of the rest', () => who(empty + 120 * second), 'edge-1'],
        ['before the next grant', () => who(granted2 - 1), 'edge-1'],
        ['at the next grant', () => who(granted2), 'edge-1 web'],
        ['on its last port', () => who(active, high), 'edge-1 web'],
        ['below its first', () => who(active, low - 1), 'edge-1'],
        ['for another protocol', () => whoHad(world, low, active, 'udp'), 'edge-1'],
        ['on a port that no slice has', () => who(active, 500), 'nobody'],
      ]);
    });

    it('knows every member of a shared block, whenever each came and went', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const [web, mail, news] = [
        await world.session('edge-1', 'web', 3_600),
        await world.session('edge-1', 'mail', 3_600),
        await world.session('edge-1', 'news', 3_600),
      ];
      const block = shared(64, at('198.51.100.0', 2_048));
      const step = async <T>(run: () => Promise<T>): Promise<{ value: T; at: number }> => {
        world.clock.passSeconds(1);
        return { value: await run(), at: lastAt(world) };
      };
      const join = (session: { id: number }) => step(async () => first(await world.leases(session, block)));
      const leave = (lease: Lease) =>
        step(async () => {
          await world.release(lease);
          return world.report(lease, 'empty');
        });
      const w1 = await join(web);
      const m1 = await join(mail);
      const w1Gone = await leave(w1.value);
      const n1 = await join(news);
      const refused = await step(() => world.report(n1.value, 'refused'));
      const { slice, protocol, ports } = n1.value;
      must(await world.execute({ kind: 'unblock', slice, protocol, ports }));
      const w2 = await join(web);
      const m1Gone = await leave(m1.value);
      const ended = await step(() => world.end(web));
      await world.pass(1);
      const w2Gone = await step(() => world.report(w2.value, 'empty'));
      const who = (when: number) => whoHad(world, 2_100, when);
      await ledger([
        ['the first', () => who(w1.at), 'edge-1 web'],
        ['the second joins', () => who(m1.at), 'edge-1 web mail'],
        ['the first leaves', () => who(w1Gone.at), 'edge-1 mail'],
        ['a third is granted, and refused afterwards: it never had it', () => who(n1.at), 'edge-1 mail'],
        ['as was clear then', () => who(refused.at), 'edge-1 mail'],
        ['the first comes back', () => who(w2.at), 'edge-1 mail web'],
        ['the second leaves', () => who(m1Gone.at), 'edge-1 web'],
        ['the session ends', () => who(ended.at), 'edge-1 web'],
        ['the last moment', () => who(w2Gone.at - 1), 'edge-1 web'],
        ['nobody is left', () => who(w2Gone.at), 'edge-1'],
      ]);
      // The same once all of them are over.
      await world.pass(121);
      await ledger([
        ['the second joins', () => who(m1.at), 'edge-1 web mail'],
        ['the first comes back', () => who(w2.at), 'edge-1 mail web'],
        ['the last moment', () => who(w2Gone.at - 1), 'edge-1 web'],
        ['nobody is left', () => who(w2Gone.at), 'edge-1'],
      ]);
    });

    it('knows which machine had a slice, and its holders, when it moves', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const slice = first((await world.store.reader.slices({ machine: 'edge-1' }, all)).items);
      const web = await world.session('edge-1', 'web', 3_600);
      const lease = first(await world.leases(web, tcp(2_048)));
      const granted = lastAt(world);
      await world.release(lease);
      await world.report(lease, 'empty');
      await world.pass(121);
      await world.drain(slice.id);
      await world.reportSlice('edge-1', slice, 'empty');
      world.clock.passSeconds(120);
      await world.sweep();
      const freed = lastAt(world);
      world.clock.passSeconds(5);
      await world.ready('edge-2', 'v4', 1);
      const [assigned] = world.events.filter((event) => event.at > freed);
      world.clock.passSeconds(5);
      const session = await world.session('edge-2', 'web', 3_600);
      const again = first(await world.leases(session, tcp(2_048)));
      const granted2 = lastAt(world);
      expect(again).toMatchObject({ slice: slice.id, generation: 2 });
      const who = (when: number) => whoHad(world, 3_000, when);
      await ledger([
        ['with the first', () => who(granted), 'edge-1 web'],
        ['until it was free', () => who(freed - 1), 'edge-1'],
        ['with nobody', () => who(freed), 'nobody'],
        ['until it was assigned', () => who((assigned?.at ?? 0) - 1), 'nobody'],
        ['with the second', () => who(assigned?.at ?? 0), 'edge-2'],
        ['granted there', () => who(granted2), 'edge-2 web'],
      ]);
      const { machine, holders } = await world.store.reader.whoHad({
        ...{ address: place, protocol: 'tcp', port: 3_000, at: granted2 },
      });
      expect(machine?.id).toBe('edge-2');
      expect(holders.map((holder) => `${holder.machine}/${holder.name}`)).toEqual(['edge-2/web']);
      const filter = { address: place, port: 3_000, protocol: null, since: 0, until: granted2 + 1 };
      expect(ids(await usesOf(world, filter))).toEqual([lease.id, again.id]);
    });

    it('tells who had a port, and what a holder had, within a time, page by page', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 86_400);
      const mail = await world.session('edge-1', 'mail', 86_400);
      const t0 = world.clock.us;
      const over: Lease[] = [];
      const block = at('198.51.100.0', 2_048);
      // Long and short ones in turn, on a port that is also in larger and smaller blocks.
      for (const [index, ports] of [1, 16, 128, 1, 64, 8].entries()) {
        const lease = first(await world.leases(index % 2 ? mail : web, tcp(ports, block)));
        world.clock.passSeconds(index % 2 ? 5 : 1_000);
        await world.release(lease);
        await world.report(lease, 'empty');
        await world.pass(120);
        over.push((await world.store.reader.lease(lease.id)) ?? lease);
      }
      const other = first(await world.leases(web, udp(4, at('198.51.100.0', 2_048))));
      const live = first(await world.leases(web, tcp(4, block)));
      const now = lastAt(world) + 1;
      const port = { address: place, port: 2_048, protocol: 'tcp' } as const;
      const inTime = (since: number, until: number) => ({ since, until });
      const overIds = ids(over);
      expect(ids(await usesOf(world, { ...port, ...inTime(0, now) }))).toEqual([...overIds, live.id]);
      for (const limit of [1, 2, 3])
        expect(ids(await usesOf(world, { ...port, ...inTime(0, now) }, limit))).toEqual([...overIds, live.id]);
      expect(ids(await usesOf(world, { ...port, protocol: null, ...inTime(0, now) }))).toEqual([
        ...overIds,
        other.id,
        live.id,
      ]);
      expect(ids(await usesOf(world, { ...port, port: 2_049, ...inTime(0, now) }))).toEqual(
        ids([...over.filter(({ ports }) => ports.last > 2_048), live]),
      );
      const holder = { machine: 'edge-1', holder: 'web' };
      const webs = ids([...over.filter((lease) => lease.holder === 'web'), other, live]);
      for (const limit of [1, 2, 1_000])
        expect(ids(await usesOf(world, { ...holder, ...inTime(0, now) }, limit))).toEqual(webs);
      // Half open on both sides: the instant of the grant is in, that of the proof is not.
      const third = over[2];
      if (!third) throw new Error('six were granted');
      const empty = third.emptyAt ?? 0;
      for (const filter of [port, holder])
        await ledger([
          [
            'its first instant',
            () => usesOf(world, { ...filter, ...inTime(third.grantedAt, third.grantedAt + 1) }),
            [third],
          ],
          ['before it', () => usesOf(world, { ...filter, ...inTime(third.grantedAt - 1, third.grantedAt) }), []],
          ['its last', () => usesOf(world, { ...filter, ...inTime(empty - 1, empty) }), [third]],
          ['after it', () => usesOf(world, { ...filter, ...inTime(empty, empty + 1) }), []],
          ['in the middle', () => usesOf(world, { ...filter, ...inTime(empty - 5 * second, empty - second) }), [third]],
          ['before everything', () => usesOf(world, { ...filter, ...inTime(0, t0) }), []],
        ]);
      expect(await usesOf(world, { machine: 'edge-2', holder: 'web', ...inTime(0, now) })).toEqual([]);
      expect(await usesOf(world, { ...port, address: address('192.0.2.1'), ...inTime(0, now) })).toEqual([]);
    });

    it('removes what has been over for long enough, the longest over first, and says since when it is whole', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { store } = world;
      const prune = (keptUs: number, rowsMax = 1_000) => store.prune({ now: world.clock.us, keptUs, rowsMax });
      expect(await prune(0)).toEqual({ removed: 0, more: false });
      expect(await store.reader.historySince()).toBeNull();
      const web = await world.session('edge-1', 'web', 86_400);
      const gone: Lease[] = [];
      for (const ports of [4, 8]) {
        const brief = await world.session('edge-1', 'mail', 3_600);
        const lease = first(await world.leases(brief, tcp(ports)));
        await world.end(brief);
        await world.pass(1);
        await world.report(lease, 'empty');
        await world.pass(120);
        gone.push(lease);
      }
      const [a, b] = gone as [Lease, Lease];
      const live = first(await world.leases(web, tcp(4)));
      const since = world.clock.us - 60 * second;
      expect(await prune(60 * second, 1)).toEqual({ removed: 1, more: true });
      expect(await store.reader.lease(a.id)).toBeUndefined();
      expect(await store.reader.lease(b.id)).toBeDefined();
      expect(await store.reader.historySince()).toBe(since);
      // The other lease rested longer than that.
      expect(await prune(60 * second)).toEqual({ removed: 1, more: false });
      expect((await store.reader.sessions({ machine: 'edge-1' }, all)).items.map(({ holder }) => holder)).toEqual([
        'web',
        'mail',
      ]);
      expect(await prune(0)).toEqual({ removed: 2, more: false });
      expect(await store.reader.historySince()).toBe(world.clock.us);
      expect(await prune(60 * second)).toEqual({ removed: 0, more: false });
      expect(await store.reader.historySince()).toBe(world.clock.us);
      expect((await store.reader.leases({}, all)).items).toEqual([live]);
      expect((await store.reader.sessions({}, all)).items.map(({ id }) => id)).toEqual([web.id]);
      expect((await store.reader.whoHad({ ...live, port: live.ports.first, at: world.clock.us + 9 })).leases).toEqual([
        live,
      ]);
    });

    it('forgets a revocation that was done long enough ago, and nothing of a lease that has not let go since', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 86_400);
      const lease = first(await world.leases(web, tcp(4)));
      await world.revokeAll({ holder: 'web' });
      const revoked = first((await world.store.reader.revocations({}, all)).items);
      await world.pass(1);
      world.clock.passSeconds(60);
      const prune = () => world.store.prune({ now: world.clock.us, keptUs: 30 * second, rowsMax: 10 });
      expect(await prune()).toEqual({ removed: 1, more: false });
      expect(await world.store.reader.revocation(revoked.id)).toBeUndefined();
      expect(await world.look(lease)).toMatch(/ending revoked$/);
    });

    it('keeps who has a slice, and forgets who had it', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const slice = first((await world.store.reader.slices({ machine: 'edge-1' }, all)).items);
      const had = lastAt(world);
      await world.drain(slice.id);
      await world.reportSlice('edge-1', slice, 'empty');
      await world.pass(120);
      await world.ready('edge-2', 'v4');
      const has = lastAt(world);
      world.clock.passSeconds(60);
      expect(await whoHad(world, 3_000, had)).toBe('edge-1');
      const prune = (keptUs: number) => world.store.prune({ now: world.clock.us, keptUs, rowsMax: 10 });
      expect(await prune(61 * second)).toEqual({ removed: 0, more: false });
      expect(await prune(0)).toEqual({ removed: 1, more: false });
      expect(await whoHad(world, 3_000, had)).toBe('nobody');
      expect(await whoHad(world, 3_000, has)).toBe('edge-2');
    });
  });
}
