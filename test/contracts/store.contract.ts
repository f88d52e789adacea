import { describe, expect, it } from 'vitest';
import type { Claim, Placement } from '../../src/leases/commands.ts';
import { common, concerns, formatToken, steering, type Lease, type RouterDemand } from '../../src/leases/model.ts';
import { StoreError, type PageOf, type PageRequest, type Store } from '../../src/leases/store.ts';
import { walk } from '../support/pages.ts';
import { factsWith } from '../support/token-values.ts';
import { asCreated, address, at, second, shared, tcp, udp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/**
 * What every store promises to the core and to those who read. Each implementation calls this with its own `open`, which
 * gives an empty one.
 */
export function storeContract(name: string, open: () => Promise<Opened>): void {
  const all = { limit: 1_000, cursor: null };

  /** Two machines, two pools, three holders, and slices on both machines. */
  async function town(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/30']);
    await world.pool('v6', ['2001:db8::/64']);
    for (const machine of ['edge-1', 'edge-2']) {
      await world.machine(machine);
      for (const holder of ['mail', 'web']) await world.holder(machine, holder);
      await world.ready(machine, 'v4', 2);
      await world.ready(machine, 'v6');
    }
    return world;
  }

  describe(`${name}, as a store`, () => {
    it('writes what a decision changed, and tells it to everybody who reads', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      const web = await world.session('edge-1', 'web');
      const [lease] = await world.leases(web, tcp(8));
      if (!lease) throw new Error('no lease');
      expect(await reader.lease(lease.id)).toEqual(lease);
      expect(await reader.session(web.id)).toEqual(web);
      expect((await reader.slice(lease.slice))?.machine).toBe('edge-1');
      expect(await reader.holder('edge-1', 'web')).toMatchObject({ kind: 'proxy', uid: 901 });
      expect(await reader.revision()).toBe(lease.revision);
      expect(await reader.pool('v6')).toMatchObject({ prefixes: ['2001:db8::/64'], cursors: [2n] });
      for (const missing of [reader.pool('x'), reader.machine('x'), reader.holder('edge-1', 'x'), reader.slice(9_999)])
        expect(await missing).toBeUndefined();
      for (const missing of [reader.session(9_999), reader.lease(9_999), reader.accessToken('x'), reader.desired('x')])
        expect(await missing).toBeUndefined();
    });

    it('changes nothing when a decision throws', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const before = await opened.store.reader.revision();
      const work = opened.store.transact({
        now: 0,
        *needs() {
          yield [{ need: 'machine', id: 'edge-1' }];
        },
        decide: (view) => {
          view.log(null, (revision) => ({ kind: 'token', token: factsWith(revision) }));
          const machine = view.machines.get('edge-1');
          if (machine) view.machines.put({ ...machine, state: 'lost' });
          throw new Error('in the middle');
        },
      });
      await expect(work).rejects.toThrow('in the middle');
      expect(await opened.store.reader.revision()).toBe(before);
      expect(await world.lookMachine('edge-1')).toBe('active');
    });

    it('refuses a new row over an old one', async () => {
      await using opened = await open();
      await town(opened.store);
      const work = opened.store.transact({
        now: 0,
        *needs() {
          // Nothing is asked for, so that the decision believes there is no such machine.
        },
        decide: (view) => {
          const born = {
            createdAt: 0,
            updatedAt: 0,
            revision: 1,
            agent: null,
            fenceUs: 1,
            mark: null,
            nextHops: [],
            limitedHolders: 0,
            ownSlices: 0,
            labels: {},
          };
          view.machines.put({ id: 'edge-1', enforcement: 'agent', ...asCreated, ...born });
        },
      });
      await expect(work).rejects.toMatchObject({ failure: 'constraint' });
    });

    it('is of no use once it is closed', async () => {
      await using opened = await open();
      await opened.store.close();
      await opened.store.close();
      const work = { now: 0, *needs() {}, decide: () => 1 };
      await expect(opened.store.transact(work)).rejects.toBeInstanceOf(StoreError);
      await expect(opened.store.transact(work)).rejects.toMatchObject({ failure: 'closed' });
    });

    it('lists everything in order, page by page', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      for (const id of ['b', 'a.1', 'a', 'c-2']) await world.machine(id);
      for (const hash of ['1', '2', '3'])
        await world.execute({ kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null, hash });
      for (const id of ['north', 'a', 'b.1']) await world.router(id);
      const web = await world.session('edge-1', 'web');
      await world.leases(web, tcp(1), tcp(1), tcp(1));
      const lists: ((page: PageRequest) => Promise<PageOf<unknown>>)[] = [
        (page) => reader.pools({}, page),
        (page) => reader.machines({}, page),
        (page) => reader.holders('edge-1', {}, page),
        (page) => reader.slices({}, page),
        (page) => reader.sessions({}, page),
        (page) => reader.leases({}, page),
        (page) => reader.accessTokens({}, page),
        (page) => reader.routers({}, page),
      ];
      for (const list of lists) {
        const whole = (await list(all)).items;
        expect(whole.length).toBeGreaterThan(0);
        for (const limit of [1, 2, whole.length]) expect(await walk(list, limit)).toEqual(whole);
        expect((await list({ limit: whole.length, cursor: null })).next).toBeNull();
      }
      expect((await reader.machines({}, all)).items.map(({ id }) => id)).toEqual([
        'a',
        'a.1',
        'b',
        'c-2',
        'edge-1',
        'edge-2',
      ]);
      // The cursor is the key itself.
      expect((await reader.machines({}, { limit: 2, cursor: 'a.1' })).items.map(({ id }) => id)).toEqual(['b', 'c-2']);
    });

    it('lists what a filter names, live and past', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      const [web, mail, far] = [
        await world.session('edge-1', 'web', 300),
        await world.session('edge-1', 'mail', 300),
        await world.session('edge-2', 'web', 300),
      ];
      const [a, b] = await world.leases(web, tcp(1), udp(1, { pool: 'v6' }));
      const [c, d] = await world.leases(mail, shared(8), tcp(2));
      const [e] = await world.leases(far, tcp(1), tcp(1));
      if (!a || !b || !c || !d || !e) throw new Error('no leases');
      for (const lease of [a, d]) {
        await world.release(lease);
        await world.report(lease, 'empty');
      }
      await world.pass(120);
      await world.report(b, 'active');
      await world.end(far);
      const ids = async (filter: Parameters<typeof reader.leases>[0]) =>
        (await walk((page) => reader.leases(filter, page), 2)).map((lease) => lease.id);
      expect(await ids({})).toEqual([a.id, b.id, c.id, d.id, e.id, e.id + 1]);
      expect(await ids({ machine: 'edge-1' })).toEqual([a.id, b.id, c.id, d.id]);
      expect(await ids({ machine: 'edge-1', holder: 'web' })).toEqual([a.id, b.id]);
      expect(await ids({ holder: 'web' })).toEqual([a.id, b.id, e.id, e.id + 1]);
      expect(await ids({ session: web.id })).toEqual([a.id, b.id]);
      expect(await ids({ session: web.id, state: 'ended' })).toEqual([a.id]);
      expect(await ids({ machine: 'edge-1', state: 'ended' })).toEqual([a.id, d.id]);
      expect(await ids({ state: 'active' })).toEqual([b.id]);
      expect(await ids({ state: 'ending' })).toEqual([e.id, e.id + 1]);
      expect(await ids({ state: 'pending' })).toEqual([c.id]);
      expect(await ids({ protocol: 'udp' })).toEqual([b.id]);
      expect(await ids({ pool: 'v6' })).toEqual([b.id]);
      expect(await ids({ slice: a.slice })).toEqual(
        [a, c, d].filter((lease) => lease.slice === a.slice).map(({ id }) => id),
      );
      for (const { id, slice } of [a, b, c, d]) {
        expect(await ids({ slice, state: 'active' })).toEqual(slice === b.slice ? [b.id] : []);
        expect(await ids({ slice, state: 'pending', machine: 'edge-1' })).toEqual(slice === c.slice ? [c.id] : []);
        if (id === a.id || id === d.id) expect(await ids({ slice, state: 'ended' })).toContain(id);
      }
      expect(await ids({ machine: 'edge-1', state: 'active' })).toEqual([b.id]);
      expect(await ids({ machine: 'nowhere' })).toEqual([]);

      const sessions = async (filter: Parameters<typeof reader.sessions>[0]) =>
        (await walk((page) => reader.sessions(filter, page), 1)).map((session) => session.id);
      expect(await sessions({ machine: 'edge-1' })).toEqual([web.id, mail.id]);
      expect(await sessions({ holder: 'web' })).toEqual([web.id, far.id]);
      expect(await sessions({ state: 'ended' })).toEqual([far.id]);

      const slices = async (filter: Parameters<typeof reader.slices>[0]) =>
        (await walk((page) => reader.slices(filter, page), 2)).length;
      expect(await slices({ machine: 'edge-2' })).toBe(3);
      expect(await slices({ pool: 'v4' })).toBe(4);
      expect(await slices({ state: 'assigned', pool: 'v6' })).toBe(2);
      expect(await slices({ address: address('198.51.100.0') })).toBe(4);
      expect(await slices({ address: address('198.51.100.9') })).toBe(0);
    });

    it('shows a lease as its ended session leaves it', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web');
      const [lease] = await world.leases(web, tcp(1));
      if (!lease) throw new Error('no lease');
      await world.end(web, 'revoked');
      const endedAt = world.events.at(-1)?.at;
      const shown = { state: 'ending', ending: 'revoked', endingAt: endedAt };
      const { reader } = world.store;
      expect(await reader.lease(lease.id)).toMatchObject(shown);
      expect((await reader.leases({ machine: 'edge-1' }, all)).items).toMatchObject([shown]);
      expect((await reader.tiling(lease.slice)).leases).toMatchObject([shown]);
      expect((await reader.desired('edge-1'))?.leases).toMatchObject([shown]);
    });

    it('gives a machine all that it must make true, and nothing of others', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 300);
      const far = await world.session('edge-2', 'web', 300);
      const [pending, active, ending, cooling, over] = (await world.leases(
        web,
        ...Array.from({ length: 5 }, () => tcp(1)),
      )) as [Lease, Lease, Lease, Lease, Lease];
      await world.leases(far, tcp(1));
      await world.report(active, 'active');
      await world.release(over);
      await world.report(over, 'empty');
      await world.pass(120);
      for (const lease of [ending, cooling]) await world.release(lease);
      await world.report(cooling, 'empty');
      const slices = (await world.store.reader.slices({ machine: 'edge-1' }, all)).items;
      const [drained] = slices.filter((slice) => slice.pool === 'v6');
      await world.drain(drained?.id ?? 0);
      const [fresh] = await world.slices('edge-1', 'v4');
      const desired = await world.store.reader.desired('edge-1');
      expect(desired).toMatchObject({ revision: await world.store.reader.revision(), machine: { id: 'edge-1' } });
      expect(desired?.pools.map(({ id }) => id)).toEqual(['v4', 'v6']);
      expect(desired?.holders.map((holder) => `${holder.machine}/${holder.name}`)).toEqual([
        'edge-1/mail',
        'edge-1/web',
      ]);
      expect(desired?.slices.map(({ state }) => state)).toEqual(['assigned', 'assigned', 'draining', 'assigning']);
      expect(desired?.slices.at(-1)?.id).toBe(fresh?.id);
      expect(desired?.leases.map(({ id, state }) => [id, state])).toEqual([
        [pending.id, 'pending'],
        [active.id, 'active'],
        [ending.id, 'ending'],
      ]);
      await world.reportSlice('edge-1', drained ?? { id: 0, generation: 1 }, 'empty');
      expect((await world.store.reader.desired('edge-1'))?.slices).toHaveLength(3);
    });

    it('tiles a slice: what nobody leases, and what somebody does', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 300);
      const mail = await world.session('edge-1', 'mail', 300);
      const [a] = await world.leases(web, tcp(1_024), shared(512));
      await world.leases(mail, shared(512));
      if (!a) throw new Error('no lease');
      await world.release(a);
      await world.report(a, 'empty');
      const { extents, leases } = await world.store.reader.tiling(a.slice);
      expect(leases.map(({ state, ports: { first } }) => [state, first])).toEqual([
        ['pending', 2_560],
        ['pending', 2_560],
        ['cooling', 3_072],
      ]);
      const tcpExtents = extents.filter(({ protocol }) => protocol === 'tcp');
      expect(tcpExtents.map(({ state, ports }) => [state, ports])).toEqual([['free', { first: 2_048, last: 2_559 }]]);
      expect(extents.filter(({ protocol }) => protocol !== 'tcp')).toHaveLength(2);
    });

    it('names, of several obstacles, the one that begins last, whatever else is loaded; leases before extents', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 300);
      const inTheWay = async (ports: number) => {
        const claims = [udp(ports, at('198.51.100.0', 2_048))];
        const result = await world.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims });
        return !result.ok && result.error.code === 'block_taken' ? result.error.state : result;
      };
      const place = (first: number) => udp(256, at('198.51.100.0', first));
      const [high, low, higher, lower] = await world.leases(web, ...[3_584, 3_072, 2_816, 2_560].map(place));
      if (!high || !low || !higher || !lower) throw new Error('four leases');
      const unblock = ({ slice, protocol, ports }: Lease) =>
        world.execute({ kind: 'unblock', slice, protocol, ports }).then(({ ok }) => ok);

      // A lease that cools above one in use.
      await world.release(high);
      await world.report(high, 'empty');
      expect(await inTheWay(2_048)).toBe('cooling');
      // In one batch that has loaded the lower one first.
      const together = [world.report(low, 'active'), inTheWay(2_048)];
      expect(await Promise.all(together)).toEqual(['taken', 'cooling']);
      // A lease in use above extents that are blocked.
      await world.report(higher, 'refused');
      await world.report(lower, 'refused');
      expect(await inTheWay(2_048)).toBe('cooling');
      // Extents alone: the upper rests, the lower is blocked; then the other way round.
      expect(await inTheWay(1_024)).toBe('blocked');
      expect(await unblock(higher)).toBe(true);
      expect(await inTheWay(1_024)).toBe('cooling');
      expect(await unblock(lower)).toBe(true);
      await world.pass(61);
      const [again, below] = await world.leases(web, place(2_816), place(2_560));
      if (!again || !below) throw new Error('two leases');
      await world.report(below, 'refused');
      expect(await unblock(below)).toBe(true);
      await world.report(again, 'refused');
      expect(await inTheWay(1_024)).toBe('blocked');
    });

    it('offers the emptiest of the shared blocks that a holder is not on', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.holder('edge-1', 'news');
      const [web, mail, news] = [
        await world.session('edge-1', 'web'),
        await world.session('edge-1', 'mail'),
        await world.session('edge-1', 'news'),
      ];
      const v4 = { pool: 'v4' };
      const place = async (session: { id: number }, claim: ReturnType<typeof shared>) =>
        (await world.grant(session, claim)).replace(/\/tcp .*/, '');
      const [upper, lower] = [await place(web, shared(128, v4)), await place(web, shared(128, v4))];
      expect([upper, lower]).toEqual(['198.51.100.0:3968-4095', '198.51.100.0:3840-3967']);
      // Both have one: the lower. Then the upper is emptier.
      expect(await place(mail, shared(128, v4))).toBe(lower);
      expect(await place(news, shared(128, v4))).toBe(upper);
      // Another size, another binding, another pool: none of these.
      expect(await place(mail, shared(64, v4))).toBe('198.51.100.0:3776-3839');
      expect(await place(mail, shared(128, { ...v4, binding: 'explicit' }))).toBe('198.51.100.0:3584-3711');
      expect(await place(mail, shared(128, { pool: 'v6' }))).toBe('2001:db8:::3968-4095');
    });

    it('finds room by address: for what is sticky, for what must be together, for what is to be spread', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      await world.pool('v4', ['198.51.100.0/30'], { usablePorts: { first: 2_048, last: 6_143 } });
      await world.machine('bare', 'none');
      for (const holder of ['mail', 'web']) await world.holder('bare', holder);
      // Both slices of each of three addresses.
      await world.slices('bare', 'v4', { count: 6 });
      const web = await world.session('bare', 'web');
      const mail = await world.session('bare', 'mail');
      const places = async (session: { id: number }, placement: Placement, ...claims: Claim[]) => {
        const result = await world.execute({ kind: 'grantLeases', scope: {}, session: session.id, claims, placement });
        return result.ok ? result.value.map((lease) => lease.address.at(-1)).join('') : result.error.code;
      };
      const one = { address: address('198.51.100.1') };
      expect(await places(web, 'spread', udp(2_048, { count: 4 }))).toBe('0120');
      expect(await places(web, 'any', tcp(1_024, { ...one, sticky: true }))).toBe('1');
      expect(await places(web, 'any', tcp(2_048, { sticky: true }))).toBe('1');
      expect((await world.store.reader.holder('bare', 'web'))?.sticky).toEqual({ v4: '198.51.100.1', v6: null });
      expect(await places(web, 'any', tcp(1_024, { sticky: true }), tcp(1, { sticky: true }))).toBe('10');
      expect(await places(mail, 'same_address', tcp(2_048), tcp(1_024))).toBe('00');
      expect(await places(web, 'any', shared(64, { address: address('198.51.100.2') }))).toBe('2');
      expect(await places(mail, 'any', shared(64, { address: address('198.51.100.2') }))).toBe('2');
      expect(await places(mail, 'same_address', shared(64, { count: 2 }), tcp(512))).toBe('000');
      expect(await places(mail, 'same_address', tcp(2_048), udp(2_048, { count: 2 }))).toBe('no_common_address');
      const { items } = await world.store.reader.leases({ holder: 'mail' }, all);
      expect(items.filter(({ mode }) => mode === 'shared').map(({ ports }) => ports.first)).toHaveLength(3);
    });

    it('replays the log from any revision, whole or for one machine, in bounded pieces', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.execute({ kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null, hash: 'h' });
      const { reader } = world.store;
      expect(await reader.eventsAfter(0, null, 1_000)).toEqual(world.events);
      expect(await reader.eventsAfter(5, null, 3)).toEqual(world.events.slice(5, 8));
      expect(await reader.eventsAfter(world.events.length, null, 9)).toEqual([]);
      const mine = world.events.filter((event) => event.kind !== 'token' && (event.machine ?? 'edge-2') === 'edge-2');
      expect(mine.some((event) => event.machine === null)).toBe(true);
      expect(await reader.eventsAfter(0, 'edge-2', 1_000)).toEqual(mine);
      expect(await reader.eventsAfter(mine[1]?.revision ?? 0, 'edge-2', 2)).toEqual(mine.slice(2, 4));
    });

    it('tells whoever steers packets of slices, machines and pools, and of nothing else', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      await world.router('north', { site: 'fra1' });
      await world.leases(await world.session('edge-1', 'web'), tcp(1));
      const steered = world.events.filter(({ kind }) => ['slice', 'machine', 'pool'].includes(kind));
      expect(steered.length).toBeLessThan(world.events.length - 3);
      expect(await reader.eventsAfter(0, steering, 1_000)).toEqual(steered);
      const everybodys = (await reader.eventsAfter(0, null, 1_000)).filter((event) => concerns(event, common));
      expect(new Set(everybodys.map(({ kind }) => kind))).toContain('pool');
      expect(await reader.eventsAfter(0, common, 1_000)).toEqual(everybodys);
      expect(await reader.eventsAfter(steered[2]?.revision ?? 0, steering, 2)).toEqual(steered.slice(3, 5));
    });

    it('finds what waits for routers by pool and revision, however much waits behind', async () => {
      await using opened = await open();
      const world = new World(opened.store);
      const { reader } = world.store;
      const page = { limit: 100, cursor: null };
      const waiting = async () => (await reader.slices({ route: 'adding' }, page)).items.map(({ id }) => id);
      await world.machine('edge-1');
      await world.machine('bare', 'none');
      const ids = (name: string): RouterDemand => ({ ids: [name], select: null, policy: 'all' });
      await world.pool('north', ['198.51.100.0/31'], { routers: ids('north') });
      await world.pool('south', ['2001:db8::/64'], { routers: ids('south') });
      for (const name of ['north', 'south']) await world.router(name);
      const north = await world.slices('edge-1', 'north', { count: 5 });
      const south = await world.slices('bare', 'south', { count: 3 });
      expect((await reader.desired('edge-1'))?.slices).toEqual([]);
      expect(await reader.eventsAfter(north[0]?.revision ?? 0, 'edge-1', 9)).toEqual([]);
      await world.applied('south', south[1]?.revision);
      expect(await waiting()).toEqual([...north, ...south.slice(2)].map(({ id }) => id));
      const counted = (await reader.slicesWaiting()).map(({ pool, route, slices }) => `${pool} ${route} ${slices}`);
      expect(counted.sort()).toEqual(['north adding 5', 'south adding 1']);
      expect((await reader.slice(south[0]?.id ?? 0))?.state).toBe('assigned');
      await world.applied('north');
      expect(await waiting()).toEqual([south[2]?.id]);
      expect((await reader.desired('edge-1'))?.slices.map(({ id }) => id)).toEqual(north.map(({ id }) => id));
      expect((await reader.routers({}, page)).items.map(({ id, seenAt }) => `${id} ${seenAt}`)).toEqual([
        `north ${world.clock.us}`,
        `south ${world.clock.us}`,
      ]);
      expect(await reader.router('west')).toBeUndefined();
      await world.execute({ kind: 'deleteRouter', id: 'south' });
      expect(await reader.router('south')).toBeUndefined();
    });

    it('drops the oldest events in bounded steps, and never the newest', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      const count = world.events.length;
      expect(await reader.oldestRevision()).toBe(1);
      const compact = () => opened.store.compact({ keep: count - 5, rowsMax: 3 });
      expect(await compact()).toEqual({ dropped: 3, more: true });
      expect(await compact()).toEqual({ dropped: 2, more: false });
      expect(await compact()).toEqual({ dropped: 0, more: false });
      expect(await reader.oldestRevision()).toBe(6);
      expect((await reader.eventsAfter(0, null, 1))[0]?.revision).toBe(6);
      await opened.store.compact({ keep: 0, rowsMax: 1_000 });
      expect(await reader.revision()).toBe(count);
      // The log goes on from where it was.
      await world.machine('edge-3');
      expect(world.events.at(-1)?.revision).toBe(count + 1);
    });

    it('counts slices of a pool and ports by what becomes of them', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = world.store;
      const web = await world.session('edge-1', 'web', 3_600);
      const mail = await world.session('edge-1', 'mail', 3_600);
      const [one, refused] = await world.leases(web, tcp(16), tcp(32), shared(64));
      await world.leases(mail, shared(64), tcp(8));
      if (!one || !refused) throw new Error('no leases');
      await world.report(refused, 'refused');
      await world.release(one);
      await world.report(one, 'empty');
      const [slice] = (await reader.slices({ machine: 'edge-2', pool: 'v6' }, all)).items;
      await world.drain(slice?.id ?? 0);
      await world.reportSlice('edge-2', slice ?? { id: 0, generation: 1 }, 'empty');
      expect(await reader.poolSlices('v4')).toEqual({ assigned: 4, cooling: 0 });
      expect(await reader.poolSlices('v6')).toEqual({ assigned: 1, cooling: 1 });
      expect(await reader.poolSlices('x')).toEqual({ assigned: 0, cooling: 0 });
      const usage = (await reader.usage()).filter((row) => row.machine === 'edge-1' && row.pool === 'v4');
      const ports = Object.fromEntries(
        usage.filter(({ protocol }) => protocol === 'tcp').map((row) => [row.state, row.ports]),
      );
      expect(ports).toEqual({ free: 4_096 - 120, exclusive: 8, shared: 64, cooling: 16, blocked: 32 });
    });

    it('goes on after a start with everything as it was', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web');
      const [lease] = await world.leases(web, tcp(1));
      const again = new World(opened.store, world.clock);
      if (!lease) throw new Error('no lease');
      expect(await again.release(lease, formatToken(lease))).toMatch(/ending released$/);
      expect(again.events[0]?.revision).toBe((world.events.at(-1)?.revision ?? 0) + 1);
      expect(again.events[0]?.at).toBeLessThan(world.clock.us + second);
    });
  });
}
