import { familyOf } from '../../src/net/address.ts';
import { portCount } from '../../src/net/ports.ts';
import { limits } from '../../src/leases/limits.ts';
import { hasOccupants, placeOf, type Allocator, type Extent, type SharedBlock } from '../../src/leases/model.ts';
import type { NeedOf } from '../../src/leases/needs.ts';
import type { Offer, View } from '../../src/leases/view.ts';
import type { Tables } from './memory-store.ts';

type OfferNeed = NeedOf<
  | 'offers'
  | 'ownOffers'
  | 'offeredAt'
  | 'ownedAt'
  | 'offeredExtents'
  | 'joinableBlocks'
  | 'extentsAt'
  | 'joinableAt'
  | 'roomySlices'
>;

type Place = Readonly<{ machine: string; protocol: string }>;
type JoinNeed = NeedOf<'joinableBlocks' | 'joinableAt'>;

/** The order in which a grant chooses. */
const byChoice = (a: Extent, b: Extent): number =>
  a.fit - b.fit || a.restedSince - b.restedSince || a.slice - b.slice || a.ports.first - b.ports.first;
const byCrowd = (a: SharedBlock, b: SharedBlock): number =>
  a.members - b.members || a.slice - b.slice || a.ports.first - b.ports.first;

/** Whether the row is of the very pool that the window looks through. */
const isIn = (row: Extent | SharedBlock, need: NeedOf<'offeredExtents' | 'joinableBlocks'>): boolean =>
  row.machine === need.machine &&
  row.protocol === need.protocol &&
  row.pool === need.pool &&
  row.family === need.family;

/** What a grant may choose from. */
export function loadOffers(tables: Tables, view: View, need: OfferNeed): void {
  const isOn = (row: Extent | SharedBlock, place: Place & Readonly<{ address: string }>): boolean => {
    const slice = tables.slices.get(row.slice);
    return row.protocol === place.protocol && slice?.address === place.address && slice.machine === place.machine;
  };
  const isMember = (block: SharedBlock, holder: string) =>
    [...tables.leases.values()].some(
      (lease) => placeOf(lease) === placeOf(block) && lease.holder === holder && hasOccupants(lease),
    );
  const extents = (order: number, isHere: (row: Extent) => boolean): readonly Extent[] =>
    [...tables.extents.values()].filter((row) => row.offered && row.fit >= order && isHere(row)).sort(byChoice);
  const join = ({ binding, ports, holder, limit }: JoinNeed, isHere: (row: SharedBlock) => boolean) => {
    const fits = (row: SharedBlock) =>
      row.offered && row.binding === binding && (ports === null || portCount(row.ports) === ports) && isHere(row);
    const found = [...tables.blocks.values()].filter((row) => fits(row) && !isMember(row, holder)).sort(byCrowd);
    for (const block of found.slice(0, limit)) view.loadJoinable(holder, block);
  };
  const load = (found: readonly Extent[], limit: number) => {
    for (const extent of found.slice(0, limit)) view.extents.load(extent);
  };
  switch (need.need) {
    case 'offers':
      view.loadOffers(need.machine, pairsOf(tables, need.machine, 'server'));
      return;
    case 'ownOffers':
      view.loadOwnOffers(need.machine, pairsOf(tables, need.machine, 'machine'));
      return;
    case 'ownedAt':
    case 'offeredAt': {
      const here = [...tables.slices.values()]
        .filter(({ machine, address }) => machine === need.machine && address === need.address)
        .filter(
          ({ state, allocator }) => need.need === 'ownedAt' || (state === 'assigned' && allocator === need.allocator),
        )
        .sort((a, b) => a.ports.first - b.ports.first);
      for (const slice of here.slice(0, 1)) view.slices.load(slice);
      return;
    }
    case 'offeredExtents':
      load(
        extents(need.order, (row) => isIn(row, need)),
        need.limit,
      );
      return;
    case 'joinableBlocks':
      join(need, (row) => isIn(row, need));
      return;
    case 'extentsAt':
      load(
        extents(need.order, (row) => isOn(row, need)),
        need.limit,
      );
      return;
    case 'joinableAt':
      join(need, (row) => isOn(row, need));
      return;
    case 'roomySlices':
      load(
        roomySlices(tables, need).flatMap((slice) =>
          extents(need.order, (row) => row.slice === slice && row.protocol === need.protocol).slice(0, 1),
        ),
        need.limit,
      );
      return;
  }
}

function pairsOf(tables: Tables, machine: string, allocator: Allocator): readonly Offer[] {
  const offers = [...tables.slices.values()]
    .filter((row) => row.machine === machine && row.state === 'assigned' && row.allocator === allocator)
    .map(({ pool, address }) => ({ pool, family: familyOf(address) }));
  return [...new Map(offers.map((offer) => [`${offer.pool}/${offer.family}`, offer])).values()];
}

/** The slices that are looked at for leases that are to be spread, in order. */
const roomySlices = (tables: Tables, need: NeedOf<'roomySlices'>): readonly number[] =>
  [...tables.slices.values()]
    .filter(
      (row) =>
        row.machine === need.machine &&
        row.state === 'assigned' &&
        row.allocator === 'server' &&
        row.pool === need.pool &&
        familyOf(row.address) === need.family,
    )
    .map(({ id }) => id)
    .sort((a, b) => a - b)
    .slice(0, limits.slices_looked_at_max);
