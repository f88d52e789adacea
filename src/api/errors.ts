import type { LeaseError, LeaseErrorCode } from '../leases/errors.ts';
import { leaseErrors, type ErrorKind } from './lease-errors.ts';

/**
 * HTTP's opinion of everything that can go wrong, in one catalogue: the error handler, the OpenAPI responses,
 * docs/errors.md and the tests all read it. Codes are stable and never reused. Those of the core stand by themselves.
 */

/** What the API itself refuses, before or after the core was asked. */
export const apiErrors = {
  validation_failed: {
    status: 400,
    title: 'The request is not valid',
    cause: 'Path, query or body do not match the schema of the operation; keys that nobody knows count as mistakes.',
    remedy:
      'Mend what `errors` lists. Its `path` names the part: `body.claims[0].ports`, `query.limit`, `path.id`, `header.idempotency-key`.',
  },
  malformed_request: {
    status: 400,
    title: 'The request cannot be read',
    cause:
      'The body is no JSON, carries a forbidden key such as `__proto__`, or its length is not what the header says.',
    remedy: 'Send one JSON document in UTF-8.',
  },
  unauthenticated: {
    status: 401,
    title: 'No valid token',
    cause:
      'The Authorization header is missing, is no bearer token, or names a token that is unknown, revoked, expired, or was replaced by a rotation.',
    remedy:
      'Send `Authorization: Bearer fsh_…`. The first token of an operator is in the file `operator.token` in the data directory of the server.',
  },
  forbidden: {
    status: 403,
    title: 'Not with this role',
    cause: 'The token is valid, but its role may not call this operation.',
    remedy: 'Use a token with one of the roles that the problem names.',
  },
  unknown_user: {
    status: 403,
    title: 'No holder of this machine is this user',
    cause:
      'A broker takes requests over a Unix socket, and the kernel tells it whose process is at the other end. No holder of the ' +
      'machine has its user id or its control group, and it is not root.',
    remedy:
      'Run the program as the user of a holder, or in its control group, or have an operator make a holder: ' +
      '`PUT /v1/machines/{id}/holders/{name}`.',
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    cause:
      'The token asks for more than its limit or the setting `token_requests_per_s` allows, or the address sends too much without one. At a broker: the holder reads too much, or has too many connections.',
    remedy:
      'Wait for `retry_after_s`; the `RateLimit` field of each answer tells how many may come now. Keepalives count apart.',
    passing: true,
  },
  client_certificate_required: {
    status: 403,
    title: 'A client certificate is required',
    cause:
      'The server is set to take this token only over TLS connections whose client showed a certificate: of an authority that ' +
      'it trusts and, where `tls_name_machines` is set, with the name of the machine that the token is bound to.',
    remedy: 'Give the client `cert_file` and `key_file` of such a certificate.',
  },
  not_found: {
    status: 404,
    title: 'No such resource',
    cause: 'No operation has this method and path.',
    remedy: 'Look it up in the documentation at `/docs`.',
  },
  not_at_broker: {
    status: 404,
    title: 'A broker does not do this',
    cause: 'The operation is the server’s: a broker knows nothing but its own machine, and grants there.',
    remedy: 'Ask the server.',
  },
  method_not_allowed: {
    status: 405,
    title: 'Not with this method',
    cause: 'The path is known, but no operation has it together with this method.',
    remedy: 'Use one of the methods that the `Allow` header lists, or look it up in the documentation at `/docs`.',
  },
  not_acceptable: {
    status: 406,
    title: 'It cannot be had in a form that is accepted',
    cause: 'The Accept header excludes every media type that this operation answers in.',
    remedy: 'Send an Accept header with the media type that the problem names, or none.',
  },
  request_timeout: {
    status: 408,
    title: 'The request took too long to arrive',
    cause: 'Head and body did not arrive within the time that the server grants.',
    remedy: 'Send it again, in one go.',
    passing: true,
  },
  claim_refused: {
    status: 409,
    title: 'The kernel refused the claim',
    cause:
      'A socket that is not ours, or no holder’s, has a port of the block on that machine. The block is now `blocked`. Other ports were tried, unless the claim asked for these with `at`, and were refused too or were not to be had; every lease of the request was released.',
    remedy:
      'Leave out `at`, or find out what uses the ports of this machine. `errors` names the errno and, where the kernel tells, the process. When it is gone, an operator frees the block with `POST /v1/slices/{id}/unblock`.',
  },
  compacted: {
    status: 410,
    title: 'The log no longer reaches back that far',
    cause: 'Changes before the oldest revision of the log were dropped.',
    remedy:
      'Take a snapshot (`GET /v1/machines/{id}/desired`, `GET /v1/routes`, or the lists) and go on from its revision.',
  },
  flow_query_over: {
    status: 410,
    title: 'Nobody waits for this answer',
    cause: 'The question was answered before or its time is over.',
    remedy: 'None is needed. Answer sooner next time.',
  },
  request_over: {
    status: 410,
    title: 'Nobody waits for the answer to this request',
    cause: 'The request was answered before, its time is over, or it was forwarded to another machine.',
    remedy: 'None is needed: whoever asked asks again, under the same Idempotency-Key. Answer sooner next time.',
  },
  body_too_large: {
    status: 413,
    title: 'The body is too large',
    cause: 'The body has more bytes than the server takes (setting `body_bytes_max`).',
    remedy: 'Split the request: fewer claims, fewer reports.',
  },
  uri_too_long: {
    status: 414,
    title: 'A part of the path is too long',
    cause: 'No identifier is that long.',
    remedy: 'Use the identifiers that the server gave.',
  },
  precondition_required: {
    status: 428,
    title: 'If-Match is required',
    cause: 'A pool, a machine or a slice is changed only by who says which revision of it was seen.',
    remedy: 'Read it, and send its ETag as `If-Match`; or `If-Match: *` to change it whatever was done to it since.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'The body is of a type that is not taken here',
    cause: 'The Content-Type header is not `application/json`, or, where lists are looked up, neither CSV nor NDJSON.',
    remedy:
      'Send JSON and say so: `Content-Type: application/json`; for `POST /v1/attribution/bulk` `text/csv` or `application/x-ndjson`.',
  },
  instant_in_future: {
    status: 422,
    title: 'The instant lies in the future',
    cause: 'Nobody can say yet who will use a port then.',
    remedy: 'Ask for an instant in the past, or leave out `at` for now. Compare the clocks of client and server.',
  },
  headers_too_large: {
    status: 431,
    title: 'The headers are too large',
    cause: 'The request line and headers have more bytes than the server reads.',
    remedy: 'Send fewer or shorter headers.',
  },
  internal_error: {
    status: 500,
    title: 'The server made a mistake',
    cause: 'A bug. The log of the server has the details under the `request_id`.',
    remedy: 'Report it with the `request_id`. Whether the request took effect is unknown: read before you repeat it.',
  },
  read_only: {
    status: 503,
    title: 'Nothing can be written now',
    cause: 'The disk is full, the database file is read-only or locked, or writing it failed. Nothing was changed.',
    remedy: 'Look at the log of the server and `GET /readyz`; free space or mend the permissions. Reading still works.',
    passing: true,
  },
  outcome_unknown: {
    status: 503,
    title: 'Nobody can say whether it was done',
    cause:
      'The connection to the database broke while the change was being committed, and the database cannot be asked.',
    remedy:
      'Repeat the request under the same Idempotency-Key, which does it once in any case; or read before you repeat it.',
    passing: true,
  },
  machine_cut_off: {
    status: 503,
    title: 'The machine is cut off from its server',
    cause:
      'No keepalive of the agent was answered for as long as its fence, or none since it started: nothing leaves the machine with ' +
      'an address of the pools, and what would be granted now may be another machine’s by then.',
    remedy:
      'Wait until the server is reached again: `detail` says since when it is not. What is leased stays leased until then.',
    passing: true,
  },
  not_ready: {
    status: 503,
    title: 'The server is not ready',
    cause: 'The database cannot be written, or changes are not being passed on to watchers.',
    remedy: 'The `detail` says which. See `read_only` for the database.',
    passing: true,
  },
  shutting_down: {
    status: 503,
    title: 'The server is shutting down',
    cause: 'The server was told to stop and takes no new requests. What it answered is durable.',
    remedy: 'Try again; another server, or this one after its restart, will answer.',
    passing: true,
  },
  overloaded: {
    status: 503,
    title: 'Too many requests wait already',
    cause: 'More commands arrive than the database can write, and the queue is full.',
    remedy: 'Try again a little later, and less at once.',
    passing: true,
  },
  machine_unreachable: {
    status: 503,
    title: 'The machine cannot be asked now',
    cause:
      'What was asked for is in slices that the machine grants in itself, so its broker has to do it; and its agent does not listen, does not keep up, or did not answer in time. `detail` says whether something may have been carried out.',
    remedy:
      'Try again under the same Idempotency-Key, which does it once in any case; look at the agent of the machine. Programs on the machine ask its broker over its Unix socket, also when the server cannot be reached.',
    passing: true,
  },
  too_many_watchers: {
    status: 503,
    title: 'Too many streams are open',
    cause:
      'The server holds as many event streams as it is willing to (`watchers_max`), or the token as many as it may have.',
    remedy: 'Close streams that are not read, or raise the setting.',
    passing: true,
  },
} as const satisfies Readonly<Record<string, ErrorKind>>;

export type ApiErrorCode = keyof typeof apiErrors;
export type ErrorCode = LeaseErrorCode | ApiErrorCode;

export const errorKinds: Readonly<Record<ErrorCode, ErrorKind>> = { ...leaseErrors, ...apiErrors };

/** In the order of the catalogue. */
export const errorCodes = Object.keys(errorKinds) as ErrorCode[];

/** A URI reference that stays the same for ever; the server answers it with the cause and the remedy. */
export const problemType = (code: ErrorCode): string => `/docs/errors#${code}`;

export function detailOf(error: LeaseError): string {
  // The compiler loses that the entry under error.code takes this very error; the catalogue's own type says so.
  const kind = leaseErrors[error.code] as { detail: (error: LeaseError) => string };
  return kind.detail(error);
}
