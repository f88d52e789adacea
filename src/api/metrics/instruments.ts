import { Counter, Histogram, type Registry } from 'prom-client';
import { countEvent, type LogCounters } from '../log-counters.ts';
import type { Event } from '../../leases/model.ts';

/** What is measured where it happens, in contrast to what is looked up when somebody asks. Times in seconds. */
export type Instruments = Readonly<{
  request: (labels: Readonly<{ method: string; route: string; status: number }>, s: number) => void;
  /** From the arrival of a request for leases to its answer. */
  grant: (wait: 'applied' | 'stored', s: number) => void;
  grantRefused: (code: string) => void;
  /** An agent of another boot than the machine's spoke for it. */
  machineTaken: (machine: string) => void;
  /** From the instant that the log has for a change to the moment it is written to a watcher. */
  watchDelay: (s: number) => void;
  committed: (events: readonly Event[]) => void;
}>;

export function instruments(registry: Registry): Instruments {
  const registers = [registry];
  const request = new Histogram({
    name: 'fishery_http_request_duration_seconds',
    help: 'Time from the arrival of a request to the end of its answer; event streams are left out.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 10, 60],
    registers,
  });
  const grant = new Histogram({
    name: 'fishery_grant_duration_seconds',
    help: 'Time from the arrival of a request for leases to its answer, by what it waits for.',
    labelNames: ['wait'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });
  const refused = new Counter({
    name: 'fishery_grant_refusals_total',
    help: 'Requests for leases that were refused, by the code of the problem.',
    labelNames: ['code'],
    registers,
  });
  const taken = new Counter({
    name: 'fishery_machine_taken_total',
    help: 'Keepalives and reports that were refused because another boot has the machine: a reboot at first, then a clone.',
    labelNames: ['machine'],
    registers,
  });
  const watchDelay = new Histogram({
    name: 'fishery_watch_delay_seconds',
    help: 'Time from a change to when it is written to a watcher.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers,
  });
  const counters = logCounters(registers);
  const commit = new Histogram({
    name: 'fishery_commit_events',
    help: 'Changes per commit that changed something: how many share one fsync.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024],
    registers,
  });
  return {
    request: (labels, s) => request.observe(labels, s),
    grant: (wait, s) => grant.observe({ wait }, s),
    grantRefused: (code) => refused.inc({ code }),
    machineTaken: (machine) => taken.inc({ machine }),
    watchDelay: (s) => watchDelay.observe(s),
    committed: (events) => {
      commit.observe(events.length);
      for (const event of events) countEvent(event, counters);
    },
  };
}

function logCounters(registers: Registry[]): LogCounters {
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Counter({ name, help, labelNames, registers });
  const granted = counter('fishery_leases_granted_total', 'Leases granted.', ['protocol', 'mode']);
  const refused = counter('fishery_leases_refused_total', 'Leases that the kernel of a machine refused.', ['protocol']);
  const ended = counter('fishery_leases_ended_total', 'Leases whose ports were proven unused, by how they ended.', [
    'ending',
  ]);
  const opened = counter('fishery_sessions_opened_total', 'Sessions opened.', []);
  const over = counter('fishery_sessions_ended_total', 'Sessions that ended, by how.', ['ending']);
  return {
    granted: (protocol, mode) => granted.inc({ protocol, mode }),
    refused: (protocol) => refused.inc({ protocol }),
    leaseEnded: (ending) => ended.inc({ ending }),
    sessionOpened: () => opened.inc(),
    sessionEnded: (ending) => over.inc({ ending }),
  };
}
