import { randomBytes } from 'node:crypto';
import type { Server } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { buildApp } from '../../api/app.ts';
import { ensureOperatorToken, type OperatorToken } from '../../api/operator-token.ts';
import { defaultLimits } from '../../api/parts.ts';
import { TlsListener } from '../../api/tls.ts';
import { startEngine } from '../../engine/remote-engine.ts';
import { Feed } from '../../feed/feed.ts';
import { LogTail } from '../../feed/log-tail.ts';
import { limits } from '../../leases/limits.ts';
import { StoreError } from '../../leases/store.ts';
import { SteadyClock } from '../../ops/clock.ts';
import { createLogger, logSettings, type Logger } from '../../ops/logger.ts';
import { Shutdown } from '../../ops/shutdown.ts';
import { readTlsMaterial, type TlsMaterial, type TlsPaths } from '../../ops/tls-files.ts';
import { TlsReloader } from '../../ops/tls-reloader.ts';
import { packageVersion } from '../../ops/version.ts';
import { defineCommand, exitCodes } from '../command.ts';
import { ratesOf, rateSettings } from '../rate-settings.ts';
import { makeDataDirectory, storeLocation, storeSettings } from '../store-settings.ts';
import { isLoopback, refineTls, tlsSettings } from '../tls-settings.ts';

const day_us = 86_400_000_000;

/** Answers under way, and the last commit, have this long. */
const shutdown_deadline_ms = 10_000;

const serverSettings = z.strictObject({
  host: z
    .string()
    .default('127.0.0.1')
    .meta({ description: 'Address to listen on; loopback unless you say otherwise' }),
  port: z
    .int()
    .min(0)
    .max(65_535)
    .default(7480)
    .meta({ description: 'TCP port to listen on; 0 takes any that is free' }),
  ...tlsSettings,
  trusted_proxies: z
    .array(z.string())
    .default([])
    .meta({ description: 'Addresses or prefixes of proxies in front, whose X-Forwarded-For is believed' }),
  ...storeSettings,
  body_bytes_max: z
    .int()
    .min(1_024)
    .default(defaultLimits.body_bytes_max)
    .meta({ description: 'Largest request body' }),
  ...rateSettings,
  watchers_max: z.int().min(1).default(defaultLimits.watchers_max).meta({ description: 'Most event streams at once' }),
  events_kept: z
    .int()
    .min(1_000)
    .default(1_000_000)
    .meta({ description: 'Newest entries of the log that are kept for watchers who were away' }),
  answers_kept_s: z
    .int()
    .min(3_600)
    .default(limits.answers_kept_us / 1e6)
    .meta({ description: 'How long a request may come again under its Idempotency-Key, in seconds' }),
  history_kept_days: z
    .number()
    .min(1)
    .max(3_650)
    .default(limits.history_kept_us / day_us)
    .meta({ description: 'How long it stays known who had which port when' }),
  audit_kept_s: z
    .int()
    .min(86_400)
    .default(limits.audit_kept_us / 1e6)
    .meta({ description: 'How long the audit log tells who did what, in seconds' }),
  metrics_open: z
    .boolean()
    .optional()
    .meta({ description: 'Whether /metrics needs no token; by default only on a loopback address' }),
  ...logSettings,
});

export const command = defineCommand({
  settings: serverSettings.superRefine(refineTls),
  details: `The first start writes an operator token to operator.token in the data directory, readable by its owner only:

  curl -H "Authorization: Bearer $(cat data/operator.token)" http://127.0.0.1:7480/v1/pools

Any number of servers may share one PostgreSQL database (--database-url); all of them take commands. Its password may
also come from PGPASSWORD or ~/.pgpass, as for psql.

A renewed certificate is taken in by itself within seconds, or at once on SIGHUP.

SIGTERM finishes what is being answered, then ends.`,
  run: async (settings, { print, complain }) => {
    const log = createLogger({ level: settings.log_level, name: 'fishery-server' });
    const shutdown = new Shutdown({ deadline_ms: shutdown_deadline_ms, log });
    try {
      const starting = startServer(settings, shutdown, log);
      const started = await Promise.race([starting, givenUp(shutdown)]);
      if (started === undefined) {
        starting.catch(() => {});
        return await shutdown.finished;
      }
      print(`listening   ${started.url}`);
      if (!isLoopback(settings.host) && settings.tls_cert_file === undefined)
        print('caution     without TLS in front, tokens cross the network in clear: anybody on the way can read them');
      print(`docs        ${started.url}/docs`);
      print(`token       ${describe(started.operator)}`);
    } catch (error) {
      const problem = explain(error, settings);
      // Told to end while it started: whatever it then could not do is no bug.
      if (problem === undefined && shutdown.signal.aborted) return await shutdown.finished;
      if (problem === undefined) throw error;
      await shutdown.begin('the start failed');
      complain(problem);
      return exitCodes.failure;
    }
    return await shutdown.finished;
  },
});

/** A start that is told to end may say for so long what came of it. */
const start_grace_ms = 1_000;

/** Told to end, the process does, whatever its start waits for: a database that does not answer, say. */
async function givenUp(shutdown: Shutdown): Promise<undefined> {
  await shutdown.finished;
  await setTimeout(start_grace_ms, undefined, { ref: false });
}

type Settings = z.output<typeof serverSettings>;

