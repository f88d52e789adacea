import { isRunByAgent, type Lease, type Machine, type Tenure } from '../leases/model.ts';
import type { Broker } from '../leases/reported.ts';
import type { PastLease, PastUse, PortInstant } from '../leases/store.ts';
import type { Address } from '../net/address.ts';
import { rangeContains } from '../net/ports.ts';
import type { FlowAnswer } from '../wire/agent.ts';
import type { Attribution } from '../wire/attribution.ts';
import { formatInstant, parseInstant } from '../wire/instants.ts';
import { microseconds } from './units.ts';

/** Who used this port then? All instants are microseconds. */
export type Question = PortInstant & Readonly<{ remote: Readonly<{ address: Address; port: number }> | null }>;

/** What the machine's flow log said, or why it said nothing. */
export type FlowLog = Readonly<{ status: 'not_asked' | 'unreachable' } | { status: 'answered'; answer: FlowAnswer }>;

/** What is known about the question. Rows that do not cover the instant are ignored. */
export type Known = PastUse & Readonly<{ now: number; flowLog: FlowLog }>;

type Found = Attribution['holders'][number];
type Basis = Found['basis'];

/** A machine owns a slice from its assignment until the slice is free again: the instant of the end is not its own. */
export const tenureCovers = (tenure: Tenure, at: number): boolean =>
  tenure.from <= at && (tenure.until === null || at < tenure.until);

/**
 * A holder is answerable for a port from its grant until its users were proven gone, so through `ending`, and not during
 * the cooldown. A refused lease was never usable.
 */
export const leaseCovers = (lease: Lease, at: number): boolean =>
  lease.state !== 'refused' && lease.grantedAt <= at && (lease.emptyAt === null || at < lease.emptyAt);

/** The leases that matter: on this very port, at this very instant. */
export const leasesOn = (leases: readonly PastLease[], { protocol, port, at }: Question): readonly PastLease[] =>
  leases.filter(
    (lease) =>
      lease.protocol === protocol && rangeContains(lease.ports, { first: port, last: port }) && leaseCovers(lease, at),
  );

/** Holders of the leases that the agent runs, fish and terminator: the flow log speaks for them, and for nobody else. */
const loggedOf = ({ holders }: Pick<PastUse, 'holders'>): ReadonlySet<string> =>
  new Set(holders.filter(({ kind }) => isRunByAgent(kind)).map(({ name }) => name));

/**
 * Whether the flow log could add anything: among several holders it tells which one had this flow, and of a fish or a
 * terminator it tells the client. Without the remote endpoint a shared port says nothing.
 */
export function asksFlowLog(question: Question, known: PastUse): boolean {
  const leases = leasesOn(known.leases, question);
  if (leases.length === 0 || known.machine?.enforcement !== 'agent') return false;
  if (question.remote === null && leases.length > 1) return false;
  const logged = loggedOf(known);
  return leases.some((lease) => logged.has(lease.holder));
}

/** The truth as far as it is known, and no further. */
export function attribute(question: Question, known: Known): Attribution {
  const tenure = known.tenure && tenureCovers(known.tenure, question.at) ? known.tenure : null;
  const leases = tenure ? leasesOn(known.leases, question) : [];
  const log = readLog(question, known.flowLog, leases);
  // What was over before has been removed, in part or as a whole: who is not found may have been there all the same.
  const isKept = known.historySince === null || question.at >= known.historySince;
  // Where the machine granted itself, what it did not come to tell of may have been there, too.
  const isTold = tenure?.allocator !== 'machine' || isReported(known.broker, question.at);
  const isWhole = isKept && isTold;
  const toldThrough = tenure?.allocator === 'machine' ? (known.broker?.asOf ?? 0) : Infinity;
  const holders = findHolders(leases, loggedOf(known), log, { at: question.at, isWhole, toldThrough });
  return {
    address: question.address,
    protocol: question.protocol,
    port: question.port,
    at: formatInstant(question.at),
    machine: tenure ? { id: tenure.machine, slice: `slice-${tenure.slice}`, generation: tenure.generation } : null,
    holders,
    certainty: certaintyOf(holders, { isKept, isTold }),
    flow_log: log.status,
    flow_log_margin_s: log.marginS,
    complete_through: completeThrough(tenure, known, question.at),
    history_since: known.historySince === null ? null : formatInstant(known.historySince),
  };
}

/** Whether everything is known of what the machine granted that was there at an instant. */
export const isReported = (broker: Pick<Broker, 'completeSince' | 'asOf'> | null, at: number): boolean =>
  broker !== null && broker.completeSince <= at && at < broker.asOf;

/**
 * Through when everything is known of who had the ports of a tenure. Where no agent reports, the table is all there is;
 * where the tenure is over or the machine is gone, nothing that is said of it counts any more. Where the machine granted
 * itself, as far as its broker told: not at all where that does not reach back to the instant `at`.
 */
