import { familyOf } from '../../src/net/address.ts';
import { portCount } from '../../src/net/ports.ts';
import { limits } from '../../src/leases/limits.ts';
import { hasOccupants, placeOf, type Extent, type SharedBlock } from '../../src/leases/model.ts';
import type { NeedOf } from '../../src/leases/needs.ts';
import type { View } from '../../src/leases/view.ts';
import type { Tables } from './memory-store.ts';

type OfferNeed = NeedOf<'offeredExtents' | 'joinableBlocks' | 'extentsAt' | 'joinableAt' | 'roomySlices'>;

/** The order in which a grant chooses. */
const byChoice = (a: Extent, b: Extent): number =>
  a.fit - b.fit || a.restedSince - b.restedSince || a.slice - b.slice || a.ports.first - b.ports.first;

/** What a grant may choose from. */
export function loadOffers(tables: Tables, view: View, need: OfferNeed): void {
  const isOn = (
    row: { slice: number; protocol: string },
    place: { machine: string; protocol: string; address: string },
  ) => {
    const slice = tables.slices.get(row.slice);
    return row.protocol === place.protocol && slice?.address === place.address && slice.machine === place.machine;
  };
  const isMember = (block: SharedBlock, holder: string) =>
    [...tables.leases.values()].some(
      (lease) => placeOf(lease) === placeOf(block) && lease.holder === holder && hasOccupants(lease),
    );
  switch (need.need) {
    case 'offeredExtents':
      for (const extent of [...tables.extents.values()]
        .filter(
          (row) =>
            row.offered &&
            row.machine === need.machine &&
            row.protocol === need.protocol &&
            row.pool === need.pool &&
            row.family === need.family &&
            row.fit >= need.order,
        )
        .sort(byChoice)
        .slice(0, need.limit))
        view.extents.load(extent);
      return;
    case 'joinableBlocks':
      for (const block of [...tables.blocks.values()]
        .filter(
          (row) =>
            row.offered &&
            row.machine === need.machine &&
            row.protocol === need.protocol &&
            row.binding === need.binding &&
            row.pool === need.pool &&
            row.family === need.family &&
            (need.ports === null || portCount(row.ports) === need.ports),
        )
        .filter((row) => !isMember(row, need.holder))
        .sort((a, b) => a.members - b.members || a.slice - b.slice || a.ports.first - b.ports.first)
        .slice(0, need.limit))
        view.loadJoinable(need.holder, block);
      return;
    case 'extentsAt':
      for (const extent of [...tables.extents.values()]
        .filter((row) => isOn(row, need) && row.offered && row.fit >= need.order)
        .sort(byChoice)
        .slice(0, need.limit))
        view.extents.load(extent);
      return;
    case 'joinableAt':
      for (const block of [...tables.blocks.values()]
        .filter(
          (row) =>
            isOn(row, need) &&
            row.offered &&
            row.binding === need.binding &&
            (need.ports === null || portCount(row.ports) === need.ports),
        )
        .filter((row) => !isMember(row, need.holder))
        .sort((a, b) => a.members - b.members || a.slice - b.slice || a.ports.first - b.ports.first)
        .slice(0, need.limit))
        view.loadJoinable(need.holder, block);
      return;
    case 'roomySlices':
      for (const extent of [...tables.slices.values()]
        .filter(
          (row) =>
            row.machine === need.machine &&
            row.state === 'assigned' &&
            row.allocator === 'server' &&
            row.pool === need.pool &&
            familyOf(row.address) === need.family,
        )
        .sort((a, b) => a.id - b.id)
        .slice(0, limits.slices_looked_at_max)
        .flatMap((slice) =>
          [...tables.extents.values()]
            .filter(
              (row) => row.slice === slice.id && row.protocol === need.protocol && row.offered && row.fit >= need.order,
            )
            .sort(byChoice)
            .slice(0, 1),
        )
        .slice(0, need.limit))
        view.extents.load(extent);
      return;
  }
}
