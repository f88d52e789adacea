import { rangeContains } from '../net/ports.ts';
import { err, ok } from '../net/result.ts';
import type { GrantedReport, RejectedGrant } from './commands.ts';
import { takenUntil } from './guard-shut.ts';
import { limits } from './limits.ts';
import { tenureKey } from './model.ts';
import type { Need } from './needs.ts';
import { overAtOf, reportedKey, type Broker } from './reported.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';

/**
 * Writes down what the broker of a machine granted and ended by itself. Reports follow one another, so that nothing is
 * missing and nothing counts twice; one that does not follow changes nothing. No event tells of it: of ten thousand leases
 * there would be as many, for watchers of whom none can do anything about them.
 */
export const reportGranted: UseCase<'reportGranted'> = {
  *needs({ machine, leases, sessions, ...report }, { view }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'broker', machine },
      ...leases.flatMap(({ slice, generation }): readonly Need[] => [
        { need: 'slice', id: slice },
        { need: 'tenure', slice, generation },
      ]),
    ];
    const incarnation = incarnationOf(view.brokers.get(machine), report);
    const rest = lostAfter(view.brokers.get(machine), report);
    const limit = limits.lost_rows_per_report;
    yield [
      ...sessions.map(({ id }): Need => ({ need: 'reportedSession', machine, incarnation, id })),
      ...leases.map(({ id }): Need => ({ need: 'reportedLease', machine, incarnation, id })),
      ...(rest === null
        ? []
        : ([
            { need: 'lostSessions', machine, before: rest.before, limit },
            { need: 'lostLeases', machine, before: rest.before, limit },
          ] as const)),
    ];
  },

  decide(report, context) {
    const { view } = context;
    if (report.leases.length + report.sessions.length > limits.report_entries_max)
      throw new Error('too many entries in one report');
    const machine = view.machines.get(report.machine);
    if (!machine) return err({ code: 'machine_not_found', machine: report.machine });
    const takenTo = report.bootId === undefined ? undefined : takenUntil(machine, report.bootId, context);
    if (takenTo !== undefined) return err({ code: 'machine_taken', machine: machine.id, at: takenTo });
    const known = view.brokers.get(machine.id);
    const standing = standingOf(known, report);
    if (standing === 'gap') return err({ code: 'report_gap', machine: machine.id, ...positionOf(known) });
    const broker = standing === 'repeated' ? known : follow(known, report, context);
    if (!broker) throw new Error('a report is repeated of a broker that there is not');
    const rejected: RejectedGrant[] = [];
    const row = { machine: machine.id, incarnation: broker.incarnation, told: broker.told };
    for (const entry of report.leases) {
      const rejection = flawOf(context, machine.id, entry);
      if (rejection) rejected.push(rejection);
      const slice = view.slices.get(entry.slice);
      // What the entry says of an older revision was told better before.
      if (
        rejection ||
        !slice ||
        standing === 'repeated' ||
        isOlder(view.reportedLeases.get(keyOf(row, entry)), row, entry)
      )
        continue;
      view.reportedLeases.put({ ...entry, ...row, reason: null, pool: slice.pool, address: slice.address });
    }
    if (standing === 'repeated') return ok({ broker, rejected });
    for (const entry of report.sessions)
      if (!isOlder(view.reportedSessions.get(keyOf(row, entry)), row, entry))
        view.reportedSessions.put({ ...entry, ...row });
    const settled = settle(view, broker);
    view.brokers.put(settled);
    return ok({ broker: settled, rejected });
  },
};

/** Where a broker's reports stand, for whoever has to go on from there. */
export const positionOf = (
  broker: Broker | undefined,
): Readonly<{ epoch: string | null; through: number; page: number }> => ({
  epoch: broker?.epoch ?? null,
  through: broker?.isWhole ? broker.through : 0,
  page: broker?.snapshot?.page ?? 0,
});

type Progress = Pick<GrantedReport, 'epoch' | 'after' | 'through' | 'snapshot' | 'asOf'>;

/** How the report lies to what was told before. */
function standingOf(
  broker: Broker | undefined,
  { epoch, after, through, snapshot }: Progress,
): 'follows' | 'repeated' | 'gap' {
  if (snapshot?.page === 1) return 'follows';
  if (broker?.epoch !== epoch) return 'gap';
  if (snapshot === null) {
    if (!broker.isWhole) return 'gap';
    if (after === broker.through) return 'follows';
    return after === broker.after && through === broker.through ? 'repeated' : 'gap';
  }
  const { page, isLast } = snapshot;
  if (broker.snapshot === null)
    return isLast && broker.isWhole && after === broker.after && through === broker.through ? 'repeated' : 'gap';
  if (broker.snapshot.through !== through) return 'gap';
  // A page that comes again is taken again: its rows are what they are.
  return page === broker.snapshot.page + 1 || page === broker.snapshot.page ? 'follows' : 'gap';
}

const incarnationOf = (broker: Broker | undefined, { epoch }: Pick<Progress, 'epoch'>): number =>
  broker === undefined ? 1 : broker.epoch === epoch ? broker.incarnation : broker.incarnation + 1;

