import type * as core from '../leases/commands.ts';
import type { LeaseEnding, SessionEnding } from '../leases/model.ts';
import type * as wire from '../wire/broker.ts';
import { parseInstant } from '../wire/instants.ts';
import { numberOf } from './requests.ts';
import { microseconds } from './units.ts';

const instantOf = (text: string | null): number | null => (text === null ? null : parseInstant(text));

/** A broker's report as the core takes it. */
export function grantedReportOf(machine: string, report: wire.GrantedReport): core.GrantedReport {
  const { snapshot, ports, counters } = report;
  return {
    machine,
    bootId: report.boot_id,
    epoch: report.broker_epoch,
    after: report.after,
    through: report.through,
    asOf: parseInstant(report.as_of),
    snapshot: snapshot && {
      page: snapshot.page,
      isLast: snapshot.last,
      historySince: parseInstant(snapshot.history_since),
    },
    sessions: report.sessions.map((session) => ({
      id: numberOf(session.id),
      holder: session.holder,
      state: session.state,
      ending: session.ending satisfies SessionEnding | null,
      ttlUs: microseconds(session.ttl_s),
      expiresAt: parseInstant(session.expires_at),
      openedAt: parseInstant(session.opened_at),
      endedAt: instantOf(session.ended_at),
      revision: session.revision,
    })),
    leases: report.leases.map((lease) => ({
      id: numberOf(lease.id),
      slice: numberOf(lease.slice),
      ...tokenOf(lease.token),
      session: lease.session === null ? null : numberOf(lease.session),
      holder: lease.holder,
      protocol: lease.protocol,
      ports: lease.ports,
      mode: lease.mode,
      binding: lease.binding,
      state: lease.state,
      ending: lease.ending satisfies LeaseEnding | null,
      refusal: lease.refusal,
      grantedAt: parseInstant(lease.granted_at),
      activeAt: instantOf(lease.active_at),
      endingAt: instantOf(lease.ending_at),
      emptyAt: instantOf(lease.empty_at),
      reusableAt: instantOf(lease.reusable_at),
      endedAt: instantOf(lease.ended_at),
      revision: lease.revision,
    })),
    ...(ports === undefined ? {} : { ports }),
    ...(counters === undefined ? {} : { counters }),
  };
}

/** The sequence is the number of the lease, which has it anyway. */
function tokenOf(token: string): Readonly<{ generation: number; epoch: number }> {
  const [generation = 0, epoch = 0] = token.split('.').map(Number);
  return { generation, epoch };
}
