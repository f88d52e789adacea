import { isBrokers } from '../broker/identifiers.ts';
import type { Lease } from '../wire/leases.ts';
import type { Holder } from '../wire/machines.ts';
import type { DesiredMachine } from './desired.ts';

/** Where the leases that this host makes true are told from: the server, or the server and the host's own broker. */
export type LeaseSource = Readonly<{
  leases: Readonly<{ get(id: string): Lease | undefined; has(id: string): boolean; values(): Iterable<Lease> }>;
  holders: Readonly<{ get(name: string): Holder | undefined }>;
  /** Up to which revision all is known that was told of a lease with this name, by whoever granted it. */
  revisionOf(lease: string): number;
}>;

/** Both. Their identifiers never meet (see `isBrokers`); who the holders are, the server says. */
export const bothOf = (server: DesiredMachine, broker: DesiredMachine): LeaseSource => ({
  leases: {
    get: (id) => server.leases.get(id) ?? broker.leases.get(id),
    has: (id) => server.leases.has(id) || broker.leases.has(id),
    values: () => [...server.leases.values(), ...broker.leases.values()],
  },
  holders: server.holders,
  revisionOf: (id) => (isBrokers(id) ? broker : server).revision,
});
