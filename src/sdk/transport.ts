import { backoffMs, pause } from './backoff.ts';
import { errorOfAnswer, errorOfFetch, FisheryError, localCodes, parseJson } from './errors.ts';
import { SeenByUs } from './seen.ts';
import { fetchWithTls, type Fetch, type TlsFiles } from './tls.ts';
import { fetchOverUnix, socketPathOf } from './unix.ts';

export type ClientOptions = Readonly<{
  /** Where the server is, without `/v1`: `http://127.0.0.1:7480`; or the broker of this host: `unix:/run/fishery/broker.sock`. */
  url: string;
  /**
   * A bearer token, or whoever knows it now: a function is asked before every call, so that a token can be rotated. A broker
   * needs none: the kernel tells it whose process calls.
   */
  token?: string | (() => string);
  /** For a server with a certificate of a private authority, or one that asks clients for theirs. */
  tls?: TlsFiles | undefined;
  /** Replaces the global fetch; for tests, and for special connections. */
  fetch?: typeof fetch;
  /** For one attempt, from the call to the last byte of the answer. Default 10 s. */
  timeoutMs?: number;
  /** For calls that may be repeated, the first attempt included. Default 4. */
  attemptsMax?: number;
  /** In [0, 1), for the jitter of the waits between attempts. */
  random?: () => number;
}>;

export type QueryValue = string | number | boolean | undefined;

export type Call = Readonly<{
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Segments after the server's address, each still to be percent-encoded: `['v1', 'pools', id]`. */
  path: readonly string[];
  query?: Readonly<Record<string, QueryValue>>;
  body?: unknown;
  /** The media type of a body that is text, and goes out as it is, instead of JSON. */
  bodyType?: string | undefined;
  headers?: Readonly<Record<string, string>>;
  /** The media type of an answer that is text, and is returned as it is, instead of JSON. */
  text?: string;
  /**
   * Whether a second arrival changes nothing: reads, and what has an Idempotency-Key. Only these are repeated after a
   * failure that leaves open whether the first arrived; a call that never reached a server is repeated whatever it is.
   */
  repeatable: boolean;
  signal?: AbortSignal | undefined;
  /** Instead of the client's own. */
  timeoutMs?: number;
}>;

/** Longer than the server ever asks to wait for: past that the caller should know, not sleep. */
const retryAfterMsMax = 5_000;
const waits = { firstMs: 100, maxMs: 2_000 } as const;

/**
 * fetch cancels the body of an answer that nobody refers to any more, as soon as that is noticed; whoever has the body has
 * the answer here.
 */
const answersOf = new WeakMap<ReadableStream<Uint8Array>, Response>();

/** HTTP with a token, a time limit and a bounded number of attempts. Knows no resource. */
export class Transport {
  readonly #base: string;
  readonly #token: () => string;
  readonly #fetch: Fetch;
  readonly #timeoutMs: number;
  readonly #attemptsMax: number;
  readonly #random: () => number;
  /** What the server has told, and is told again with every call. */
  readonly seen = new SeenByUs();

