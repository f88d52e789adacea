import fp from 'fastify-plugin';
import type { Context } from '../context.ts';
import { seenHeader } from '../epochs.ts';
import { witnessOf } from '../principal.ts';

/**
 * Takes what the client has seen before anything is done for it: when this table lacks it, the server is read-only by the
 * time that the request is carried out. Only from those whose token was accepted.
 */
export const seen = fp<{ context: Context }>(
  async (app, { context }) => {
    app.addHook('onReady', () => context.epochs.load());
    const stopHearing = context.feed.onEvent((event) => context.epochs.follow(event));
    app.addHook('onClose', async () => stopHearing());
    // Of a table whose callers are told by their connection nothing is ever lost unnoticed: it is kept beside them.
    if (context.callers) return;
    // With a callback: a promise for each request would be the dearest part of it.
    app.addHook('onRequest', (request, _reply, done) => {
      const header = request.headers[seenHeader];
      const { principal } = request;
      if (principal === null || header === undefined) {
        done();
        return;
      }
      try {
        const weighing = context.epochs.weigh(String(header), () => witnessOf(principal));
        if (weighing) weighing.then(() => done(), done);
        else done();
      } catch (error) {
        done(error as Error);
      }
    });
  },
  { name: 'fishery-seen', dependencies: ['fishery-auth'] },
);
