import { describe, expect, it } from 'vitest';
import type { Store } from '../../src/leases/store.ts';
import { walk } from '../support/pages.ts';
import { limits } from '../../src/leases/limits.ts';
import { audited, keyed, must, tcp, udp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/** What every store keeps of where commands come from: answers under keys, and who did what. */
export function provenanceContract(name: string, open: () => Promise<Opened>): void {
  const all = { limit: 1_000, cursor: null };

  async function town(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/30']);
    await world.pool('v6', ['2001:db8::/64']);
    await world.machine('edge-1');
    await world.holder('edge-1', 'web');
    await world.ready('edge-1', 'v4', 2);
    return world;
  }

  describe(`${name}, as a store of who asked for what`, () => {
    it('writes down who did what with what was done, finds it the newest first, and forgets all but the newest', async () => {
      await using opened = await open();
      const { store } = opened;
      const world = await town(store);
      const { reader } = store;
      const made: number[] = [];
      for (const state of ['cordoned', 'active', 'cordoned'] as const) {
        world.clock.passSeconds(10);
        must(await world.execute({ kind: 'updateMachine', id: 'edge-1', state }, audited('machines/edge-1')));
        made.push(await reader.revision());
      }
      const pool = await reader.pool('v6');
      await world.execute({ kind: 'deletePool', id: 'v6', ifRevision: 1 }, audited('pools/v6'));
      await world.execute({ kind: 'updatePool', id: 'v6', labels: { a: 'b' }, ifRevision: null }, audited('pools/v6'));
      const { items } = await reader.audit({}, all);
      expect(items.map(({ id, outcome, revision }) => [id, outcome, revision])).toEqual([
        [5, 'done', await reader.revision()],
        [4, 'refused', null],
        ...[...made].reverse().map((revision, index) => [3 - index, 'done', revision]),
      ]);
      expect(items[0]?.changes).toEqual([{ kind: 'pool', before: pool, after: await reader.pool('v6') }]);
      const ids = async (filter: Parameters<typeof reader.audit>[0], limit = 10) =>
        (await walk((page) => reader.audit(filter, page), limit)).map(({ id }) => id);
      expect(await ids({}, 2)).toEqual([5, 4, 3, 2, 1]);
      expect(await ids({ target: 'machines/edge-1', outcome: 'done' }, 1)).toEqual([3, 2, 1]);
      expect([await ids({ token: 8 }), await ids({ token: 7, outcome: 'refused' })]).toEqual([[], [4]]);
      const [, , third, second_] = items;
      if (!third || !second_) throw new Error('no entries');
      expect(await ids({ since: second_.at, until: third.at })).toEqual([2]);
      expect(await ids({ since: third.at + 1e12 })).toEqual([]);
      const before = third.at + 1e12;
      expect(await store.forget({ what: 'audit', before, rowsMax: 3 })).toEqual({ dropped: 3, more: true });
      expect(await store.forget({ what: 'audit', before, rowsMax: 3 })).toEqual({ dropped: 1, more: false });
      await world.execute({ kind: 'updateMachine', id: 'edge-1', state: 'active' }, audited('machines/edge-1'));
      expect(await ids({})).toEqual([6, 5]);
    });

    it('finds what a request came to, and the act by which one thing of many came to be', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const { reader } = opened.store;
      const by = (requestId: string, target: string) => {
        const { provenance } = audited(target);
        return { provenance: { ...provenance, requestId } };
      };
      await world.ready('edge-1', 'v4');
      const session = await world.session('edge-1', 'web', 3_600);
      const grant = (count: number) =>
        ({ kind: 'grantLeases', scope: {}, session: session.id, claims: [tcp(1, { count }), udp(1)] }) as const;
      const cordon = (state: 'cordoned' | 'active') => ({ kind: 'updateMachine', id: 'edge-1', state }) as const;
      // Together, so that they share a commit; the second is nobody's who answers for it.
      const [first, unseen] = await Promise.all([
        world.execute(grant(2), by('one', 'leases')),
        world.execute(grant(1)),
        world.execute(cordon('cordoned'), by('two', 'machines/edge-1')),
        world.execute(cordon('active'), by('two', 'machines/edge-1')),
      ]);
      // More than one entry tells of.
      const many = must(await world.execute(grant(limits.audit_changes_max + 5), by('three', 'leases')));
      const [revoked] = must(first);
      must(
        await world.execute(
          { kind: 'revokeLease', id: revoked?.id ?? 0, deadlineUs: null, forced: false, reason: '' },
          by('four', `leases/lease-${revoked?.id}`),
        ),
      );
      const requests = async (filter: Parameters<typeof reader.audit>[0], limit = 10) =>
        (await walk((page) => reader.audit(filter, page), limit)).map(({ requestId }) => requestId);
      expect(await requests({ requestId: 'two' })).toEqual(['two', 'two']);
      expect(await requests({ requestId: 'one', operation: 'somethingElse' })).toEqual([]);
      expect(await requests({ requestId: 'five' })).toEqual([]);
      const of = (id: number, limit?: number) => requests({ target: `leases/lease-${id}` }, limit);
      for (const [place, { id }] of must(first).entries())
        for (const limit of [1, 10]) expect(await of(id, limit)).toEqual(place === 0 ? ['four', 'one'] : ['one']);
      for (const { id } of must(unseen)) expect(await of(id)).toEqual([]);
      for (const { id } of many) expect(await of(id)).toEqual(['three']);
      const last = many.at(-1)?.id ?? 0;
      // What was never a lease nobody granted, whoever did what at that revision.
      const [entry] = (await reader.audit({ requestId: 'two' }, all)).items;
      expect(entry?.firstRevision).toBe(entry?.revision);
      expect(await of(entry?.revision ?? 0)).toEqual([]);
      expect(await requests({ target: `slices/slice-${last}` })).toEqual([]);
      expect(await requests({ target: `leases/lease-${last}`, requestId: 'three' })).toEqual(['three']);
      expect(await requests({ target: `leases/lease-${last}`, requestId: 'one' })).toEqual([]);
      expect(await requests({ target: 'machines/edge-1' })).toEqual(['two', 'two']);
    });

    it('keeps an answer with what it tells of, finds it again, and forgets the oldest when told to', async () => {
      await using opened = await open();
      const { store } = opened;
      let world = await town(store);
      const web = await world.session('edge-1', 'web');
      const grant = { kind: 'grantLeases', scope: {}, session: web.id, claims: [tcp(8), udp(8)] } as const;
      const [first, again, other] = await Promise.all([
        world.execute(grant, keyed('k')),
        world.execute(grant, keyed('k')),
        world.execute(grant, keyed('k', 'the same', 2)),
      ]);
      expect([again, other].map(({ replayed }) => replayed)).toEqual([true, undefined]);
      const leases = must(first);
      expect(must(again)).toEqual(leases);
      // Another service on the same store, as after a restart.
      world = new World(store, world.clock);
      await world.report(leases[0]!, 'active');
      expect(await world.execute(grant, keyed('k'))).toMatchObject({
        ...{ ok: true, replayed: true },
        value: leases.map(({ id }, index) => ({ id, state: index === 0 ? 'active' : 'pending' })),
      });
      expect(await world.execute(grant, keyed('k', 'another'))).toMatchObject({
        error: { code: 'idempotency_key_reused' },
      });
      await world.report(leases[1]!, 'refused');
      const goOn = { ...grant, claims: [udp(8)] };
      const [instead] = must(await world.execute(goOn, keyed('k', 'the same', 1, [leases[1]!.id])));
      expect(must(await world.execute(grant, keyed('k'))).map(({ id }) => id)).toEqual([leases[0]!.id, instead!.id]);
      world.clock.passSeconds(10);
      await world.execute({ kind: 'createMachine', id: 'm', labels: {}, enforcement: 'none', fenceUs: 1 }, keyed('j'));
      const before = world.clock.us;
      expect(await store.forget({ what: 'answers', before, rowsMax: 1 })).toEqual({ dropped: 1, more: true });
      expect(await store.forget({ what: 'answers', before, rowsMax: 5 })).toEqual({ dropped: 1, more: false });
      expect(await world.execute(grant, keyed('k'))).not.toHaveProperty('replayed');
    });
  });
}
