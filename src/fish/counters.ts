import { portCount } from '../net/ports.ts';
import type { AnswerCounts } from './answers/answers.ts';
import type { AdoptionCounts } from './flows/adoption.ts';
import type { BlockTable, LeasedBlock } from './ports/blocks.ts';
import { endings, type Ending } from './log/flow-record.ts';
import type { FlowLife } from './flows/flow-life.ts';
import type { FragmentCounts } from './packet-path.ts';
import type { PlaceholderBudget } from './ports/placeholders.ts';
import { INWARD, OUTWARD } from './flows/tcp-state.ts';
import { dropReasons, type DropReason } from './verdicts.ts';

/** How far a block is used. For TCP and ICMP one port serves many flows, so there can be more flows than ports. */
export type BlockUse = LeasedBlock & Readonly<{ portCount: number; flows: number }>;

/** What is counted per packet. Counts only grow. */
export type TrafficCounts = Readonly<{
  packetsOut: number;
  bytesOut: number;
  packetsIn: number;
  bytesIn: number;
  drops: Readonly<Record<DropReason, number>>;
  tcpStrays: number;
  tcpResetsDoubted: number;
}>;

/** Of the tables. Counts only grow, but for those that say how many there are now. */
export type TableCounts = Readonly<{
  flowsOpened: number;
  flowsEnded: Readonly<Record<Ending, number>>;
  /** Now. */
  flowsLive: number;
  flowsResting: number;
  flowsMax: number;
  /** Clients that have flows, now. */
  clients: number;
  placeholdersHeld: number;
  placeholdersOpened: number;
  /** Ports tried whose tuple a socket of somebody else had. */
  placeholdersTaken: number;
  placeholdersFailed: number;
  /** Of the last failure; 0 when there was none. */
  placeholderErrno: number;
  blocks: readonly BlockUse[];
}>;

/** Everything that fish counts, as plain values. `mssClamped`: SYNs whose maximum segment size was lowered. */
export type FishCounters = TrafficCounts &
  AnswerCounts &
  FragmentCounts &
  TableCounts &
  Readonly<{
    mssClamped: number;
    /** ICMP errors of this host's own about what fish sent, told to whom that was of. */
    hostErrorsRelayed: number;
    /** What was taken over from a former process, or thread, and what was not. */
    adoption: AdoptionCounts;
  }>;

export class TrafficCounters {
  readonly #packets = new Float64Array(2);
  readonly #bytes = new Float64Array(2);
  /** By the number of the reason. */
  readonly #drops = new Float64Array(dropReasons.length + 1);
  tcpStrays = 0;
  tcpResetsDoubted = 0;

  /** `direction`: OUTWARD or INWARD, the indexes of both arrays. */
  forwarded(direction: number, bytes: number): void {
    this.#packets[direction] = this.#packets[direction]! + 1;
    this.#bytes[direction] = this.#bytes[direction]! + bytes;
  }

  dropped(reason: number): void {
    this.#drops[reason] = this.#drops[reason]! + 1;
  }

  counts(): TrafficCounts {
    return {
      packetsOut: this.#packets[OUTWARD]!,
      bytesOut: this.#bytes[OUTWARD]!,
      packetsIn: this.#packets[INWARD]!,
      bytesIn: this.#bytes[INWARD]!,
      drops: named(dropReasons, this.#drops.subarray(1)),
      tcpStrays: this.tcpStrays,
      tcpResetsDoubted: this.tcpResetsDoubted,
    };
  }
}

export function tableCounts(life: FlowLife, placeholders: PlaceholderBudget, blocks: BlockTable): TableCounts {
  return {
    flowsOpened: life.opened,
    flowsEnded: named(endings, life.ended),
    flowsLive: life.live,
    flowsResting: life.flows.count - life.live,
    flowsMax: life.flows.capacity,
    clients: life.clients.count,
    placeholdersHeld: placeholders.held,
    placeholdersOpened: placeholders.opened,
    placeholdersTaken: placeholders.taken,
    placeholdersFailed: placeholders.failed,
    placeholderErrno: placeholders.lastErrno,
    blocks: blocks.slots().map((slot) => {
      const block = blocks.at(slot);
      // slot is a row of the table's columns.
      return { ...block, portCount: portCount(block.ports), flows: blocks.flows[slot]! };
    }),
  };
}

function named<Name extends string>(names: readonly Name[], counts: Float64Array): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, counts[i] ?? 0])) as Record<Name, number>;
}
