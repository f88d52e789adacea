import type { HostProblem } from './host.ts';
import type { Step, Wish } from './host-state.ts';

type Refusal = Readonly<{ value: string; code: string; what: string; stopsFish: boolean }>;

/**
 * Sysctls that this host does not let the agent set: in most containers /proc/sys is read-only. What needs one says so; the
 * guard, rules, and leases of proxies do not wait for any. They are tried again with every look.
 */
export class RefusedSysctls {
  readonly #refused = new Map<string, Refusal>();

  /** Whether a step only tries again what was refused. */
  has(step: Step): boolean {
    return step.do === 'set-sysctl' && this.#refused.get(step.key)?.value === step.value;
  }

  /** Those that need not be set any more are as they should be by now, or nobody wants them. */
  keepOnly(steps: readonly Step[]): void {
    const due = new Set(steps.flatMap((step) => (step.do === 'set-sysctl' ? [step.key] : [])));
    for (const key of this.#refused.keys()) if (!due.has(key)) this.#refused.delete(key);
  }

  /** Whether one of these was refused. */
  hasAny(keys: readonly string[]): boolean {
    return keys.some((key) => this.#refused.has(key));
  }

  /** `wish`: why it was to be set; undefined when it was to be as it was before. */
  note(step: Step & { do: 'set-sysctl' }, wish: Wish | undefined, error: HostProblem): void {
    const { key, value } = step;
    const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.message;
    const why = wish ? wish.without : 'as it was before';
    const what = `${key.replaceAll('/', '.')} = ${value} (${why})`;
    this.#refused.set(key, { value, code, what, stopsFish: wish?.stopsFish === true });
  }

  isSet({ key }: Readonly<{ key: string }>): void {
    this.#refused.delete(key);
  }

  /** At most one line for people. */
  get problems(): readonly string[] {
    return described([...this.#refused.values()]);
  }

  /** Why fish cannot work here; undefined when it can. */
  get stopsFish(): string | undefined {
    const [line] = described([...this.#refused.values()].filter(({ stopsFish }) => stopsFish));
    return line === undefined ? undefined : `fish cannot work here: ${line}`;
  }
}

function described(refusals: readonly Refusal[]): readonly string[] {
  if (refusals.length === 0) return [];
  const codes = [...new Set(refusals.map(({ code }) => code))].join(', ');
  const remedy = codes.includes('EROFS')
    ? '/proc/sys is read-only in this container: set them on the host beforehand, or run the container with --privileged'
    : 'set them on this host';
  return [`sysctls cannot be set (${codes}): ${refusals.map(({ what }) => what).join('; ')}. ${remedy}`];
}
