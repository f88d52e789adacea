import { addressKey } from '../net/address.ts';
import { rangesOverlap, type PortRange } from '../net/ports.ts';
import { prefixBounds, prefixesOverlap, prefixKeys, type Prefix } from '../net/prefix.ts';
import { err, ok } from '../net/result.ts';
import type { Commands } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { sameLabels, type CarveOut, type Pool, type RouterDemand, type Slice } from './model.ts';
import type { Need } from './needs.ts';
import { staleRevision } from './revisions.ts';
import { slotFrom, slotTotal } from './slots.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

const nobody: RouterDemand = { ids: null, select: null, policy: 'none' };

export const createPool: UseCase<'createPool'> = {
  *needs() {
    yield [{ need: 'pools' }];
  },

  decide(input, { view }) {
    if ([...view.pools.values()].some((pool) => pool.id === input.id))
      return err({ code: 'pool_exists', pool: input.id });
    const { id, labels, prefixes, carveOuts = [], slicePorts, usablePorts, sharedBlockPorts, cooldownUs } = input;
    const { routers = nobody } = input;
    const terms = { id, labels, prefixes, carveOuts, slicePorts, usablePorts, sharedBlockPorts, cooldownUs, routers };
    const flaw = flawOf(terms, view);
    if (flaw) return err(flaw);
    const cursors = prefixes.map(() => 0n);
    return ok(putPool(view, (revision, at) => ({ ...terms, cursors, createdAt: at, updatedAt: at, revision })));
  },
};

/** Changes what no live slice stands on: a slice keeps its address, its ports and its size as long as a machine has it. */
export const updatePool: UseCase<'updatePool'> = {
  *needs(input, { view }) {
    yield [{ need: 'pools' }];
    const pool = poolNamed(view, input.id);
    if (pool) yield takenSpace(pool, input).map((space): Need => ({ need: 'ownedWithin', ...space }));
  },

  decide(input, { view }) {
    const pool = poolNamed(view, input.id);
    if (!pool) return err({ code: 'pool_not_found', pool: input.id });
    const stale = staleRevision(`pool "${pool.id}"`, input.ifRevision, pool.revision);
    if (stale) return err(stale);
    const { labels = pool.labels, prefixes = pool.prefixes, carveOuts = pool.carveOuts } = input;
    const { sharedBlockPorts = pool.sharedBlockPorts, cooldownUs = pool.cooldownUs, routers = pool.routers } = input;
    const next = { ...pool, labels, prefixes, carveOuts, sharedBlockPorts, cooldownUs, routers };
    // What changes nothing is no news: the log stays quiet.
    if (isSame(pool, next)) return ok(pool);
    const flaw = flawOf(next, view);
    if (flaw) return err(flaw);
    for (const space of takenSpace(pool, input)) {
      const slice = ownedWithin(view, space);
      if (slice) {
        const { id, machine, state } = slice;
        return err({ code: 'space_in_use', prefix: space.prefix, slice: id, machine, state });
      }
    }
    const cursors = cursorsAfter(pool, next);
    return ok(putPool(view, (revision, at) => ({ ...next, cursors, updatedAt: at, revision })));
  },
};

/** Only a pool that no machine has a slice of. Its former slices stay known, for attribution. */
export const deletePool: UseCase<'deletePool'> = {
  *needs({ id }) {
    yield [
      { need: 'pool', id },
      { need: 'ownedOfPool', pool: id },
    ];
  },

  decide({ id, ifRevision }, { view }) {
    const pool = view.pools.get(id);
    if (!pool) return err({ code: 'pool_not_found', pool: id });
    const stale = staleRevision(`pool "${id}"`, ifRevision, pool.revision);
    if (stale) return err(stale);
    for (const { id: slice, pool: of, machine, state } of view.slices.values())
      if (of === id && machine !== null) return err({ code: 'pool_in_use', pool: id, slice, machine, state });
    view.log(null, () => ({ kind: 'deleted', what: 'pool', id }));
    view.pools.remove(id);
    return ok(pool);
  },
};

const poolNamed = (view: View, id: string): Pool | undefined => [...view.pools.values()].find((pool) => pool.id === id);

function putPool(view: View, make: (revision: number, at: number) => Pool): Pool {
  const { pool } = view.log(null, (revision, at) => ({ kind: 'pool', pool: make(revision, at) }));
  view.pools.put(pool);
  return pool;
}

