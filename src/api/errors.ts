import type { LeaseError, LeaseErrorCode } from '../leases/errors.ts';
import { formatInstant } from '../wire/instants.ts';

/**
 * HTTP's opinion of everything that can go wrong, in one catalogue: the error handler, the OpenAPI responses,
 * docs/errors.md and the tests all read it. Codes are stable and never reused.
 */
export type ErrorKind = Readonly<{
  status: number;
  /** The same for every occurrence (RFC 9457, section 3.1.3). */
  title: string;
  cause: string;
  remedy: string;
  /** The same request may succeed later without anybody changing anything. */
  passing?: true;
}>;

type LeaseErrorOf = { [E in LeaseError as E['code']]: E };
type LeaseErrorKinds = Readonly<{
  [C in LeaseErrorCode]: ErrorKind & Readonly<{ detail: (error: LeaseErrorOf[C]) => string }>;
}>;

/** What the core refuses. A new error of the core does not compile until it has a status, a cause and a remedy. */
export const leaseErrors: LeaseErrorKinds = {
  pool_exists: {
    status: 409,
    title: 'The pool exists already',
    cause: 'There is a pool of this name.',
    remedy: 'Choose another name, or read the pool that is there.',
    detail: (e) => `there is a pool "${e.pool}" already`,
  },
  pool_not_found: {
    status: 404,
    title: 'No such pool',
    cause: 'The request names a pool that was never created.',
    remedy: 'List the pools (`GET /v1/pools`) and use one of their names, or create it.',
    detail: (e) => `there is no pool "${e.pool}"`,
  },
  prefix_overlap: {
    status: 409,
    title: 'Prefixes overlap',
    cause: 'Two prefixes, of one pool or of two, have addresses in common. An address belongs to one pool.',
    remedy: 'Leave out the addresses that are in the other prefix, or split the prefix around them.',
    detail: (e) => `${e.prefix} overlaps ${e.other} of pool "${e.pool}"`,
  },
  carve_out_outside_pool: {
    status: 422,
    title: 'The carve-out is outside of the pool',
    cause:
      'A carve-out names addresses of which none is in a prefix of the pool. That is a mistake more often than not.',
    remedy: 'Correct its prefix or address. Withdrawing a prefix, leave out the carve-outs in it by the same request.',
    detail: (e) => `the carve-out ${e.prefix} is in no prefix of pool "${e.pool}"`,
  },
  space_in_use: {
    status: 409,
    title: 'A machine has a slice there',
    cause: 'A prefix is withdrawn or carved out only where no slice is in use or resting.',
    remedy: 'Drain the slice (`POST /v1/slices/{id}/drain`), wait until it is free, and try again.',
    detail: (e) =>
      `in ${e.prefix} there is slice-${e.slice}, ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  pool_in_use: {
    status: 409,
    title: 'Machines have slices of the pool',
    cause: 'A pool is deleted only when no slice of it is in use or resting.',
    remedy: 'Drain its slices (`GET /v1/slices?pool=…`), wait until they are free, and try again.',
    detail: (e) =>
      `slice-${e.slice} of pool "${e.pool}" is ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  precondition_failed: {
    status: 412,
    title: 'It was changed since',
    cause: 'If-Match names a revision that is not the present one: somebody changed the thing after it was read.',
    remedy: 'Read it again, look whether the change still makes sense, and repeat it with the new ETag.',
    detail: (e) => `${e.item} is at revision ${e.current}, not ${e.given}`,
  },
  pool_too_small: {
    status: 422,
    title: 'The pool would have no slice',
    cause: 'No aligned slice of this size lies wholly inside the usable port range.',
    remedy: 'Widen `usable_ports` or make `slice_ports` smaller.',
    detail: (e) => `no aligned slice of ${e.slicePorts} ports fits in ${e.first}-${e.last} (pool "${e.pool}")`,
  },
  machine_exists: {
    status: 409,
    title: 'The machine exists already',
    cause: 'A machine of this name was created before. Names are never reused.',
    remedy: 'Choose another name, or update the machine that is there (`PATCH /v1/machines/{id}`).',
    detail: (e) => `there is a machine "${e.machine}" already`,
  },
  machine_not_found: {
    status: 404,
    title: 'No such machine',
    cause: 'The request names a machine that was never created.',
    remedy: 'List the machines (`GET /v1/machines`) and use one of their names, or create it.',
    detail: (e) => `there is no machine "${e.machine}"`,
  },
  machine_not_active: {
    status: 409,
    title: 'The machine takes nothing new',
    cause:
      'The machine is cordoned, draining, fenced or lost. What it has stays as it is; nothing new is granted on it.',
    remedy: 'Use another machine. A cordoned one is made active again with `PATCH /v1/machines/{id}`.',
    detail: (e) => `machine "${e.machine}" is ${e.state}`,
  },
  holder_not_found: {
    status: 404,
    title: 'No such holder',
    cause: 'The machine has no holder of this name. Sessions are opened for holders that an operator declared.',
    remedy: 'Declare it with `PUT /v1/machines/{id}/holders/{name}`.',
    detail: (e) => `machine "${e.machine}" has no holder "${e.holder}"`,
  },
  holder_needs_uid: {
    status: 409,
    title: 'The holder needs a user id',
    cause: "A proxy on a machine with an agent is told apart by its sockets' user id, and this holder has none.",
    remedy: 'Set `uid` with `PUT /v1/machines/{id}/holders/{name}`.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" has no uid, and the egress guard knows it by nothing else`,
  },
  holder_uid_root: {
    status: 422,
    title: 'A holder cannot be root',
    cause:
      'The egress guard tells the holders of a machine apart by the user id of their sockets. Root (uid 0) may do anything on the host, take other user ids included, so nothing can be promised to or about a proxy that runs as root.',
    remedy: 'Run the proxy as a user of its own and set `uid` to that user.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" would have uid 0, which is root`,
  },
  holder_uid_taken: {
    status: 409,
    title: 'Another holder has this user id',
    cause:
      'The egress guard tells the holders of a machine apart by the user id of their sockets. Two with the same one could use each other’s ports. This holds on a machine without an agent too, so that one can be installed later.',
    remedy: 'Run each proxy as a user of its own, or let both services use one holder and share its leases.',
    detail: (e) => `uid ${e.uid} on "${e.machine}" is that of holder "${e.other}", so "${e.holder}" cannot have it`,
  },
  holder_kind_fixed: {
    status: 409,
    title: 'The kind of a holder cannot be changed',
    cause: 'Leases of a fish and of a proxy are enforced differently, so a holder stays what it was declared as.',
    remedy: 'Declare a second holder under another name.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" is of kind ${e.kind}`,
  },
  slice_not_found: {
    status: 404,
    title: 'No such slice',
    cause: 'No slice has this id. Slices exist from their first assignment on.',
    remedy: 'List the slices (`GET /v1/slices`).',
    detail: (e) => `there is no slice-${e.slice}`,
  },
  slice_misaligned: {
    status: 422,
    title: 'The slice is not aligned',
    cause: 'A slice starts at a multiple of its size, so that the kernel matches it with one hash lookup.',
    remedy: "Use a `first_port` that is a multiple of the pool's `slice_ports`.",
    detail: (e) => `first_port ${e.firstPort} is not a multiple of ${e.slicePorts}`,
  },
  slice_outside_pool: {
    status: 422,
    title: 'The slice is not part of the pool',
    cause: 'The address is in none of the prefixes of the pool, or the ports are outside its usable range.',
    remedy: 'Read the pool (`GET /v1/pools/{id}`) for its prefixes and `usable_ports`.',
    detail: (e) => `${e.address} from port ${e.firstPort} is outside pool "${e.pool}"`,
  },
  slice_carved_out: {
    status: 409,
    title: 'The slice is carved out',
    cause: 'A carve-out of the pool takes this place, or a part of it, out of what is handed out.',
    remedy: 'Leave out `at` for any free slice, or remove the carve-out with `PATCH /v1/pools/{id}`.',
    detail: (e) => `${e.address} from port ${e.firstPort} is carved out of pool "${e.pool}"`,
  },
  slice_taken: {
    status: 409,
    title: 'The slice is taken',
    cause: 'A machine owns this very slice, or it rests after one did.',
    remedy: 'Leave out `at` for any free slice, or drain this one and wait for the end of its cooldown.',
    detail: (e) =>
      `${e.address} from port ${e.firstPort} is ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  slice_not_assigned: {
    status: 409,
    title: 'The slice is not in a state for this',
    cause: 'Only a slice that a machine owns can be drained.',
    remedy: 'Read the slice (`GET /v1/slices/{id}`); it is on its way already.',
    detail: (e) => `slice-${e.slice} is ${e.state}`,
  },
  slices_exhausted: {
    status: 409,
    title: 'The pool has not enough free slices',
    cause: 'Every slice of the pool is owned by a machine or rests after use.',
    remedy:
      'Drain slices that are not needed, or create a pool with more addresses. Resting slices become free by themselves.',
    detail: (e) => `${e.wanted} slices wanted, ${e.available} free in pool "${e.pool}"`,
  },
  session_not_found: {
    status: 404,
    title: 'No such session',
    cause: 'No session has this id.',
    remedy: 'Open one with `POST /v1/sessions`.',
    detail: (e) => `there is no session-${e.session}`,
  },
  session_ended: {
    status: 410,
    title: 'The session is over',
    cause:
      'The session was released or revoked, its machine was fenced, or it was not kept alive in time. Its leases ended with it.',
    remedy: 'Stop using its ports, open a new session and ask for new leases. A session never comes back.',
    detail: (e) => `session-${e.session} ended: ${e.ending}`,
  },
  shared_needs_tcp: {
    status: 422,
    title: 'Only TCP ports can be shared',
    cause:
      'Linux keeps 5-tuples apart for TCP sockets alone; two UDP or ICMP users of one port would get each other’s packets.',
    remedy: 'Ask for `mode: exclusive`.',
    detail: (e) => `mode shared with protocol ${e.protocol}`,
  },
  binding_needs_shared: {
    status: 422,
    title: 'A binding goes with shared leases only',
    cause:
      '`binding` says how all users of a shared block take a port. An exclusive lease has one user, who may do it either way.',
    remedy: 'Leave out `binding`, or ask for `mode: shared`.',
    detail: () => 'binding was given for an exclusive lease',
  },
  ports_exceed_slice: {
    status: 422,
    title: 'More ports than a slice has',
    cause: 'A lease lies inside one slice, and none of this machine is large enough.',
    remedy: 'Ask for several leases in one request; they are granted together or not at all.',
    detail: (e) => `${e.ports} ports wanted, the largest slice has ${e.slicePorts}`,
  },
  block_misaligned: {
    status: 422,
    title: 'The block is not aligned',
    cause: 'A lease is a power of two of ports and starts at a multiple of it.',
    remedy: 'Use a `first_port` that is a multiple of the size, rounded up to a power of two.',
    detail: (e) => `first_port ${e.firstPort} is not a multiple of ${e.ports}`,
  },
  block_not_owned: {
    status: 409,
    title: 'The machine does not own this block',
    cause: 'The block lies in no slice that is assigned to the machine of the session.',
    remedy: "Leave out `at`, or use ports of the machine's slices (`GET /v1/slices?machine=…`).",
    detail: (e) => `machine "${e.machine}" owns no slice with ${e.address} from port ${e.firstPort}`,
  },
  block_taken: {
    status: 409,
    title: 'The block is taken',
    cause: 'The very block that `at` asks for is leased, rests after use, or is blocked by a stranger.',
    remedy: 'Leave out `at` for any block, or look at the slice (`GET /v1/slices/{id}/extents`).',
    detail: (e) => `${e.address} from port ${e.firstPort} is ${e.state}`,
  },
  no_slices: {
    status: 409,
    title: 'The machine has no slice to grant from',
    cause: 'No assigned slice of this machine matches the claim (pool, address family).',
    remedy: 'Assign slices to the machine (`POST /v1/slices`) and wait until they are `assigned`.',
    detail: (e) => `machine "${e.machine}" has no assigned slice that matches`,
  },
  no_ports: {
    status: 503,
    title: 'No free block is large enough',
    cause: 'The slices of this machine are full, or their free pieces are too small for this lease.',
    remedy:
      'Wait for `retry_after_s` when it is given (then ports leave their cooldown), ask for less, or assign another slice to the machine.',
    passing: true,
    detail: (e) =>
      `no free block of ${e.ports} ${e.protocol} ports on "${e.machine}"` +
      (e.nextAt === null ? '' : `; the next ports leave their cooldown at ${formatInstant(e.nextAt)}`),
  },
  no_common_address: {
    status: 503,
    title: 'No address has room for all of it',
    cause:
      'The request wants its leases on one address (`placement: same_address`). There is room for them on this machine, but not on any one of the addresses that were tried.',
    remedy: 'Ask for fewer or smaller leases, for another placement, or assign the machine more slices of one address.',
    passing: true,
    detail: (e) =>
      `none of ${e.addresses} addresses of "${e.machine}" has room for all ${e.leases} leases of the request`,
  },
  lease_not_found: {
    status: 404,
    title: 'No such lease',
    cause: 'No lease has this id.',
    remedy: 'List the leases (`GET /v1/leases`).',
    detail: (e) => `there is no lease-${e.lease}`,
  },
  lease_over: {
    status: 410,
    title: 'The lease is over',
    cause: 'The lease was released, revoked or refused before, or it ended with its session.',
    remedy: 'Stop using its ports. There is nothing left to release.',
    detail: (e) => `lease-${e.lease} is ${e.state}` + (e.ending === null ? '' : ` (${e.ending})`),
  },
  stale_token: {
    status: 409,
    title: 'The token is out of date',
    cause:
      'The message names an older generation, epoch or grant than the current one: it was meant for what was there before.',
    remedy: 'Read the lease or slice again and decide anew. A late message must not touch the next owner.',
    detail: (e) => `${e.item} has the token ${e.current}, the message says ${e.given}`,
  },
  not_yours: {
    status: 403,
    title: 'It belongs to somebody else',
    cause: 'The token is bound to one machine, holder or router, and what the request is about belongs to another.',
    remedy: 'Use the token of its holder, machine or router, or one of an operator.',
    detail: (e) => `${e.item} does not belong to this token`,
  },
  nothing_blocked: {
    status: 409,
    title: 'Nothing is blocked there',
    cause: 'The slice has no blocked extent with these very ports.',
    remedy: 'Use the `ports` of an extent in state `blocked` (`GET /v1/slices/{id}/extents`).',
    detail: (e) => `slice-${e.slice} has no blocked ${e.protocol} extent with these ports`,
  },
  router_not_found: {
    status: 404,
    title: 'No such router',
    cause: 'No router has this name.',
    remedy: 'List the routers (`GET /v1/routers`), or create it with `PUT /v1/routers/{id}`.',
    detail: (e) => `there is no router "${e.router}"`,
  },
  revision_unknown: {
    status: 409,
    title: 'The log has not come that far',
    cause:
      'The revision was never given out by this log. Whoever has it followed another one: the server was restored from a backup or began anew.',
    remedy:
      'Take a snapshot (`GET /v1/machines/{id}/desired`, `GET /v1/routes`, or the lists) and go on from its revision.',
    detail: (e) => `the log ends at revision ${e.newest}, before ${e.revision}`,
  },
  token_not_found: {
    status: 404,
    title: 'No such token',
    cause: 'No access token has this id.',
    remedy: 'List the tokens (`GET /v1/tokens`).',
    detail: (e) => `there is no token-${e.token}`,
  },
  token_not_live: {
    status: 409,
    title: 'The token is over',
    cause: 'An access token that expired or was revoked cannot be changed, rotated or brought back.',
    remedy: 'Make a new one (`POST /v1/tokens`).',
    detail: (e) => `token-${e.token} ${e.state === 'expired' ? 'has expired' : 'was revoked'}`,
  },
  token_expiry_past: {
    status: 422,
    title: 'The expiry is in the past',
    cause: 'The token would be over before it is made.',
    remedy: 'Name a later `expires_at`, or say how long from now with `ttl_s`. To end a token, revoke it.',
    detail: (e) => `${formatInstant(e.expiresAt)} is past: it is ${formatInstant(e.now)}`,
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The key was used for another request',
    cause:
      'Another request came with this Idempotency-Key before: another operation, path, query or body. A key names one request, for as long as its answer is kept.',
    remedy: 'Use a new key for every request, and the same one only to send the very same request again.',
    detail: (e) => `${JSON.stringify(e.key)} was used for another request at ${formatInstant(e.usedAt)}`,
  },
  replay_over: {
    status: 410,
    title: 'What the request was granted is over',
    cause:
      'The request came before, under the same Idempotency-Key, and was carried out. What it was granted then has ended since; `errors` lists its state, item by item. It is not granted a second time.',
    remedy: 'Make a new request, with a new key. What is still live of the old one is yours until it is released.',
    detail: (e) => `granted to the same request before: ${e.items.slice(0, items_shown_max).map(stateOf).join(', ')}`,
  },
  secret_shown_once: {
    status: 409,
    title: 'The secret was shown before',
    cause:
      'The request came before, under the same Idempotency-Key, and the token was made or rotated. Its secret was in that answer; only a hash of it is stored, so it cannot be shown again.',
    remedy:
      'If that answer was lost, rotate the token (`POST /v1/tokens/{id}/rotate`) under a new key, or revoke it (`DELETE /v1/tokens/{id}`).',
    detail: (e) => `the same request gave token-${e.token} its secret before, which is not stored`,
  },
};

const items_shown_max = 5;
type ItemState = LeaseErrorOf['replay_over']['items'][number];
export const stateOf = ({ item, state, ending }: ItemState): string =>
  `${item} is ${state}${ending === null ? '' : ` (${ending})`}`;

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
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    cause:
      'The token asks for more than its limit or the setting `token_requests_per_s` allows, or the address sends too much without one.',
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
    title: 'The body is not JSON',
    cause: 'The Content-Type header is not `application/json`.',
    remedy: 'Send JSON and say so: `Content-Type: application/json`.',
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
