import type { Command } from '../leases/commands.ts';
import type { Health, Terms, Trouble } from '../leases/lease-service.ts';
import { StoreError, type Reader, type StoreFailure } from '../leases/store.ts';
import type { EngineOptions } from './engine.ts';
import type { Packed } from './packing.ts';

/** What the thread is started with. */
export type EngineSetup = EngineOptions;

export type Execution = Readonly<{ id: number; command: Command; terms: Terms | undefined }>;
export type ReadCall = Readonly<{ id: number; method: keyof Reader; args: readonly unknown[] }>;
/** Something that is done once, and answered when it is. */
export type Errand = 'startSweeping' | 'stopSweeping' | 'close';

export type ToEngine =
  /** What arrived in one turn of the event loop. */
  | Readonly<{ kind: 'calls'; executions: readonly Execution[]; reads: readonly ReadCall[] }>
  | Readonly<{ kind: 'errand'; id: number; errand: Errand }>
  /** To other servers. */
  | Readonly<{ kind: 'tell'; id: number; text: string }>;

/** Why something was not answered. Classes do not pass between threads; what they say does. */
export type Failure = Readonly<{ message: string; stack: string | undefined; store: StoreFailure | null }>;

/** To what is no command, and to commands that were not answered. */
export type Reply = Readonly<{ id: number }> & (Readonly<{ value: unknown }> | Readonly<{ failure: Failure }>);

export type FromEngine =
  | Readonly<{ kind: 'opened'; hasRelay: boolean }>
  | Readonly<{ kind: 'not opened'; failure: Failure }>
  /**
   * Committed events first, in order; then the answers to the commands that caused them, whose identifiers are `answered`.
   * `health` where it changed.
   */
  | Readonly<{
      kind: 'news';
      packed: Packed;
      answered: readonly number[];
      replies: readonly Reply[];
      health: Health | null;
    }>
  | Readonly<{ kind: 'foreign commit' }>
  | Readonly<{ kind: 'told'; text: string }>
  | Readonly<{ kind: 'trouble'; trouble: Omit<Trouble, 'cause'>; failure: Failure }>
  | Readonly<{ kind: 'sweep failed'; failure: Failure }>;

export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), stack: undefined, store: null };
  return { message: error.message, stack: error.stack, store: error instanceof StoreError ? error.failure : null };
}

export function errorOf({ message, stack, store }: Failure): Error {
  const error = store === null ? new Error(message) : new StoreError(store, message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
