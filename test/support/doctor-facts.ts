import type { HostSettings } from '../../src/agent/host/desired-host.ts';
import type { AgentStatus } from '../../src/agent/status/status.ts';
import type { FactName, Facts, Observed } from '../../src/doctor/facts.ts';
import { parseNft } from '../../src/doctor/nft-json.ts';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { ok } from '../../src/net/result.ts';

export const hostOfFish: HostSettings = {
  fish: true,
  tun: 'fishtun',
  mark: 0x2a,
  markMask: 0xff,
  routeTable: 100,
  rulePriority: 10,
  uplinks: ['h0'],
  clientInterfaces: ['hc'],
  managePortRange: true,
  keepSource: true,
  steering: 'nftables',
  localClients: [],
  terminate: null,
  forwardsIpv6: false,
};

export const address = '198.51.100.10' as Address;

/** What `nft -j list ruleset` shows of these. */
export const nftOf = (...items: readonly object[]): Facts['nft'] => parseNft(JSON.stringify({ nftables: items }));

export const base = (hook: string, prio: number, more: object = {}): object => ({
  chain: { family: 'ip', table: 't', name: 'c', type: 'filter', hook, prio, ...more },
});
export const rule = (...expr: readonly object[]): object => ({
  rule: { family: 'ip', table: 't', chain: 'c', handle: 7, expr },
});
export const guardChain = [
  { chain: { family: 'inet', table: 'fishery', name: 'guard', type: 'filter', hook: 'postrouting', prio: 300 } },
  { rule: { family: 'inet', table: 'fishery', chain: 'guard', handle: 1, expr: [{ drop: null }] } },
];
export const aliveSet = (...elem: readonly unknown[]): object => ({
  set: { family: 'inet', table: 'fishery', name: 'alive', type: 'mark', flags: ['timeout'], elem },
});
const alive = aliveSet({ elem: { val: 0, timeout: 10, expires: 8 } });

export const link = (name: string, more: Partial<Facts['links'][number]> = {}): Facts['links'][number] => ({
  name,
  kind: null,
  isUp: true,
  mtu: 1_500,
  queue: 1_000,
  hasXdp: false,
  addresses: [],
  ...more,
});

export const socket = (more: Partial<Facts['sockets'][number]> = {}): Facts['sockets'][number] => ({
  protocol: 'tcp',
  state: 'established',
  address,
  port: 8_200,
  remote: '203.0.113.1:443',
  uid: 1_000,
  mark: 0,
  bindsLate: true,
  device: undefined,
  who: 'curl[7]',
  ...more,
});

/** The agent at work, as far as checks look at it. */
export const statusOf = (more: Partial<AgentStatus> = {}): AgentStatus => ({
  machine: 'edge',
  machine_state: 'active',
  version: '0',
  pid: 1,
  up_s: 1,
  server: { url: '', problem: null },
  revision: { epoch: '', desired: 0, applied: 0 },
  guard: { stands: true, open: true, open_for_s: 9, fence_s: 10, answered_s_ago: 1, fenced: false, problem: null },
  host: { problem: null, drift_repaired: 0, drift: {} },
  reports: { waiting: 0, rejected: 0, disputed: [] },
  leases_refused: 0,
  placeholders: { open: 0, max: 1, missing: 0, reopened: 0, disbelieved: 0 },
  keepers: [],
  keepers_replaced: 0,
  broker: null,
  terminator: null,
  slices: 1,
  slice_blocks: ['198.51.100.10:8192-10239'],
  lease_counts: {},
  leases: [],
  fish: null,
  steering: null,
  counters: {},
  ...more,
});