export function completeThrough(
  tenure: Pick<Tenure, 'until' | 'allocator'> | null,
  { machine, broker, now }: Readonly<{ machine: Machine | null; broker: Broker | null; now: number }>,
  at: number,
): string | null {
  if (tenure?.allocator === 'machine') {
    if (broker === null || broker.completeSince >= broker.asOf || at < broker.completeSince) return null;
    return formatInstant(tenure.until !== null && tenure.until <= broker.asOf ? now : broker.asOf);
  }
  if (tenure?.until !== null || machine === null || machine.enforcement === 'none') return formatInstant(now);
  return machine.agent ? formatInstant(machine.agent.seenAt) : null;
}

function certaintyOf(
  holders: readonly Found[],
  { isKept, isTold }: Readonly<{ isKept: boolean; isTold: boolean }>,
): Attribution['certainty'] {
  const [only] = holders;
  if (only === undefined && !isTold) return 'machine_allocated';
  if (only === undefined) return isKept ? 'none' : 'unknown';
  return holders.length === 1 && only.basis !== 'candidate' ? 'exact' : 'candidates';
}

type Log = Readonly<{
  status: Attribution['flow_log'];
  marginS: number | null;
  /** The flow that matches: whose it is, and who is behind it. */
  match: Readonly<{ holder: string; client: string | null }> | null;
}>;

/**
 * The log's clock is as fine as its margin: a flow counts from so long before it opened until so long after it closed, and
 * that there was none is proven only where the log covers all of that. Otherwise the very millisecond in which a short
 * flow began would be laid at the door of whoever else had the port.
 */
function readLog(question: Question, flowLog: FlowLog, leases: readonly Lease[]): Log {
  if (flowLog.status !== 'answered') return { status: flowLog.status, marginS: null, match: null };
  const { answer } = flowLog;
  const { at, remote } = question;
  const marginS = answer.clock_margin_s;
  const margin = microseconds(marginS);
  const since = answer.covers_since === null ? Infinity : parseInstant(answer.covers_since);
  const through = answer.covers_through === null ? -Infinity : parseInstant(answer.covers_through);
  const holders = new Set(leases.map((lease) => lease.holder));
  const flows = answer.flows.filter(
    (flow) =>
      holders.has(flow.holder) &&
      (remote === null || (flow.remote_address === remote.address && flow.remote_port === remote.port)) &&
      parseInstant(flow.opened_at) - margin <= at &&
      (flow.closed_at === null || at < parseInstant(flow.closed_at) + margin),
  );
  const [first] = flows;
  // A flow that was recorded proves itself, also where the log as a whole does not reach.
  if (first !== undefined && flows.every((flow) => flow.holder === first.holder)) {
    const sameClient = flows.every((flow) => flow.client === first.client);
    return { status: 'match', marginS, match: { holder: first.holder, client: sameClient ? first.client : null } };
  }
  // Two holders with one 5-tuple at one instant cannot be: such a log proves nothing.
  const speaks = flows.length === 0 && since <= at - margin && at + margin <= through;
  return { status: speaks ? 'no_match' : 'not_covered', marginS, match: null };
}

type Reach = Readonly<{ at: number; isWhole: boolean; toldThrough: number }>;

function findHolders(
  leases: readonly PastLease[],
  logged: ReadonlySet<string>,
  log: Log,
  { at, isWhole, toldThrough }: Reach,
): Found[] {
  const found = (lease: PastLease, basis: Basis): Found => ({
    holder: lease.holder,
    lease: `lease-${lease.id}`,
    ...(lease.byMachine ? { allocator: 'machine' as const } : {}),
    mode: lease.mode,
    basis,
    client: log.match?.holder === lease.holder ? log.match.client : null,
    from: formatInstant(lease.grantedAt),
    until: lease.emptyAt === null ? null : formatInstant(lease.emptyAt),
  });
  const [only] = leases;
  if (leases.length === 1 && only?.mode === 'exclusive') {
    // By the last that its machine told it was there, and it may have ended since.
    const isProven = at < Math.max(only.emptyAt ?? 0, toldThrough);
    return [found(only, isProven ? 'exclusive_lease' : 'candidate')];
  }
  if (log.match !== null) {
    const holder = log.match.holder;
    return leases.filter((lease) => lease.holder === holder).map((lease) => found(lease, 'flow_log'));
  }
  // The log is of those the agent runs, and it covers the instant: what is not in it, none of them did.
  const others = leases.filter((lease) => !logged.has(lease.holder));
  const candidates = log.status === 'no_match' && others.length > 0 ? others : leases;
  return candidates.map((lease) => found(lease, candidates.length === 1 && isWhole ? 'only_candidate' : 'candidate'));
}
