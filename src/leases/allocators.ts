import type { LeaseError } from './errors.ts';
import type { Allocator, Machine } from './model.ts';

/** Who may grant inside the slices of a machine: the server anywhere, the machine itself only where an agent could. */

export const canAllocate = ({ enforcement }: Pick<Machine, 'enforcement'>, allocator: Allocator): boolean =>
  allocator === 'server' || enforcement === 'agent';

/** Why this one cannot grant there; undefined when it can. */
export const noAgentFor = (
  machine: Pick<Machine, 'id' | 'enforcement'>,
  allocator: Allocator,
): LeaseError | undefined =>
  canAllocate(machine, allocator) ? undefined : { code: 'allocator_needs_agent', machine: machine.id };
