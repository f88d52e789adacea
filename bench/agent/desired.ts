import type { Desired } from '../../src/wire/agent.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { lease } from '../../test/support/agent-values.ts';

const at = '2026-01-31T14:03:07.000000Z';
const cellPorts = 128;
const firstPort = 1_024;
const cellsPerAddress = (65_536 - firstPort) / cellPorts;
const slicePorts = 2_048;
const holders_count = 20;
export const firstUid = 2_001;

/** The lease that stands in cell `index`: kinds alternate, so that any part of them is as mixed as the whole. */
export function leaseAt(index: number, over: Partial<Lease> = {}): Lease {
  const family = index % 4 === 3 ? 6 : 4;
  const cell = Math.floor(index / 4) * 3 + (index % 4);
  const place = family === 6 ? Math.floor(index / 4) : cell;
  const host = 10 + Math.floor(place / cellsPerAddress);
  const first = firstPort + (place % cellsPerAddress) * cellPorts;
  const ports = [128, 64, 16][index % 3] ?? 128;
  const protocol = (['tcp', 'udp', 'tcp', 'tcp', 'udp', 'icmp', 'tcp'] as const)[index % 7] ?? 'tcp';
  const isShared = protocol === 'tcp' && index % 2 === 0;
  const address = family === 4 ? `198.51.100.${host}` : `2001:db8:a::${host.toString(16)}`;
  return lease(index + 1, {
    holder: `proxy-${index % holders_count}`,
    slice: `slice-${address}-${Math.floor(first / slicePorts)}`,
    pool: 'bench',
    address,
    protocol,
    ports: { first, last: first + ports - 1 },
    mode: isShared ? 'shared' : 'exclusive',
    binding: isShared ? 'late' : null,
    ...over,
  });
}

/** What a server says to a machine with so many leases: of three protocols, two families, three sizes, twenty holders. */
export function desiredOf(leases: readonly Lease[], revision: number): Desired {
  const slices = new Map(leases.map(({ slice, address, ports }) => [slice, { address, first: ports.first }]));
  return {
    epoch: 'bench',
    revision,
    machine: 'edge',
    state: 'active',
    fence_s: 3_600,
    pools: [
      {
        id: 'bench',
        labels: {},
        prefixes: ['198.51.100.0/24', '2001:db8:a::/64'],
        carve_outs: [],
        slice_ports: slicePorts,
        usable_ports: { first: firstPort, last: 65_535 },
        shared_block_ports: cellPorts,
        cooldown_s: { tcp: 120, udp: 120, icmp: 120 },
      },
    ],
    slices: [...slices].map(([id, { address, first }]) => {
      const begin = Math.floor(first / slicePorts) * slicePorts;
      return {
        ...{ id, pool: 'bench', address, ports: { first: begin, last: begin + slicePorts - 1 }, machine: 'edge' },
        ...{ state: 'assigned', generation: 1, allocator: 'server', draining_since: null, drain_by: null, next: null },
        ...{ reclaimed: false, assigned_at: at, reusable_at: null },
        ...{ route: { state: 'routed', revision: 1, since: at }, revision: 1 },
      };
    }),
    holders: Array.from({ length: holders_count }, (_, index) => ({
      ...{ machine: 'edge', name: `proxy-${index}`, kind: 'proxy', uid: firstUid + index, cgroup: null },
      ...{ limits: null, created_at: at, updated_at: at, revision: 1 },
    })),
    leases: [...leases],
    blocked: [],
    revocations: [],
  };
}
