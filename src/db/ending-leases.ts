import type { EndingLeases } from '../leases/store.ts';
import { all, type Read } from './statement.ts';

/** From one machine that has an ending lease to the next, a step in an index each, however many leases there are. */
const machinesWithEnding = `WITH RECURSIVE place (machine) AS (
  SELECT (SELECT machine FROM leases WHERE state = 'ending' ORDER BY machine LIMIT 1)
  UNION ALL
  SELECT (SELECT machine FROM leases WHERE state = 'ending' AND machine > place.machine ORDER BY machine LIMIT 1)
    FROM place WHERE machine IS NOT NULL)`;

const of = `FROM leases WHERE state = 'ending' AND machine = place.machine`;

/** What `Reader.leasesEnding` tells: the oldest of each machine by the index, and their number as far as it may be counted. */
export function* leasesEnding(machinesMax: number, leasesMax: number): Read<readonly EndingLeases[]> {
  const machines = yield* all<{ machine: string; since: number }>(
    `${machinesWithEnding} SELECT machine, (SELECT ending_at ${of} ORDER BY ending_at LIMIT 1) AS since
     FROM place WHERE machine IS NOT NULL LIMIT @limit`,
    { limit: machinesMax },
  );
  if (machines.length === 0) return [];
  const counted = yield* all<{ machine: string; leases: number }>(
    `${machinesWithEnding} SELECT machine, (SELECT count(*) FROM (SELECT 1 ${of} LIMIT @share) AS counted) AS leases
     FROM place WHERE machine IS NOT NULL LIMIT @limit`,
    { limit: machinesMax, share: Math.max(1, Math.floor(leasesMax / machines.length)) },
  );
  const counts = new Map(counted.map(({ machine, leases }) => [machine, leases]));
  return machines.map(({ machine, since }) => ({ machine, leases: counts.get(machine) ?? 0, since }));
}
