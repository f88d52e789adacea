import type { Feed } from '../feed/feed.ts';
import type { LeaseService } from '../leases/lease-service.ts';
import type { Reader, Relay } from '../leases/store.ts';
import type { Clock } from '../ops/clock.ts';
import type { Logger } from '../ops/logger.ts';
import type { Callers } from './plugins/callers.ts';
import type { TlsListener } from './tls.ts';

export type Limits = Readonly<{
  body_bytes_max: number;
  watchers_max: number;
  /** Of these, so many may be of one token: of an agent, holder or router, and of anybody else. */
  watchers_per_bound_token_max: number;
  watchers_per_token_max: number;
  /** For tokens without a limit of their own, and for requests without a valid token, by address; null: none. */
  token_requests_per_s: number | null;
  token_requests_burst: number | null;
  stranger_requests_per_s: number | null;
  stranger_requests_burst: number | null;
  /** A watcher hears at least this often how far the log is. */
  heartbeat_ms: number;
  /** A watcher that reads nothing for so long is cut off. */
  stall_ms: number;
  /** For the agent's answer to a question about its flow log. */
  flow_query_ms: number;
  /** For the broker of a machine to answer what was forwarded to it, beside what the request itself lets it wait. */
  forward_ms: number;
  /** For a request to arrive as a whole. */
  request_ms: number;
}>;

export const defaultLimits: Limits = {
  body_bytes_max: 4_194_304,
  watchers_max: 10_000,
  watchers_per_bound_token_max: 16,
  watchers_per_token_max: 5_000,
  token_requests_per_s: null,
  token_requests_burst: null,
  stranger_requests_per_s: null,
  stranger_requests_burst: null,
  heartbeat_ms: 10_000,
  stall_ms: 30_000,
  flow_query_ms: 2_000,
  forward_ms: 5_000,
  request_ms: 60_000,
};

/** Everything that the API is made of. It opens nothing itself. */
export type Parts = Readonly<{
  leases: Pick<LeaseService, 'execute' | 'health' | 'onEvents'>;
  reader: Reader;
  feed: Pick<Feed, 'follow' | 'waitFor' | 'onEvent' | 'followerCount' | 'published'>;
  clock: Clock;
  logger: Logger;
  version: string;
  /** Cryptographic randomness, for tokens. */
  randomBytes: (count: number) => Uint8Array;
  /** Whether /metrics needs no token: fitting where only this host can reach it. */
  metricsOpen: boolean;
  /** Whether the metrics tell of the process too: memory, CPU, event loop. */
  processMetrics: boolean;
  limits: Limits;
  /** To other servers on the same database, where there can be some. */
  relay?: Relay | undefined;
  /** Who calls is told by the connection, instead of by tokens, and not every operation is served. Absent: tokens, all of them. */
  callers?: Callers;
  /** Absent: plain HTTP. */
  tls?: TlsListener;
  /** Proxies in front, by address or prefix: what they say about who is behind them is believed. */
  trustedProxies?: readonly string[];
}>;
