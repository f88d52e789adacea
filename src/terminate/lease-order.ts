import { createHash } from 'node:crypto';
import { familyOf, parseAddress, type Address, type Family } from '../net/address.ts';
import type { UsableLease } from './protocol.ts';

/**
 * Of the leases of one family, those that a connection of this client tries, in this order. A client has the same one first for
 * as long as the leases are the same, so that a remote sees it with one address; and a lease that goes moves only its own
 * clients (rendezvous hashing).
 */
export function leasesFor(client: Address, leases: readonly UsableLease[], most: number): readonly UsableLease[] {
  const family = familyOf(client);
  return leases
    .filter((lease) => familyOfLease(lease) === family)
    .map((lease) => ({ lease, weight: weightOf(client, lease.address), second: weightOf(client, lease.id) }))
    .sort((a, b) => b.weight - a.weight || b.second - a.second)
    .slice(0, most)
    .map(({ lease }) => lease);
}

export function familyOfLease(lease: Pick<UsableLease, 'address'>): Family {
  const parsed = parseAddress(lease.address);
  if (!parsed.ok) throw new Error(parsed.error);
  return familyOf(parsed.value);
}

const weightOf = (client: string, what: string): number =>
  createHash('md5').update(`${client} ${what}`).digest().readUInt32BE(0);
