import type { Check } from './check.ts';
import { diagnose, fixesOf, type Diagnosis } from './diagnose.ts';
import type { FactName } from './facts.ts';
import { carryOut, describeFix } from './fix.ts';
import { Observer, type ObserverOptions } from './observe/observer.ts';

/** Looks at this host once, at as much of it as these checks need. */
export async function examine(checks: readonly Check[], options: ObserverOptions): Promise<Diagnosis> {
  const names = new Set<FactName>(checks.flatMap(({ needs }) => needs));
  return diagnose(checks, await new Observer(options).observe(names));
}

/** `problem`: why it could not be done; null when it was. */
export type Mended = Readonly<{ command: string; problem: string | null }>;

/** Mends what is safe to mend, each thing once, whichever checks asked for it. */
export async function mend(diagnosis: Diagnosis): Promise<readonly Mended[]> {
  const done = new Map<string, Mended>();
  for (const { fix } of fixesOf(diagnosis)) {
    if (fix === undefined || done.has(describeFix(fix))) continue;
    const outcome = await carryOut(fix);
    done.set(describeFix(fix), { command: describeFix(fix), problem: outcome.ok ? null : outcome.error });
  }
  return [...done.values()];
}
