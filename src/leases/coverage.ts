import { addressKey } from '../net/address.ts';
import { prefixKeys, type Prefix } from '../net/prefix.ts';
import type { Lease, Revocation } from './model.ts';

/** Whether the revocation ends this lease, be it now or later. */
export function covers(revocation: Revocation, lease: Lease): boolean {
  const { machine, holder, pools, prefix, session, slice, lease: only } = revocation;
  return (
    // What was granted later, it does not know of.
    lease.id < revocation.id &&
    (only === null || only === lease.id) &&
    (slice === null || slice === lease.slice) &&
    (session === null || session === lease.session) &&
    (machine === null || machine === lease.machine) &&
    (holder === null || holder === lease.holder) &&
    (pools === null || pools.includes(lease.pool)) &&
    (prefix === null || isWithin(prefix, lease))
  );
}

function isWithin(prefix: Prefix, lease: Lease): boolean {
  const { first, last } = prefixKeys(prefix);
  const key = addressKey(lease.address);
  return first <= key && key <= last;
}
