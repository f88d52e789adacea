import type { FastifyRequest } from 'fastify';
import type { Claim, Placement, Recipient, Scope } from '../leases/commands.ts';
import type { LeaseError } from '../leases/errors.ts';
import { formatToken, type Lease } from '../leases/model.ts';
import type { Context } from './context.ts';
import type { Provenance } from '../leases/provenance.ts';
import { detailOf } from './errors.ts';
import { apiProblem, leaseProblem, type ApiProblem, type ProblemPart } from './problems.ts';
import { provenanceOf } from './provenance.ts';
import { isDryRun, run } from './resource.ts';
import { untilSettled } from './settle.ts';

/** What the kernel refuses again and again is not the fault of one block. */
const regrants_per_claim_max = 3;

type Grant = Recipient & Readonly<{ scope: Scope; claims: readonly Claim[]; placement: Placement }>;
type Asked = Grant & Readonly<{ timeoutMs: number }>;

/**
 * Grants, and waits until the agent has made every lease true. What the kernel refuses is granted anew: its block is
 * `blocked` by then, so the new lease lies elsewhere, on the same address where they all must. The other leases of the
 * request stay meanwhile. Returns the leases in the order of their claims: all active, or some still pending when the time
 * is over. Throws the problem when one cannot be had, or when nothing may be granted any more; then every lease of the
 * request has been released.
 */
export async function grantUntilApplied(
  context: Context,
  request: FastifyRequest,
  asked: Asked,
): Promise<readonly Lease[]> {
  const { timeoutMs, ...grant } = asked;
  const { scope, placement } = grant;
  const deadline = performance.now() + timeoutMs;
  let leases: readonly Lease[] = await run(context, request, { kind: 'grantLeases', ...grant });
  const claims = asked.claims.flatMap((claim, from) =>
    Array.from({ length: claim.count }, () => ({ ...claim, count: 1, from })),
  );
  const regrants = claims.map(() => 0);
  for (;;) {
    leases = await untilSettled(context, leases, Math.max(0, deadline - performance.now()));
    const over = await problemOfOver(context, leases);
    if (over !== null) return giveUp(context, scope, leases, over);
    const late = context.callers?.refusal('grantLeases');
    if (late) return tooLate(context, request, scope, leases, late);
    const refused = refusedOf(leases);
    if (refused.length === 0) return leases;
    const isForNothing = ({ index }: { index: number }) =>
      claims[index]?.at !== null || regrants[index] === regrants_per_claim_max;
    if (refused.some(isForNothing)) return giveUp(context, scope, leases, refusalOf(leases, claims));
    for (const { index } of refused) regrants[index] = (regrants[index] ?? 0) + 1;
    const lost = refused.flatMap(({ index, lease }) => {
      const claim = claims[index];
      return claim && placement === 'same_address' ? { ...claim, address: lease.address } : (claim ?? []);
    });
    const anew = { ...grant, claims: lost, placement: placement === 'spread' ? placement : 'any' } as const;
    const replaced = refused.map(({ lease }) => lease.id);
    const again = await context.leases.execute(
      { kind: 'grantLeases', ...anew },
      { provenance: goingOn(request, replaced) },
    );
    // The same request came to another server too, or came again, and it was quicker there.
    if (again.ok && again.replayed) {
      leases = again.value;
      continue;
    }
    if (!again.ok) return giveUp(context, scope, leases, refusalOf(leases, claims, again.error));
    const regranted = new Map(refused.map(({ index }, place) => [index, again.value[place]]));
    leases = leases.map((lease, index) => regranted.get(index) ?? lease);
  }
}

/** The request is not done yet: its answer is kept with other leases from here on. */
function goingOn(request: FastifyRequest, replaces: readonly number[]): Provenance {
  const { key, ...provenance } = provenanceOf(request);
  return { ...provenance, key: key && { ...key, replaces } };
}

const refusedOf = (leases: readonly Lease[]) =>
  leases.flatMap((lease, index) => (lease.refusal === null ? [] : [{ index, lease, ...lease.refusal }]));

/** Why leases are over for good, though no kernel refused them: somebody ended them, or their session. */
async function problemOfOver({ reader, clock }: Context, leases: readonly Lease[]): Promise<ApiProblem | null> {
  const over = leases.find((lease) => lease.refusal === null && lease.state !== 'pending' && lease.state !== 'active');
  if (over === undefined) return null;
  const session = over.session === null ? undefined : await reader.session(over.session);
  if (session !== undefined && session.ending !== null)
    return leaseProblem({ code: 'session_ended', session: session.id, ending: session.ending }, clock.nowUs());
  return leaseProblem({ code: 'lease_over', lease: over.id, state: over.state, ending: over.ending }, clock.nowUs());
}

/** `from`: which claim of the request each lease is for. `again`: why there was nothing to be had elsewhere either. */
function refusalOf(
  leases: readonly Lease[],
  claims: readonly Readonly<{ from: number }>[],
  again?: LeaseError,
): ApiProblem {
  const refused = refusedOf(leases);
  const errors = refused.map(({ index, lease, errno, detail }): ProblemPart => {
    const { first, last } = lease.ports;
    return {
      path: `body.claims[${claims[index]?.from ?? index}]`,
      message: `${errno}: ${detail} (lease-${lease.id}, ${lease.address} ports ${first}-${last})`,
    };
  });
  const machine = refused[0]?.lease.machine ?? '';
  const detail =
    `${errors.length} of ${leases.length} leases were refused by the kernel of "${machine}"` +
    (again === undefined ? '' : `, and cannot be granted elsewhere: ${detailOf(again)}`);
  return apiProblem('claim_refused', detail, { errors });
}

/** Grants without waiting for the agent. When nothing may be granted any more by then, it is given back, and the problem thrown. */
export async function grantAtOnce(context: Context, request: FastifyRequest, asked: Grant): Promise<readonly Lease[]> {
  const leases = await run(context, request, { kind: 'grantLeases', ...asked });
  const late = isDryRun(request) ? undefined : context.callers?.refusal('grantLeases');
  return late ? tooLate(context, request, asked.scope, leases, late) : leases;
}

/** What was granted before, and is only told again, stays. */
async function tooLate(
  context: Context,
  { isReplay }: FastifyRequest,
  scope: Scope,
  leases: readonly Lease[],
  problem: ApiProblem,
): Promise<never> {
  if (isReplay) throw problem;
  return giveUp(context, scope, leases, problem);
}

/** All or none: what was granted beside a claim that failed is given back. One that is over already needs nothing. */
async function giveUp(context: Context, scope: Scope, leases: readonly Lease[], problem: ApiProblem): Promise<never> {
  const live = leases.filter((lease) => lease.state === 'pending' || lease.state === 'active');
  await Promise.all(
    live.map((lease) =>
      context.leases.execute({ kind: 'releaseLease', scope, id: lease.id, token: formatToken(lease) }),
    ),
  );
  throw problem;
}
