import type { Commands } from '../leases/commands.ts';
import type { Machine } from '../leases/model.ts';
import type { Prefix } from '../net/prefix.ts';
import { parseInstant } from '../wire/instants.ts';
import type { Revocation } from '../wire/revocations.ts';
import { isBrokers, numberOf } from './identifiers.ts';
import type { ServerWord } from './mirror.ts';

/**
 * What the server revokes by the many, carried over into the table of a broker: each once, in order. What was granted before the
 * broker heard of it ends on the terms of the server. How far that has come is in a label of the machine's row, which a
 * broker has for nothing else.
 */

/** The last one that was carried over: by when it was made, which no server that was restored makes anybody repeat. */
type Mark = Readonly<{ at: number; id: number }>;

export const markLabel = 'revoked-through';

const markOf = (revocation: Revocation): Mark => ({
  at: parseInstant(revocation.created_at),
  id: numberOf(revocation.id),
});

const formatMark = ({ at, id }: Mark): string => `${at} ${id}`;

function parseMark(text: string): Mark {
  const [at = 0, id = 0] = text.split(' ').map(Number);
  return { at, id };
}

/** The labels of the machine's row when this one is carried over; of a table that was just made, when all of them are. */
export const labelsAfter = (revocation: Revocation | undefined) => ({
  [markLabel]: formatMark(revocation === undefined ? { at: 0, id: 0 } : markOf(revocation)),
});

/**
 * Those that are to be carried over, in order; undefined where the table was just made, and nothing was granted that one
 * could be about.
 */
export function unheard(
  { revocations }: Pick<ServerWord, 'revocations'>,
  { labels }: Pick<Machine, 'labels'>,
): readonly Revocation[] | undefined {
  const label = labels[markLabel];
  if (label === undefined) return undefined;
  const mark = parseMark(label);
  return revocations
    .map((revocation) => ({ revocation, of: markOf(revocation) }))
    .filter(({ of }) => of.at > mark.at || (of.at === mark.at && of.id > mark.id))
    .sort((a, b) => a.of.at - b.of.at || a.of.id - b.of.id)
    .map(({ revocation }) => revocation);
}

/** How it reads in the table of a broker; several, where it is about several pools. None where nothing of it can be meant. */
export function asOwnRevocations(
  revocation: Revocation,
  machine: string,
  serverUs: number,
): readonly Commands['revokeLeases']['input'][] {
  const { session, lease, slice, ending } = revocation;
  const isOurs = revocation.machine === null || revocation.machine === machine;
  // A slice that leaves ends what is in it by its own terms; leases and sessions of the server are not here.
  if (!isOurs || ending !== 'revoked' || lease !== null || slice !== null) return [];
  if (session !== null && !isBrokers(session)) return [];
  const { holder, pools, prefix, forced, reason, revoke_at } = revocation;
  const deadlineUs = hasDeadline(revocation) ? Math.max(0, parseInstant(revoke_at) - serverUs) : forced ? null : 0;
  return (pools ?? [null]).map((pool) => ({
    ...{ machine, holder, pool, select: null, prefix: prefix as Prefix | null, lease: null },
    session: session === null ? null : numberOf(session),
    ...{ deadlineUs, forced, reason },
  }));
}

/** Whether the server's clock has to be known for it. */
export const hasDeadline = ({ forced, state }: Revocation): boolean => !forced && state === 'waiting';
