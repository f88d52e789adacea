import type { z } from 'zod';
import { err, ok, type Result } from '../../net/result.ts';
import { ClaimOfOne } from '../../wire/leases.ts';
import { claimParts } from '../claim-text.ts';

type ClaimInput = z.input<typeof ClaimOfOne>;

/** What the flags say about the leases that are wanted. */
export type Wanted = Readonly<{
  claim: readonly string[];
  protocol?: string | undefined;
  ports?: number | undefined;
  mode?: string | undefined;
  binding?: string | undefined;
  pool?: string | undefined;
  family?: number | undefined;
}>;

const single = ['protocol', 'ports', 'mode', 'binding', 'pool', 'family'] as const;

/** The claims that the flags ask for: those of each --claim, or the one that --protocol, --ports … describe. */
export function claimsOf(wanted: Wanted): Result<readonly ClaimInput[], readonly string[]> {
  const described = single.filter((key) => wanted[key] !== undefined);
  if (wanted.claim.length === 0) {
    const given = Object.fromEntries(described.map((key) => [key, wanted[key]]));
    return collect([checked({ protocol: 'tcp', ...given }, '')]);
  }
  if (described.length > 0)
    return err([`--claim says everything about a lease: leave out ${described.map((key) => `--${key}`).join(', ')}`]);
  return collect(wanted.claim.map((text) => parseClaim(text)));
}

/** `protocol=tcp,ports=128,mode=shared,binding=explicit` */
function parseClaim(text: string): Result<ClaimInput, readonly string[]> {
  const where = `--claim "${text}": `;
  const parts = claimParts(text, single);
  return parts.ok ? checked(parts.value, where) : err([`${where}${parts.error}`]);
}

function checked(given: Readonly<Record<string, unknown>>, where: string): Result<ClaimInput, readonly string[]> {
  const parsed = ClaimOfOne.safeParse(given);
  if (parsed.success) return ok(parsed.data);
  return err(
    parsed.error.issues.map(({ path, message }) => `${where}${where === '' ? '--' : ''}${path.join('.')}: ${message}`),
  );
}

function collect(
  results: readonly Result<ClaimInput, readonly string[]>[],
): Result<readonly ClaimInput[], readonly string[]> {
  const problems = results.flatMap((result) => (result.ok ? [] : result.error));
  return problems.length > 0 ? err(problems) : ok(results.flatMap((result) => (result.ok ? [result.value] : [])));
}
