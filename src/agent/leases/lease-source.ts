import { isBrokers } from '../../broker/identifiers.ts';
import type { Lease } from '../../wire/leases.ts';
import type { Holder } from '../../wire/machines.ts';
import type { Slice } from '../../wire/slices.ts';
import type { DesiredMachine } from '../server/desired.ts';

/** Where the leases that this host makes true are told from: the server, or the server and the host's own broker. */
export type LeaseSource = Readonly<{
  leases: Readonly<{ get(id: string): Lease | undefined; has(id: string): boolean; values(): Iterable<Lease> }>;
  holders: Readonly<{ get(name: string): Holder | undefined }>;
  /** Those that are this machine's. */
  slices: Readonly<{ get(id: string): Pick<Slice, 'generation'> | undefined }>;
  /** Up to which revision all is known that was told of a lease with this name, by whoever granted it. */
  revisionOf(lease: string): number;
}>;

/** Whether the lease's slice is this machine's as it was when the lease was granted: else its ports may be another's. */
export const isOfOwnSlice = ({ slice, token }: Pick<Lease, 'slice' | 'token'>, { slices }: LeaseSource): boolean =>
  slices.get(slice)?.generation === Number(token.split('.', 1)[0]);

/** Both. Their identifiers never meet (see `isBrokers`); who the holders are, and which slices are here, the server says. */
export const bothOf = (server: DesiredMachine, broker: DesiredMachine): LeaseSource => ({
  leases: {
    get: (id) => server.leases.get(id) ?? broker.leases.get(id),
    has: (id) => server.leases.has(id) || broker.leases.has(id),
    values: () => [...server.leases.values(), ...broker.leases.values()],
  },
  holders: server.holders,
  slices: server.slices,
  revisionOf: (id) => (isBrokers(id) ? broker : server).revision,
});
