import type { Result } from '../net/result.ts';
import type { FactName, Facts, Observed } from './facts.ts';

/** From harmless to "leases are not kept". `ok` is no finding at all. */
export const severities = ['ok', 'info', 'warning', 'error', 'fatal'] as const;
export type Severity = (typeof severities)[number];

/** What `--fix` may do. Everything that cuts somebody's traffic, or that the agent does by itself, is not among them. */
export type Fix = Readonly<
  | { do: 'sysctl'; key: string; value: string }
  | { do: 'mode'; path: string; mode: number }
  | { do: 'link'; device: string; property: 'mtu' | 'txqueuelen'; value: number }
  | { do: 'shut-guard' }
>;

export type Finding = Readonly<{
  severity: Exclude<Severity, 'ok'>;
  /** What is wrong, here and now. */
  what: string;
  /** How to mend it: a command, or the setting to change. */
  mend: string;
  fix?: Fix;
}>;

export type CheckResult = Readonly<
  { is: 'looked'; findings: readonly Finding[] } | { is: 'not looked'; because: string }
>;

export type Check = Readonly<{
  id: string;
  /** What it looks for, in a few words. */
  title: string;
  /** What comes of it: why somebody should care. */
  why: string;
  /** How to mend it, in general; findings have the command. */
  remedy: string;
  /** The worst that it may say. */
  worst: Exclude<Severity, 'ok'>;
  /** Whether some of its findings can be mended by `--fix`. */
  isFixable: boolean;
  needs: readonly FactName[];
  run(observed: Partial<Observed>): CheckResult;
}>;

type CheckText = Omit<Check, 'needs' | 'run' | 'isFixable'> & Readonly<{ isFixable?: boolean }>;

/**
 * Writes a check down: the facts that it needs, and a pure look at them. Where one of them is out of sight it does not
 * look, and says which.
 */
export function defineCheck<const K extends FactName>(
  text: CheckText,
  needs: readonly K[],
  look: (facts: Pick<Facts, K>) => readonly Finding[],
): Check {
  return {
    isFixable: false,
    ...text,
    needs,
    run: (observed) => {
      const seen: Partial<Pick<Facts, K>> = {};
      for (const name of needs) {
        const fact: Result<Facts[K], string> | undefined = observed[name];
        if (fact === undefined) throw new Error(`check ${text.id} needs ${name}, which was not observed`);
        if (!fact.ok) return { is: 'not looked', because: fact.error };
        seen[name] = fact.value;
      }
      const findings = look(seen as Pick<Facts, K>);
      return { is: 'looked', findings };
    },
  };
}

const shown_max = 10;
/** The first few of many things, and how many more there are. */
export function some(things: readonly string[]): string {
  const more = things.length - shown_max;
  return things.slice(0, shown_max).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** How an administrator sets a sysctl, and where it stays set. */
export const sysctlCommand = (key: string, value: string): string =>
  `sysctl -w ${sysctlName(key)}="${value}" (and the same line in /etc/sysctl.d/60-fishery.conf, to keep it)`;

/** `net/ipv4/conf/eth0.5/forwarding` as sysctl(8) writes it: dots for slashes, slashes for dots. */
export const sysctlName = (key: string): string => key.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.'));
