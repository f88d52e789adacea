import { describe, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { Store } from '../../src/leases/store.ts';
import { ledger, tcp, World } from '../support/world.ts';

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
  });
}