type Draft = Omit<Pool, 'cursors' | 'createdAt' | 'updatedAt' | 'revision'>;

function flawOf(draft: Draft, view: View): LeaseError | undefined {
  const others = [...view.pools.values()].filter(({ id }) => id !== draft.id);
  const overlap = findOverlap(draft, others);
  if (overlap) return overlap;
  const { id, slicePorts, usablePorts } = draft;
  const outside = draft.carveOuts.find(({ prefix }) => !draft.prefixes.some((own) => prefixesOverlap(own, prefix)));
  if (outside) return { code: 'carve_out_outside_pool', prefix: outside.prefix, pool: id };
  if (slotTotal({ ...draft, carveOuts: [] }) === 0n)
    return { code: 'pool_too_small', pool: id, slicePorts, first: usablePorts.first, last: usablePorts.last };
  return undefined;
}

/** An address belongs to one pool, and to one prefix of it: two slices with the same ports must never exist. */
function findOverlap(input: Pick<Pool, 'id' | 'prefixes'>, others: readonly Pool[]): LeaseError | undefined {
  for (const [index, prefix] of input.prefixes.entries()) {
    for (const pool of [{ id: input.id, prefixes: input.prefixes.slice(0, index) }, ...others]) {
      const other = pool.prefixes.find((candidate) => prefixesOverlap(candidate, prefix));
      if (other !== undefined) return { code: 'prefix_overlap', prefix, other, pool: pool.id };
    }
  }
  return undefined;
}

type SpaceTaken = Readonly<{ prefix: Prefix; ports: PortRange | null }>;

/** Where nothing may live for the change to be made: prefixes that go, and carve-outs that come. */
function takenSpace(pool: Pool, input: Commands['updatePool']['input']): readonly SpaceTaken[] {
  const { prefixes = pool.prefixes, carveOuts = pool.carveOuts } = input;
  return [
    ...pool.prefixes.filter((prefix) => !prefixes.includes(prefix)).map((prefix) => ({ prefix, ports: null })),
    ...carveOuts.filter((carveOut) => !pool.carveOuts.some((own) => sameCarveOut(own, carveOut))),
  ];
}

function ownedWithin(view: View, { prefix, ports }: SpaceTaken): Slice | undefined {
  const { first, last } = prefixKeys(prefix);
  return [...view.slices.values()].find((slice) => {
    const key = addressKey(slice.address);
    const isHere = first <= key && key <= last && (ports === null || rangesOverlap(ports, slice.ports));
    return slice.machine !== null && isHere;
  });
}

/**
 * A prefix that comes is begun at its first slot. Where a carve-out went, the cursor goes back to it: it had passed there
 * without making a slice. Those that were made behind it are stepped over once more.
 */
function cursorsAfter(pool: Pool, next: Pool): readonly bigint[] {
  const gone = pool.carveOuts.filter((carveOut) => !next.carveOuts.some((own) => sameCarveOut(own, carveOut)));
  return next.prefixes.map((prefix, index) => {
    const cursor = pool.cursors[pool.prefixes.indexOf(prefix)] ?? 0n;
    const reopened = gone
      .filter((carveOut) => prefixesOverlap(carveOut.prefix, prefix))
      .map((carveOut) => slotFrom(next, index, prefixBounds(carveOut.prefix).first));
    return reopened.reduce((least, slot) => (slot < least ? slot : least), cursor);
  });
}

const sameCarveOut = (a: CarveOut, b: CarveOut): boolean =>
  a.prefix === b.prefix && a.ports?.first === b.ports?.first && a.ports?.last === b.ports?.last;

const isSame = (a: Pool, b: Pool): boolean =>
  sameLabels(a.labels, b.labels) &&
  a.prefixes.join() === b.prefixes.join() &&
  a.carveOuts.length === b.carveOuts.length &&
  a.carveOuts.every((carveOut, index) =>
    b.carveOuts.slice(index, index + 1).some((own) => sameCarveOut(own, carveOut)),
  ) &&
  a.sharedBlockPorts === b.sharedBlockPorts &&
  a.cooldownUs.tcp === b.cooldownUs.tcp &&
  a.cooldownUs.udp === b.cooldownUs.udp &&
  a.cooldownUs.icmp === b.cooldownUs.icmp &&
  sameDemand(a.routers, b.routers);

const sameDemand = (a: RouterDemand, b: RouterDemand): boolean =>
  a.policy === b.policy && a.select === b.select && a.ids?.join() === b.ids?.join();
