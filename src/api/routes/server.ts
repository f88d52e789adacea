import { z } from 'zod';
import { About, Health, Readiness } from '../../wire/server.ts';
import { protocolVersion } from '../../wire/version.ts';
import * as examples from '../examples.ts';
import { operation } from '../operation.ts';
import { apiProblem } from '../problems.ts';
import { resource } from '../resource.ts';
import { readiness } from '../readiness.ts';

/** What the server says about itself. */
export const serverRoutes = resource('server', (app, context) => {
  let startedAt = 0;
  let document: Buffer | undefined;
  app.addHook('onReady', async () => {
    startedAt = await context.reader.revision();
  });

  app.get(
    '/',
    {
      schema: { response: { 200: About } },
      config: operation({
        id: 'getAbout',
        tag: 'server',
        summary: 'Learn what this is and where its documentation is',
        answers: { 200: 'Name, version, and where to go on.' },
        errors: [],
        examples: { answers: { 200: examples.about } },
      }),
    },
    async () => ({
      name: 'fishery' as const,
      version: context.version,
      protocol_version: protocolVersion,
      docs: '/docs',
      openapi: '/openapi.json',
    }),
  );

  app.get(
    '/healthz',
    {
      schema: { response: { 200: Health } },
      config: operation({
        id: 'getHealth',
        tag: 'server',
        summary: 'See whether the process lives',
        answers: { 200: 'It does.' },
        errors: [],
        examples: { answers: { 200: { status: 'ok' } } },
      }),
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: { response: { 200: Readiness } },
      config: operation({
        id: 'getReadiness',
        tag: 'server',
        summary: 'See whether the server can do its work',
        description: 'The database can be written, and what changes is passed on to watchers.',
        answers: { 200: 'It can.' },
        errors: ['not_ready'],
        examples: { answers: { 200: examples.readiness } },
      }),
    },
    async () => {
      const state = await readiness(context, startedAt);
      if (!state.ok) throw apiProblem('not_ready', state.error);
      const { number, confirmedAt, detail } = await context.reader.epoch();
      const base = { revision: state.value };
      // Not `not_ready`: whoever takes a server out of service for that would cut off the agents, too.
      if (confirmedAt === null)
        return { status: 'read_only' as const, reason: `epoch ${number} is in doubt: ${detail}`, ...base };
      return { status: 'ready' as const, reason: null, ...base };
    },
  );

  app.get(
    '/metrics',
    {
      schema: { response: { 200: z.string() } },
      config: operation({
        id: 'getMetrics',
        tag: 'server',
        summary: 'Read the metrics of the server, for Prometheus',
        description:
          'Without a token where the setting `metrics_open` says so: by default, where only this host can reach it.',
        answers: { 200: 'Metrics in the text format of Prometheus.' },
        errors: [],
        examples: { answers: { 200: examples.metrics } },
        produces: 'text/plain',
      }),
    },
    async (_request, reply) => reply.type(app.metrics.contentType).send(await app.metrics.metrics()),
  );

  app.get(
    '/openapi.json',
    {
      schema: { response: { 200: z.record(z.string(), z.unknown()) } },
      config: operation({
        id: 'getOpenApi',
        tag: 'server',
        summary: 'Get this document',
        answers: { 200: 'OpenAPI 3.1.' },
        errors: [],
        examples: { answers: {} },
      }),
    },
    // Half a megabyte that never changes: written out once. Bytes are sent as they are, whatever the schema says.
    async (_request, reply) => {
      document ??= Buffer.from(JSON.stringify(app.openApi()));
      return reply.type('application/json; charset=utf-8').send(document as never);
    },
  );
});
