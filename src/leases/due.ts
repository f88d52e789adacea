import type { Extent, Lease, Machine, Revocation, Session, Slice } from './model.ts';

/** Rows that time has brought about, as a store finds them: lists to be filled, the oldest first. */
export const nothingDue = () => ({
  sessions: [] as Session[],
  unsettled: [] as Session[],
  unsettledLeases: [] as Lease[],
  leases: [] as Lease[],
  extents: [] as Extent[],
  slices: [] as Slice[],
  machines: [] as Machine[],
  emptying: [] as Machine[],
  wanting: [] as Machine[],
  /** Slices of the first of those that have not followed. */
  staying: [] as Slice[],
  revocations: [] as Revocation[],
  /** Slices whose routers know the way, or have let go of it. */
  routed: [] as Slice[],
  withdrawn: [] as Slice[],
});
