import type { HostState, Step } from './host-state.ts';
import type { CounterName } from './ruleset.ts';
import type { Element } from './sets.ts';

/** The steps that change the host; `record` and `forget` are the state file's. */
export type HostStep = Exclude<Step, { do: 'record' | 'forget' }>;

export type Counter = Readonly<{ packets: number; bytes: number }>;

/**
 * The guard as the kernel has it at this moment. `stands`: it judges what leaves; while it does not, everybody may send with the
 * pools' addresses. `openForMs`: Infinity where somebody made it stay open for good.
 */
export type GuardState = Readonly<{ stands: boolean; openForMs: number }>;

/** All that the agent asks of the machine it runs on. Linux answers in production, a model in tests. */
export interface Host {
  /**
   * Everything that a plan compares: read anew, or as far as anybody has changed it since the last time. Without `listen`
   * that is the same.
   */
  observe(scope: 'all' | 'changed'): Promise<HostState>;
  /** From now on hears of what others change. */
  listen(): void;
  /** What others have changed since this was asked last, a few words for each; they are looked at by `observe`. */
  hear(): readonly string[];
  /** The sysctls that are not as they were observed last: nobody tells of those. */
  sysctlsChanged(): readonly string[];
  /** Devices where the steering program is not as it was observed last: nobody tells of that, either. */
  steeringChanged(): readonly string[];
  /** Carries steps out in order; throws HostProblem at the first that fails, with those before it done. */
  carryOut(steps: readonly HostStep[]): Promise<void>;
  /**
   * Elements of lease sets, as one transaction and without a process: adding what exists and removing what is gone are
   * no errors. Throws HostProblem when table or set is missing.
   */
  changeElements(add: readonly Element[], remove: readonly Element[]): void;
  /** Opens the guard for so long from now, whatever it was before. Throws HostProblem when there is no table. */
  openGuard(ms: number): void;
  /** Shuts it at once; no table is fine. */
  shutGuard(): void;
  guard(): GuardState;
  /** Counters of the table by name; an empty map when there is no table. */
  counters(): Promise<ReadonlyMap<CounterName, Counter>>;
  close(): void;
}

/** The host would not do something. The message says what, and what it answered, in one line for people. */
export class HostProblem extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HostProblem';
  }
}
