import type { Address } from '../../net/address.ts';
import type { Protocol } from '../../net/protocol.ts';
import type { AddressBook } from '../packet/address-book.ts';
import type { BlockTable } from '../ports/blocks.ts';
import { FREE, LIVE } from '../flows/flow-table.ts';
import type { FlowAnswer, FlowLog } from './flow-log.ts';
import type { FlowRecord } from './flow-record.ts';
import type { FlowLife } from '../flows/flow-life.ts';
import type { Traffic } from '../flows/flow-traffic.ts';
import { busyRemotes, topTalkers, type BusyRemote, type Talker, type TalkerKind } from './talkers.ts';
import { describeTuple, rowMatches, wantedTuple, type FlowQuery, type TupleText } from '../flows/flow-tuple.ts';

/** What to look for among the flows; what is left out matches anything. */
export type FlowFilter = Readonly<{
  lease?: string;
  protocol?: Protocol;
  client?: Address;
  remote?: Address;
  state?: 'live' | 'resting';
}>;

/** A flow as it was when asked for. */
export type FlowSnapshot = TupleText &
  Readonly<{
    lease: string;
    state: 'live' | 'resting';
    /** Microseconds since 1970. */
    openedAt: number;
    hasPlaceholder: boolean;
  }> &
  Traffic;

/** The flows that are live or resting, one by one, in no particular order: for people, not for the packet path. */
export function* flowSnapshots(
  life: FlowLife,
  book: AddressBook,
  blocks: BlockTable,
  filter: FlowFilter,
): Generator<FlowSnapshot> {
  const { flows } = life;
  for (let flow = 0; flow < flows.capacity; flow++) {
    if (flows.state[flow] === FREE) continue;
    // flow is below the capacity of every column.
    const snapshot: FlowSnapshot = {
      ...describeTuple(flows, flow, book),
      lease: blocks.at(flows.block[flow]!).lease,
      state: flows.state[flow] === LIVE ? 'live' : 'resting',
      openedAt: life.instantOf(flows.openedMs[flow]!),
      hasPlaceholder: flows.placeholder[flow]! >= 0,
      ...life.traffic.of(flow),
    };
    if (passes(snapshot, filter)) yield snapshot;
  }
}

function passes(flow: FlowSnapshot, filter: FlowFilter): boolean {
  return (
    (filter.lease === undefined || filter.lease === flow.lease) &&
    (filter.protocol === undefined || filter.protocol === flow.protocol) &&
    (filter.client === undefined || filter.client === flow.client) &&
    (filter.remote === undefined || filter.remote === flow.remote) &&
    (filter.state === undefined || filter.state === flow.state)
  );
}

/** Who had this tuple at this instant: the flows that last and, from the log, those that have ended. */
export function whoHad(
  query: FlowQuery,
  life: FlowLife,
  book: AddressBook,
  blocks: BlockTable,
  log: FlowLog,
  nowMs: number,
  max: number,
): FlowAnswer {
  const { marginUs } = log;
  const coversThrough = life.instantOf(nowMs);
  const coversSince = log.coversSince(query.at);
  // One more than wanted tells whether there are more.
  const isAhead = query.at - marginUs > coversThrough;
  const lasting = isAhead ? [] : liveMatches(query, life, book, blocks, marginUs, max + 1);
  const matches = [...lasting, ...log.search(query, max + 1 - lasting.length)];
  const covered = coversSince <= query.at - marginUs && query.at + marginUs <= coversThrough;
  return {
    verdict: matches.length > 0 ? 'match' : covered ? 'not_mine' : 'not_covered',
    matches: matches.slice(0, max),
    truncated: matches.length > max,
    coversSince,
    coversThrough,
    marginUs,
  };
}

function liveMatches(
  query: FlowQuery,
  life: FlowLife,
  book: AddressBook,
  blocks: BlockTable,
  marginUs: number,
  max: number,
): FlowRecord[] {
  const { flows } = life;
  const wanted = wantedTuple(query, book);
  const found: FlowRecord[] = [];
  for (let flow = 0; flow < flows.capacity && found.length < max; flow++) {
    if (flows.state[flow] !== LIVE || !rowMatches(flows, flow, wanted)) continue;
    const openedAt = life.instantOf(flows.openedMs[flow]!);
    if (openedAt - marginUs > query.at) continue;
    const { lease } = blocks.at(flows.block[flow]!);
    found.push({ ...describeTuple(flows, flow, book), lease, openedAt, closedAt: null, ending: null });
  }
  return found;
}

/** What people ask about all flows: one pass over a table each. */
export class FlowViews {
  readonly #life: FlowLife;
  readonly #book: AddressBook;
  readonly #blocks: BlockTable;

  constructor(life: FlowLife, book: AddressBook, blocks: BlockTable) {
    this.#life = life;
    this.#book = book;
    this.#blocks = blocks;
  }

  /** Those with the most bytes, up to `max`. */
  topTalkers(by: TalkerKind, max: number): readonly Talker[] {
    return topTalkers(this.#life, this.#book, this.#blocks, by, max);
  }

  /** Of each protocol the `max` remotes toward which most leased ports are used. */
  busyRemotes(max: number): readonly BusyRemote[] {
    return busyRemotes(this.#life, this.#book, this.#blocks, max);
  }
}
