import { isDeepStrictEqual } from 'node:util';
import type {
  Epoch,
  Event,
  Holder,
  Lease,
  Machine,
  Pool,
  Revocation,
  Router,
  Session,
  Slice,
} from '../../leases/model.ts';

/** What does not hold of a lease by itself, live or long over. */
export function flawsOfLease(lease: Lease): readonly string[] {
  const { id, state } = lease;
  const flaws: string[] = [];
  const expect = (name: string, is: unknown, should: boolean) => {
    if ((is !== null) !== should) flaws.push(`lease-${id} is ${state} and has ${should ? 'no ' : ''}${name}`);
  };
  const isLeaving = state === 'ending' || state === 'cooling' || state === 'ended';
  expect('end', lease.endedAt, state === 'ended' || state === 'refused');
  expect('ending', lease.ending, isLeaving);
  expect('time of ending', lease.endingAt, isLeaving);
  expect('proof of being empty', lease.emptyAt, state === 'cooling' || state === 'ended');
  expect('refusal', lease.refusal, state === 'refused');
  expect('binding', lease.binding, lease.mode === 'shared');
  if (state === 'cooling') expect('time of reuse', lease.reusableAt, true);
  if (state === 'active') expect('start', lease.activeAt, true);
  if (state === 'pending') expect('start', lease.activeAt, false);
  const times = [lease.grantedAt, lease.activeAt, lease.endingAt, lease.emptyAt].filter((time) => time !== null);
  if (times.some((time, index) => index > 0 && time < (times[index - 1] ?? 0)))
    flaws.push(`lease-${id} goes back in time`);
  const size = lease.ports.last - lease.ports.first + 1;
  if (!Number.isInteger(Math.log2(size))) flaws.push(`lease-${id} has ${size} ports`);
  if (lease.ports.first % size !== 0) flaws.push(`lease-${id} is not aligned`);
  return flaws;
}

/** What does not hold between a lease and its session. Reservations, which have none, have nothing to disagree with. */
export function flawsOfMembership(lease: Lease, session: Session | undefined): readonly string[] {
  if (lease.session === null) return [];
  if (!session) return [`lease-${lease.id} is of session-${lease.session}, which there is not`];
  const flaws: string[] = [];
  if (session.machine !== lease.machine || session.holder !== lease.holder)
    flaws.push(`lease-${lease.id} and its session-${session.id} have different holders`);
  if (session.settled && (lease.state === 'pending' || lease.state === 'active'))
    flaws.push(`lease-${lease.id} is ${lease.state} and its session-${session.id} has been settled`);
  return flaws;
}

/** Whoever may use ports, or get in with a token, is known by machine and name. */
export const flawsOfParty = (
  item: string,
  { machine, holder }: Readonly<{ machine: string; holder: string }>,
  known: ReadonlySet<string>,
): readonly string[] =>
  known.has(`${machine}/${holder}`) ? [] : [`${item} is of holder ${holder} on ${machine}, which there is not`];

export type HolderIdentity = Readonly<{ machine: string; name: string; uid: number | null; cgroup: string | null }>;

/** Of one machine no two have the same user id, or cgroups that a process can be in at once; and nobody has both. */
export function flawsOfIdentities(holders: readonly HolderIdentity[]): readonly string[] {
  const flaws = holders.flatMap(({ machine, name, uid, cgroup }) =>
    uid !== null && cgroup !== null ? [`holder ${name} on ${machine} has a user id and a cgroup`] : [],
  );
  for (const [machine, own] of Map.groupBy(holders, (holder) => holder.machine)) {
    const byUid = Map.groupBy(own, ({ uid }) => uid);
    for (const [uid, same] of byUid)
      if (uid !== null && same.length > 1)
        flaws.push(`holders ${same.map(({ name }) => name).join(', ')} on ${machine} have user id ${uid}`);
    // With its slash, a cgroup stands right before those below it.
    const inCgroups = own.flatMap(({ name, cgroup }) => (cgroup === null ? [] : [{ name, path: `${cgroup}/` }]));
    inCgroups.sort((a, b) => (a.path < b.path ? -1 : 1));
    for (const [index, { name, path }] of inCgroups.entries()) {
      const next = inCgroups[index + 1];
      if (next?.path.startsWith(path))
        flaws.push(
          `holders ${name} and ${next.name} on ${machine} have cgroups that overlap: ${path} and ${next.path}`,
        );
    }
  }
  return flaws;
}

