import { describe, expect, it } from 'vitest';
import type { Slice } from '../../src/leases/model.ts';
import type { Store, UsesFilter } from '../../src/leases/store.ts';
import { parseSelector } from '../../src/net/selector.ts';
import { address, at, ledger, must, shared, tcp, udp, World } from '../support/world.ts';

type Opened = AsyncDisposable & Readonly<{ store: Store }>;

/** What a store promises where machines grant in some of their slices themselves. */
export function allocatorsContract(name: string, open: () => Promise<Opened>): void {
  /** Slices of 2,048 ports, and of 1,024 where there is IPv6, with no router to wait for. */
  async function town(store: Store): Promise<World> {
    const world = new World(store);
    await world.pool('v4', ['198.51.100.0/30'], { labels: { country: 'de' } });
    await world.pool('v6', ['2001:db8::/64'], { slicePorts: 1_024, labels: { country: 'fr' } });
    for (const machine of ['edge-1', 'edge-2']) await world.machine(machine);
    for (const holder of ['web', 'mail']) await world.holder('edge-1', holder);
    return world;
  }

  /** A slice that the machine grants in itself, confirmed by its agent. */
  async function own(world: World, pool = 'v4'): Promise<Slice> {
    const [slice] = await world.slices('edge-1', pool, { allocator: 'machine' });
    if (!slice) throw new Error('no slice');
    expect(await world.reportSlice('edge-1', slice, 'assigned')).toBe('taken');
    return slice;
  }

  const portsOf = async ({ store }: World): Promise<readonly string[]> =>
    (await store.reader.usage())
      .filter(({ protocol, machine }) => protocol === 'tcp' && machine === 'edge-1')
      .map(({ pool, state, ports }) => `${pool} ${state} ${ports}`)
      .sort();

  describe(`${name}, where a machine grants in its slices itself`, () => {
    it('says so to whom these would serve, and to nobody else', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 3_600);
      await ledger([['nothing yet', () => world.grant(web, tcp(8)), 'no_slices']]);
      const slice = await own(world);
      const first = { address: slice.address };
      const selecting = (text: string) => ({ select: must(parseSelector(text)) });
      await ledger([
        ['any', () => world.grant(web, tcp(8)), 'machine_allocates'],
        ['udp', () => world.grant(web, udp(2_048)), 'machine_allocates'],
        ['shared', () => world.grant(web, shared()), 'machine_allocates'],
        ['of the pool', () => world.grant(web, tcp(8, { pool: 'v4' })), 'machine_allocates'],
        ['with its labels', () => world.grant(web, tcp(8, selecting('country=de'))), 'machine_allocates'],
        ['of its family', () => world.grant(web, tcp(8, { family: 4 })), 'machine_allocates'],
        ['on its address', () => world.grant(web, tcp(8, first)), 'machine_allocates'],
        ['by name', () => world.grant(web, tcp(8, at(slice.address, slice.ports.first))), 'machine_allocates'],
        ['not too large for it', () => world.grant(web, tcp(4_096)), 'no_slices'],
        ['nor of another pool', () => world.grant(web, tcp(8, { pool: 'v6' })), 'no_slices'],
        ['or with other labels', () => world.grant(web, tcp(8, selecting('country=fr'))), 'no_slices'],
        ['or of the other family', () => world.grant(web, tcp(8, { family: 6 })), 'no_slices'],
        ['or elsewhere', () => world.grant(web, tcp(8, { address: address('198.51.100.3') })), 'no_slices'],
        ['or where it has nothing', () => world.grant(web, tcp(8, at('198.51.100.3', 4_096))), 'block_not_owned'],
        [
          'by name, of another family',
          () => world.grant(web, tcp(8, { ...at(slice.address, slice.ports.first), family: 6 })),
          'block_not_owned',
        ],
        ['on leaving, nobody grants', () => world.drain(slice.id).then(Boolean), true],
        ['any', () => world.grant(web, tcp(8)), 'no_slices'],
        ['by name', () => world.grant(web, tcp(8, at(slice.address, slice.ports.first))), 'block_not_owned'],
      ]);
    });

    it('grants from the slices of the server as ever, and says when these are full that the machine has others', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const web = await world.session('edge-1', 'web', 3_600);
      const mail = await world.session('edge-1', 'mail', 3_600);
      await world.ready('edge-1', 'v6');
      const slice = await own(world);
      const refusal = async (claim = tcp(8)) => {
        const result = await world.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims: [claim] });
        return result.ok ? result.value.map(({ pool }) => pool).join(', ') : result.error;
      };
      expect(await refusal()).toBe('v6');
      expect(await refusal(tcp(2_048))).toEqual({
        code: 'machine_allocates',
        machine: 'edge-1',
        address: null,
        slice: null,
        nextAt: null,
      });
      const [rest] = must(
        await world.execute({
          kind: 'grantLeases',
          scope: {},
          session: mail.id,
          claims: [tcp(512), tcp(256), tcp(128), tcp(64), tcp(32), tcp(16), tcp(8)],
        }),
      );
      if (!rest) throw new Error('no lease');
      expect(await refusal()).toMatchObject({ code: 'machine_allocates', nextAt: null });
      await world.report(rest, 'active');
      await world.release(rest);
      await world.report(rest, 'empty');
      const { reusableAt } = (await opened.store.reader.lease(rest.id)) ?? rest;
      expect(reusableAt).not.toBeNull();
      expect(await refusal()).toMatchObject({ code: 'machine_allocates', nextAt: reusableAt });
      // Where those of the machine would not serve, being full is the reason.
      expect(await refusal(tcp(8, { family: 6 }))).toMatchObject({ code: 'no_ports', nextAt: reusableAt });
      expect(await refusal(tcp(8, at(slice.address, slice.ports.first)))).toMatchObject({
        slice: slice.id,
        nextAt: null,
      });
      await world.pass(121);
      expect(await refusal()).toBe('v6');
    });

    it('counts their ports as neither free nor used, from the assignment until the slice is back', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.ready('edge-1', 'v6');
      const [slice] = await world.slices('edge-1', 'v4', { allocator: 'machine' });
      const id = slice?.id ?? 0;
      const counted = ['v4 machine_allocated 2048', 'v6 free 1024'];
      await ledger([
        ['on its way', () => portsOf(world), counted],
        ['confirmed', () => world.reportSlice('edge-1', slice ?? { id, generation: 1 }, 'assigned'), 'taken'],
        ['there', () => portsOf(world), counted],
        ['handed over', () => world.allocate(id, 'server').then(Boolean), true],
        ['drains', () => portsOf(world), counted],
        ['empty', () => world.reportSlice('edge-1', slice ?? { id, generation: 1 }, 'empty'), 'taken'],
        ['rests', () => portsOf(world), counted],
        ['rested', () => world.pass(120), undefined],
        ['the server’s, not confirmed', () => portsOf(world), ['v4 withheld 2048', 'v6 free 1024']],
        ['confirmed', () => world.reportSlice('edge-1', { id, generation: 2 }, 'assigned'), 'taken'],
        ['the server’s', () => portsOf(world), ['v4 free 2048', 'v6 free 1024']],
      ]);
    });

    it('keeps nothing for a holder out of what the machine grants in itself', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      await world.ready('edge-1', 'v6');
      await own(world);
      const limits = {
        portsMin: { tcp: 1_024, udp: 0, icmp: 0 },
        portsMax: { tcp: null, udp: null, icmp: null },
        sessionsMax: null,
      };
      const holder = {
        kind: 'putHolder',
        machine: 'edge-1',
        name: 'mail',
        holderKind: 'proxy',
        uid: 901,
        limits,
      } as const;
      must(await world.execute(holder));
      expect(await world.grant(await world.session('edge-1', 'web'), tcp(8))).toBe('ports_kept_for_others');
    });

    it('knows of the past who granted, whoever does now', async () => {
      await using opened = await open();
      const world = await town(opened.store);
      const slice = await own(world);
      const then = world.events.at(-1)?.at ?? 0;
      await world.allocate(slice.id, 'server');
      await world.reportSlice('edge-1', slice, 'empty');
      await world.pass(121);
      const whoHad = async (when: number) => {
        const port = { address: slice.address, protocol: 'tcp', port: slice.ports.first } as const;
        const { tenure, leases } = await opened.store.reader.whoHad({ ...port, at: when });
        return `${tenure?.machine} ${tenure?.allocator} g${tenure?.generation}, ${leases.length} leases`;
      };
      const port = { address: slice.address, port: slice.ports.last, protocol: null };
      const since = world.events[0]?.at ?? 0;
      const listed = async (of: UsesFilter, limit = 9) =>
        (await opened.store.reader.machineAllocated(of, limit)).map((row) => `slice-${row.slice} g${row.generation}`);
      const until = world.events.at(-1)?.at ?? 0;
      const [g1, back] = [`slice-${slice.id} g1`, (await opened.store.reader.slice(slice.id))?.assignedAt ?? 0];
      expect(await listed({ ...port, since, until })).toEqual([g1]);
      expect(await listed({ ...port, port: 1_024, since, until })).toEqual([]);
      expect(await listed({ machine: 'edge-1', holder: 'web', since, until })).toEqual([g1]);
      expect(await listed({ machine: 'edge-2', holder: 'web', since, until })).toEqual([]);
      // Half open, on both ends.
      expect(await listed({ ...port, since, until: slice.assignedAt ?? 0 })).toEqual([]);
      expect(await listed({ ...port, since: slice.assignedAt ?? 0, until: (slice.assignedAt ?? 0) + 1 })).toEqual([g1]);
      expect(await listed({ ...port, since: back, until: until + 1 })).toEqual([]);
      await world.slices('edge-1', 'v6', { allocator: 'machine' });
      const later = { machine: 'edge-1', holder: 'web', since, until: until + 1_000_000 };
      expect(await listed(later)).toHaveLength(2);
      expect((await listed(later, 1))[0]).not.toBe(g1);
      expect(await whoHad(then)).toBe('edge-1 machine g1, 0 leases');
      expect(await whoHad(until)).toBe('edge-1 server g2, 0 leases');
    });
  });
}
