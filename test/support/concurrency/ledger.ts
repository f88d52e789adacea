import type { Lease } from '../../../src/wire/leases.ts';

/** When a client sent a request and when it had the answer, in milliseconds of one clock for all clients. */
export type Span = Readonly<{ sentMs: number; answeredMs: number }>;

/** A lease as somebody was answered that it was theirs. */
export type Granted = Readonly<{ lease: Lease }> & Span;
/** How a lease was to end; `answered` is what the server said came of it, null when it said nothing or refused. */
export type Ended = Readonly<{ id: string; by: 'released' | 'revoked'; sentMs: number; answered: Lease | null }>;

/** Many leases that an operator took back at once: those of a holder, or of a slice. */
export type Taken = Readonly<{
  by: 'revoked' | 'moved';
  sentMs: number;
  /** What was asked for later than this it cannot have been about. */
  throughMs: number;
  covers: (lease: Lease) => boolean;
  /** The revocation that the server answered with, where it was one. */
  revocation: string | null;
}>;

/** All that clients know at the end, and nothing else: what they asked for and what they were answered. */
export class Ledger {
  readonly granted: Granted[] = [];
  readonly ended: Ended[] = [];
  readonly taken: Taken[] = [];
  /** Grants without an answer: they may or may not have happened. */
  unknown = 0;
  /** Refusals by code, and failures of the way there. */
  readonly refusals = new Map<string, number>();

  readonly now = (): number => performance.now();

  note(code: string): void {
    this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1);
  }
}
