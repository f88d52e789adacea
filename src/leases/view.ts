import type { Address } from '../net/address.ts';
import type { Protocol } from '../net/protocol.ts';
import type { AccessToken, Event, Extent, Holder, Lease, Machine, Pool, Session, Slice, Tenure } from './model.ts';

/**
 * The part of the table that a batch may touch, in memory. Each command of the batch sees what the ones before it decided.
 * The store fills it; `Changes` is what came out of it, by row, for the store to write.
 */
export type Changes = Readonly<{
  pools: readonly Pool[];
  machines: readonly Machine[];
  holders: readonly Holder[];
  slices: readonly Slice[];
  tenures: readonly Tenure[];
  sessions: readonly Session[];
  leases: readonly Lease[];
  extents: readonly Extent[];
  extentsGone: readonly Pick<Extent, 'slice' | 'protocol' | 'ports'>[];
  accessTokens: readonly AccessToken[];
  events: readonly Event[];
}>;

/** Rows as the store found them. Which to load for which command is the core's knowledge: see `needs.ts`. */
export interface View {
  readonly epoch: number;
  readonly revision: number;
  readonly lastEventAt: number;
  pool(id: string): Pool | undefined;
  pools(): Iterable<Pool>;
  machine(id: string): Machine | undefined;
  holder(machine: string, name: string): Holder | undefined;
  slice(id: number): Slice | undefined;
  sliceAt(address: Address, firstPort: number): Slice | undefined;
  session(id: number): Session | undefined;
  lease(id: number): Lease | undefined;
  extentsOf(slice: number, protocol: Protocol): Iterable<Extent>;
  accessToken(id: number): AccessToken | undefined;
}