/** The revocation at whose instant a lease ended, if there is one; `forgotten`: there may have been one, so long ago. */
export type EndedBy = Revocation | 'forgotten' | undefined;

export const endedBy = (
  revocation: Revocation | undefined,
  endingAt: number | null,
  historySince: number | null,
): EndedBy =>
  revocation ?? (endingAt !== null && historySince !== null && endingAt <= historySince ? 'forgotten' : undefined);

/** The one gap that may be: where an epoch begins, which says where the log ended before. */
export const beginsEpoch = (event: Event, previous: number): boolean =>
  event.kind === 'epoch' && event.epoch.from === event.revision && event.epoch.after === previous;

export type Told =
  | Readonly<{ kind: 'slice'; row: Slice }>
  | Readonly<{ kind: 'session'; row: Session }>
  | Readonly<{ kind: 'lease'; row: Lease; session: Session | undefined; ended: EndedBy }>
  | Readonly<{ kind: 'revocation'; row: Revocation }>
  | Readonly<{ kind: 'pool'; row: Pool }>
  | Readonly<{ kind: 'machine'; row: Machine }>
  | Readonly<{ kind: 'holder'; row: Holder }>
  | Readonly<{ kind: 'router'; row: Router }>
  | Readonly<{ kind: 'epoch'; row: Epoch }>;

const unsaidOf = ({ agent, settled, wanting, limitedHolders, ownSlices }: Machine) => ({
  agent,
  settled,
  wanting,
  limitedHolders,
  ownSlices,
});

/** The log tells of every change but those that follow by themselves: a row is as the event of its revision left it. */
export function isAsTold(told: Told, event: Event): boolean {
  switch (told.kind) {
    case 'slice':
      return event.kind === 'slice' && isDeepStrictEqual(event.slice, told.row);
    case 'session': {
      // Being kept alive and being settled are nobody's news.
      const { expiresAt, settled } = told.row;
      return event.kind === 'session' && isDeepStrictEqual({ ...event.session, expiresAt, settled }, told.row);
    }
    case 'lease':
      return event.kind === 'lease' && isDeepStrictEqual(followed(event.lease, told), told.row);
    case 'revocation': {
      // How far its leases have followed is nobody's news.
      const { state, leases, through, doneAt } = told.row;
      const known = state === 'done' ? { state, doneAt } : {};
      return (
        event.kind === 'revocation' && isDeepStrictEqual({ ...event.revocation, leases, through, ...known }, told.row)
      );
    }
    case 'pool':
      // Where the cursors are, only the store needs to know.
      return event.kind === 'pool' && isDeepStrictEqual({ ...event.pool, cursors: told.row.cursors }, told.row);
    case 'machine':
      // That its agent lives is no change, how far its slices have followed neither, and limits are its holders'.
      return event.kind === 'machine' && isDeepStrictEqual({ ...event.subject, ...unsaidOf(told.row) }, told.row);
    case 'holder':
      // Where its sticky claims go is the store's to know.
      return event.kind === 'holder' && isDeepStrictEqual({ ...event.holder, sticky: told.row.sticky }, told.row);
    case 'router': {
      // How far it is, it says too often to be news.
      const { appliedRevision, seenAt } = told.row;
      return event.kind === 'router' && isDeepStrictEqual({ ...event.router, appliedRevision, seenAt }, told.row);
    }
    case 'epoch':
      return event.kind === 'epoch' && isDeepStrictEqual(event.epoch, told.row);
  }
}

/** What was told of a lease, brought to where it went by itself: its session or a revocation ended it, or its rest is over. */
function followed(then: Lease, { row: now, session, ended }: Extract<Told, { kind: 'lease' }>): Lease {
  const { state, ending, endingAt, endedAt, forced } = now;
  if (state === 'ending' && then.ending === null && ended === 'forgotten')
    return { ...then, state, ending, endingAt, reason: now.reason, forced };
  if (
    state === 'ending' &&
    then.ending === null &&
    ended !== 'forgotten' &&
    ended?.ending === ending &&
    ended.id > now.id
  )
    return { ...then, state, ending, endingAt, reason: ended.reason, forced };
  if (state === 'ending' && session?.state === 'ended' && then.ending === null)
    return { ...then, state, ending, endingAt, forced };
  // A forced revocation of many also reached those that were ending by themselves.
  if (state === 'ending' && then.state === 'ending' && forced) return { ...then, forced };
  return state === 'ended' && then.state === 'cooling' ? { ...then, state, endedAt } : then;
}
