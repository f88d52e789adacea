import type { Role } from './model.ts';

/** Where a command comes from, as far as that matters to what is said and written about it. */
export type Provenance = Readonly<{
  /** The request's, by which it is found again in answers, logs and problem documents. */
  requestId: string;
  /** Under which the answer is kept; null where nobody asked for that. */
  key: IdempotencyKey | null;
  /** For whoever answers for what they do: it is written down. Null for holders and agents, whose truth is the log of events. */
  audit: AuditOrigin | null;
}>;

export type AuditOrigin = Readonly<{
  actor: Readonly<{ token: number; name: string; role: Role }>;
  remoteAddress: string | null;
  /** The operation of the API, and what it is about: see `AuditEntry`. */
  operation: string;
  target: string;
}>;

/** A client's name for one request: what comes under the same key again is not carried out again. */
export type IdempotencyKey = Readonly<{
  /** Whose key it is: two clients may choose the same. */
  token: number;
  key: string;
  /** A hash of the operation and all that was said with it. */
  fingerprint: string;
  /**
   * The request goes on, rather than coming again: leases that it was granted are to be replaced by those of this command.
   * It does, as long as they are still the request's; else somebody else has done it, and the answer is what they got.
   */
  replaces?: readonly number[];
}>;
