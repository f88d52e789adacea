import { prefixesOverlap } from '../net/prefix.ts';
import { err, ok } from '../net/result.ts';
import type { LeaseError } from './errors.ts';
import type { Pool } from './model.ts';
import { slotTotal } from './slots.ts';
import type { UseCase } from './use-case.ts';

export const createPool: UseCase<'createPool'> = {
  *needs() {
    yield [{ need: 'pools' }];
  },

  decide(input, { view }) {
    const others = [...view.pools.values()];
    if (others.some((pool) => pool.id === input.id)) return err({ code: 'pool_exists', pool: input.id });
    const overlap = findOverlap(input, others);
    if (overlap) return err(overlap);
    if (slotTotal(input) === 0n) {
      const { id, slicePorts, usablePorts } = input;
      return err({ code: 'pool_too_small', pool: id, slicePorts, first: usablePorts.first, last: usablePorts.last });
    }
    const { id, labels, prefixes, slicePorts, usablePorts, sharedBlockPorts, cooldownUs } = input;
    const terms = { id, labels, prefixes, slicePorts, usablePorts, sharedBlockPorts, cooldownUs };
    const cursors = prefixes.map(() => 0n);
    const { pool } = view.log(null, (revision, at) => ({
      kind: 'pool',
      pool: { ...terms, cursors, createdAt: at, updatedAt: at, revision },
    }));
    view.pools.put(pool);
    return ok(pool);
  },
};

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