  constructor(options: ClientOptions) {
    this.#base = baseOf(options.url);
    const socketPath = socketPathOf(options.url);
    const { token = '' } = options;
    this.#token = typeof token === 'string' ? () => token : token;
    if (socketPath === undefined && !/^[\x21-\x7e]+$/.test(this.#token()))
      throw new TypeError('the token is empty or has characters no token has');
    if (options.fetch) this.#fetch = options.fetch;
    else if (socketPath !== undefined) this.#fetch = fetchOverUnix(socketPath);
    else this.#fetch = options.tls ? fetchWithTls(options.tls) : fetch;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#attemptsMax = options.attemptsMax ?? 4;
    this.#random = options.random ?? Math.random;
  }

  /** Calls and returns the answer's JSON, or its text where that was asked for; undefined for 204. Throws FisheryError, or the caller's abort reason. */
  async call(call: Call): Promise<unknown> {
    const started = performance.now();
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(call);
      if (!(outcome instanceof FisheryError)) return outcome.value;
      const waitMs = Math.max(
        backoffMs({ ...waits, random: this.#random }, attempt),
        Math.min(outcome.retryAfterMs ?? 0, retryAfterMsMax),
      );
      const mayRepeat = outcome.code === localCodes.unreachable || (call.repeatable && outcome.retryable);
      if (!mayRepeat || attempt >= this.#attemptsMax || (outcome.retryAfterMs ?? 0) > retryAfterMsMax)
        throw outcome.after(attempt, performance.now() - started);
      await pause(waitMs, call.signal);
    }
  }

  /**
   * Opens a stream of server-sent events: one attempt, no time limit once the answer has begun (whoever reads watches
   * for silence). `timeoutMs` covers the time until then.
   */
  async openStream(
    path: readonly string[],
    query: Readonly<Record<string, QueryValue>>,
    signal: AbortSignal,
    timeoutMs: number = this.#timeoutMs,
  ): Promise<ReadableStream<Uint8Array>> {
    const url = this.#url(path, query);
    const what = `GET ${url}`;
    const opening = new AbortController();
    const timer = setTimeout(() => opening.abort(new DOMException('no answer', 'TimeoutError')), timeoutMs);
    try {
      const response = await this.#fetch(url, {
        headers: { ...this.#authorization(), accept: 'text/event-stream', ...this.seen.header },
        redirect: 'error',
        cache: 'no-store',
        signal: AbortSignal.any([signal, opening.signal]),
      });
      this.seen.note(response.headers);
      if (!response.ok) throw errorOfAnswer(what, response, await response.text());
      if (!response.body || !/^text\/event-stream\b/.test(response.headers.get('content-type') ?? ''))
        throw new FisheryError(`${what}: the answer is no event stream`, {
          code: localCodes.unreadableAnswer,
          status: response.status,
          retryable: false,
        });
      answersOf.set(response.body, response);
      return response.body;
    } catch (thrown) {
      signal.throwIfAborted();
      throw thrown instanceof FisheryError ? thrown : errorOfFetch(what, thrown, timeoutMs);
    } finally {
      clearTimeout(timer);
    }
  }

  async #attempt(call: Call): Promise<Readonly<{ value: unknown }> | FisheryError> {
    const url = this.#url(call.path, call.query ?? {});
    const what = `${call.method} ${url}`;
    // AbortSignal.timeout takes whole milliseconds only, and callers compute theirs.
    const timeoutMs = Math.max(1, Math.ceil(call.timeoutMs ?? this.#timeoutMs));
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const response = await this.#fetch(url, {
        method: call.method,
        headers: {
          ...this.#authorization(),
          accept: `${call.text ?? 'application/json'}, application/problem+json`,
          ...this.seen.header,
          ...(call.body === undefined ? {} : { 'content-type': call.bodyType ?? 'application/json' }),
          ...call.headers,
        },
        ...(call.body === undefined ? {} : { body: textOf(call) }),
        // A redirect would carry the token to wherever it points.
        redirect: 'error',
        signal: call.signal ? AbortSignal.any([call.signal, timeout]) : timeout,
      });
      this.seen.note(response.headers);
      const body = await response.text();
      if (!response.ok) return errorOfAnswer(what, response, body);
      if (response.status === 204) return { value: undefined };
      const value = call.text === undefined ? parseJson(body) : body;
      if (value !== undefined) return { value };
      return new FisheryError(`${what}: ${response.status}, but the answer is not JSON`, {
        code: localCodes.unreadableAnswer,
        status: response.status,
        retryable: false,
      });
    } catch (thrown) {
      call.signal?.throwIfAborted();
      return errorOfFetch(what, thrown, timeoutMs);
    }
  }

  #authorization(): Record<string, string> {
    const token = this.#token();
    return token === '' ? {} : { authorization: `Bearer ${token}` };
  }

  #url(path: readonly string[], query: Readonly<Record<string, QueryValue>>): string {
    const parameters = Object.entries(query).flatMap(([key, value]) =>
      value === undefined ? [] : [`${encodeURIComponent(key)}=${encodeURIComponent(value)}`],
    );
    const tail = parameters.length > 0 ? `?${parameters.join('&')}` : '';
    return `${this.#base}/${path.map(encodeURIComponent).join('/')}${tail}`;
  }
}

const textOf = ({ body, bodyType }: Call): string =>
  bodyType !== undefined && typeof body === 'string' ? body : JSON.stringify(body);

/** Checks the address once, at construction: a typing mistake should not look like a server that is down. */
function baseOf(text: string): string {
  // Nobody looks the name up.
  if (socketPathOf(text) !== undefined) return 'http://broker';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !['http:', 'https:'].includes(url.protocol))
    throw new TypeError(
      `"${text}" is not the address of a server like http://127.0.0.1:7480, or of a broker like unix:/run/fishery/broker.sock`,
    );
  if (url.username || url.password) throw new TypeError('credentials do not belong in the address of the server');
  if (url.search || url.hash)
    throw new TypeError(`"${text}" has a query or fragment; only scheme, host and path count`);
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}
