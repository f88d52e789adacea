import fp from 'fastify-plugin';
import type { Context } from '../context.ts';
import { apiProblem } from '../problems.ts';

type ServingOptions = Readonly<{ context: Context; stop: () => void }>;

/** Headers that every answer has, and the orderly end. */
export const serving = fp<ServingOptions>(
  async (app, { context, stop }) => {
    // These two say when they are done instead of returning a promise: every request would wait for one more of each.
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id);
      if (context.stopping.aborted) done(apiProblem('shutting_down', 'the server is shutting down'));
      else done();
    });
    app.decorateRequest('isReplay', false);
    app.addHook('onSend', (request, reply, _payload, done) => {
      if (request.isReplay) reply.header('idempotency-replayed', 'true');
      reply.header('x-content-type-options', 'nosniff').header('referrer-policy', 'no-referrer');
      // What is true of ports now is not true later, and some answers carry secrets.
      if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store');
      // What the client presents from now on. Not for strangers; and a snapshot says itself of which revision it is.
      if (request.principal !== null) {
        reply.header('fishery-epoch', context.epochs.current.id);
        if (!reply.hasHeader('fishery-revision')) reply.header('fishery-revision', context.epochs.revision);
      }
      // A connection that stays open would keep the server waiting for its next request.
      if (context.stopping.aborted) reply.header('connection', 'close');
      done();
    });
    app.addHook('preClose', async () => {
      stop();
      context.watchers.endAll();
    });
  },
  { name: 'fishery-serving', dependencies: ['fishery-problems'] },
);
