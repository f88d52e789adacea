import type { HostSettings } from '../../src/agent/host/desired-host.ts';
import type { Desired, DesiredPool } from '../../src/wire/agent.ts';
import type { Lease } from '../../src/wire/leases.ts';
import type { Holder } from '../../src/wire/machines.ts';
import type { Session } from '../../src/wire/sessions.ts';
import type { Slice } from '../../src/wire/slices.ts';

/** What a server says to the agent of machine `edge`, with what does not matter filled in. */
const at = '2026-01-31T14:03:07.000000Z';

export function lease(number: number, over: Partial<Lease> = {}): Lease {
  return {
    id: `lease-${number}`,
    token: `1.1.${number}`,
    session: 'session-1',
    machine: 'edge',
    holder: 'web',
    slice: 'slice-1',
    pool: 'pool',
    address: '198.51.100.10',
    protocol: 'tcp',
    ports: { first: 9_088, last: 9_215 },
    mode: 'exclusive',
    binding: null,
    state: 'pending',
    ending: null,
    refusal: null,
    granted_at: at,
    active_at: null,
    ending_at: null,
    reusable_at: null,
    ended_at: null,
    revision: number,
    ...over,
  };
}

export const holder = (name: string, uid: number | null): Holder => ({
  machine: 'edge',
  name,
  kind: uid === null ? 'fish' : 'proxy',
  uid,
  cgroup: null,
  limits: null,
  created_at: at,
  updated_at: at,
  revision: 4,
});

export function slice(number: number, over: Partial<Slice> = {}): Slice {
  return {
    id: `slice-${number}`,
    pool: 'pool',
    address: '198.51.100.10',
    ports: { first: 8_192, last: 10_239 },
    machine: 'edge',
    state: 'assigned',
    generation: 1,
    allocator: 'server',
    draining_since: null,
    drain_by: null,
    next: null,
    reclaimed: false,
    assigned_at: at,
    reusable_at: null,
    route: { state: 'routed', revision: number, since: at },
    revision: number,
    ...over,
  };
}

export function session(number: number, over: Partial<Session> = {}): Session {
  return {
    id: `session-${number}`,
    machine: 'edge',
    holder: 'web',
    state: 'live',
    ending: null,
    ttl_s: 30,
    expires_at: at,
    opened_at: at,
    ended_at: null,
    revision: number,
    ...over,
  };
}

export const desiredPool = (id: string, prefixes: string[]): DesiredPool => ({
  ...{ id, labels: {}, prefixes, carve_outs: [], slice_ports: 2_048, usable_ports: { first: 1_024, last: 65_535 } },
  ...{ shared_block_ports: 128, cooldown_s: { tcp: 120, udp: 120, icmp: 120 } },
});

export function desired(over: Partial<Desired> = {}): Desired {
  return {
    epoch: 'epoch',
    revision: 10,
    machine: 'edge',
    state: 'active',
    fence_s: 30,
    pools: [desiredPool('pool', ['198.51.100.0/24'])],
    slices: [slice(1)],
    holders: [holder('web', 2_001), holder('mail', 2_002), holder('fish', null)],
    leases: [],
    blocked: [],
    revocations: [],
    ...over,
  };
}

export const instant = at;

/** A host with fish, as its settings say. */
export const withFish: HostSettings = {
  fish: true,
  tun: 'fishtun',
  mark: 0x2a,
  markMask: 0xff,
  routeTable: 100,
  rulePriority: 10,
  uplinks: ['up0'],
  clientInterfaces: ['client0'],
  managePortRange: true,
  keepSource: true,
  steering: 'nftables',
  localClients: [],
  terminate: null,
  forwardsIpv6: false,
};
/** A host for proxies alone. */
export const withoutFish: HostSettings = { ...withFish, fish: false, uplinks: [], clientInterfaces: [] };
