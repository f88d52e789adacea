/**
 * The protocol between server, agents and clients, one integer and its history.
 *
 * 1 (2026-11): pools, machines, slices, sessions, leases, desired/watch/applied, attribution.
 */
export const protocolVersion = 1;
