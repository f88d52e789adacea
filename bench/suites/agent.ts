import { broker } from '../agent/broker.ts';
import { drift } from '../agent/drift.ts';
import { guard } from '../agent/guard.ts';
import { placeholders } from '../agent/placeholders.ts';
import { reconcile } from '../agent/reconcile.ts';
import { restart } from '../agent/restart.ts';
import { steering } from '../agent/steering.ts';
import type { Suite } from '../suite.ts';

type Part = Readonly<{ figures: readonly string[]; measure: Suite }>;

/** One after the other; each opens a scene of its own. Needs root. */
const parts: readonly Part[] = [
  { figures: ['placeholders_per_s', 'placeholder_bytes', 'placeholder_keepers'], measure: placeholders },
  { figures: ['reconcile10k_s', 'reconcile_one_ms', 'idle_processor'], measure: reconcile },
  { figures: ['drift_s'], measure: drift },
  { figures: ['guard'], measure: guard },
  { figures: ['steering_ebpf'], measure: steering },
  { figures: ['restart_broken', 'restart_lost_planned', 'restart_lost_killed'], measure: restart },
  { figures: ['broker', 'broker_per_s'], measure: broker },
];

/** What the agent costs, and how fast it is, on the real kernel. */
export const agent: Suite = async function* (settings, isWanted = () => true) {
  for (const { figures, measure } of parts)
    if (figures.some((name) => isWanted(`agent.${name}`))) yield* measure(settings, isWanted);
};
