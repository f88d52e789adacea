import type { Lease } from '../wire/leases.ts';
import type { Holder } from '../wire/machines.ts';
import type { DesiredMachine } from './desired.ts';

/** Where the leases that this host makes true are told from: the server, or the server and the host's own broker. */
export type LeaseSource = Readonly<{
  leases: Readonly<{ get(id: string): Lease | undefined; has(id: string): boolean }>;
  holders: Readonly<{ get(name: string): Holder | undefined }>;
}>;

/** Both. Their identifiers never meet (see `isBrokers`); who the holders are, the server says. */
export const bothOf = (server: DesiredMachine, broker: DesiredMachine): LeaseSource => ({
  leases: {
    get: (id) => server.leases.get(id) ?? broker.leases.get(id),
    has: (id) => server.leases.has(id) || broker.leases.has(id),
  },
  holders: server.holders,
});
