/** What the indexes over leases that are over are made of, beside columns: expressions that queries must repeat. */

/**
 * Who in a block of ports: no two leases of one party there overlap in time, from the grant until the end of the rest.
 * Exclusive ones are all of one party; members of shared blocks are one each.
 */
export const party = `CASE WHEN mode = 'shared' THEN holder ELSE '' END`;

/** The longest that a lease lasted, grant to end, to be of this class (microseconds); the last class has no bound. */
export const spanBounds_us = [60, 480, 3_600, 28_800, 230_400, 1_843_200].map((seconds) => seconds * 1_000_000);
const spanOf = (over: string): string =>
  `CASE ${spanBounds_us
    .map((bound, index) => `WHEN ${over} - granted_at <= ${bound} THEN ${index}`)
    .join(' ')} ELSE ${spanBounds_us.length} END`;
/** The class of a lease that is over; of one that a machine reported. */
export const span = spanOf('ended_at');
export const reportedSpan = spanOf('over_at');
