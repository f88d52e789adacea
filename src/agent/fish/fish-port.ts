import type { LeasedBlock } from '../../fish/ports/blocks.ts';
import type { FlowFilter, FlowList } from '../../fish/log/flow-views.ts';
import type { PortUse } from '../../fish/ports/port-use.ts';
import type { BusyRemote, Talker, TalkerKind } from '../../fish/log/talkers.ts';
import type { FlowAnswer, FlowQuery } from '../../wire/agent.ts';
import type { FishRefusal } from '../leases/lease-host.ts';
import type { Tracer } from '../trace/trace-page.ts';

/** What the rest of the agent asks of the packet path; agent/fish answers, in a thread of its own. */
export interface FishPort extends Tracer {
  /** All blocks that fish may use from now on; the flows of others have ended when it resolves. */
  setBlocks(blocks: readonly LeasedBlock[]): Promise<readonly FishRefusal[]>;
  /** Opens no flow until the next `setBlocks`; those there were have ended when it resolves: how many. */
  fence(): Promise<number>;
  /** No new flow gets a port of these leases from now on, and of no others; those that they have go on. */
  drain(leases: readonly string[]): Promise<void>;
  /** Looks at some of the flows' placeholders, others with each call: how many do not hold their tuples any more. */
  lostSockets(): Promise<number>;
  portUse(): Promise<PortUse>;
  /** Goes by the links as they are now. Costs next to nothing when they are as they were. */
  followLinks(): Promise<void>;
  /** The holder whose flows they are. */
  readonly holder: string;
  /** Up to `max` of the flows there are. */
  flows(filter: FlowFilter, max: number): Promise<FlowList>;
  topTalkers(by: TalkerKind, max: number): Promise<readonly Talker[]>;
  busyRemotes(max: number): Promise<readonly BusyRemote[]>;
  answer(query: FlowQuery): Promise<FlowAnswer>;
  /** Numbers for status and metrics, flat, by name. */
  stats(): Promise<Readonly<Record<string, number>>>;
  /** With `leave` its flows stay as they are, for a successor; where nothing is kept they end. */
  stop(o?: Readonly<{ leave?: boolean }>): Promise<void>;
  /** Resolves when fish is no more, with the reason; not after `stop`. */
  readonly died: Promise<string>;
}
