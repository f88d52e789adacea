import { broker } from '../agent/broker.ts';
import { drift } from '../agent/drift.ts';
import { guard } from '../agent/guard.ts';
import { placeholders } from '../agent/placeholders.ts';
import { reconcile } from '../agent/reconcile.ts';
import { restart } from '../agent/restart.ts';
import { steering } from '../agent/steering.ts';
import type { Suite } from '../suite.ts';

/** One after the other; each opens a scene of its own. Needs root. */
const parts: readonly Suite[] = [placeholders, reconcile, drift, guard, steering, restart, broker];

/** What the agent costs, and how fast it is, on the real kernel. */
export const agent: Suite = async function* (settings) {
  for (const part of parts) yield* part(settings);
};
