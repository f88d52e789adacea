import type { Address, Family } from '../net/address.ts';
import type { BeginningConnection } from './connection-memory.ts';

/** A connection that lasts, or is being made, and the bytes that have passed. */
export type ConnectionSnapshot = BeginningConnection & Readonly<{ bytesOut: number; bytesIn: number }>;

/** What to look for; what is left out matches anything. */
export type ConnectionFilter = Readonly<{ lease?: string; client?: Address; remote?: Address; remotePort?: number }>;
export type ConnectionList = Readonly<{ connections: readonly ConnectionSnapshot[]; truncated: boolean }>;

/** All connections of a client or a lease, or toward a remote. */
export type ConnectionTalker = Readonly<{ name: string; connections: number; bytesOut: number; bytesIn: number }>;
export type ConnectionTalkerKind = 'client' | 'lease' | 'remote';

/** Toward this remote so many of the leased ports of its family are used. */
export type BusyDestination = Readonly<{
  family: Family;
  remote: Address;
  remotePort: number;
  used: number;
  ports: number;
}>;

/** Up to `max` of them. */
export function listConnections(
  all: Iterable<ConnectionSnapshot>,
  { lease, client, remote, remotePort }: ConnectionFilter,
  max: number,
): ConnectionList {
  const connections = [...all].filter(
    (each) =>
      (lease === undefined || lease === each.lease) &&
      (client === undefined || client === each.client) &&
      (remote === undefined || remote === each.remote) &&
      (remotePort === undefined || remotePort === each.remotePort),
  );
  return { connections: connections.slice(0, max), truncated: connections.length > max };
}

/** Those with the most bytes, up to `max`. */
export function topConnections(
  all: Iterable<ConnectionSnapshot>,
  by: ConnectionTalkerKind,
  max: number,
): readonly ConnectionTalker[] {
  const sums = new Map<string, { name: string; connections: number; bytesOut: number; bytesIn: number }>();
  for (const each of all) {
    const name = each[by] ?? 'any';
    const sum = sums.get(name) ?? { name, connections: 0, bytesOut: 0, bytesIn: 0 };
    sums.set(name, sum);
    sum.connections++;
    sum.bytesOut += each.bytesOut;
    sum.bytesIn += each.bytesIn;
  }
  return [...sums.values()].sort((a, b) => b.bytesOut + b.bytesIn - (a.bytesOut + a.bytesIn)).slice(0, max);
}

/** Of each family the `max` remotes toward which most ports are used, the busiest first. `ports`: how many each has. */
export function busyDestinations(
  all: Iterable<ConnectionSnapshot>,
  ports: Readonly<Record<Family, number>>,
  max: number,
): readonly BusyDestination[] {
  const used = new Map<string, BusyDestination & { used: number }>();
  for (const { remote, remotePort } of all) {
    if (remote === null || remotePort === null) continue;
    const family: Family = remote.includes(':') ? 6 : 4;
    const key = `${remote} ${remotePort}`;
    const busy = used.get(key) ?? { family, remote, remotePort, used: 0, ports: ports[family] };
    used.set(key, busy);
    busy.used++;
  }
  const sorted = [...used.values()].sort((a, b) => b.used - a.used);
  return ([4, 6] as const).flatMap((family) => sorted.filter((each) => each.family === family).slice(0, max));
}
