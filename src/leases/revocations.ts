import { protocols } from '../net/protocol.ts';
import { err, ok, type Result } from '../net/result.ts';
import { matches } from '../net/selector.ts';
import type { Commands } from './commands.ts';
import { covers } from './coverage.ts';
import { endingNeeds, endLive, leave, leaseInEffect, leavingNeeds, needsProof, putLease } from './endings.ts';
import type { LeaseError } from './errors.ts';
import { limits } from './limits.ts';
import { hasOccupants, holderKey, type Lease, type Revocation, type RevocationScope } from './model.ts';
import type { Need, NeedOf, Needs } from './needs.ts';
import { leaseAsItIs } from './replays.ts';
import { broker_numbers_min, reportedKey } from './reported.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';

/**
 * Leases, mostly many, ended by one row and one event. From the instant on that it takes effect every lease that it covers is read
 * as `ending`; the leases' own rows follow in bounded steps, slice by slice. What is granted later it does not cover.
 */

export const revokeLeases: UseCase<'revokeLeases'> = {
  *needs({ machine, holder, pool, select, session, lease }, { view }) {
    yield [
      { need: 'endingRevocations' },
      ...(machine === null ? [] : [{ need: 'machine', id: machine } as const]),
      ...(machine === null || holder === null ? [] : [{ need: 'holder', machine, name: holder } as const]),
      ...(pool === null ? [] : [{ need: 'pool', id: pool } as const]),
      ...(select === null ? [] : [{ need: 'pools' } as const]),
      ...(session === null ? [] : [{ need: 'session', id: session } as const]),
      ...(isOfBroker(session) && machine !== null ? [{ need: 'broker', machine } as const] : []),
      ...(lease === null ? [] : [{ need: 'lease', id: lease } as const]),
    ];
    const broker = isOfBroker(session) && machine !== null ? view.brokers.get(machine) : undefined;
    if (broker && session !== null)
      yield [{ need: 'reportedSession', machine: broker.machine, incarnation: broker.incarnation, id: session }];
    const ofLease = lease === null ? null : (view.leases.get(lease)?.session ?? null);
    if (ofLease !== null) yield [{ need: 'session', id: ofLease }];
  },

  decide(input, context) {
    const scope = scopeOf(input, context.view);
    if (!scope.ok) return scope;
    const { reason, deadlineUs, forced } = input;
    return ok(begin(context, scope.value, { ending: 'revoked', reason, forced, at: context.now + (deadlineUs ?? 0) }));
  },
};

/** One, at once; or at its deadline, by a revocation that names it. */
export const revokeLease: UseCase<'revokeLease'> = {
  replay: leaseAsItIs,

  needs: ({ id }, { view }) => endingNeeds(view, id),

  decide({ id, deadlineUs, forced, reason }, context) {
    const ending = forced ? leaseInEffect(context.view, id) : undefined;
    // It was left to end by itself, and is not to be waited for any longer.
    if (ending?.state === 'ending' && !ending.forced)
      return ok(
        putLease(context.view, ending, (revision) => ({
          ...ending,
          forced,
          reason: reason || ending.reason,
          revision,
        })),
      );
    const found = liveLease(context.view, id);
    if (!found.ok) return found;
    const lease = found.value;
    if (deadlineUs === null) return endLive(context, lease, 'revoked', reason, forced);
    const scope = { ...scopeOfLease(lease), holder: null, pools: null, prefix: null, session: null };
    begin(context, scope, { ending: 'revoked', reason, forced: false, at: context.now + deadlineUs });
    return ok(leaseInEffect(context.view, id) ?? lease);
  },
};

function liveLease(view: View, id: number): Result<Lease, LeaseError> {
  const lease = leaseInEffect(view, id);
  if (!lease) return err({ code: 'lease_not_found', lease: id });
  const { state, ending } = lease;
  return state === 'pending' || state === 'active' ? ok(lease) : err({ code: 'lease_over', lease: id, state, ending });
}

/** Its slice too: that is all that has to be gone through. */
const scopeOfLease = ({ id, machine, slice }: Lease) => ({ machine, slice, lease: id });

function scopeOf(
  { machine, holder, pool, select, session, lease, prefix }: Commands['revokeLeases']['input'],
  view: View,
): Result<RevocationScope, LeaseError> {
  if (machine !== null && !view.machines.get(machine)) return err({ code: 'machine_not_found', machine });
  if (machine !== null && holder !== null && !view.holders.get(holderKey(machine, holder)))
    return err({ code: 'holder_not_found', machine, holder });
  if (pool !== null && !view.pools.get(pool)) return err({ code: 'pool_not_found', pool });
  const found = session === null ? undefined : (view.sessions.get(session) ?? reportedSession(view, machine, session));
  if (session !== null && !found) return err({ code: 'session_not_found', session });
  const one = lease === null ? undefined : liveLease(view, lease);
  if (one && !one.ok) return one;
  const selected = select && [...view.pools.values()].filter(({ labels }) => matches(select, labels));
  if (selected?.length === 0) return err({ code: 'nothing_selected' });
  const pools = selected
    ? selected.map(({ id }) => id).filter((id) => pool === null || id === pool)
    : pool === null
      ? null
      : [pool];
  const named = one ? scopeOfLease(one.value) : { machine: found?.machine ?? null, slice: null, lease: null };
  return ok({ ...named, machine: machine ?? named.machine, holder, pools, prefix, session });
}

/** That a machine opened itself. Numbers of brokers mean something beside their machine only. */
function reportedSession(view: View, machine: string | null, id: number) {
  const broker = isOfBroker(id) && machine !== null ? view.brokers.get(machine) : undefined;
  return broker && view.reportedSessions.get(reportedKey({ ...broker, id }));
}

