import type { LeaseOutcome } from './lease-host.ts';
import type { DesiredMachine } from '../server/desired.ts';

/** Between two looks at the units of reservations. */
export const units_every_ms = 15_000;
/** Units that one look asks about. With more than that they take turns. */
export const units_asked_max = 256;

type Parts = Readonly<{
  /** Of these units of the service manager, those that it does not know and that do not run. */
  goneOf(units: readonly string[]): Promise<ReadonlySet<string>>;
  log: Readonly<{ warn(message: string): void }>;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** Looks now and then whether the units that leases are reserved for are still there. One that only stopped is. */
export class UnitsOnHost {
  readonly #parts: Parts;
  #lookedAt = -Infinity;
  #turn = 0;
  #problem: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** What to report of leases whose units are gone. Where the service manager gives no answer nothing is gone. */
  async look(desired: DesiredMachine): Promise<readonly LeaseOutcome[]> {
    const now = this.#parts.now();
    if (now - this.#lookedAt < units_every_ms) return [];
    const reserved = [...desired.leases.values()].filter(
      ({ unit, state }) => unit !== undefined && (state === 'pending' || state === 'active'),
    );
    const units = [...new Set(reserved.flatMap(({ unit }) => unit ?? []))];
    if (units.length === 0) return [];
    this.#lookedAt = now;
    const begin = this.#turn % units.length;
    const turn = [...units.slice(begin), ...units.slice(0, begin)].slice(0, units_asked_max);
    this.#turn += turn.length;
    const gone = await this.#goneOf(turn);
    return reserved.flatMap(({ id, token, unit }): LeaseOutcome[] =>
      unit !== undefined && gone.has(unit) ? [{ lease: id, token, state: 'unit_gone' }] : [],
    );
  }

  async #goneOf(units: readonly string[]): Promise<ReadonlySet<string>> {
    try {
      const gone = await this.#parts.goneOf(units);
      this.#problem = undefined;
      return gone;
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      // Said once, when it begins.
      if (problem !== this.#problem) this.#parts.log.warn(`units of reservations cannot be looked at: ${problem}`);
      this.#problem = problem;
      return new Set();
    }
  }
}
