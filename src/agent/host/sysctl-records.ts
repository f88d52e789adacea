import type { HostState, Recorded, RecordPart, Wish } from './host-state.ts';

/**
 * Sysctls are the whole host's, and others set them as well. What the agent writes down of each is how it was, and what it has
 * written itself: a value that is neither has been set by somebody else since, and is not the agent's to put back.
 */

/** A sysctl that is to become `value`; `now` undefined where there is no such file yet. */
export type SysctlChange = Readonly<{ wish: Wish; now: string | undefined; value: string }>;

type Observed = Pick<HostState, 'sysctls'>;
type Known = Pick<Recorded, 'sysctls' | 'written'>;

/** What is to be written down before these changes. */
export function recordOfChanges(
  changes: readonly SysctlChange[],
  observed: Observed,
  recorded: Known,
): Pick<RecordPart, 'sysctls' | 'written'> {
  const sysctls = new Map<string, string>();
  const written = new Map<string, string>();
  for (const { wish, now, value } of changes) {
    const { key } = wish;
    if (now === undefined) continue;
    // How somebody else has set it since is how it is to be again.
    if (!recorded.sysctls.has(key) || isOthers(now, key, recorded)) sysctls.set(key, now);
    if (recorded.written.get(key) !== value) written.set(key, value);
    const whole = ofWholeHost(key);
    const ofAll = whole === undefined ? undefined : observed.sysctls.get(whole);
    if (whole === undefined || ofAll === undefined || recorded.sysctls.has(whole)) continue;
    // Nothing is written there: only to see whether others do.
    sysctls.set(whole, ofAll);
    written.set(whole, ofAll);
  }
  return { sysctls: [...sysctls], written: [...written] };
}

/** Those that nobody looks after any more, and how they were before the agent came. */
export function notWanted(
  wishes: readonly Wish[],
  { sysctls }: Known,
): readonly (readonly [key: string, before: string])[] {
  const wanted = new Set<string | undefined>(wishes.flatMap(({ key }) => [key, ofWholeHost(key)]));
  return [...sysctls].filter(([key]) => !wanted.has(key));
}

/** Of these, what is to be put back: what is still as the agent has written it. */
export const toPutBack = (
  unwanted: readonly (readonly [key: string, before: string])[],
  observed: Observed,
  recorded: Known,
): readonly (readonly [key: string, before: string])[] =>
  unwanted.filter(([key, before]) => {
    const now = observed.sysctls.get(key);
    return now !== undefined && !sameValue(now, before) && whyLeft(key, now, observed, recorded) === undefined;
  });

/** What is not put back when everything is taken down, and why: a line each. */
export function leftAsSet(observed: Observed, recorded: Known): readonly string[] {
  return [...recorded.sysctls].flatMap(([key, before]) => {
    const now = observed.sysctls.get(key);
    if (now === undefined || sameValue(now, before)) return [];
    const why = sameValue(before, recorded.written.get(key) ?? '') ? undefined : whyLeft(key, now, observed, recorded);
    return why === undefined
      ? []
      : [`sysctl ${key} stays "${asWords(now)}": ${why}; before the agent it was "${asWords(before)}"`];
  });
}

function whyLeft(key: string, now: string, observed: Observed, recorded: Known): string | undefined {
  const written = recorded.written.get(key);
  if (isOthers(now, key, recorded))
    return `somebody else has set it since (the agent had set "${asWords(written ?? '')}")`;
  const whole = ofWholeHost(key);
  const ofAll = whole === undefined ? undefined : observed.sysctls.get(whole);
  // Without the agent the kernel would have set this one, too.
  if (whole !== undefined && ofAll !== undefined && recorded.sysctls.has(whole) && isOthers(ofAll, whole, recorded))
    return `somebody else has set ${whole}, which is for all devices, to "${asWords(ofAll)}" since`;
  return undefined;
}

/** Neither as it was nor as the agent has written it. Of a record that does not say what was written, nothing is. */
const isOthers = (now: string, key: string, { sysctls, written }: Known): boolean =>
  written.has(key) && !sameValue(now, written.get(key) ?? '') && !sameValue(now, sysctls.get(key) ?? '');

/** The key that sets this one on all devices at once, by the kernel's hand. */
export function ofWholeHost(key: string): string | undefined {
  const [, family, device, name] = /^net\/(ipv[46])\/conf\/([^/]+)\/((?:force_)?forwarding)$/.exec(key) ?? [];
  return device === undefined || device === 'all' || device === 'default'
    ? undefined
    : `net/${family}/conf/all/${name}`;
}

const asWords = (value: string): string => value.trim().split(/\s+/).join(' ');

/** The kernel separates the parts of a value by tabs, people by blanks. */
export const sameValue = (a: string, b: string): boolean => asWords(a) === asWords(b);
