import type { Store } from '../../src/leases/store.ts';
import { audited, keyed, must, second, shared, tcp, udp, World } from './world.ts';

/** A table with something of everything: each kind of row, in each of its states. */
export async function fillTable(store: Store): Promise<World> {
  const world = new World(store);
  await world.pool('v4', ['198.51.100.0/29'], { labels: { note: 'größer "quoted" \\ 🐟 \u2028 \n', site: 'fra1' } });
  await world.pool('v6', ['2001:db8::/48', '2001:db8:1::/64']);
  for (const machine of ['edge-1', 'edge-2']) {
    await world.machine(machine, 'agent', 86_400);
    await world.alive(machine);
    for (const holder of ['web', 'mail']) await world.holder(machine, holder, 'proxy', holder === 'web' ? 900 : 901);
    await world.holder(machine, 'fish', 'fish');
    await world.execute({
      ...({ kind: 'putHolder', machine, name: 'web', holderKind: 'proxy', uid: 900 } as const),
      limits: {
        portsMin: { tcp: 8, udp: 0, icmp: 0 },
        portsMax: { tcp: 1_024, udp: null, icmp: null },
        sessionsMax: 9,
      },
    });
  }
  await world.machine('bare', 'none');
  await world.pool('routed', ['192.0.2.0/30'], { routers: { ids: ['north', 'south'], select: null, policy: 1 } });
  for (const router of ['north', 'south']) await world.router(router, { site: 'fra1' });
  await world.holder('bare', 'web', 'proxy', null);
  const [free, drained] = await world.ready('edge-2', 'v4', 2);
  await world.ready('edge-1', 'v4', 3);
  await world.ready('edge-1', 'v6', 2);
  await world.ready('bare', 'v6');
  await world.slices('edge-2', 'v6');
  if (!free || !drained) throw new Error('no slices');

  // One that its routers know, one that they have yet to let go of, one that they have yet to know.
  const [known, leaving] = await world.slices('edge-2', 'routed', { count: 2 });
  if (!known || !leaving) throw new Error('no slices');
  await world.applied('north');
  await world.drain(leaving.id);
  await world.reportSlice('edge-2', leaving, 'empty');

  // One that came back and rested, one that has a lease in its way.
  await world.drain(free.id);
  await world.reportSlice('edge-2', free, 'empty');
  await world.pass(121);
  const far = await world.session('edge-2', 'mail', 3_600);
  await world.leases(far, tcp(4));
  await world.drain(drained.id);

  const [web, mail, gone, bare] = [
    await world.session('edge-1', 'web', 3_600),
    await world.session('edge-1', 'mail', 3_600),
    await world.session('edge-1', 'web', 600),
    await world.session('bare', 'web', 3_600),
  ];
  const [active, refused, ending, cooling, over] = await world.leases(web, tcp(8), udp(2), tcp(1), tcp(2), udp(1));
  await world.slices('edge-2', 'routed');
  if (!active || !refused || !ending || !cooling || !over) throw new Error('no leases');
  await world.leases(web, shared(64));
  await world.leases(mail, shared(64), udp(16));
  await world.leases(bare, tcp(32, { pool: 'v6' }));
  await world.report(active, 'active');
  await world.report(refused, 'refused');
  await world.release(over);
  await world.report(over, 'empty');
  await world.pass(61);
  for (const lease of [ending, cooling]) await world.release(lease);
  await world.report(cooling, 'empty');
  await world.leases(gone, tcp(1), shared(64));
  await world.end(gone, 'revoked');
  await reportSome(world);
  for (const [name, hash] of Object.entries({ ci: 'a', old: 'b' }))
    await world.execute(
      { kind: 'createToken', name, role: 'viewer', machine: null, holder: null, hash },
      audited('tokens'),
    );
  const token = (await store.reader.accessToken('b'))?.id ?? 0;
  await world.execute({ kind: 'revokeToken', id: token }, audited(`tokens/token-${token}`));
  await world.execute({ kind: 'updatePool', id: 'v6', labels: { site: 'x' }, ifRevision: null }, audited('pools/v6'));
  await world.execute({ kind: 'deletePool', id: 'v6', ifRevision: null }, audited('pools/v6'));
  const again = { kind: 'openSession', scope: {}, machine: 'bare', holder: 'web', ttlUs: 1e9 } as const;
  for (const key of ['once', 'twice']) await world.execute(again, keyed(key));
  return world;
}

/** What the broker of a machine told: a session, a lease that lives, and one that rests. */
async function reportSome(world: World): Promise<void> {
  const [own] = await world.slices('edge-1', 'v4', { allocator: 'machine' });
  if (!own) throw new Error('no slice');
  await world.reportSlice('edge-1', own, 'assigned');
  const { us } = world.clock;
  const live = {
    ...({ id: 12, slice: own.id, generation: own.generation, epoch: 1, session: 11, holder: 'web' } as const),
    ...({ protocol: 'tcp', ports: { first: own.ports.first, last: own.ports.first + 7 }, mode: 'exclusive' } as const),
    ...({ binding: null, state: 'active', ending: null, refusal: null, grantedAt: us, activeAt: us } as const),
    ...{ endingAt: null, emptyAt: null, reusableAt: null, endedAt: null, revision: 12 },
  };
  const rests = {
    ...{ ...live, id: 13, session: null, protocol: 'udp' as const, state: 'cooling' as const },
    ...{ ending: 'released' as const, endingAt: us, emptyAt: us, reusableAt: us + 60 * second, revision: 13 },
  };
  const session = {
    ...({ id: 11, holder: 'web', state: 'live', ending: null, ttlUs: 30 * second, expiresAt: us } as const),
    ...{ openedAt: us, endedAt: null, revision: 11 },
  };
  const { rejected } = must(
    await world.execute({
      ...({ kind: 'reportGranted', machine: 'edge-1', epoch: 'e', after: 0, through: 13, asOf: us } as const),
      snapshot: { page: 1, isLast: true, historySince: us },
      ...{ sessions: [session], leases: [live, rests] },
      ports: [{ pool: 'v4', family: 4, protocol: 'tcp', state: 'exclusive', ports: 8 }],
      counters: { granted: 2, refused: 0, ended: 1 },
    }),
  );
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
}
