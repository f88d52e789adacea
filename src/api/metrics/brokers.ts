import { Gauge, type Registry } from 'prom-client';
import type { Context } from '../context.ts';
import { seconds } from '../units.ts';
import { firstOf, shared } from './looked-up.ts';

/** Machines whose brokers are listed; more would be a page that nobody can use. */
const brokers_listed_max = 1_000;

/** What machines reported that they grant themselves, by their own word and as of when. */
export function brokerMetrics({ reader, clock, forwarding }: Context, registry: Registry): void {
  const registers = [registry];
  const nowUs = () => clock.nowUs();
  const brokers = shared(nowUs, () => firstOf((page) => reader.brokers(page), brokers_listed_max));

  new Gauge({
    name: 'fishery_broker_ports',
    help:
      'Ports of slices that a machine grants in itself, by what they are, as its broker reported; how long ago, ' +
      'fishery_broker_report_age_seconds says.',
    labelNames: ['machine', 'pool', 'protocol', 'state'],
    registers,
    async collect() {
      this.reset();
      for (const { machine, ports } of await brokers())
        // Of both families of a pool.
        for (const { pool, protocol, state, ports: count } of ports)
          this.inc({ machine, pool, protocol, state }, count);
    },
  });
  new Gauge({
    name: 'fishery_broker_leases',
    help: 'Leases that a broker granted and ended, and grants that it refused for want of ports, since its table was made.',
    labelNames: ['machine', 'outcome'],
    registers,
    async collect() {
      this.reset();
      for (const { machine, counters } of await brokers())
        for (const outcome of ['granted', 'refused', 'ended'] as const)
          this.set({ machine, outcome }, counters[outcome]);
    },
  });
  new Gauge({
    name: 'fishery_broker_report_age_seconds',
    help: 'Since when it is not known what a machine grants itself: the age of what its broker reported last.',
    labelNames: ['machine'],
    registers,
    async collect() {
      this.reset();
      for (const { machine, asOf } of await brokers()) this.set({ machine }, seconds(Math.max(0, nowUs() - asOf)));
    },
  });
  new Gauge({
    name: 'fishery_forwarded_requests_pending',
    help: 'Requests that were forwarded to brokers and are not answered yet.',
    registers,
    collect() {
      this.set(forwarding.pending);
    },
  });
}
