/** What an index over leases is made of, beside columns: a condition that queries must repeat. */

/**
 * Leases that nobody has to keep alive and that hold their ports all the same: reservations, and what waits for proof that
 * it is unused. A grant within a session has no row there.
 */
export const heldWithoutSession = `(state = 'ending' OR (session IS NULL AND state IN ('pending', 'active')))`;
