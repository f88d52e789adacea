import type { Problem } from '../wire/problems.ts';

/** Codes of this library's own, beside those of the server's problem documents. */
export const localCodes = {
  /** No connection came about: the server has seen nothing of the request. */
  unreachable: 'unreachable',
  /** The connection broke: whether the server acted on the request is unknown. */
  connectionLost: 'connection_lost',
  /** No answer within the time allowed: whether the server acted on the request is unknown. */
  timeout: 'timeout',
  /** An answer that Fishery does not give; usually something else listens there, or a proxy stands between. */
  unreadableAnswer: 'unreadable_answer',
  /** TLS found the server's certificate wanting, or the server ours: nothing of the request was sent. */
  untrusted: 'untrusted',
} as const;

type Details = Readonly<{
  code: string;
  status?: number;
  problem?: Problem;
  retryable: boolean;
  retryAfterMs?: number;
  cause?: unknown;
}>;

/**
 * A call that did not succeed. Programs branch on `code`, which is stable, never on the text.
 * What the caller's own AbortSignal ends is no FisheryError: it rejects with the signal's reason.
 */
export class FisheryError extends Error {
  /** HTTP status, or null when no answer came. */
  readonly status: number | null;
  /** The problem document's `code`, or one of `localCodes`. */
  readonly code: string;
  readonly problem: Problem | null;
  /** Whether the same call may succeed later without anybody changing it. */
  readonly retryable: boolean;
  /** How long the server asked to wait first. */
  readonly retryAfterMs: number | null;

  constructor(message: string, details: Details) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.name = 'FisheryError';
    this.status = details.status ?? null;
    this.code = details.code;
    this.problem = details.problem ?? null;
    this.retryable = details.retryable;
    this.retryAfterMs = details.retryAfterMs ?? null;
  }

  /** The same failure, with what was tried before giving up. */
  after(attempts: number, elapsedMs: number): FisheryError {
    if (attempts < 2) return this;
    return new FisheryError(`${this.message} (tried ${attempts} times in ${Math.round(elapsedMs)} ms)`, {
      code: this.code,
      ...(this.status === null ? {} : { status: this.status }),
      ...(this.problem === null ? {} : { problem: this.problem }),
      ...(this.retryAfterMs === null ? {} : { retryAfterMs: this.retryAfterMs }),
      retryable: this.retryable,
      cause: this.cause ?? this,
    });
  }
}

export const isFisheryError = (error: unknown, code?: string): error is FisheryError =>
  error instanceof FisheryError && (code === undefined || error.code === code);

/** 408, 425 and 429 ask for patience; 502 and 504 come from a proxy whose server is away; 503 says so itself. */
const passingStatuses: ReadonlySet<number> = new Set([408, 425, 429, 502, 503, 504]);

/** Turns an answer that is no success into an error. `what` names the call: `POST http://127.0.0.1:7480/v1/leases`. */
export function errorOfAnswer(what: string, response: Response, body: string): FisheryError {
  const problem = problemIn(response, body);
  const retryable = passingStatuses.has(response.status);
  const retryAfterMs = retryAfterOf(response, problem);
  return new FisheryError(
    problem
      ? `${what}: ${response.status} ${problem.code}: ${problem.detail || problem.title}`
      : `${what}: ${response.status} without a problem document: ${excerpt(body)}`,
    {
      code: problem?.code ?? localCodes.unreadableAnswer,
      status: response.status,
      ...(problem ? { problem } : {}),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      retryable,
    },
  );
}

/** Turns what fetch() threw into an error that says which of the three happened: nothing sent, sent and lost, too slow. */
export function errorOfFetch(what: string, thrown: unknown, timeoutMs: number): FisheryError {
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError')
    return new FisheryError(`${what}: no answer within ${timeoutMs} ms`, {
      code: localCodes.timeout,
      retryable: true,
      cause: thrown,
    });
  const cause = systemErrorIn(thrown);
  const distrust = distrustIn(cause.code);
  if (distrust !== undefined)
    return new FisheryError(`${what}: ${distrust} (${cause.text})`, {
      code: localCodes.untrusted,
      retryable: false,
      cause: thrown,
    });
  const notSent = cause.code !== undefined && neverSent.has(cause.code);
  return new FisheryError(
    `${what}: ${notSent ? 'no connection' : 'the connection broke'} (${cause.code ?? cause.text})`,
    {
      code: notSent ? localCodes.unreachable : localCodes.connectionLost,
      retryable: true,
      cause: thrown,
    },
  );
}

/** Who does not trust whom; undefined for errors that are about something else. */
function distrustIn(code: string | undefined): string | undefined {
  if (code === undefined) return undefined;
  if (/^ERR_SSL_.*ALERT_(?:CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)/.test(code))
    return 'the server takes no connection without a certificate that it trusts';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'the certificate of the server is for another name';
  if (code === 'CERT_HAS_EXPIRED') return 'the certificate of the server has expired';
  const isUnverified = /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF))/.test(code);
  return isUnverified ? 'the certificate of the server is not trusted: name its authority as the CA file' : undefined;
}

/** Failures of resolving and connecting: after these the server has certainly not seen the request. */
const neverSent: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** fetch() says "fetch failed" and hides why in `cause`, which for several addresses is an AggregateError with a code. */
function systemErrorIn(thrown: unknown): Readonly<{ code: string | undefined; text: string }> {
  const inner = thrown instanceof Error && thrown.cause !== undefined ? thrown.cause : thrown;
  const code =
    typeof inner === 'object' && inner !== null && 'code' in inner && typeof inner.code === 'string'
      ? inner.code
      : undefined;
  return { code, text: inner instanceof Error ? inner.message : String(inner) };
}

function problemIn(response: Response, body: string): Problem | undefined {
  if (!/^application\/(?:problem\+)?json\b/.test(response.headers.get('content-type') ?? '')) return undefined;
  const value = parseJson(body);
  const looksRight =
    typeof value === 'object' &&
    value !== null &&
    'code' in value &&
    typeof value.code === 'string' &&
    'title' in value &&
    typeof value.title === 'string';
  if (!looksRight) return undefined;
  // Two members are proven; what else a problem document lacks must not make an error out of an error.
  return { type: 'about:blank', status: response.status, detail: '', ...value } as Problem;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Retry-After as seconds or as a date (RFC 9110 §10.2.3). */
function retryAfterOf(response: Response, problem: Problem | undefined): number | undefined {
  if (problem?.retry_after_s !== undefined) return problem.retry_after_s * 1_000;
  const text = response.headers.get('retry-after');
  if (text === null) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1_000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

const excerpt_chars_max = 120;
const excerpt = (body: string): string =>
  body === '' ? '(empty)' : body.length > excerpt_chars_max ? `${body.slice(0, excerpt_chars_max)}…` : body;
