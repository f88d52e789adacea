import type { Logger } from '../ops/logger.ts';
import type { Followed } from '../sdk/index.ts';
import type { BrokerOnHostParts } from './broker-on-host.ts';
import type { DesiredMemory } from './server/desired-memory.ts';
import type { HostSettings } from './host/desired-host.ts';
import type { FirstGuard } from './guard/first-guard.ts';
import type { FishLeases } from './fish/fish-leases.ts';
import type { FishStarts } from './fish/fish-on-host.ts';
import type { GuardKeeper } from './guard/guard-keeper.ts';
import type { Host } from './host/host.ts';
import type { Keepers } from './placeholders/keepers.ts';
import type { LeaseHost } from './leases/lease-host.ts';
import type { CgroupTable } from './leases/ownership.ts';
import type { Placeholders } from './placeholders/placeholders.ts';
import type { SocketTable } from './leases/port-users.ts';
import type { Reports } from './server/reports.ts';
import type { QuestionsServer } from './server/server-questions.ts';
import type { StateFile } from './host/state-file.ts';
import type { TerminatorOnHost } from './terminator-on-host.ts';

/** The server, as the agent speaks with it. */
export type AgentServer = Readonly<{
  /** Snapshot first, then changes, over as many connections as it takes; throws what is refused for good. */
  follow(signal: AbortSignal): AsyncIterable<Followed>;
}> &
  QuestionsServer;

export type AgentParts = Readonly<{
  machine: string;
  settings: HostSettings;
  host: Host;
  stateFile: Pick<StateFile, 'isBegun' | 'recorded' | 'record' | 'forget' | 'sliced' | 'noteGuarded'>;
  /** Where a guard stands though nobody has said yet what to guard. */
  firstGuard: Pick<FirstGuard, 'hold'>;
  /** What the server said, for the next agent. */
  memory: Pick<DesiredMemory, 'read' | 'reset' | 'note' | 'noteUp' | 'flush'>;
  /** By whom holders are known, for the next agent. */
  owners: LeaseHost['owners'];
  server: AgentServer;
  guard: GuardKeeper;
  reports: Reports;
  placeholders: Placeholders;
  /** Where the placeholders live. */
  keepers: Pick<Keepers, 'doubt' | 'leave' | 'end'>;
  sockets: SocketTable;
  cgroups: CgroupTable;
  /** See `UnitsOnHost`. */
  unitsGone(units: readonly string[]): Promise<ReadonlySet<string>>;
  /** null on a host without fish. */
  fish: Readonly<{
    starter: FishStarts;
    leases: Pick<FishLeases, 'run' | 'look' | 'end'>;
  }> | null;
  /** null on a host without one. */
  terminator: TerminatorOnHost | null;
  /** null where the settings want none. */
  broker: Pick<BrokerOnHostParts, 'start' | 'hasTable' | 'reports'> | null;
  log: Logger;
  /** Milliseconds, never backwards. */
  now(): number;
}>;
