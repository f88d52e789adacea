import type { LeaseHost } from '../../src/agent/leases/lease-host.ts';

/** No former agent knew anybody, and no next one will. */
export const noOwners: LeaseHost['owners'] = {
  formerOf: () => [],
  note: () => {},
  keepOnly: () => {},
  flush: () => {},
};
