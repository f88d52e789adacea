import { familyOf, type Address, type Family } from '../../net/address.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import type { AddressBook } from '../packet/address-book.ts';
import type { BlockTable } from '../ports/blocks.ts';
import { FREE, LIVE, RESTING, type FlowTable } from '../flows/flow-table.ts';
import { flowProtocol } from '../packet/packet.ts';
import { walkRows, type Walk } from './walk.ts';
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
  remotePort?: number;
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

/** Up to as many as were asked for, in no particular order. */
export type FlowList = Readonly<{ flows: readonly FlowSnapshot[]; truncated: boolean }>;

/** Whether a row passes, by its numbers: texts are made of those that do. */
function filterOf(
  filter: FlowFilter,
  flows: FlowTable,
  book: AddressBook,
  blocks: BlockTable,
): (row: number) => boolean {
  const state = filter.state === undefined ? undefined : filter.state === 'live' ? LIVE : RESTING;
  const numbers: (readonly [ArrayLike<number>, number])[] = [];
  const families: Family[] = [];
  const wantAddress = (column: Uint32Array, address: Address | undefined): void => {
    if (address === undefined) return;
    numbers.push([column, book.numberOf(address)]);
    families.push(familyOf(address));
  };
  wantAddress(flows.client, filter.client);
  wantAddress(flows.remote, filter.remote);
  if (filter.remotePort !== undefined) numbers.push([flows.remotePort, filter.remotePort]);
  const protocolNumbers = (filter.protocol === undefined ? protocols : [filter.protocol]).flatMap((name) =>
    ([4, 6] as const)
      .filter((family) => families.every((each) => each === family))
      .map((family) => flowProtocol(name, family)),
  );
  // Flows are rows of every column.
  return (row) =>
    flows.state[row] !== FREE &&
    (state === undefined || flows.state[row] === state) &&
    numbers.every(([column, number]) => column[row] === number) &&
    protocolNumbers.includes(flows.protocol[row]!) &&
    (filter.lease === undefined || blocks.at(flows.block[row]!).lease === filter.lease);
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

/** What people ask about all flows. */
export class FlowViews {
  readonly #life: FlowLife;
  readonly #book: AddressBook;
  readonly #blocks: BlockTable;

  constructor(life: FlowLife, book: AddressBook, blocks: BlockTable) {
    this.#life = life;
    this.#book = book;
    this.#blocks = blocks;
  }

  /** Those that pass, live or resting, each as it was when it was looked at. */
  *list(filter: FlowFilter, max: number): Walk<FlowList> {
    const { flows } = this.#life;
    const passes = filterOf(filter, flows, this.#book, this.#blocks);
    const found: FlowSnapshot[] = [];
    let truncated = false;
    yield* walkRows(flows.capacity, (flow) => {
      if (!passes(flow)) return true;
      truncated = found.length === max;
      if (!truncated) found.push(this.#snapshotOf(flow));
      return !truncated;
    });
    return { flows: found, truncated };
  }

  /** Those with the most bytes, up to `max`. */
  topTalkers(by: TalkerKind, max: number): Walk<readonly Talker[]> {
    return topTalkers(this.#life, this.#book, this.#blocks, by, max);
  }

  /** Of each protocol the `max` remotes toward which most leased ports are used. */
  busyRemotes(max: number): readonly BusyRemote[] {
    return busyRemotes(this.#life, this.#book, this.#blocks, max);
  }

  #snapshotOf(flow: number): FlowSnapshot {
    const { flows, traffic } = this.#life;
    return {
      ...describeTuple(flows, flow, this.#book),
      lease: this.#blocks.at(flows.block[flow]!).lease,
      state: flows.state[flow] === LIVE ? 'live' : 'resting',
      openedAt: this.#life.instantOf(flows.openedMs[flow]!),
      hasPlaceholder: flows.placeholder[flow]! >= 0,
      ...traffic.of(flow),
    };
  }
}
