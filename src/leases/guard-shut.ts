import { limits } from './limits.ts';
import type { Machine } from './model.ts';
import type { Context } from './use-case.ts';

/**
 * When the guard of a machine has shut for certain, unless its agent is heard again; microseconds since the epoch, 0 where
 * no agent ever was. Before this server took over somebody may have answered later than is known, so the machine has its
 * whole fence from then.
 */
export function guardShutAt({ agent, fenceUs }: Machine, { startedAt }: Pick<Context, 'startedAt'>): number {
  return agent === null ? 0 : Math.max(agent.seenAt, startedAt) + fenceUs + limits.clock_skew_us;
}

/**
 * Until when the machine belongs to another boot than `bootId`: an answer would open a second guard for the same ports, of
 * a clone, or of the same host before the one it had has shut. Undefined: it may speak.
 */
export function takenUntil(machine: Machine, bootId: string, context: Context): number | undefined {
  if (machine.agent === null || machine.agent.bootId === bootId) return undefined;
  const at = guardShutAt(machine, context);
  return context.now < at ? at : undefined;
}
