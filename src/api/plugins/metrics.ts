import fp from 'fastify-plugin';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Machine } from '../../leases/model.ts';
import type { UsageRow } from '../../leases/store.ts';
import type { Context } from '../context.ts';
import { countEvent, type LogCounters } from '../log-counters.ts';
import { seconds } from '../units.ts';

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Registry;
  }
}

/** Counting every port of every machine takes a read of the whole table: several scrapers share one. */
const usage_age_us_max = 5_000_000;
/** Machines whose agents are listed; more would be a metrics page that nobody can use. */
const machines_listed_max = 5_000;

/** Numbers for Prometheus. Names are `fishery_*` with their unit; counters begin at zero with the process. */
export const metrics = fp<{ context: Context }>(
  async (app, { context }) => {
    const registry = new Registry();
    const registers = [registry];
    app.decorate('metrics', registry);
    if (context.processMetrics) collectDefaultMetrics({ register: registry });

    const duration = new Histogram({
      name: 'fishery_http_request_duration_seconds',
      help: 'Time from the arrival of a request to the end of its answer; event streams are left out.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 10, 60],
      registers,
    });
    app.addHook('onResponse', async (request, reply) => {
      const { url, config } = request.routeOptions;
      if (config.operation?.produces === 'text/event-stream' && reply.statusCode === 200) return;
      // The pattern of the route, never the path: identifiers would make a time series each.
      duration.observe(
        { method: request.method, route: url ?? 'none', status: reply.statusCode },
        reply.elapsedTime / 1_000,
      );
    });

    const counters = logCounters(registers);
    const commit = new Histogram({
      name: 'fishery_commit_events',
      help: 'Changes per commit that changed something: how many share one fsync.',
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024],
      registers,
    });
    const stopCounting = context.leases.onEvents((events) => {
      commit.observe(events.length);
      for (const event of events) countEvent(event, counters);
    });
    app.addHook('onClose', async () => stopCounting());

    gauges(context, registers);
  },
  { name: 'fishery-metrics' },
);

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

function gauges(context: Context, registers: Registry[]): void {
  const { reader, clock, feed, watchers, flows, leases } = context;
  let usage: readonly UsageRow[] = [];
  let usageAt = -Infinity;

  new Gauge({
    name: 'fishery_ports',
    help: 'Ports of slices that machines own, by what they are.',
    labelNames: ['pool', 'machine', 'protocol', 'state'],
    registers,
    async collect() {
      if (clock.nowUs() - usageAt > usage_age_us_max) {
        usage = await reader.usage();
        usageAt = clock.nowUs();
      }
      this.reset();
      for (const { ports, ...labels } of usage) this.set(labels, ports);
    },
  });
  new Gauge({
    name: 'fishery_agent_seen_age_seconds',
    help: 'Time since the last keepalive of the agent of a machine.',
    labelNames: ['machine'],
    registers,
    async collect() {
      this.reset();
      for (const { id, agent } of await machinesOf(context))
        if (agent !== null) this.set({ machine: id }, seconds(Math.max(0, clock.nowUs() - agent.seenAt)));
    },
  });
  new Gauge({
    name: 'fishery_log_revision',
    help: 'The newest revision of the log.',
    registers,
    async collect() {
      this.set(await reader.revision());
    },
  });
  new Gauge({
    name: 'fishery_commands_waiting',
    help: 'Commands that wait for their commit.',
    registers,
    collect() {
      this.set(leases.health().waitingCommands);
    },
  });
  new Gauge({
    name: 'fishery_watch_streams',
    help: 'Open event streams.',
    registers,
    collect() {
      this.set(watchers.size);
    },
  });
  new Gauge({
    name: 'fishery_feed_followers',
    help: 'Followers of the log.',
    registers,
    collect() {
      this.set(feed.followerCount);
    },
  });
  new Gauge({
    name: 'fishery_flow_queries_pending',
    help: 'Questions to flow logs that are not answered yet.',
    registers,
    collect() {
      this.set(flows.pending);
    },
  });
  new Gauge({ name: 'fishery_build_info', help: 'Always 1.', labelNames: ['version'], registers }).set(
    { version: context.version },
    1,
  );
}

async function machinesOf({ reader }: Context): Promise<readonly Machine[]> {
  const machines: Machine[] = [];
  for (let cursor: string | null = null; machines.length < machines_listed_max;) {
    const { items, next } = await reader.machines({ limit: 1_000, cursor });
    machines.push(...items);
    if (next === null) break;
    cursor = next;
  }
  return machines;
}