async function startServer(settings: Settings, shutdown: Shutdown, log: Logger) {
  const directory = resolve(settings.data_dir);
  const tls = tlsOf(settings);
  const clock = new SteadyClock();
  const engine = await startEngine(
    {
      location: storeLocation(settings),
      eventsKept: settings.events_kept,
      answersKeptUs: settings.answers_kept_s * 1e6,
      historyKeptUs: settings.history_kept_days * day_us,
      auditKeptUs: settings.audit_kept_s * 1e6,
    },
    {
      onTrouble: ({ kind, message, cause, command: of, requestId }) =>
        log.error({ err: cause, trouble: kind, command: of, reqId: requestId }, message),
      onSweepFailure: (error) => log.warn({ err: error }, 'a sweep failed; the next one tries again'),
      onDeath: (reason) => {
        log.fatal({ reason }, 'the engine is gone');
        void shutdown.begin('the engine is gone', 1);
      },
    },
  );
  const { leases, reader } = engine;
  shutdown.register('engine', () => engine.close());
  // The operator token lies there, wherever the database is.
  makeDataDirectory(directory);

  const feed = new Feed({ log: reader });
  const tail = await LogTail.start({
    log: reader,
    publish: (events, through) => feed.publish(events, through),
    isFollowed: () => feed.isFollowed,
    onLoss: () => feed.lose(),
    onError: (error) => log.warn({ err: error }, 'the log could not be read; the next look comes soon'),
  });
  leases.onEvents((events) => tail.offer(events));
  engine.onForeignCommit(() => tail.wake());
  shutdown.register('feed', () => feed.close());

  const operator = await ensureOperatorToken({ leases, reader, randomBytes, clock }, join(directory, 'operator.token'));
  const app = buildApp({
    leases,
    reader,
    feed,
    clock,
    logger: log,
    version: packageVersion(),
    randomBytes,
    metricsOpen: settings.metrics_open ?? isLoopback(settings.host),
    processMetrics: true,
    limits: {
      ...defaultLimits,
      body_bytes_max: settings.body_bytes_max,
      watchers_max: settings.watchers_max,
      watchers_per_token_max: Math.ceil(settings.watchers_max / 2),
      ...ratesOf(settings),
    },
    relay: engine.relay,
    trustedProxies: settings.trusted_proxies,
    ...(tls && { tls: tls.listener }),
  });
  await engine.startSweeping();
  shutdown.register('sweeper', () => engine.stopSweeping());
  if (tls) renewCertificate(tls, shutdown, log);
  // Last opened, first closed: answers and streams end while everything that they need is still there.
  shutdown.register('api', () => app.close());
  await app.listen({
    host: settings.host,
    port: settings.port,
    // Fastify does not know of a listener that it did not make itself.
    listenTextResolver: (address) => `Server listening at ${tls ? address.replace(/^http:/, 'https:') : address}`,
  });
  return { url: urlOf(tls ? 'https' : 'http', app.server.address()), operator };
}

type Tls = Readonly<{ paths: TlsPaths; material: TlsMaterial; listener: TlsListener }>;

/** Throws a `TlsError` that says what is wrong with the files. */
function tlsOf(settings: Settings): Tls | undefined {
  const { tls_cert_file: certFile, tls_key_file: keyFile, tls_client_ca_file: clientCaFile } = settings;
  if (certFile === undefined || keyFile === undefined) return undefined;
  const paths = { certFile, keyFile, clientCaFile };
  const read = readTlsMaterial(paths, Date.now());
  if (!read.ok) throw new TlsError(read.problem);
  const listener = new TlsListener({
    material: read.value,
    clientCertificates: clientCaFile === undefined ? 'none' : settings.tls_client_certificates,
    nameMachines: settings.tls_name_machines,
  });
  return { paths, material: read.value, listener };
}

class TlsError extends Error {}

function renewCertificate({ paths, material, listener }: Tls, shutdown: Shutdown, log: Logger): void {
  const reloader = new TlsReloader({
    paths,
    material,
    apply: (renewed) => listener.use(renewed),
    onReload: ({ expiresAtMs }) =>
      log.info(`took in a new certificate, good until ${new Date(expiresAtMs).toISOString()}`),
    onProblem: (problem) => log.error(`the certificate in use stays, the new one cannot be used: ${problem}`),
  });
  const onHangUp = () => reloader.look();
  process.on('SIGHUP', onHangUp);
  reloader.start();
  shutdown.register('certificate', () => {
    process.off('SIGHUP', onHangUp);
    reloader.stop();
  });
}

/** What is really listened on: for all addresses Fastify would name the loopback one alone. */
function urlOf(scheme: 'http' | 'https', bound: ReturnType<Server['address']>): string {
  if (bound === null || typeof bound === 'string') throw new Error(`no TCP socket is bound: ${bound}`);
  return `${scheme}://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

function describe(operator: OperatorToken): string {
  if (operator.outcome === 'exists')
    return operator.fileExists
      ? `${operator.file} (the operator's)`
      : `the operator has one already; it is not in ${operator.file}`;
  return `${operator.file} (the operator's, ${operator.outcome === 'written' ? 'written just now' : 'found there'})`;
}

/** What the person who starts it can mend, in a line; undefined for what is a bug. */
function explain(error: unknown, { host, port, data_dir: directory }: Settings): string | undefined {
  if (error instanceof StoreError || error instanceof TlsError) return error.message;
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  if (error.code === 'EADDRINUSE') return `port ${port} on ${host} is taken: stop what listens there, or set port`;
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return `${host} is no address of this host: set host`;
  if (error.code === 'EACCES' || error.code === 'EPERM')
    return `permission denied (${error.message}): look at the data directory ${directory} and at port ${port}`;
  if (error.code === 'ENOSPC') return `no space left on the device of the data directory ${directory}`;
  return undefined;
}