const toldBy = (broker: Broker | undefined, { snapshot }: Pick<Progress, 'snapshot'>): number =>
  (broker?.told ?? 0) + (snapshot?.page === 1 ? 1 : 0);

/** What is over since a snapshot did not tell of it, once that is complete. */
const lostAfter = (broker: Broker | undefined, report: Progress): Broker['lost'] =>
  report.snapshot?.isLast ? { before: toldBy(broker, report), at: report.asOf } : (broker?.lost ?? null);

/** The broker once this report counts. */
function follow(broker: Broker | undefined, report: GrantedReport, { now }: Context): Broker {
  const { machine, epoch, through, snapshot } = report;
  const isSame = broker?.epoch === epoch;
  // Its clock may be ahead of ours: what it has not come to by ours it cannot have told.
  const asOf = Math.min(report.asOf, now);
  const isComplete = snapshot === null || snapshot.isLast;
  const since = snapshot?.historySince ?? broker?.completeSince ?? asOf;
  // Before the first snapshot is whole nothing is.
  const before = broker?.isWhole || (broker && !isSame) ? broker : undefined;
  const isContinued = before !== undefined && (snapshot === null || snapshot.historySince <= before.asOf);
  const nothing = { granted: 0, refused: 0, ended: 0 };
  return {
    machine,
    epoch,
    incarnation: incarnationOf(broker, report),
    isWhole: isComplete || (isSame && broker.isWhole),
    after: isComplete ? report.after : isSame ? broker.after : 0,
    through: isComplete ? through : isSame ? broker.through : 0,
    completeSince: isComplete
      ? isContinued
        ? before.completeSince
        : Math.min(since, asOf)
      : (broker?.completeSince ?? asOf),
    asOf: isComplete ? asOf : (broker?.asOf ?? asOf),
    reportedAt: now,
    told: toldBy(broker, report),
    snapshot: isComplete ? null : { page: snapshot.page, through },
    lost: lostAfter(broker, { ...report, asOf }),
    ports: report.ports ?? broker?.ports ?? [],
    counters: report.counters ?? (isSame ? broker.counters : nothing),
  };
}

/** Ends what lives and was not told of in the snapshot, as much of it as was loaded. */
function settle(view: View, broker: Broker): Broker {
  const { lost, machine, told } = broker;
  if (lost === null) return broker;
  const max = limits.lost_rows_per_report;
  const isLost = (row: Readonly<{ machine: string; told: number }>) =>
    row.machine === machine && row.told < lost.before;
  const sessions = [...view.reportedSessions.values()].filter((row) => isLost(row) && row.state === 'live');
  for (const session of sessions.slice(0, max))
    view.reportedSessions.put({ ...session, state: 'ended', ending: 'fenced', endedAt: lost.at, told });
  const leases = [...view.reportedLeases.values()].filter((row) => isLost(row) && overAtOf(row) === null);
  for (const lease of leases.slice(0, max))
    view.reportedLeases.put({
      ...lease,
      state: 'ended',
      ending: lease.ending ?? 'fenced',
      reason: 'the broker of its machine knows of it no longer',
      endingAt: lease.endingAt ?? lost.at,
      emptyAt: lease.emptyAt ?? lost.at,
      endedAt: lost.at,
      told,
    });
  // As many were loaded as are ended at once: there may be others.
  return Math.max(sessions.length, leases.length) >= max ? broker : { ...broker, lost: null };
}

const keyOf = (row: Readonly<{ machine: string; incarnation: number }>, { id }: Readonly<{ id: number }>): string =>
  reportedKey({ ...row, id });

/** A snapshot that began later knows better than what was told before it, whatever it was numbered. */
const isOlder = (
  known: Readonly<{ revision: number; told: number }> | undefined,
  { told }: Readonly<{ told: number }>,
  entry: Readonly<{ revision: number }>,
): boolean => known !== undefined && known.told === told && known.revision > entry.revision;

/** Why a lease cannot have been granted there, or cannot be there any more. */
function flawOf(
  { view, now }: Context,
  machine: string,
  lease: GrantedReport['leases'][number],
): RejectedGrant | undefined {
  const tenure = view.tenures.get(tenureKey(lease.slice, lease.generation));
  if (tenure?.machine !== machine || tenure.allocator !== 'machine' || !view.slices.get(lease.slice)) {
    const detail = `${machine} never had generation ${lease.generation} of slice-${lease.slice} to grant in`;
    return { lease: lease.id, code: 'not_allocated', detail };
  }
  if (!rangeContains(tenure.ports, lease.ports)) {
    const { first, last } = tenure.ports;
    return { lease: lease.id, code: 'outside_slice', detail: `slice-${lease.slice} has the ports ${first}-${last}` };
  }
  const overAt = overAtOf(lease);
  const isLive = overAt === null || (lease.state === 'cooling' && overAt > now);
  if (tenure.until !== null && tenure.until <= now && isLive) {
    const detail = `generation ${lease.generation} of slice-${lease.slice} is over, and the lease is ${lease.state}`;
    return { lease: lease.id, code: 'stale_generation', detail };
  }
  return undefined;
}
