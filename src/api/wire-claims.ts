import type { Claim } from '../leases/commands.ts';
import type * as wire from '../wire/leases.ts';

/** What is asked of a grant, as the core takes it. */
export const claimOf = (claim: wire.Claim): Claim => ({
  protocol: claim.protocol,
  ports: claim.ports ?? null,
  count: claim.count,
  mode: claim.mode,
  binding: claim.binding ?? null,
  pool: claim.pool ?? null,
  select: claim.select ?? null,
  family: claim.family ?? null,
  sticky: claim.sticky,
  address: claim.address ?? null,
  at: claim.at === undefined ? null : { address: claim.at.address, firstPort: claim.at.first_port },
});
