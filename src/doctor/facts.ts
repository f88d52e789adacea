import type { HostSettings } from '../agent/host/desired-host.ts';
import type { Origin } from '../agent/host/host-state.ts';
import type { Steering, SteeringMode } from '../agent/steering/choose.ts';
import type { AgentStatus } from '../agent/status/status.ts';
import type { Address } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Protocol } from '../net/protocol.ts';
import type { Result } from '../net/result.ts';
import type { Holder } from '../wire/machines.ts';
import type { NftFacts } from './nft-json.ts';

/**
 * What the doctor looks at, as values: read once by the adapter in observe/, judged by the checks. Each fact is by itself,
 * because any of them may be out of sight (no root, a tool that is missing, a server that does not answer).
 */
export type Facts = Readonly<{
  /** The agent's settings, by which everything is judged. */
  setup: Setup;
  scope: Scope;
  /** By path below /proc/sys; absent where this host has no such file. */
  sysctls: ReadonlyMap<string, string>;
  /** errno's name of trying to open one of them for writing, null when it opens. */
  sysctlRefusal: string | null;
  /** Policy rules of both families, in the words of `ip` with the family in front. */
  rules: ReadonlyMap<string, Origin>;
  /** Routes of fish's table. */
  routes: ReadonlyMap<string, Origin>;
  /** Names of the devices that IPv6 default routes learned from router advertisements point to. */
  advertisedRoutes: readonly string[];
  links: readonly Link[];
  /** Names of devices that have filters at tc ingress (or tcx) of somebody else. */
  ingressFilters: readonly string[];
  nft: NftFacts;
  /** What nft said when the agent's own ruleset was loaded in a scratch network namespace; null when it was content. */
  rulesetRefusal: string | null;
  /** The same of a rule that leads connections to the terminator. */
  tproxyRefusal: string | null;
  /** errno's name of opening a socket that may have any address (IP_TRANSPARENT); null when it opens. */
  transparentSocket: string | null;
  /** Routes of the terminator's table; none on a host without one. */
  terminateRoutes: ReadonlyMap<string, Origin>;
  terminator: TerminatorFacts;
  conntrack: Conntrack;
  /** Sockets on ports of the slices, in any state but TIME_WAIT. */
  sockets: readonly SocketFact[];
  /** Who reads or writes whole packets (AF_PACKET). */
  packetSockets: readonly Readonly<{ protocol: number; who: string }>[];
  limits: Limits;
  memory: Readonly<{ available_bytes: number }>;
  /** How replies would be steered here, with these settings. */
  steering: Readonly<{ setting: 'auto' | SteeringMode; chosen: Steering | null; problem: string | null }>;
  /** As `uname -r`. */
  kernel: string;
  tools: Readonly<{ ip: string | null; nft: string | null }>;
  capabilities: ReadonlySet<string>;
  /** errno's name of trying to open /dev/net/tun, null when it opens. */
  tunDevice: string | null;
  /** Whether the kernel can destroy sockets for us. */
  canDestroySockets: boolean;
  /** Where cgroup2 is mounted; null: nowhere. */
  cgroup2: string | null;
  clock: ClockFacts;
  files: Readonly<{ stateDir: FileFact | null; tokenFile: FileFact | null; runDir: FileFact | null }>;
  broker: BrokerFacts;
  /** Holders whose control group is not on this host. */
  missingCgroups: readonly Readonly<{ holder: string; cgroup: string }>[];
  /** Text of /etc/nftables.conf; null: no such file. */
  nftablesConf: string | null;
  /** Names of users by id, as in /etc/passwd. */
  users: ReadonlyMap<number, string>;
  agent: AgentFacts;
  /** Processes that are agents, each once, whatever wraps them. */
  agentProcesses: readonly AgentProcess[];
  keepers: readonly Readonly<{ path: string; listens: boolean }>[];
  /** The systemd service (`fishery-agent.service`) that the agent is in, and each of its keepers; who is in none is left out. */
  services: ReadonlyMap<number, string>;
  server: ServerFacts;
}>;

export type FactName = keyof Facts;
/** The error is why a fact is out of sight, in one line for people. */
export type Observed = Readonly<{ [K in FactName]: Result<Facts[K], string> }>;

