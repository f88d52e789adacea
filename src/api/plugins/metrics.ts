import fp from 'fastify-plugin';
import { collectDefaultMetrics, type Registry } from 'prom-client';
import type { Context } from '../context.ts';
import { brokerMetrics } from '../metrics/brokers.ts';
import { machineMetrics } from '../metrics/machines.ts';
import { portMetrics } from '../metrics/ports.ts';
import { routerMetrics } from '../metrics/routers.ts';
import { serverMetrics } from '../metrics/server.ts';
import { unprovenMetrics } from '../metrics/unproven.ts';
import { ApiProblem } from '../problems.ts';

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Registry;
  }
}

type MetricsOptions = Readonly<{ context: Context; registry: Registry }>;

/** Numbers for Prometheus. Names are `fishery_*` with their unit; counters begin at zero with the process. */
export const metrics = fp<MetricsOptions>(
  async (app, { context, registry }) => {
    const { instruments } = context;
    app.decorate('metrics', registry);
    if (context.processMetrics) collectDefaultMetrics({ register: registry });

    app.addHook('onResponse', (request, reply, done) => {
      done();
      const { url, config } = request.routeOptions;
      if (config.operation?.produces === 'text/event-stream' && reply.statusCode === 200) return;
      const s = reply.elapsedTime / 1_000;
      // The pattern of the route, never the path: identifiers would make a time series each.
      instruments.request({ method: request.method, route: url ?? 'none', status: reply.statusCode }, s);
      // What a broker did, it counts itself.
      const { wait, allocator } = (request.query ?? {}) as { wait?: string; allocator?: string };
      if (config.operation?.id === 'grantLeases' && reply.statusCode < 300 && allocator !== 'machine')
        instruments.grant(wait === 'stored' ? 'stored' : 'applied', s);
    });
    app.addHook('onError', async (request, _reply, error) => {
      if (!(error instanceof ApiProblem)) return;
      if (request.routeOptions.config.operation?.id === 'grantLeases') instruments.grantRefused(error.code);
      // Said of machines that there are, by who has their token: there are no more series than machines.
      if (error.code === 'machine_taken') instruments.machineTaken((request.params as { id: string }).id);
    });
    const stopCounting = context.leases.onEvents((events) => instruments.committed(events));
    app.addHook('onClose', async () => stopCounting());

    portMetrics(context, registry);
    machineMetrics(context, registry);
    brokerMetrics(context, registry);
    routerMetrics(context, registry);
    unprovenMetrics(context, registry);
    serverMetrics(context, registry);
  },
  { name: 'fishery-metrics' },
);
