import type { Lease, Machine, Slice, Tenure } from '../leases/model.ts';
import type { Address } from '../net/address.ts';
import { rangeContains } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import type { FlowAnswer } from '../wire/agent.ts';
import type { Attribution } from '../wire/attribution.ts';
import { formatInstant, parseInstant } from '../wire/instants.ts';

/** Who used this port then? All instants are microseconds. */
export type Question = Readonly<{
  address: Address;
  protocol: Protocol;
  port: number;
  at: number;
  remote: Readonly<{ address: Address; port: number }> | null;
}>;

/** What the machine's flow log said, or why it said nothing. */
export type FlowLog = Readonly<{ status: 'not_asked' | 'unreachable' } | { status: 'answered'; answer: FlowAnswer }>;

/** What is known about the question. Rows that do not cover the instant are ignored. */
export type Known = Readonly<{
  now: number;
  tenure: Readonly<{ tenure: Tenure; slice: Slice }> | null;
  machine: Machine | null;
  leases: readonly Lease[];
  /** Names of those holders of the leases that are a fish: the flow log speaks for them, and for nobody else. */
  fish: ReadonlySet<string>;
  flowLog: FlowLog;
}>;

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
export const leasesOn = (leases: readonly Lease[], { protocol, port, at }: Question): readonly Lease[] =>
  leases.filter(
    (lease) =>
      lease.protocol === protocol && rangeContains(lease.ports, { first: port, last: port }) && leaseCovers(lease, at),
  );

/**
 * Whether the flow log could add anything: among several holders it tells which one had this flow, and of a fish it
 * tells the client. Without the remote endpoint a shared port says nothing.
 */
export function asksFlowLog(question: Question, known: Omit<Known, 'flowLog'>): boolean {
  const leases = leasesOn(known.leases, question);
  if (leases.length === 0 || known.machine?.enforcement !== 'agent') return false;
  if (question.remote === null && leases.length > 1) return false;
  return leases.some((lease) => known.fish.has(lease.holder));
}

/** The truth as far as it is known, and no further. */
export function attribute(question: Question, known: Known): Attribution {
  const { tenure, machine } = known;
  const owned = tenure !== null && tenureCovers(tenure.tenure, question.at);
  const leases = owned ? leasesOn(known.leases, question) : [];
  const log = readLog(question, known, leases);
  const holders = findHolders(leases, known.fish, log);
  return {
    address: question.address,
    protocol: question.protocol,
    port: question.port,
    at: formatInstant(question.at),
    machine: owned
      ? { id: tenure.tenure.machine, slice: `slice-${tenure.slice.id}`, generation: tenure.tenure.generation }
      : null,
    holders,
    certainty: certaintyOf(holders),
    flow_log: log.status,
    complete_through: completeThrough(owned ? machine : null, owned, known.now),
  };
}

/** Where no agent reports, the table is all there is, and it is complete now. */
function completeThrough(machine: Machine | null, owned: boolean, now: number): string | null {
  if (!owned || machine?.enforcement === 'none') return formatInstant(now);
  return machine?.agent ? formatInstant(machine.agent.seenAt) : null;
}

const certaintyOf = (holders: readonly Found[]): Attribution['certainty'] => {
  const [only] = holders;
  if (only === undefined) return 'none';
  return holders.length === 1 && only.basis !== 'candidate' ? 'exact' : 'candidates';
};

type Log = Readonly<{
  status: Attribution['flow_log'];
  /** The flow that matches: whose it is, and who is behind it. */
  match: Readonly<{ holder: string; client: string | null }> | null;
}>;

function readLog(question: Question, known: Known, leases: readonly Lease[]): Log {
  const { flowLog } = known;
  if (flowLog.status !== 'answered') return { status: flowLog.status, match: null };
  const { answer } = flowLog;
  const { at, remote } = question;
  const since = answer.covers_since === null ? Infinity : parseInstant(answer.covers_since);
  const through = answer.covers_through === null ? -Infinity : parseInstant(answer.covers_through);
  const holders = new Set(leases.map((lease) => lease.holder));
  const flows = answer.flows.filter(
    (flow) =>
      holders.has(flow.holder) &&
      (remote === null || (flow.remote_address === remote.address && flow.remote_port === remote.port)) &&
      parseInstant(flow.opened_at) <= at &&
      (flow.closed_at === null || at < parseInstant(flow.closed_at)),
  );
  const [first] = flows;
  // A flow that was recorded proves itself, also where the log as a whole does not reach.
  if (first !== undefined && flows.every((flow) => flow.holder === first.holder)) {
    const sameClient = flows.every((flow) => flow.client === first.client);
    return { status: 'match', match: { holder: first.holder, client: sameClient ? first.client : null } };
  }
  // Two holders with one 5-tuple at one instant cannot be: such a log proves nothing.
  const speaks = flows.length === 0 && since <= at && at <= through;
  return { status: speaks ? 'no_match' : 'not_covered', match: null };
}

function findHolders(leases: readonly Lease[], fish: ReadonlySet<string>, log: Log): Found[] {
  const found = (lease: Lease, basis: Basis): Found => ({
    holder: lease.holder,
    lease: `lease-${lease.id}`,
    mode: lease.mode,
    basis,
    client: log.match?.holder === lease.holder ? log.match.client : null,
  });
  const [only] = leases;
  if (leases.length === 1 && only !== undefined)
    return [found(only, only.mode === 'exclusive' ? 'exclusive_lease' : 'only_candidate')];

  if (log.match !== null) {
    const holder = log.match.holder;
    return leases.filter((lease) => lease.holder === holder).map((lease) => found(lease, 'flow_log'));
  }
  // The log is the fish's own and it covers the instant: what is not in it, no fish did.
  const others = leases.filter((lease) => !fish.has(lease.holder));
  if (log.status === 'no_match' && others.length > 0) {
    return others.map((lease) => found(lease, others.length === 1 ? 'only_candidate' : 'candidate'));
  }
  return leases.map((lease) => found(lease, 'candidate'));
}