export type Setup = Readonly<{
  host: HostSettings;
  machine: string;
  stateDir: string;
  tokenFile: string;
  serverUrl: string;
  /** Names of the holders that the settings claim leases for. */
  claimants: readonly Readonly<{ holder: string; kind: 'fish' | 'terminator' }>[];
  /** Connections that the terminator may have at one moment; null on a host without one. */
  connections_max: number | null;
  /** Ports that fish claims exclusively and flows that it may hold: each is a descriptor, in a keeper. */
  placeholders: number;
  /** The same as the agent asks for them; null on a host without fish. */
  wanted: Readonly<{ exclusivePorts: number; flowPlaceholders: number | undefined }> | null;
}>;

export type SliceFact = Readonly<{ address: Address; ports: PortRange }>;
export type LeaseFact = Readonly<{
  id: string;
  holder: string;
  address: Address;
  protocol: Protocol;
  ports: PortRange;
  mode: 'exclusive' | 'shared';
  binding: 'late' | 'explicit' | null;
}>;
export type HolderFact = Readonly<{ name: string; kind: Holder['kind']; uid: number | null; cgroup: string | null }>;

/** Which addresses and ports this host is, or will be, asked to hold. */
export type Scope = Readonly<{
  /** Where that is known from. */
  from: 'the server' | 'the agent' | '--slices' | 'nothing';
  prefixes: readonly Prefix[];
  slices: readonly SliceFact[];
  /** How many of them this machine grants from itself, by the server's word. */
  ownSlices: number;
  /** Empty where only the agent or the command line was asked. */
  leases: readonly LeaseFact[];
  holders: readonly HolderFact[];
}>;

export type Link = Readonly<{
  name: string;
  /** `tun`, `veth`, `bridge` …; null for hardware and `lo`. */
  kind: string | null;
  isUp: boolean;
  mtu: number;
  queue: number;
  hasXdp: boolean;
  addresses: readonly Address[];
}>;

export type ConntrackEntry = Readonly<{
  protocol: string;
  /** As the sender believes, and as the remote sees it. */
  sent: Readonly<{ address: string; port: number }>;
  seen: Readonly<{ address: string; port: number }>;
  remote: Readonly<{ address: string; port: number }>;
}>;
export type Conntrack = Readonly<{
  isLoaded: boolean;
  count: number;
  max: number;
  /** Entries whose two directions differ, as far as they fit into the reading. */
  rewritten: readonly ConntrackEntry[];
  isWhole: boolean;
}>;

export type SocketFact = Readonly<{
  protocol: Protocol;
  state: string;
  address: string;
  port: number;
  remote: string;
  uid: number;
  mark: number | undefined;
  bindsLate: boolean | undefined;
  /** Name of the device that it is bound to. */
  device: string | undefined;
  /** `nginx[812]`, or that no process shows it. */
  who: string;
}>;

export type Limits = Readonly<{
  /** RLIMIT_NOFILE of the agent that runs, else of this process. */
  descriptors_hard: number;
  of: 'the agent' | 'this process';
  nr_open: number;
  file_max: number;
  files_open: number;
}>;

export type ClockFacts = Readonly<{
  isSynchronised: boolean;
  /** By how much CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC. */
  slept_s: number;
  /** By how much the newest file in state_dir is from the future; 0 when none is. */
  stateFromFuture_s: number;
}>;

export type FileFact = Readonly<{ path: string; mode: number; uid: number; isDirectory: boolean; bytes: number }>;

/** What there is of a broker on this host, by the settings. */
export type BrokerFacts = Readonly<{
  isEnabled: boolean;
  socket: string;
  /** null: no such file. */
  file: (FileFact & Readonly<{ isSocket: boolean }>) | null;
  folder: FileFact | null;
  hasTable: boolean;
  /** Folders of tables that were put aside. */
  lost: readonly string[];
}>;

export type AgentFacts = Readonly<{
  socket: string;
  /** null: nobody answers at the socket. */
  status: AgentStatus | null;
  health: string | null;
  /** Why nobody answers. */
  problem: string | null;
}>;

export type TerminatorFacts = Readonly<{
  /** Its socket. */
  path: string;
  /** null: nobody answers there. */
  process: Readonly<{ pid: number; version: string }> | null;
  /** Why nobody answers, or not so that it is understood. */
  problem: string | null;
  /** RLIMIT_NOFILE of its process; null where none is at work. */
  descriptors_hard: number | null;
  /** Of this program. */
  ownVersion: string;
}>;

export type AgentProcess = Readonly<{ pid: number; isHere: boolean; machine: string | null }>;

export type ServerFacts = Readonly<{
  url: string;
  /** null: it answered, and took the token. */
  problem: Readonly<{ status: number | null; text: string }> | null;
  /** Its clock minus ours, as far as an answer tells; null: it did not. */
  ahead_s: number | null;
}>;
