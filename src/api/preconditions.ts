import type { FastifyReply, FastifyRequest } from 'fastify';
import { entityTag, entityTagsIn, revisionIn } from './entity-tags.ts';
import { apiProblem } from './problems.ts';
import { isDryRun } from './resource.ts';

/**
 * Changes of pools, machines and slices name the revision that they are made on the ground of (RFC 9110, section 13.1.1),
 * so that of two people who change the same thing the second gets to see what the first did.
 */

/** The revisions in `If-Match`; null for `*`, which is "whatever it is". Compared by the core, with the change itself. */
export function ifRevisionOf(request: FastifyRequest): Given {
  const given = ifRevisionGiven(request);
  if (given !== undefined) return given;
  throw apiProblem('precondition_required', `${request.method} needs If-Match: the ETag of what is to be changed`);
}

type Given = number | readonly number[] | null;

/** The same where a change may go without: undefined then. */
export function ifRevisionGiven(request: FastifyRequest): Given | undefined {
  const text = request.headers['if-match'];
  if (text === undefined) return undefined;
  const tags = entityTagsIn(text);
  if (tags === '*') return null;
  // Tags of somebody else's, and weak ones, match nothing that there is here.
  const [first, ...others] = new Set((tags ?? []).map(revisionIn).filter((revision) => revision !== undefined));
  if (first !== undefined) return others.length === 0 ? first : [first, ...others];
  const message = 'must be the ETag of an answer, such as "42" with its quotes, or several of them, or *';
  throw apiProblem('validation_failed', `headers.if-match: ${message}`, {
    errors: [{ path: 'headers.if-match', message }],
  });
}

/** What a PUT is to find: what `If-Match` says, or with `If-None-Match: *` nothing, so that it makes what nobody made before. */
export function ifRevisionOfPut(request: FastifyRequest): Given | undefined {
  const text = request.headers['if-none-match'];
  if (text === undefined) return ifRevisionGiven(request);
  if (text.trim() === '*' && request.headers['if-match'] === undefined) return [];
  const message = 'must be *, alone, which makes a thing only where there is none; for all else there is If-Match';
  throw apiProblem('validation_failed', `headers.if-none-match: ${message}`, {
    errors: [{ path: 'headers.if-none-match', message }],
  });
}

/**
 * Answers about one thing say which revision of it they show. What only would be has none: the revision that it would get
 * goes to whatever comes next, and `If-Match` must not take that for what was shown.
 */
export function showRevision(reply: FastifyReply, { revision }: Readonly<{ revision: number }>): void {
  if (!isDryRun(reply.request)) reply.header('etag', entityTag(revision));
}