/** A host with an agent at work where every check is content. */
export const healthy: Facts = {
  sysctlRefusal: null,
  setup: {
    host: hostOfFish,
    machine: 'edge',
    stateDir: '/var/lib/fishery',
    tokenFile: '/etc/fishery/agent.token',
    serverUrl: 'http://127.0.0.1:7480',
    claimants: [{ holder: 'fish', kind: 'fish' }],
    placeholders: 16_384,
    connections_max: null,
    wanted: { exclusivePorts: 80, flowPlaceholders: undefined },
  },
  scope: {
    from: 'the server',
    prefixes: ['198.51.100.0/24' as Prefix],
    slices: [{ address, ports: { first: 8_192, last: 10_239 } }],
    ownSlices: 0,
    leases: [
      {
        id: 'lease-9',
        holder: 'web',
        address,
        protocol: 'tcp',
        ports: { first: 8_192, last: 8_319 },
        mode: 'shared',
        binding: 'late',
      },
    ],
    holders: [
      { name: 'fish', kind: 'fish', uid: null, cgroup: null },
      { name: 'web', kind: 'proxy', uid: 1_000, cgroup: null },
    ],
  },
  sysctls: new Map([
    ['net/ipv4/ip_local_port_range', '1024\t65535'],
    ['net/ipv4/tcp_early_demux', '0'],
    ['net/ipv4/tcp_fastopen', '1'],
    ['net/ipv4/tcp_fastopen_blackhole_timeout_sec', '0'],
    ['net/ipv4/ping_group_range', '0\t0'],
    ['net/ipv4/ip_local_reserved_ports', ''],
    ['net/ipv4/tcp_tw_reuse', '1'],
    ['net/ipv4/tcp_timestamps', '1'],
    ['net/ipv4/conf/h0/forwarding', '1'],
    ['net/ipv4/conf/h0/rp_filter', '2'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    ['net/ipv4/conf/fishtun/accept_local', '1'],
    ['net/ipv6/conf/all/disable_ipv6', '0'],
  ]),
  rules: new Map([
    ['-4 priority 10 fwmark 0x2a/0xff lookup 100', 'ours'],
    ['-4 priority 11 lookup local', 'ours'],
    ['-4 priority 12 iif hc lookup 100', 'ours'],
    ['-4 priority 32766 lookup main', 'foreign'],
  ]),
  routes: new Map([['-4 blackhole default metric 9999 table 100', 'ours']]),
  advertisedRoutes: [],
  links: [link('lo', { addresses: [address] }), link('h0'), link('hc'), link('fishtun', { kind: 'tun', queue: 500 })],
  ingressFilters: [],
  nft: nftOf(...guardChain, alive, {
    set: {
      family: 'inet',
      table: 'fishery',
      name: 'own_uid_tcp4_128',
      type: [],
      elem: [{ concat: [address, 8_192, 1_000] }],
    },
  }),
  rulesetRefusal: null,
  tproxyRefusal: null,
  transparentSocket: null,
  terminateRoutes: new Map(),
  terminator: {
    ...{ path: '/run/fishery/terminator-1.sock', process: { pid: 7, version: '0' }, problem: null },
    ...{ descriptors_hard: 1_048_576, ownVersion: '0' },
  },
  conntrack: { isLoaded: true, count: 1, max: 100, rewritten: [], isWhole: true },
  sockets: [socket()],
  packetSockets: [],
  limits: { descriptors_hard: 100_000, of: 'the agent', nr_open: 1_048_576, file_max: 1_000_000, files_open: 2_000 },
  memory: { available_bytes: 8e9 },
  steering: { setting: 'nftables', chosen: { mode: 'nftables', why: 'the settings say so' }, problem: null },
  kernel: '6.18.1-generic',
  tools: { ip: null, nft: null },
  capabilities: new Set(['CAP_NET_ADMIN', 'CAP_NET_RAW']),
  tunDevice: null,
  canDestroySockets: true,
  cgroup2: '/sys/fs/cgroup',
  clock: { isSynchronised: true, slept_s: 0, stateFromFuture_s: 0 },
  files: {
    stateDir: { path: '/var/lib/fishery', mode: 0o700, uid: 0, isDirectory: true, bytes: 0 },
    tokenFile: { path: '/etc/fishery/agent.token', mode: 0o600, uid: 0, isDirectory: false, bytes: 40 },
    runDir: { path: '/run/fishery', mode: 0o700, uid: 0, isDirectory: true, bytes: 0 },
  },
  broker: {
    isEnabled: true,
    socket: '/run/fishery/broker.sock',
    file: { path: '/run/fishery/broker.sock', mode: 0o666, uid: 0, isDirectory: false, bytes: 0, isSocket: true },
    folder: { path: '/run/fishery', mode: 0o711, uid: 0, isDirectory: true, bytes: 0 },
    hasTable: false,
    lost: [],
  },
  missingCgroups: [],
  nftablesConf: null,
  users: new Map([
    [0, 'root'],
    [1_000, 'web'],
  ]),
  agent: { socket: '/var/lib/fishery/agent.sock', status: statusOf(), health: null, problem: null },
  agentProcesses: [{ pid: 1, isHere: true, machine: 'edge' }],
  keepers: [{ path: '/run/fishery/keeper-1-1.sock', listens: true }],
  services: new Map([[1, 'fishery-agent.service']]),
  server: { url: 'http://127.0.0.1:7480', problem: null, ahead_s: 0.2 },
};

export const seen = (facts: Facts): Observed =>
  Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, ok(value)])) as Record<FactName, never>;
