import { describe, expect, it } from 'vitest';
import type { Commands, GrantedReport } from '../../src/leases/commands.ts';
import type { Slice } from '../../src/leases/model.ts';
import type { PastLease, Store } from '../../src/leases/store.ts';
import { ledger, must, prefix, second, tcp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;
type Entry = GrantedReport['leases'][number];
type SessionEntry = GrantedReport['sessions'][number];

const page = { limit: 100, cursor: null };
/** How many rows were made up so far: each is told of at a revision of its own. */
let told = 0;

/** What a store promises of what machines report that they granted themselves. */
export function reportedContract(name: string, open: () => Promise<Opened>): void {
  /** A slice that edge-1 grants in itself, and one of the server's. */
  async function town(store: Store): Promise<Readonly<{ world: World; slice: Slice }>> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/30']);
    for (const machine of ['edge-1', 'edge-2']) await world.machine(machine);
    for (const holder of ['web', 'mail']) await world.holder('edge-1', holder);
    const [slice] = await world.slices('edge-1', 'v4', { allocator: 'machine' });
    if (!slice) throw new Error('no slice');
    await world.reportSlice('edge-1', slice, 'assigned');
    await world.ready('edge-1', 'v4');
    return { world, slice };
  }

  /** A live exclusive lease of web, as told now. */
  const lease = ({ clock }: World, slice: Slice, id: number, over: Partial<Entry> = {}): Entry => ({
    ...{ id, slice: slice.id, generation: slice.generation, epoch: 1, session: null, holder: 'web' },
    ...{ protocol: 'tcp', ports: { first: slice.ports.first + id, last: slice.ports.first + id } },
    ...{ mode: 'exclusive', binding: null, state: 'active', ending: null, refusal: null },
    ...{ grantedAt: clock.us, activeAt: clock.us, endingAt: null, emptyAt: null, reusableAt: null, endedAt: null },
    revision: ++told,
    ...over,
  });
  const gone = (at: number, restS = 0): Partial<Entry> => ({
    ...{ state: restS > 0 ? 'cooling' : 'ended', ending: 'released', endingAt: at, emptyAt: at },
    ...{ reusableAt: restS > 0 ? at + restS * second : null, endedAt: restS > 0 ? null : at },
  });
  const session = ({ clock }: World, id: number, over: Partial<SessionEntry> = {}): SessionEntry => ({
    ...{ id, holder: 'web', state: 'live', ending: null, ttlUs: 30 * second, expiresAt: clock.us + 30 * second },
    ...{ openedAt: clock.us, endedAt: null, revision: ++told },
    ...over,
  });

  const nothing = { epoch: 'one', after: 0, snapshot: null, sessions: [], leases: [] } as const;
  const say = async (world: World, over: Partial<GrantedReport>): Promise<string> => {
    const through = over.through ?? over.after ?? 0;
    const report = { ...nothing, machine: 'edge-1', through, asOf: world.clock.us, ...over };
    const said = await world.execute({ kind: 'reportGranted', ...report });
    if (!said.ok) return said.error.code;
    const rejected = said.value.rejected.map(({ lease: id, code }) => ` ${id} ${code}`);
    return `through ${said.value.broker.through}${rejected.join('')}`;
  };
  const begin = (world: World, over: Partial<GrantedReport> = {}) =>
    say(world, { snapshot: { page: 1, isLast: true, historySince: world.clock.us }, ...over });

  const list = async ({ store, clock }: World, filter: Parameters<Store['reader']['reportedLeases']>[1] = {}) =>
    (await store.reader.reportedLeases('edge-1', filter, clock.us, page)).items.map(
      ({ id, state, ending }) => `${id} ${state}${ending === null ? '' : ` ${ending}`}`,
    );
  const whoHad = async ({ store }: World, slice: Slice, id: number, at: number) => {
    const port = { address: slice.address, protocol: 'tcp', port: slice.ports.first + id } as const;
    const { leases } = await store.reader.whoHad({ ...port, at });
    return leases.map((row) => `${row.holder} ${row.id}${row.byMachine ? ' by its machine' : ''}`).join(', ');
  };
  const past = (rows: readonly PastLease[]) => rows.map((row) => `${row.byMachine ? 'm' : 's'}${row.id}`).join(' ');

  describe(`${name}, of what machines report`, () => {
    it('shows it as it was told, with what follows by itself', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      const { reader } = opened.store;
      expect(await reader.broker('edge-1')).toBeUndefined();
      expect(await begin(world)).toBe('through 0');
      const sessions = [session(world, 1), session(world, 2)];
      const leases = [
        lease(world, slice, 11, { session: 1 }),
        lease(world, slice, 12, { session: 2 }),
        lease(world, slice, 13, gone(world.clock.us, 20)),
        lease(world, slice, 14, { holder: 'mail', mode: 'shared', binding: 'late' }),
      ];
      expect(await say(world, { through: 9, sessions, leases })).toBe('through 9');
      expect(await list(world)).toEqual(['11 active', '12 active', '13 cooling released', '14 active']);
      expect(await list(world, { holder: 'mail' })).toEqual(['14 active']);
      expect(await list(world, { session: 2 })).toEqual(['12 active']);
      expect(await list(world, { session: null, mode: 'exclusive' })).toEqual(['13 cooling released']);
      expect(await list(world, { state: 'cooling' })).toEqual(['13 cooling released']);
      const ended = session(world, 2, { state: 'ended', ending: 'expired', endedAt: world.clock.us });
      expect(await say(world, { after: 9, through: 10, sessions: [ended] })).toBe('through 10');
      world.clock.passSeconds(20);
      expect(await list(world)).toEqual(['11 active', '12 ending expired', '13 ended released', '14 active']);
      expect(await list(world, { state: 'ending' })).toEqual(['12 ending expired']);
      expect(await reader.reportedLease('edge-1', 13, world.clock.us)).toMatchObject({
        ...{ state: 'ended', pool: 'v4', address: slice.address, machine: 'edge-1', slice: slice.id, generation: 1 },
      });
      expect(await reader.reportedLease('edge-1', 99, world.clock.us)).toBeUndefined();
      expect(await reader.reportedLease('edge-2', 13, world.clock.us)).toBeUndefined();
      expect(await reader.reportedSession('edge-1', 2)).toMatchObject({ state: 'ended', ending: 'expired' });
      expect((await reader.reportedSessions('edge-1', { state: 'live' }, page)).items.map(({ id }) => id)).toEqual([1]);
      expect((await reader.brokers(page)).items.map(({ machine, through }) => `${machine} ${through}`)).toEqual([
        'edge-1 10',
      ]);
      const two = await reader.reportedLeases('edge-1', {}, world.clock.us, { limit: 2, cursor: null });
      const rest = await reader.reportedLeases('edge-1', {}, world.clock.us, { limit: 2, cursor: two.next });
      expect([two, rest].map(({ items }) => items.map(({ id }) => id))).toEqual([
        [11, 12],
        [13, 14],
      ]);
      expect(rest.next).toBeNull();
      // The server's own, and its log, know nothing of it.
      expect((await reader.leases({}, page)).items).toEqual([]);
      expect(world.events.filter(({ kind }) => kind === 'lease' || kind === 'session')).toEqual([]);
    });

    it('takes each revision once, in order, whatever is sent again', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      const first = { through: 5, leases: [lease(world, slice, 1, { revision: 5 })] };
      const older = lease(world, slice, 1, { ...gone(world.clock.us), revision: 4 });
      await ledger([
        ['nothing was told before', () => say(world, first), 'report_gap'],
        ['a snapshot', () => begin(world), 'through 0'],
        ['what follows', () => say(world, first), 'through 5'],
        ['again', () => say(world, first), 'through 5'],
        ['what does not follow', () => say(world, { after: 6, through: 7 }), 'report_gap'],
        ['what was told before', () => say(world, { after: 2, through: 5 }), 'report_gap'],
        ['of another broker', () => say(world, { epoch: 'two', after: 5, through: 7 }), 'report_gap'],
        ['of no machine', () => say(world, { machine: 'edge-9', after: 5, through: 7 }), 'machine_not_found'],
        ['an older word', () => say(world, { after: 5, through: 7, leases: [older] }), 'through 7'],
        ['changed nothing', () => list(world), ['1 active']],
        ['nothing new', () => say(world, { after: 7 }), 'through 7'],
      ]);
    });

    it('ends what a snapshot does not tell of, once it is whole, and starts numbers anew with another table', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      await begin(world);
      const leases = [1, 2, 3].map((id) => lease(world, slice, id, { session: 1 }));
      await say(world, { through: 9, leases, sessions: [session(world, 1)] });
      const then = world.clock.us;
      world.clock.passSeconds(10);
      const pageOf = (number: number, isLast: boolean, over: Partial<GrantedReport>) =>
        say(world, { through: 30, snapshot: { page: number, isLast, historySince: then }, ...over });
      const kept = lease(world, slice, 2, { grantedAt: then });
      expect(await pageOf(1, false, { leases: [kept] })).toBe('through 9');
      expect(await list(world)).toEqual(['1 active', '2 active', '3 active']);
      expect(await pageOf(3, true, {})).toBe('report_gap');
      expect(await pageOf(2, true, {})).toBe('through 30');
      expect(await list(world)).toEqual(['1 ended fenced', '2 active', '3 ended fenced']);
      expect(await opened.store.reader.reportedSession('edge-1', 1)).toMatchObject({
        state: 'ended',
        ending: 'fenced',
      });
      expect(await whoHad(world, slice, 1, world.clock.us - 1)).toBe('web 1 by its machine');
      expect(await whoHad(world, slice, 1, world.clock.us)).toBe('');
      // It reached back to what was told before.
      const before = await opened.store.reader.broker('edge-1');
      expect([before?.completeSince, before?.asOf]).toEqual([then, world.clock.us]);
      world.clock.passSeconds(10);
      expect(await begin(world, { epoch: 'two', leases: [lease(world, slice, 2)] })).toBe('through 0');
      expect(await list(world)).toEqual(['2 active']);
      expect((await opened.store.reader.broker('edge-1'))?.completeSince).toBe(world.clock.us);
      expect(await whoHad(world, slice, 2, world.clock.us - 1)).toBe('web 2 by its machine');
    });

    it('believes a snapshot that began later over what was told before it, whatever its revision', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      await begin(world);
      const [old, oldSession] = [lease(world, slice, 1), session(world, 1)];
      const over = { state: 'ended', ending: 'released', endedAt: world.clock.us } as const;
      const known = {
        leases: [lease(world, slice, 1, gone(world.clock.us))],
        sessions: [session(world, 1, over)],
      };
      await say(world, { through: 30, ...known });
      expect(await list(world)).toEqual(['1 ended released']);
      expect(await begin(world, { through: 20, leases: [old], sessions: [oldSession] })).toBe('through 20');
      expect(await list(world)).toEqual(['1 active']);
      expect(await opened.store.reader.reportedSession('edge-1', 1)).toMatchObject({ state: 'live' });
    });

    it('tells who had a port then, until they were proven gone or the slice was', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      await begin(world);
      const start = world.clock.us;
      const at = (s: number) => start + s * second;
      const shared = {
        mode: 'shared',
        binding: 'late',
        ports: { first: slice.ports.first, last: slice.ports.first + 7 },
      } as const;
      const leases = [
        lease(world, slice, 1, {
          grantedAt: at(1),
          ...gone(at(5)),
          ports: { first: slice.ports.first, last: slice.ports.first + 3 },
        }),
        lease(world, slice, 2, { grantedAt: at(6), ...shared }),
        lease(world, slice, 3, { grantedAt: at(7), holder: 'mail', ...shared, ...gone(at(8)) }),
        lease(world, slice, 4, { grantedAt: at(2), state: 'refused', endedAt: at(2) }),
      ];
      world.clock.passSeconds(20);
      await say(world, { through: 9, leases });
      await ledger([
        ['before', () => whoHad(world, slice, 1, at(1) - 1), ''],
        ['from the grant', () => whoHad(world, slice, 1, at(1)), 'web 1 by its machine'],
        ['until it was empty', () => whoHad(world, slice, 1, at(5)), ''],
        ['in a shared block', () => whoHad(world, slice, 1, at(6)), 'web 2 by its machine'],
        ['all of them', () => whoHad(world, slice, 1, at(7)), 'web 2 by its machine, mail 3 by its machine'],
        ['who is left', () => whoHad(world, slice, 1, at(8)), 'web 2 by its machine'],
        ['never had', () => whoHad(world, slice, 4, at(3)), ''],
      ]);
      expect(
        (
          await opened.store.reader.whoHad({
            address: slice.address,
            protocol: 'tcp',
            port: slice.ports.first,
            at: at(7),
          })
        ).broker,
      ).toMatchObject({ through: 9 });
      // Taken back from a machine that cannot send: nobody will tell that it ended.
      await world.alive('edge-1');
      await world.say('edge-1', { state: 'lost' });
      await world.pass(40);
      await world.pass(130);
      const { until } =
        (
          await opened.store.reader.whoHad({
            address: slice.address,
            protocol: 'tcp',
            port: slice.ports.first,
            at: at(7),
          })
        ).tenure ?? {};
      expect(until).not.toBeNull();
      expect(await whoHad(world, slice, 1, (until ?? 0) - 1)).toBe('web 2 by its machine');
      expect(await list(world, { state: 'ended' })).toEqual(['1 ended released', '2 ended fenced', '3 ended released']);
    });

    it('lists what a holder had and who had a port, in the order of the grants, whoever granted, page by page', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      await begin(world);
      const web = await world.session('edge-1', 'web', 3_600);
      const since = world.clock.us;
      const leases: Entry[] = [];
      for (let id = 1; id <= 3; id++) {
        world.clock.passSeconds(10);
        leases.push(
          lease(world, slice, id, {
            ports: { first: slice.ports.first, last: slice.ports.first },
            ...gone(world.clock.us + 5 * second),
          }),
        );
        world.clock.passSeconds(10);
        must(await world.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims: [tcp(8)] }));
      }
      await say(world, { through: 9, leases });
      const { reader } = opened.store;
      const own = (await reader.leases({}, page)).items.map(({ id }) => `s${id}`);
      const wanted = `m1 ${own[0]} m2 ${own[1]} m3 ${own[2]}`;
      const holder = { machine: 'edge-1', holder: 'web', since, until: world.clock.us + second };
      expect(past((await reader.uses(holder, page)).items)).toBe(wanted);
      for (const limit of [1, 2, 4]) {
        const found: PastLease[] = [];
        for (let cursor: string | null | undefined; cursor !== null;) {
          const part = await reader.uses(holder, { limit, cursor: cursor ?? null });
          found.push(...part.items);
          cursor = part.next;
        }
        expect(past(found)).toBe(wanted);
      }
      const port = { address: slice.address, port: slice.ports.first, protocol: null, since, until: holder.until };
      expect(past((await reader.uses(port, page)).items)).toBe('m1 m2 m3');
      const late = { since: (leases[1]?.grantedAt ?? 0) + second };
      expect(past((await reader.uses({ ...port, ...late }, page)).items)).toBe('m2 m3');
      expect(past((await reader.uses({ ...port, until: leases[1]?.grantedAt ?? 0 }, page)).items)).toBe('m1');
      expect(past((await reader.uses({ ...holder, ...late }, { limit: 1, cursor: null })).items)).toBe(own[0]);
    });

    it('takes back what its machine gave back, though the table has it assigned, when nothing lives there', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      const empty = (of: Pick<Slice, 'id' | 'generation'> = slice) => world.reportSlice('edge-1', of, 'empty');
      const now = async (id = slice.id) => {
        const { state, machine, generation } = (await opened.store.reader.slice(id)) ?? {};
        return `${state} ${machine} ${generation}`;
      };
      const [ofServer] = await world.slices('edge-1', 'v4');
      if (!ofServer) throw new Error('no slice');
      await world.reportSlice('edge-1', ofServer, 'assigned');
      await begin(world, { through: 3, leases: [lease(world, slice, 1)] });
      await ledger([
        ['somebody is there', empty, `slice-${slice.id} in_use`],
        ['assigned', now, 'assigned edge-1 1'],
        ['the server grants there', () => empty(ofServer), `slice-${ofServer.id} in_use`],
        [
          'nobody is',
          () => say(world, { after: 3, through: 4, leases: [lease(world, slice, 1, gone(world.clock.us))] }),
          'through 4',
        ],
        ['a former generation', () => empty({ ...slice, generation: 0 }), `slice-${slice.id} stale_token`],
        ['given back', empty, 'taken'],
        ['said again', empty, 'taken'],
        ['it rests', now, 'cooling edge-1 1'],
        ['rested', () => world.pass(130), undefined],
        ['free', now, 'free null 1'],
      ]);
      const [again] = await world.slices('edge-1', 'v4', { allocator: 'machine' });
      expect(again).toMatchObject({ id: slice.id, generation: 2, state: 'assigning' });
      expect(await empty(again)).toBe('taken');
      expect(await now()).toBe('cooling edge-1 2');
    });

    it('tells machines that grant themselves what is revoked by the many, and how much of that is left there', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      const { reader } = opened.store;
      const own = 1e15 + 1;
      world.clock.passSeconds(1);
      const leases = [
        lease(world, slice, 1, { session: own }),
        lease(world, slice, 2, { holder: 'mail' }),
        lease(world, slice, 3, gone(world.clock.us, 60)),
      ];
      await begin(world, { through: 3, leases, sessions: [session(world, own)] });
      world.clock.passSeconds(1);
      const everything = {
        machine: null,
        holder: null,
        pool: null,
        select: null,
        prefix: null,
        session: null,
        lease: null,
      };
      const terms = { deadlineUs: 0, forced: false, reason: '' };
      type Scope = Partial<Commands['revokeLeases']['input']>;
      const revoke = async (scope: Scope) => {
        const made = await world.execute({ kind: 'revokeLeases', ...everything, ...terms, ...scope });
        return made.ok ? reader.reportedLeft(made.value) : made.error.code;
      };
      const within = (text: string) => ({ prefix: prefix(text) });
      await ledger([
        ['all of the machine', () => revoke({ machine: 'edge-1' }), 2],
        ['of another one', () => revoke({ machine: 'edge-2' }), 0],
        ['of a holder', () => revoke({ machine: 'edge-1', holder: 'mail' }), 1],
        ['in a pool', () => revoke({ pool: 'v4' }), 2],
        ['on its addresses', () => revoke(within('198.51.100.0/30')), 2],
        ['on others', () => revoke(within('203.0.113.0/24')), 0],
        ['of a session of the machine', () => revoke({ machine: 'edge-1', session: own }), 1],
        ['which means nothing without it', () => revoke({ session: own }), 'session_not_found'],
        ['or on another', () => revoke({ machine: 'edge-2', session: own }), 'session_not_found'],
        ['of one that it never told of', () => revoke({ machine: 'edge-1', session: own + 1 }), 'session_not_found'],
      ]);
      const told = (await reader.desired('edge-1'))?.revocations ?? [];
      expect(told.map(({ machine, holder, session }) => [machine, holder, session])).toEqual([
        ['edge-1', null, null],
        ['edge-1', 'mail', null],
        ...[null, null, null].map((one) => [one, null, null]),
        ['edge-1', null, own],
      ]);
      expect((await reader.desired('edge-2'))?.revocations).toEqual([]);
      const [first] = told;
      if (!first) throw new Error('nothing was told');
      await say(world, { after: 3, through: 4, leases: [lease(world, slice, 1, gone(world.clock.us, 60))] });
      await say(world, { after: 4, through: 5, leases: [lease(world, slice, 4)] });
      // What was granted afterwards, it is not about.
      expect(await reader.reportedLeft(first)).toBe(1);
      await world.alive('edge-1');
      await world.say('edge-1', { state: 'lost' });
      await world.pass(40);
      await world.pass(130);
      // The slice was taken from a machine that cannot send.
      expect(await reader.reportedLeft(first)).toBe(0);
    });

    it('forgets what has been over for long enough, and keeps what lives', async () => {
      await using opened = await open();
      const { world, slice } = await town(opened.store);
      await begin(world);
      const over = session(world, 1, { state: 'ended', ending: 'released', endedAt: world.clock.us });
      const leases = [
        lease(world, slice, 1, { ...gone(world.clock.us), session: 1 }),
        lease(world, slice, 2, gone(world.clock.us, 100)),
        lease(world, slice, 3),
      ];
      await say(world, { through: 9, leases, sessions: [over, session(world, 2)] });
      world.clock.passSeconds(50);
      const forget = async () => {
        const { removed } = await opened.store.prune({ now: world.clock.us, keptUs: 10 * second, rowsMax: 50 });
        return [removed, ...(await list(world))];
      };
      expect(await forget()).toEqual([2, '2 cooling released', '3 active']);
      world.clock.passSeconds(100);
      expect(await forget()).toEqual([1, '3 active']);
      expect((await opened.store.reader.reportedSessions('edge-1', {}, page)).items.map(({ id }) => id)).toEqual([2]);
    });
  });
}
