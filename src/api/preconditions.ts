import type { FastifyReply, FastifyRequest } from 'fastify';
import { apiProblem } from './problems.ts';
import { isDryRun } from './resource.ts';

/**
 * Changes of pools, machines and slices name the revision that they are made on the ground of (RFC 9110, section 13.1.1),
 * so that of two people who change the same thing the second gets to see what the first did.
 */

/** The revision in `If-Match`; null for `*`, which is "whatever it is". Compared by the core, with the change itself. */
export function ifRevisionOf(request: FastifyRequest): number | null {
  const given = ifRevisionGiven(request);
  if (given !== undefined) return given;
  throw apiProblem('precondition_required', `${request.method} needs If-Match: the ETag of what is to be changed`);
}

/** The same where a change may go without: undefined then. */
export function ifRevisionGiven(request: FastifyRequest): number | null | undefined {
  const text = request.headers['if-match'];
  if (text === undefined) return undefined;
  if (text === '*') return null;
  const revision = /^"([0-9]{1,15})"$/.exec(text)?.[1];
  if (revision !== undefined) return Number(revision);
  const message = 'must be the ETag of an answer, such as "42" with its quotes, or *';
  throw apiProblem('validation_failed', `headers.if-match: ${message}`, {
    errors: [{ path: 'headers.if-match', message }],
  });
}

/**
 * Answers about one thing say which revision of it they show. What only would be has none: the revision that it would get
 * goes to whatever comes next, and `If-Match` must not take that for what was shown.
 */
export function showRevision(reply: FastifyReply, { revision }: Readonly<{ revision: number }>): void {
  if (!isDryRun(reply.request)) reply.header('etag', `"${revision}"`);
}
