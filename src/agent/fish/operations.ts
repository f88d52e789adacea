import type { LeasedBlock } from '../../fish/ports/blocks.ts';
import type { FishConfig } from '../../fish/config.ts';
import type { FishCounters } from '../../fish/counters.ts';
import type { EndedFlows, FlowAnswer, FlowLogCursor } from '../../fish/log/flow-log.ts';
import type { FlowQuery } from '../../fish/flows/flow-tuple.ts';
import type { FlowFilter, FlowList } from '../../fish/log/flow-views.ts';
import type { ClosedSummary, LastingFlows } from '../../fish/forwarder.ts';
import type { TracedPacket, TraceEnd, TraceRequest } from '../../fish/log/packet-trace.ts';
import type { MssMax } from '../../fish/packet/mss-clamp.ts';
import type { PortUse } from '../../fish/ports/port-use.ts';
import type { BusyRemote, Talker, TalkerKind } from '../../fish/log/talkers.ts';
import type { Mapping } from '../../sys/shared-memory.ts';

/** Where flows and placeholders are that are to outlive the thread. */
export type KeptFlows = Readonly<{
  /** A flow table of the right size, as `FlowMemory` lays it out; what it holds is taken over. It stays the caller's. */
  memory: Mapping;
  /** The sockets of the keepers that have the placeholders, and how many may be in each. */
  keepers: readonly Readonly<{ number: number; path: string; flows_max: number }>[];
}>;

/** What the worker is started with. Descriptors are numbers: threads of one process share them. */
export type WorkerSetup = Readonly<{
  config: FishConfig;
  /** Non-blocking; stays the caller's, who closes it after the worker's end. */
  tunFd: number;
  /** Readable when a request waits. */
  wakeFd: number;
  /** SO_MARK of placeholders, by which the kernel leads their replies into the TUN; 0: none. */
  mark: number;
  /** null: flows and placeholders end with the thread. */
  kept: KeptFlows | null;
}>;

export type FishStats = FishCounters &
  Readonly<{
    /** Packets that the kernel would not take back, and the errno (positive) of the last; 0 when there was none. */
    writesFailed: number;
    writeErrno: number;
    /** Times that the thread went to sleep because nothing was waiting: many of them mean time to spare. */
    waits: number;
    /** Rounds that ended with packets still waiting: many of them mean that the thread is the bottleneck. */
    fullRounds: number;
    /** JavaScript objects of the thread; its tables are not among them. */
    heapUsedBytes: number;
  }>;

/**
 * Flows that have ended, for whoever keeps the flow log, and how many last. `source`: a name for the log that they are read from,
 * where that goes on while nobody reads it, and can be read on from the same place.
 */
export type EndedBatch = EndedFlows & LastingFlows & Readonly<{ source?: string }>;

/** `wallOffsetMs`: what to add to the times of packets for milliseconds since 1970. `endedBy`: once it is over. */
export type TraceSoFar = Readonly<{
  packets: readonly TracedPacket[];
  isOver: boolean;
  endedBy: TraceEnd;
  wallOffsetMs: number;
}>;

/** Everything that the main thread can ask of the worker, and what comes back. */
export type Operations = {
  setBlocks: { ask: readonly LeasedBlock[]; answer: ClosedSummary };
  endLease: { ask: string; answer: ClosedSummary };
  fence: { ask: null; answer: ClosedSummary };
  drain: { ask: readonly string[]; answer: null };
  clampMss: { ask: MssMax; answer: null };
  /** Of the placeholders that it looks at, some more with each call. */
  lostSockets: { ask: null; answer: number };
  portUse: { ask: null; answer: PortUse };
  stats: { ask: null; answer: FishStats };
  flows: { ask: Readonly<{ filter: FlowFilter; max: number }>; answer: FlowList };
  queryFlowLog: { ask: Readonly<{ query: FlowQuery; max: number }>; answer: FlowAnswer };
  endedFlows: { ask: Readonly<{ after: FlowLogCursor; max: number }>; answer: EndedBatch };
  topTalkers: { ask: Readonly<{ by: TalkerKind; max: number }>; answer: readonly Talker[] };
  busyRemotes: { ask: Readonly<{ max: number }>; answer: readonly BusyRemote[] };
  /** false: another trace is under way. */
  startTrace: { ask: TraceRequest; answer: boolean };
  readTrace: { ask: null; answer: TraceSoFar };
  /** `leave`: flows and placeholders as they are, for a successor; only where they are kept. */
  stop: { ask: Readonly<{ leave: boolean }>; answer: null };
};
export type Operation = keyof Operations;

/** A question on its way to the worker. */
export type Request = {
  [Op in Operation]: Readonly<{ id: number; operation: Op; ask: Operations[Op]['ask'] }>;
}[Operation];
/**
 * The worker's answer to one; the first, with id 0, answers none and says that it runs (`Begun`). Those with id -1 answer none either: when
 * nothing happens to flows any more, they bring what was not read of those that have ended (`EndedBatch`).
 */
export type Reply = Readonly<{ id: number; answer: unknown }>;
export const readyId = 0;
/** `disbelieved`: placeholders that a former fish left, and that are not what they were kept as. */
export type Begun = Readonly<{ disbelieved: number }>;
export const lastWordsId = -1;
/** As many as one answer brings. */
export const endedFlows_max = 16_384;
