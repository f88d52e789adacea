import fp from 'fastify-plugin';
import type { Context } from '../context.ts';

/** How far behind `last_used_at` may be. */
const note_uses_ms = 60_000;
/** How long the stream of a token that is over may go on when the word of it was lost. */
const recheck_ms = 30_000;

/** What becomes of tokens while the server runs: changes are taken in at once, uses are noted now and then. */
export const tokens = fp<{ context: Context }>(
  async (app, { context }) => {
    const { watchers, tokens: cache, uses, feed } = context;
    const find = (hash: string) => cache.find(hash);
    const report = (error: unknown) => app.log.warn({ err: error }, 'tokens of open streams could not be looked at');

    // Also what another server on the same database has changed.
    const stopHearing = feed.onEvent((event) => {
      if (event.kind !== 'token') return;
      const { id, revokedAt } = event.token;
      cache.forget(id);
      if (revokedAt === null) watchers.recheck(find, id).catch(report);
      else watchers.endOf(id);
    });
    const rechecking = setInterval(() => void watchers.recheck(find).catch(report), recheck_ms);
    const note = () =>
      uses.flush().catch((error: unknown) => app.log.debug({ err: error }, 'the uses of tokens could not be noted'));
    const noting = setInterval(() => void note(), note_uses_ms);
    rechecking.unref();
    noting.unref();
    app.addHook('onClose', async () => {
      stopHearing();
      clearInterval(rechecking);
      clearInterval(noting);
      await note();
    });
  },
  { name: 'fishery-token-life' },
);
