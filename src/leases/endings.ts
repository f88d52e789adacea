import { err, ok, type Result } from '../net/result.ts';
import type { LeaseError } from './errors.ts';
import { inEffect } from './expiry.ts';
import { formatToken, placeOf, type Lease, type LeaseEnding } from './model.ts';
import type { Need, Needs } from './needs.ts';
import { leaseAsItIs } from './replays.ts';
import { outOfScope, scopeNeeds } from './scope.ts';
import { restIfLeft } from './slices.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';

export const releaseLease: UseCase<'releaseLease'> = {
  replay: leaseAsItIs,

  *needs({ scope, id }, { view }) {
    yield* endingNeeds(view, id);
    const lease = view.leases.get(id);
    if (lease) yield scopeNeeds(scope, lease);
  },

  decide({ scope, id, token }, context) {
    const { view } = context;
    const lease = leaseInEffect(view, id);
    if (!lease) return err({ code: 'lease_not_found', lease: id });
    const foreign = outOfScope(view, scope, lease, `lease-${id}`);
    if (foreign) return err(foreign);
    // A late message of a former time must not end what came after it.
    if (token !== formatToken(lease))
      return err({ code: 'stale_token', item: `lease-${id}`, given: token, current: formatToken(lease) });
    return endLive(context, lease, 'released', null);
  },
};

export function* endingNeeds(view: View, id: number): Needs {
  yield [{ need: 'lease', id }];
  const lease = view.leases.get(id);
  if (!lease) return;
  const session: readonly Need[] = lease.session === null ? [] : [{ need: 'session', id: lease.session }];
  yield [{ need: 'endingRevocations' }, ...session, ...leavingNeeds(lease)];
  if (view.slices.get(lease.slice)?.state === 'draining') yield [{ need: 'occupants', slice: lease.slice }];
}

/** What `leave` looks at; where the slice drains, its `occupants` too. */
export const leavingNeeds = (lease: Lease): readonly Need[] => [
  { need: 'machine', id: lease.machine },
  { need: 'pool', id: lease.pool },
  { need: 'slice', id: lease.slice },
  ...blockNeeds(lease),
];

const blockNeeds = ({ mode, slice, protocol, ports }: Lease): readonly Need[] =>
  mode === 'shared' ? [{ need: 'block', slice, protocol, first: ports.first }] : [];

/** The lease as its session and revocations leave it, whether or not its own row has followed already. */
export function leaseInEffect(view: View, id: number): Lease | undefined {
  const lease = view.leases.get(id);
  if (!lease) return lease;
  return inEffect(
    lease,
    lease.session === null ? undefined : view.sessions.get(lease.session),
    view.revocationsInEffect(id),
  );
}

export function endLive(
  context: Context,
  lease: Lease,
  ending: LeaseEnding,
  reason: string | null,
  forced = false,
): Result<Lease, LeaseError> {
  const { view } = context;
  if (lease.state !== 'pending' && lease.state !== 'active')
    return err({ code: 'lease_over', lease: lease.id, state: lease.state, ending: lease.ending });
  const ended = { ...lease, ending, reason, forced };
  if (!needsProof(view, lease)) return ok(leave(context, ended));
  return ok(putLease(view, lease, (revision, at) => ({ ...ended, state: 'ending', endingAt: at, revision })));
}

/**
 * Where an agent enforces, only its report ends the use of ports; elsewhere, and where the slice was reclaimed because the
 * machine cannot send any more, the table's word is all there is.
 */
export const needsProof = (view: View, lease: Lease): boolean =>
  view.machines.get(lease.machine)?.enforcement !== 'none' && view.slices.get(lease.slice)?.reclaimed !== true;

/**
 * The users of the lease are gone: its ports rest. In a shared block that others still live in nothing can rest, the
 * kernel keeps their 5-tuples apart; the last one takes the block along.
 */
export function leave(context: Context, lease: Lease): Lease {
  const { view, now } = context;
  const othersStay = leaveBlock(view, lease);
  const restUs = view.pools.get(lease.pool)?.cooldownUs[lease.protocol] ?? 0;
  const left = putLease(view, lease, (revision, at) => {
    const gone = { ...lease, endingAt: lease.endingAt ?? at, emptyAt: at, revision };
    return othersStay
      ? { ...gone, state: 'ended', endedAt: at }
      : { ...gone, state: 'cooling', reusableAt: now + restUs };
  });
  const slice = view.slices.get(lease.slice);
  if (slice?.state === 'draining') restIfLeft(context, slice);
  return left;
}

/** Takes the lease off its shared block; true when others stay on it. */
export function leaveBlock(view: View, lease: Lease): boolean {
  const block = lease.mode === 'shared' ? view.blocks.get(placeOf(lease)) : undefined;
  if (!block) return false;
  if (block.members > 1) view.blocks.put({ ...block, members: block.members - 1 });
  else view.blocks.remove(placeOf(block));
  return block.members > 1;
}

export function putLease(view: View, lease: Lease, make: (revision: number, at: number) => Lease): Lease {
  const { lease: put } = view.log(lease.machine, (revision, at) => ({ kind: 'lease', lease: make(revision, at) }));
  view.leases.put(put);
  return put;
}
