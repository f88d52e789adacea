import type { Family } from '../net/address.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Lease, Session } from './model.ts';

/**
 * What machines say that they granted, in slices that they grant in themselves. Here it is written down as it was told and
 * as what it comes to; nothing of it is ever granted, expired or freed by the server.
 */

/**
 * The log of a broker's table begins at the microsecond at which it was made; the server's begins at 1, and is there in some
 * thousand years. So the number of a thing tells whose it is.
 */
export const broker_numbers_min = 1e15;

/** How many ports of a machine's own slices are in which use, by its own word. */
export type ReportedPorts = Readonly<{
  pool: string;
  family: Family;
  protocol: Protocol;
  state: 'free' | 'withheld' | 'blocked' | 'exclusive' | 'shared' | 'cooling';
  ports: number;
}>;

/** How many leases a broker granted, ended, and refused for want of ports, since it started. */
export type ReportedCounters = Readonly<{ granted: number; refused: number; ended: number }>;

/** The broker of a machine: how far its reports go. It stays when its machine is deleted, for as long as what it told. */
export type Broker = Readonly<{
  machine: string;
  /** Names its table. Numbers of leases and sessions mean something only within one, … */
  epoch: string;
  /** … which this counts. */
  incarnation: number;
  /** Whether a snapshot of this epoch is complete: before that there is nothing that reports could follow. */
  isWhole: boolean;
  /** The last report that counts told of what lies between these revisions of the broker's log. */
  after: number;
  through: number;
  /** All that was granted and ended between these instants, by the machine's clock, is known. */
  completeSince: number;
  asOf: number;
  reportedAt: number;
  /** How many snapshots were begun. Rows say in which of them they were told of, or after which. */
  told: number;
  /** The snapshot that is under way: its last page. */
  snapshot: Readonly<{ page: number; through: number }> | null;
  /** What lives and was told of before this snapshot only is over, as of this instant. Null: all such rows have followed. */
  lost: Readonly<{ before: number; at: number }> | null;
  ports: readonly ReportedPorts[];
  counters: ReportedCounters;
}>;

type OfBroker = Readonly<{
  incarnation: number;
  /** The number of the snapshot that it was told of in, or after. */
  told: number;
}>;

export type ReportedSession = Omit<Session, 'settled'> & OfBroker;
/** With the slice's pool and address, as they were then. Nobody reserves for units here, or is told that an end is forced. */
export type ReportedLease = Omit<Lease, 'unit' | 'forced'> & OfBroker;

export const reportedKey = (row: Readonly<{ machine: string; incarnation: number; id: number }>): string =>
  `${row.machine}/${row.incarnation}/${row.id}`;

/** When nobody has the ports any more and their rest is over; null where that is not known yet. */
export const overAtOf = ({ state, endedAt, reusableAt }: Pick<Lease, 'state' | 'endedAt' | 'reusableAt'>) =>
  endedAt ?? (state === 'cooling' ? reusableAt : null);

/** Somebody may be on the ports of the lease, as far as was told. */
export const isOccupied = ({ state, emptyAt }: Pick<Lease, 'state' | 'emptyAt'>): boolean =>
  emptyAt === null && state !== 'refused';

/** What was not told, because it follows by itself: the end of a session, of a rest, and of the tenure itself. */
export function reportedInEffect(
  lease: ReportedLease,
  {
    session,
    tenureUntil,
    now,
  }: Readonly<{
    session: Pick<Session, 'state' | 'ending' | 'endedAt'> | undefined;
    /** When the machine had the slice no longer; null while it has it. */
    tenureUntil: number | null;
    now: number;
  }>,
): ReportedLease {
  // Nobody is there who could still end it: the machine gave the slice back, or provably cannot send.
  if (overAtOf(lease) === null && tenureUntil !== null && tenureUntil <= now)
    return {
      ...lease,
      state: 'ended',
      ending: lease.ending ?? 'fenced',
      endingAt: lease.endingAt ?? tenureUntil,
      emptyAt: lease.emptyAt ?? tenureUntil,
      endedAt: tenureUntil,
    };
  if (session?.state === 'ended' && (lease.state === 'pending' || lease.state === 'active'))
    return { ...lease, state: 'ending', ending: session.ending, endingAt: session.endedAt };
  if (lease.state === 'cooling' && lease.reusableAt !== null && lease.reusableAt <= now)
    return { ...lease, state: 'ended', endedAt: lease.reusableAt };
  return lease;
}
