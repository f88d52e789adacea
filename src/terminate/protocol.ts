import type { ConnectLease } from '../sdk/connect.ts';
import type { ConnectionAnswer, ConnectionQuery } from './connection-log.ts';
import type {
  BusyDestination,
  ConnectionFilter,
  ConnectionList,
  ConnectionTalker,
  ConnectionTalkerKind,
} from './connection-views.ts';
import type { DestinationFilter, DestinationList, DestinationOrder, DestinationReport } from './destinations.ts';
import type { Paths } from './paths.ts';

/**
 * What the agent and the terminator say to each other over a Unix socket: a JSON object a line. The terminator begins with
 * `hello`; after that the agent asks, and every request is answered once, in any order.
 */
export const protocolVersion = 2;

/** A lease whose ports connections may be made from. */
export type UsableLease = ConnectLease;

export type TerminateSettings = Readonly<{
  paths: Paths;
  /** Connections at one moment; what comes beyond that is reset. */
  connections_max: number;
  connections_per_client_max: number;
  /** How long an origin may take to answer. */
  connect_timeout_s: number;
  /** Without a byte in either direction; then both sides are reset. */
  idle_timeout_s: number;
  /** The same, once one side has said that it is done. */
  half_closed_timeout_s: number;
  /** What the client gets when its origin does not answer, or cannot be reached: a reset, or the end of an empty answer. */
  on_unreachable: 'reset' | 'close';
  /** Connections that have ended and are remembered; as it was told first. */
  flow_log_max: number;
  destinations_max: number;
}>;

export type Hello = Readonly<{
  protocol: number;
  version: string;
  pid: number;
  /** Where it listens for what is led to it. */
  port: number;
  /** Whom it has become; null as long as it is still root. */
  uid: number | null;
  /** The file with what is known of its connections (`ConnectionMemory`); null as long as it has none. */
  log: string | null;
}>;

export const counterNames = [
  'accepted',
  'connected',
  'refused',
  'timed_out',
  'unreachable',
  'failed',
  'client_left',
  'ports_exhausted',
  'no_lease',
  'not_chosen',
  'over_limit',
  'over_client_limit',
  'client_resets',
  'origin_resets',
  'idle',
  'cut',
  'finished',
] as const;
export type TerminateCounter = (typeof counterNames)[number];

export type TerminateStats = Readonly<
  Record<TerminateCounter, number> & {
    open: number;
    /** Of those, the ones whose origin has not answered yet. */
    connecting: number;
    clients: number;
    leases: number;
    connections_max: number;
    bytes_up: number;
    bytes_down: number;
    logged_open: number;
    logged_ended: number;
    memory_bytes: number;
    /** Pipes for bulk that hold what a slow reader has not taken yet, and how many there may be: none where the kernel forbids it. */
    pipes_held: number;
    pipes_max: number;
    /** Of all destinations together, and those where most goes wrong. */
    total: DestinationReport;
    destinations_known: number;
    destinations_forgotten: number;
    destinations: readonly DestinationReport[];
  }
>;

/** How far the ports are used: what decides whether there should be more, or fewer. */
export type TerminateUse = Readonly<{
  families: readonly Readonly<{
    family: 4 | 6;
    /** Connections to the destination that has most of them, */
    busiest: number;
    /** and those that found no port, since the start. */
    refused: number;
  }>[];
  leases: readonly Readonly<{ lease: string; flows: number }>[];
}>;

/** Everything that can be asked, and what comes back. */
export type Operations = {
  /** The whole of what it has to know. It becomes `uid` with the first; another one later is refused. */
  configure: {
    ask: Readonly<{ uid: number; settings: TerminateSettings; leases: readonly UsableLease[] }>;
    /** As `Hello.log`. */
    answer: Readonly<{ log: string }>;
  };
  stats: { ask: Readonly<{ destinations: number }>; answer: TerminateStats };
  portUse: { ask: null; answer: TerminateUse };
  search: { ask: Readonly<{ query: ConnectionQuery; max: number }>; answer: ConnectionAnswer };
  /** What there is now, for people. */
  connections: { ask: Readonly<{ filter: ConnectionFilter; max: number }>; answer: ConnectionList };
  talkers: { ask: Readonly<{ by: ConnectionTalkerKind; max: number }>; answer: readonly ConnectionTalker[] };
  busiest: { ask: Readonly<{ max: number }>; answer: readonly BusyDestination[] };
  destinations: {
    ask: Readonly<{ by: DestinationOrder; filter: DestinationFilter; max: number }>;
    answer: DestinationList;
  };
  /** Resets every connection and forgets every lease; how many there were. */
  fence: { ask: null; answer: number };
  /** Resets every connection and ends the process. */
  stop: { ask: null; answer: null };
};
export type Operation = keyof Operations;

export type Request = {
  [Op in Operation]: Readonly<{ id: number; operation: Op; ask: Operations[Op]['ask'] }>;
}[Operation];
export type Reply = Readonly<{ id: number } & ({ answer: unknown } | { error: string })>;

/** A line is not longer than this: thousands of leases fit. */
const line_chars_max = 16 * 1_024 * 1_024;

/** Whole lines of what arrives in pieces. Throws when one does not end. */
export class Lines {
  #rest = '';

  take(piece: string): readonly string[] {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > line_chars_max) throw new Error(`a message of more than ${line_chars_max} characters`);
    return lines;
  }
}
