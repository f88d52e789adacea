import fp from 'fastify-plugin';
import type { Context } from '../context.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** Writes down the denied requests that wait for it. */
    flushDenials: () => Promise<void>;
  }
}

/** How long a denied request may be missing in the audit log. Together with `limits.denials_max`: at most 20 a second. */
const write_denials_ms = 5_000;

/** Has denied requests written down now and then while the server runs, and at its end. */
export const denialLog = fp<{ context: Context }>(
  async (app, { context }) => {
    const write = () =>
      context.denialLog
        .flush()
        .catch((error: unknown) => app.log.warn({ err: error }, 'denied requests could not be written down'));
    app.decorate('flushDenials', write);
    const writing = setInterval(() => void write(), write_denials_ms);
    writing.unref();
    app.addHook('onClose', async () => {
      clearInterval(writing);
      await write();
    });
  },
  { name: 'fishery-denial-log' },
);
