import { describe, expect, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { Lease } from '../../src/leases/model.ts';
import type { Store } from '../../src/leases/store.ts';
import { ledger, must, second, tcp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/** What a store promises to those who bring machines and slices through their lives. */
export function lifecycleContract(name: string, open: () => Promise<Opened>): void {
  async function town(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/30'], { labels: { country: 'de' } });
    await world.pool('v6', ['2001:db8::/64']);
    for (const machine of ['edge-1', 'edge-2']) {
      await world.machine(machine);
      await world.holder(machine, 'web');
    }
    return world;
  }

  describe(`${name}, as a store of slices that change hands`, () => {
    it('tells a machine nothing of what was reclaimed, also while the leases of it wait for their turn', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const [slice] = await world.ready('edge-1', 'v4');
      const [lease] = await world.leases(await world.session('edge-1', 'web', 3_600), tcp(8));
      await world.alive('edge-1');
      await world.pass(31);
      for (let count = 0; count < limits.revocations_in_effect_max; count++) await world.revokeAll({ pool: 'v6' });
      const show = async () => {
        const desired = await world.store.reader.desired('edge-1');
        return `slices ${desired?.slices.length} leases ${desired?.leases.length}`;
      };
      await ledger([
        ['as it was', show, 'slices 1 leases 1'],
        ['reclaimed', () => world.reclaim(slice?.id ?? 0), '198.51.100.0:2048-4095 draining on edge-1 g1'],
        ['not ended yet', () => world.look(lease ?? { id: 0 }), '198.51.100.0:4088-4095/tcp pending'],
        ['and gone from there', show, 'slices 0 leases 0'],
        ['its turn', () => world.pass(0), undefined],
        ['fenced', () => world.look(lease ?? { id: 0 }), '198.51.100.0:4088-4095/tcp cooling fenced'],
        ['still gone', show, 'slices 0 leases 0'],
      ]);
    });

    it('gives nothing while the guard of a machine may be open for what the table lost, whatever an operator says', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.ready('edge-1', 'v4');
      const web = await world.session('edge-1', 'web', 3_600);
      await world.machine('edge-3');
      await world.machine('edge-4', 'none');
      for (const machine of ['edge-1', 'edge-2', 'edge-3']) await world.alive(machine);
      const after = await world.store.reader.revision();
      const now = () => world.store.reader.revision();
      const grant = async () => (await world.grant(web, tcp(8))).replace(/^198.*/, 'granted');
      const swept = async () => (await world.execute({ kind: 'sweep', itemsMax: 9 })).ok;
      world.clock.passSeconds(1);
      await ledger([
        ['somebody has seen more', () => world.seen('stranger', 1), 'epoch 2'],
        ['one machine has nothing that is lost', () => world.alive('edge-1', 'boot-1', after), 'for 30 s'],
        ['another one has', () => world.alive('edge-2', 'boot-1', after + 1), 'for 30 s'],
        ['an operator says that all is well', () => world.confirm(2), 'by token-9'],
        ['a grant', grant, 'read_only_epoch'],
        ['a slice', () => world.assign('edge-1', 'v4'), 'read_only_epoch'],
        ['a sweep', swept, false],
        ['whoever is kept alive is', () => world.keep(web), 'until +3600 s'],
        ['what is lost opens no guard', () => world.alive('edge-2', 'boot-1', after + 1), 'machine_behind'],
        ['it is gone from there', async () => world.alive('edge-2', 'boot-1', await now()), 'for 30 s'],
        ['the third was not heard', grant, 'read_only_epoch'],
        ['its guard has shut, but for the clocks', () => world.clock.passSeconds(30), undefined],
        ['a grant', grant, 'read_only_epoch'],
        ['and for certain', () => world.clock.passSeconds(2), undefined],
        ['others are heard', async () => world.alive('edge-1', 'boot-1', await now()), 'for 30 s'],
        ['a grant', grant, 'granted'],
        ['a sweep', swept, true],
      ]);
    });

    it('waits for no machine of which an operator states that it cannot send', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.ready('edge-1', 'v4');
      const web = await world.session('edge-1', 'web', 3_600);
      world.clock.passSeconds(1);
      await world.seen('stranger', 1);
      await world.confirm(2);
      await world.alive('edge-1');
      const grant = async () => (await world.grant(web, tcp(8))).replace(/^198.*/, 'granted');
      await ledger([
        ['another was not heard', grant, 'read_only_epoch'],
        [
          'it is lost',
          async () => (await world.execute({ kind: 'updateMachine', id: 'edge-2', state: 'lost' })).ok,
          true,
        ],
        ['a grant', grant, 'granted'],
      ]);
    });

    it('gives machines the slices that they want, and knows what they lack when it is opened again', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const wants = [
        { pool: null, select: 'country=de', family: null, allocator: 'server', slices: 99 },
        { pool: 'v6', select: null, family: 6, allocator: 'machine', slices: 3 },
      ] as const;
      must(await world.execute({ kind: 'updateMachine', id: 'edge-1', wants }));
      await world.sweep();
      // Four addresses of 31 slices each.
      const total = 4 * 31;
      const machine = await world.store.reader.machine('edge-1');
      expect(machine).toMatchObject({ wants, wanting: { missing: [Math.max(0, 99 - total), 0] } });
      const { items } = await world.store.reader.slices({ machine: 'edge-1' }, { limit: 200, cursor: null });
      expect(items.map(({ pool }) => pool).filter((pool) => pool === 'v6')).toHaveLength(3);
      expect(items).toHaveLength(Math.min(99, total) + 3);
      for (const { pool, allocator } of items) expect(allocator).toBe(pool === 'v6' ? 'machine' : 'server');
      expect(await world.sweep()).toBe(0);
    });

    it('forgets a machine with its holders, keeps its past, and revokes its tokens and no others', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const session = await world.session('edge-1', 'web', 3_600);
      await world.end(session);
      const token = { kind: 'createToken', name: 'x', role: 'holder', holder: 'web' } as const;
      const gone = must(await world.execute({ ...token, machine: 'edge-1', hash: 'h-1' }));
      const stays = must(await world.execute({ ...token, machine: 'edge-2', hash: 'h-2' }));
      await ledger([
        ['gone', () => world.remove('edge-1'), 'edge-1 is gone'],
        ['no machine', () => world.store.reader.machine('edge-1'), undefined],
        ['no holder', () => world.store.reader.holder('edge-1', 'web'), undefined],
        ['its session of old', async () => (await world.store.reader.session(session.id))?.state, 'ended'],
        ['its token', async () => (await world.store.reader.accessTokenById(gone.id))?.revokedAt !== null, true],
        ['another', async () => (await world.store.reader.accessTokenById(stays.id))?.revokedAt, null],
        ['again', () => world.machine('edge-1'), 'edge-1'],
        [
          'at once',
          () => Promise.all([world.remove('edge-1'), world.machine('edge-1'), world.holder('edge-1', 'web')]),
          ['edge-1 is gone', 'edge-1', 'web 900'],
        ],
        [
          'and once more',
          () => Promise.all([world.remove('edge-1'), world.machine('edge-1'), world.holder('edge-1', 'web')]),
          ['edge-1 is gone', 'edge-1', 'web 900'],
        ],
      ]);
    });

    it('counts what nobody has proved empty, with the age of the oldest, and no more than it is told to', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = opened.store;
      const leased: Record<string, readonly Lease[]> = {};
      for (const machine of ['edge-1', 'edge-2']) {
        await world.ready(machine, 'v4', 2);
        await world.ready(machine, 'v6');
        const session = await world.session(machine, 'web', 3_600);
        leased[machine] = await world.leases(session, ...Array.from({ length: 4 }, () => tcp(8)));
      }
      expect([await reader.leasesEnding(9, 9), await reader.slicesDraining()]).toEqual([[], []]);
      const since: number[] = [];
      for (const machine of ['edge-2', 'edge-1'])
        for (const lease of leased[machine]?.slice(0, 3) ?? []) {
          world.clock.passSeconds(1);
          await world.release(lease);
          since.push((await reader.lease(lease.id))?.endingAt ?? 0);
        }
      const ending = (machine: string, leases: number, place: number) => ({ machine, leases, since: since[place] });
      expect(await reader.leasesEnding(9, 100)).toEqual([ending('edge-1', 3, 3), ending('edge-2', 3, 0)]);
      expect(await reader.leasesEnding(9, 5)).toEqual([ending('edge-1', 2, 3), ending('edge-2', 2, 0)]);
      expect(await reader.leasesEnding(1, 100)).toEqual([ending('edge-1', 3, 3)]);
      await world.report(leased['edge-2']?.[0] as Lease, 'empty');
      expect(await reader.leasesEnding(9, 100)).toEqual([ending('edge-1', 3, 3), ending('edge-2', 2, 1)]);

      const { items } = await reader.slices({ pool: 'v4' }, { limit: 9, cursor: null });
      const began: number[] = [];
      for (const { id } of items.slice(0, 3)) {
        world.clock.passSeconds(1);
        await world.drain(id);
        began.push(world.clock.us);
      }
      world.clock.passSeconds(1);
      // On other terms, and not since then.
      await world.drain(items[0]?.id ?? 0, { deadlineUs: 60 * second });
      const draining = (machine: string, slices: number, place: number) => ({
        ...{ pool: 'v4', machine, slices, since: began[place] },
      });
      expect(await reader.slicesDraining()).toEqual([draining('edge-1', 2, 0), draining('edge-2', 1, 2)]);
      const [first] = items;
      expect((await reader.slice(first?.id ?? 0))?.drainingSince).toBe(began[0]);
      for (const lease of leased['edge-1'] ?? []) await world.report(lease, 'empty');
      await world.pass(60);
      for (const lease of leased['edge-1'] ?? []) await world.report(lease, 'empty');
      await world.reportSlice('edge-1', first ?? { id: 0, generation: 0 }, 'empty');
      expect(await reader.slice(first?.id ?? 0)).toMatchObject({ state: 'cooling', drainingSince: null });
      expect(await reader.slicesDraining()).toEqual([draining('edge-1', 1, 1), draining('edge-2', 1, 2)]);
    });

    it('knows holders by their cgroups, and finds whoever is in the way of another', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const put = async (name: string, cgroup: string | null) => {
        const said = await world.execute({ kind: 'putHolder', machine: 'edge-1', name, holderKind: 'proxy', cgroup });
        return said.ok ? [said.value.uid, said.value.cgroup] : said.error.code;
      };
      const kept = async (name: string) => {
        const found = await world.store.reader.holder('edge-1', name);
        return [found?.uid, found?.cgroup];
      };
      await ledger([
        ['one', () => put('web', 'a.slice/Web_1.service'), [null, 'a.slice/Web_1.service']],
        ['kept', () => kept('web'), [null, 'a.slice/Web_1.service']],
        ['above it', () => put('mail', 'a.slice'), 'holder_cgroup_taken'],
        ['other letters are another', () => put('mail', 'A.slice'), [null, 'A.slice']],
        ['beside it', () => put('mail', 'a.slice/Web_1'), [null, 'a.slice/Web_1']],
        ['kept', () => kept('mail'), [null, 'a.slice/Web_1']],
      ]);
    });

    it('forgets a holder when nothing lives of it, with its tokens and its limits, and keeps its past', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.ready('edge-1', 'v4');
      const none = { tcp: 0, udp: 0, icmp: 0 };
      const limits = { portsMin: { ...none, tcp: 8 }, portsMax: { ...none, tcp: 64 }, sessionsMax: 1 };
      const put = { kind: 'putHolder', machine: 'edge-1', name: 'web', holderKind: 'proxy', uid: 900, limits } as const;
      must(await world.execute(put));
      const token = { kind: 'createToken', name: 'x', role: 'holder', machine: 'edge-1', holder: 'web' } as const;
      const { id } = must(await world.execute({ ...token, hash: 'h-1' }));
      const session = await world.session('edge-1', 'web', 3_600);
      const [lease] = await world.leases(session, tcp(8));
      if (!lease) throw new Error('one was asked for');
      const gone = () => world.removeHolder('edge-1', 'web');
      await ledger([
        ['a session', gone, 'holder_in_use'],
        ['ended', () => world.end(session), 'ended released'],
        ['its lease has not followed', gone, 'holder_in_use'],
        ['it follows', () => world.pass(1), undefined],
        ['not proven empty', gone, 'holder_in_use'],
        ['empty', () => world.report(lease, 'empty'), 'taken'],
        ['gone', gone, 'web is gone'],
        ['no holder', () => world.store.reader.holder('edge-1', 'web'), undefined],
        ['no limits', async () => (await world.store.reader.machine('edge-1'))?.limitedHolders, 0],
        ['its token', async () => (await world.store.reader.accessTokenById(id))?.revokedAt !== null, true],
        ['its lease of old', async () => (await world.store.reader.lease(lease.id))?.holder, 'web'],
        ['another', () => world.store.reader.holder('edge-2', 'web').then((other) => other?.name), 'web'],
        [
          'again, at once',
          () => Promise.all([world.execute(put), gone(), world.execute(put)]).then((all) => all[1]),
          'web is gone',
        ],
        ['new', async () => (await world.store.reader.holder('edge-1', 'web'))?.limits, limits],
        [
          'not counted twice',
          () => world.session('edge-1', 'web').then((one) => world.grant(one, tcp(64))),
          '198.51.100.0:3968-4031/tcp pending',
        ],
      ]);
    });

    it('drains a machine of many slices, and reclaims those of one that is lost, step by step', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const states = async (machine: string) => {
        const { items } = await world.store.reader.slices({ machine }, { limit: 100, cursor: null });
        return [
          items.length,
          ...new Set(items.map(({ state, reclaimed }) => `${state}${reclaimed ? ', reclaimed' : ''}`)),
        ];
      };
      await world.ready('edge-1', 'v4', 20);
      await world.ready('edge-2', 'v4', 20);
      await world.alive('edge-2');
      await ledger([
        ['drained', () => world.say('edge-1', { state: 'draining', drainDeadlineUs: 60 * second }), 'draining'],
        ['lost', () => world.say('edge-2', { state: 'lost' }), 'lost'],
        ['the one follows', () => world.pass(1), undefined],
        ['all', () => states('edge-1'), [20, 'draining']],
        ['sooner', () => world.say('edge-1', { state: 'draining', drainDeadlineUs: 5 * second }), 'draining'],
        ['the other waits for its fence', () => world.pass(29), undefined],
        ['none', () => states('edge-2'), [20, 'assigned']],
        ['its time', () => world.pass(1), undefined],
        ['all', () => states('edge-2'), [20, 'cooling, reclaimed']],
      ]);
    });
  });
}