const isOfBroker = (session: number | null): boolean => session !== null && session >= broker_numbers_min;

type Terms = Readonly<{ ending: Revocation['ending']; reason: string; forced: boolean; at: number }>;

/**
 * Takes effect at once, or at its time. Needs `endingRevocations`: only so many are in effect at a time, because every
 * lease that is looked at is held against each of them; others wait for their turn.
 */
export function begin(context: Context, scope: RevocationScope, { ending, reason, forced, at }: Terms): Revocation {
  const { view, now } = context;
  const isNow = at <= now && view.revocationsInEffect().length < limits.revocations_in_effect_max;
  return putRevocation(view, scope.machine, (revision, loggedAt) => ({
    id: revision,
    ...scope,
    ending,
    reason,
    forced,
    state: isNow ? 'ending' : 'waiting',
    createdAt: loggedAt,
    revokeAt: at,
    endedAt: isNow ? loggedAt : null,
    doneAt: null,
    leases: 0,
    through: null,
    revision,
  }));
}

/** What the sweep looks at of revocations: those whose time has come, and a stretch of the way of one that is in effect. */
export function* revocationNeeds(view: View, now: number, limit: number): Needs {
  yield [
    { need: 'endingRevocations' },
    { need: 'dueRevocations', before: now, limit: limits.revocations_in_effect_max },
  ];
  const revocation = inProgress(view);
  if (!revocation) return;
  const { through } = revocation;
  yield [{ need: 'revokedSlices', revocation: revocation.id, ...scopeTerms(revocation), limit: slices_per_step }];
  const ids = view.walk.slices.map(({ id }) => id);
  yield ids.map((slice, index): Need => {
    const after = index === 0 && through?.slice === slice ? through : null;
    return { need: 'leasesAlong', slice, after, limit: index === 0 ? limit : leases_of_next_slices };
  });
  const leases = ids
    .flatMap((id) => view.walk.leases.get(id) ?? [])
    .filter((lease) => hasOccupants(lease) && covers(revocation, lease));
  yield leases.flatMap(leavingNeeds);
  yield leases.flatMap((lease): readonly Need[] =>
    lease.session === null ? [] : [{ need: 'session', id: lease.session }],
  );
  const draining = leases.filter(({ slice }) => view.slices.get(slice)?.state === 'draining');
  yield draining.map(({ slice }) => ({ need: 'occupants', slice }));
}

/** One step holds up others for no longer than the settling of ended sessions does. */
const slices_per_step = 8;
const leases_of_next_slices = 32;

const scopeTerms = ({ machine, pools, prefix, slice, through }: Revocation) =>
  ({ machine, pools, prefix, slice, from: through?.slice ?? 0 }) satisfies Partial<NeedOf<'revokedSlices'>>;

/** The oldest that is in effect: one after the other, so that each comes to its end. */
const inProgress = (view: View): Revocation | undefined => {
  let oldest: Revocation | undefined;
  for (const revocation of view.revocationsInEffect()) if (!oldest || revocation.id < oldest.id) oldest = revocation;
  return oldest;
};

/** How many rows moved, and whether there is more to do. */
export function settleRevocations(context: Context, limit: number): Readonly<{ moved: number; more: boolean }> {
  const { view } = context;
  // Chosen before others come into effect: what was loaded was loaded for this one.
  const revocation = inProgress(view);
  const room = limits.revocations_in_effect_max - view.revocationsInEffect().length;
  const due = view.due.revocations.slice(0, room);
  for (const one of due)
    putRevocation(view, one.machine, (revision, at) => ({ ...one, state: 'ending', endedAt: at, revision }));
  if (!revocation) return { moved: due.length, more: due.length > 0 };
  return { moved: due.length + walk(context, revocation, limit), more: true };
}

/** Goes a stretch along the leases; where a window was full, the next step goes on. */
function walk(context: Context, revocation: Revocation, limit: number): number {
  const { view } = context;
  let ended = 0;
  let { through } = revocation;
  let isPaused = false;
  for (const [index, { id }] of view.walk.slices.entries()) {
    const leases = view.walk.leases.get(id) ?? [];
    for (const loaded of leases) {
      // As it is by now: its session may have ended it in this very step.
      const row = view.leases.get(loaded.id);
      if (!row || !covers(revocation, row) || !hasOccupants(row)) continue;
      const lease = leaseInEffect(view, row.id) ?? row;
      if (!needsProof(view, lease)) leave(context, lease);
      else if (row.state !== 'ending' || row.forced !== lease.forced) view.leases.put(lease);
      if (row.state !== 'ending') ended++;
    }
    const last = leases.at(-1);
    isPaused = last !== undefined && leases.length === (index === 0 ? limit : leases_of_next_slices);
    through =
      last && isPaused
        ? { slice: id, protocol: last.protocol, first: last.ports.first, lease: last.id }
        : { slice: id + 1, protocol: protocols[0], first: 0, lease: 0 };
    if (isPaused) break;
  }
  const isDone = !isPaused && view.walk.slices.length < slices_per_step;
  const progress = { leases: revocation.leases + ended, through };
  // Nobody's news: everybody who follows the log derived it from the revocation itself.
  view.revocations.put({
    ...revocation,
    ...progress,
    ...(isDone ? { state: 'done', doneAt: context.now, through: null } : {}),
  });
  return ended + 1;
}

function putRevocation(
  view: View,
  machine: string | null,
  make: (revision: number, at: number) => Revocation,
): Revocation {
  const { revocation } = view.log(machine, (revision, at) => ({ kind: 'revocation', revocation: make(revision, at) }));
  view.revocations.put(revocation);
  return revocation;
}
