import type { FastifyRequest } from 'fastify';
import { everything, type Scope } from '../leases/commands.ts';
import type { Epoch, Role, TokenQuota } from '../leases/model.ts';
import { ApiProblem, leaseProblem } from './problems.ts';
import { detailOf } from './errors.ts';

/** Who calls: what the token says. */
export type Principal = Readonly<{
  token: number;
  name: string;
  role: Role;
  machine: string | null;
  holder: string | null;
  router: string | null;
  quota: TokenQuota;
  /** SHA-256 of the secret that was shown, and until when it is good (µs since 1970; Infinity: for ever). */
  secretHash: string;
  validUntil: number;
}>;

declare module 'fastify' {
  interface FastifyRequest {
    /** Null where the operation is open to everybody. */
    principal: Principal | null;
  }
}

/** Only for operations that are not open; the auth plugin has let nobody else through. */
export function principalOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw new Error(`${request.method} ${request.url} has no principal`);
  return request.principal;
}

/** Who says or does something, for people. */
export const witnessOf = ({ token, name, role }: Principal): string => `token-${token} (${role} ${name})`;

/** What the decision itself checks, where nothing can race it. */
export function scopeOf(principal: Principal): Scope {
  const { role, machine, holder } = principal;
  if (role === 'operator') return everything;
  if (role === 'agent' && machine !== null) return { machine, runByAgent: true };
  if (role === 'holder' && machine !== null && holder !== null) return { machine, holder };
  throw new Error(`a ${role} token commands nothing`);
}

type Owner = Readonly<{ machine: string; holder?: string }> | Readonly<{ router: string }>;

/** Whether what belongs to `owner` may be read with this token: operators and viewers read everything. */
export function owns(principal: Principal, owner: Owner): boolean {
  if (principal.role === 'operator' || principal.role === 'viewer') return true;
  if ('router' in owner) return principal.role === 'router' && principal.router === owner.router;
  if (principal.machine !== owner.machine) return false;
  return principal.role === 'agent' || (owner.holder !== undefined && principal.holder === owner.holder);
}

/**
 * What the table says in doubt may be long past, and an agent or a router that made it true could bring back what is somebody
 * else's by now. They keep what they have.
 */
export async function refuseInDoubt(
  { role }: Principal,
  epochs: Readonly<{ isInDoubt: () => Promise<boolean>; current: Pick<Epoch, 'number'> }>,
): Promise<void> {
  if ((role === 'agent' || role === 'router') && (await epochs.isInDoubt()))
    throw leaseProblem({ code: 'read_only_epoch', epoch: epochs.current.number, isConfirmed: false }, 0);
}

/** For what no command decides about: reads, and the agent's own paths. */
export function requireOwn(principal: Principal, owner: Owner, item: string): void {
  if (!owns(principal, owner)) throw notYours(item);
}

export const notYours = (item: string): ApiProblem =>
  new ApiProblem('not_yours', detailOf({ code: 'not_yours', item }));
