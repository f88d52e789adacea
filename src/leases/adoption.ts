import { err, ok } from '../net/result.ts';
import { protocols } from '../net/protocol.ts';
import { blockPorts, tileSlice } from './extents.ts';
import { leavingSliceNeeds, reclaim } from './hand-over.ts';
import { tenureKey, type Slice } from './model.ts';
import { confirmSlice } from './slices.ts';
import type { UseCase } from './use-case.ts';

/**
 * How a slice that another table owns comes into this one, and goes without being asked for: in a broker's table, which
 * grants in the slices of its machine that the server handed to it, under the generation that the server counted. In such a
 * table `server`, as the allocator of a slice, is whoever keeps the table.
 */

/** What is told of ports that were granted by a table which is lost. */
export const doubt =
  'the table of who has these ports was lost: they are granted again when nobody is on them, after their rest';

/**
 * Takes the slice in under a generation. One that is still `assigning` nobody can have been granted ports of, so all of it is
 * free; one that was assigned before this table knew of it was granted from by a table that is lost, so all of it is blocked
 * until whoever sees the host says that nobody is on it. What was given up under this generation stays given up.
 */
export const adoptSlice: UseCase<'adoptSlice'> = {
  *needs({ id, pool, machine, generation }) {
    yield [
      { need: 'pool', id: pool },
      { need: 'machine', id: machine },
      { need: 'slice', id },
      { need: 'sliceTiles', slice: id },
      { need: 'tenure', slice: id, generation },
    ];
  },

  decide(input, { view }) {
    const { id, generation, address, ports, state } = input;
    const pool = view.pools.get(input.pool);
    if (!pool) return err({ code: 'pool_not_found', pool: input.pool });
    if (!view.machines.get(input.machine)) return err({ code: 'machine_not_found', machine: input.machine });
    const known = view.slices.get(id);
    if (known && generation < known.generation)
      return err({
        code: 'stale_token',
        item: `slice-${id}`,
        given: String(generation),
        current: String(known.generation),
      });
    if (known?.generation === generation) {
      if (known.state === 'assigning' && state === 'assigned') confirmSlice(view, known);
      return ok(view.slices.get(id) ?? known);
    }
    // What was granted under the former generation rests until it is over here, too.
    if (known && known.state !== 'free')
      return err({ code: 'slice_taken', address, firstPort: ports.first, machine: known.machine, state: known.state });
    const { slice } = view.log(input.machine, (revision, at) => ({
      kind: 'slice',
      slice: {
        ...{ id, pool: pool.id, poolBornAt: pool.createdAt, address, ports, machine: input.machine, generation },
        ...{ state, allocator: 'server', drainingSince: null, drainBy: null, next: null, reclaimed: false },
        ...{ assignedAt: at, reusableAt: null, route: 'routed', routeRevision: revision, routeSince: at, revision },
      } satisfies Slice,
    }));
    view.slices.put(slice);
    const tenure = view.tenures.get(tenureKey(id, generation));
    if (tenure) throw new Error(`generation ${generation} of slice-${id} was here before`);
    const { allocator, machine } = slice;
    view.tenures.put({
      ...{ slice: id, generation, machine, address, ports, allocator },
      from: slice.assignedAt,
      until: null,
    });
    if (state === 'assigning') tileSlice(view, slice);
    else for (const protocol of protocols) blockPorts(view, slice, protocol, ports, slice.assignedAt, doubt);
    return ok(slice);
  },
};

/**
 * The slice is this machine's no more, and nobody asks for proof: its owner took it back when it could not be reached. Its
 * leases end, and it rests.
 */
export const forgoSlice: UseCase<'forgoSlice'> = {
  needs: ({ id }, { view }) => leavingSliceNeeds(view, id),

  decide({ id }, context) {
    const slice = context.view.slices.get(id);
    if (!slice) return err({ code: 'slice_not_found', slice: id });
    if (slice.reclaimed || slice.state === 'cooling' || slice.state === 'free' || slice.machine === null)
      return ok(slice);
    return ok(reclaim(context, slice, slice.machine));
  },
};
