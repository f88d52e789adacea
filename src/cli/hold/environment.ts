import { formatPorts } from '../../net/ports.ts';
import type { Lease } from '../../wire/leases.ts';

/**
 * What the held program finds in its environment. The first lease stands there without a number; when there are several,
 * every one also stands there with its own: FISHERY_ADDRESS_1, FISHERY_ADDRESS_2 …, in the order of the claims.
 */
export function leaseVariables(session: string, leases: readonly Lease[]): Readonly<Record<string, string>> {
  const numbered = leases.length > 1 ? leases.map((lease, index) => variables(lease, `_${index + 1}`)) : [];
  const [first] = leases;
  return Object.assign({ FISHERY_SESSION: session }, first ? variables(first, '') : {}, ...numbered) as Record<
    string,
    string
  >;
}

const variables = (lease: Lease, suffix: string): Readonly<Record<string, string>> => ({
  [`FISHERY_LEASE${suffix}`]: lease.id,
  [`FISHERY_ADDRESS${suffix}`]: lease.address,
  [`FISHERY_PROTOCOL${suffix}`]: lease.protocol,
  [`FISHERY_PORTS${suffix}`]: formatPorts(lease.ports),
  [`FISHERY_PORT_FIRST${suffix}`]: `${lease.ports.first}`,
  [`FISHERY_PORT_LAST${suffix}`]: `${lease.ports.last}`,
});
