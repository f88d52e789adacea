import { fastifySSE } from '@fastify/sse';
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyServerFactoryHandler,
} from 'fastify';
import { Registry } from 'prom-client';
import { answerBareConnection } from './bare-connection.ts';
import type { Context } from './context.ts';
import { Forwarding } from './forwarding.ts';
import { FlowQueries } from './flow-queries.ts';
import { instruments } from './metrics/instruments.ts';
import type { Parts } from './parts.ts';
import { DenialLog } from './denial-log.ts';
import { Denials } from './denials.ts';
import { auth } from './plugins/auth.ts';
import { callers } from './plugins/callers.ts';
import { conditional } from './plugins/conditional.ts';
import { denialLog } from './plugins/denial-log.ts';
import { Epochs } from './epochs.ts';
import { docs } from './plugins/docs.ts';
import { forwarding } from './plugins/forwarding.ts';
import { metrics } from './plugins/metrics.ts';
import { operations } from './plugins/operations.ts';
import { problemOf, problems, sendProblem } from './plugins/problems.ts';
import { seen } from './plugins/seen.ts';
import { serving } from './plugins/serving.ts';
import { tokens } from './plugins/tokens.ts';
import { validation } from './plugins/validation.ts';
import { RateLimits } from './rate-limits.ts';
import { brokerRoutes } from './routes/broker.ts';
import { agentRoutes } from './routes/agent.ts';
import { auditRoutes } from './routes/audit.ts';
import { attributionRoutes } from './routes/attribution.ts';
import { explainRoutes } from './routes/explain.ts';
import { epochRoutes } from './routes/epoch.ts';
import { holderRoutes } from './routes/holders.ts';
import { leaseRoutes } from './routes/leases.ts';
import { logRoutes } from './routes/log.ts';
import { machineRoutes } from './routes/machines.ts';
import { poolRoutes } from './routes/pools.ts';
import { revocationRoutes } from './routes/revocations.ts';
import { routeRoutes } from './routes/routes.ts';
import { routerRoutes } from './routes/routers.ts';
import { serverRoutes } from './routes/server.ts';
import { sessionRoutes } from './routes/sessions.ts';
import { sliceRoutes } from './routes/slices.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { watchRoutes } from './routes/watch.ts';
import { apiProblem } from './problems.ts';
import { TokenCache } from './token-cache.ts';
import { TokenUses } from './token-uses.ts';
import { Watchers } from './watchers.ts';

const token_cache_entries_max = 4_096;
const token_cache_age_us_max = 5_000_000;
const flow_queries_pending_max = 1_000;
const forwarded_per_machine_max = 256;
const relay_ms = 2_000;

const allRoutes = [
  serverRoutes,
  epochRoutes,
  poolRoutes,
  machineRoutes,
  holderRoutes,
  sliceRoutes,
  sessionRoutes,
  leaseRoutes,
  explainRoutes,
  revocationRoutes,
  agentRoutes,
  watchRoutes,
  brokerRoutes,
  routerRoutes,
  routeRoutes,
  logRoutes,
  auditRoutes,
  attributionRoutes,
  tokenRoutes,
];
/** Those with operations that a broker serves: see `brokerOperations`. */
const routesOfBroker = [
  serverRoutes,
  machineRoutes,
  holderRoutes,
  sliceRoutes,
  sessionRoutes,
  leaseRoutes,
  explainRoutes,
];

/** The API, ready to listen or to have requests injected. `close()` ends streams and waits, and finishes answers. */
export function buildApp(parts: Parts): FastifyInstance {
  const { limits, tls, trustedProxies = [] } = parts;
  const stopping = new AbortController();
  const registry = new Registry();
  const nowUs = () => parts.clock.nowUs();
  const context: Context = {
    ...parts,
    tokens: new TokenCache({
      lookup: (hash) => parts.reader.accessToken(hash),
      nowUs,
      entries_max: token_cache_entries_max,
      age_us_max: token_cache_age_us_max,
    }),
    denialLog: new DenialLog({ execute: (command) => parts.leases.execute(command), nowUs }),
    uses: new TokenUses({ execute: (command) => parts.leases.execute(command), nowUs }),
    rates: new RateLimits({ ...limits, nowUs }),
    denials: new Denials(),
    instruments: instruments(registry),
    watchers: new Watchers({ ...limits, nowUs }),
    epochs: new Epochs({ ...parts, nowUs: () => parts.clock.nowUs(), newId: () => crypto.randomUUID() }),
    flows: new FlowQueries({ timeout_ms: limits.flow_query_ms, pending_max: flow_queries_pending_max }),
    forwarding: new Forwarding({
      pending_per_machine_max: forwarded_per_machine_max,
      relay_ms,
      relay: parts.relay,
      onError: (error) => parts.logger.warn({ err: error }, 'other servers could not be told'),
    }),
    stopping: stopping.signal,
  };

  const loggerInstance: FastifyBaseLogger = parts.logger;
  const app: FastifyInstance = fastify({
    loggerInstance,
    // One line per request would cost a third of the throughput; failures are logged, and the rest is in the metrics.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.body_bytes_max,
    requestTimeout: limits.request_ms,
    genReqId: requestIds(),
    // Refused by plugins/serving.ts instead, with a problem document.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 256 },
    trustProxy: trustedProxies.length > 0 && [...trustedProxies],
    ...(tls && { serverFactory: (handler: FastifyServerFactoryHandler) => tls.listen(handler, limits) }),
    clientErrorHandler: answerBareConnection,
    frameworkErrors: (error, request, reply) => void sendProblem(problemOf(error, request), request, reply),
  });
  acceptJsonOnly(app);

  app.register(validation);
  app.register(problems, { onProblem: (request, { code }) => context.denialLog.note(request, code) });
  app.register(forwarding, { context });
  app.register(operations, { serves: parts.callers?.serves });
  app.register(conditional);
  app.register(serving, { context, stop: () => stopping.abort() });
  if (parts.callers) app.register(callers, { context, callers: parts.callers });
  else {
    app.register(auth, { context });
    app.register(tokens, { context });
  }
  app.register(denialLog, { context });
  app.register(seen, { context });
  app.register(metrics, { context, registry });
  app.register(fastifySSE);
  app.register(docs, { version: parts.version });
  for (const routes of parts.callers ? routesOfBroker : allRoutes) app.register(routes, { context });
  return app;
}

/** `x-request-id` of the caller where it is one, so that a request can be followed through several services. */
function requestIds(): (request: { headers: Readonly<Record<string, string | string[] | undefined>> }) => string {
  const process = crypto.randomUUID().slice(0, 8);
  let count = 0;
  return ({ headers }) => {
    const given = headers['x-request-id'];
    return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : `${process}-${(++count).toString(36)}`;
  };
}

/** JSON, or nothing at all: an empty body with the JSON media type is what many clients send when they have none. */
function acceptJsonOnly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else
      void parse(request, body, (error, value) => {
        const key = error ? forbiddenKey(body) : undefined;
        done(
          key === undefined ? error : apiProblem('malformed_request', `the body has the forbidden key "${key}"`),
          value,
        );
      });
  });
}

/** In a text that is JSON and was refused all the same: the key that it was refused for. */
function forbiddenKey(body: string): string | undefined {
  let found: string | undefined;
  try {
    JSON.parse(body, (key, value: unknown) => {
      if (key === '__proto__' || key === 'constructor') found ??= key;
      return value;
    });
    return found;
  } catch {
    return undefined;
  }
}
