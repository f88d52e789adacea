import { createHash } from 'node:crypto';
import fp from 'fastify-plugin';
import { entityTag, isKnown, revisionIn } from '../entity-tags.ts';

const digest_chars = 8;

/** Tags answers about one thing, and sends nothing but the tag to whoever has the answer already: 304. */
export const conditional = fp(
  async (app) => {
    app.addHook('onSend', async (request, reply, payload) => {
      const shown = reply.getHeader('etag');
      if (typeof shown !== 'string' || typeof payload !== 'string') return payload;
      const revision = revisionIn(shown);
      const isQuiet = request.routeOptions.config.operation?.changesQuietly === true;
      const etag = revision !== undefined && isQuiet ? entityTag(revision, digestOf(payload)) : shown;
      reply.header('etag', etag);
      if (request.method !== 'GET' && request.method !== 'HEAD') return payload;
      // It may be kept, and must be asked about each time.
      reply.header('cache-control', 'private, no-cache');
      if (reply.statusCode !== 200 || !isKnown(request.headers['if-none-match'], etag)) return payload;
      reply.code(304).removeHeader('content-type');
      // The body of a HEAD is taken off later, by who needs to know its length.
      return request.method === 'HEAD' ? payload : null;
    });
  },
  { name: 'fishery-conditional', dependencies: ['fishery-operations'] },
);

const digestOf = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, digest_chars);
