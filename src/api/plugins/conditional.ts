import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest, onSendHookHandler } from 'fastify';
import fp from 'fastify-plugin';
import { entityTag, isKnown, revisionIn } from '../entity-tags.ts';

const digest_chars = 8;

/**
 * Tags answers about one thing, and sends nothing but the tag to whoever has the answer already: 304. Only where there is
 * such an answer: a hook costs every request, and most are not about one thing.
 */
export const conditional = fp(
  async (app) => {
    app.addHook('onRoute', (route) => {
      const operation = route.config?.operation;
      if (operation?.revision === undefined) return;
      const isQuiet = operation.changesQuietly === true;
      const tag: onSendHookHandler = (request, reply, payload, done) =>
        done(null, tagged(request, reply, payload, isQuiet));
      // Before what Fastify adds to a HEAD, which takes the body off.
      route.onSend = [tag, route.onSend ?? []].flat();
    });
  },
  { name: 'fishery-conditional', dependencies: ['fishery-operations'] },
);

function tagged(request: FastifyRequest, reply: FastifyReply, payload: unknown, isQuiet: boolean): unknown {
  const shown = reply.getHeader('etag');
  if (typeof shown !== 'string' || typeof payload !== 'string') return payload;
  const revision = revisionIn(shown);
  const etag = revision !== undefined && isQuiet ? entityTag(revision, digestOf(payload)) : shown;
  reply.header('etag', etag);
  if (request.method !== 'GET' && request.method !== 'HEAD') return payload;
  // It may be kept, and must be asked about each time.
  reply.header('cache-control', 'private, no-cache');
  if (reply.statusCode !== 200 || !isKnown(request.headers['if-none-match'], etag)) return payload;
  reply.code(304).removeHeader('content-type');
  // The body of a HEAD is taken off later, by who needs to know its length.
  return request.method === 'HEAD' ? payload : null;
}

const digestOf = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, digest_chars);
