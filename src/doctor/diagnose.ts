import { severities, type Check, type Finding, type Severity } from './check.ts';
import type { Observed } from './facts.ts';

export type Diagnosis = Readonly<{
  /** The worst of all findings. */
  worst: Severity;
  /** Each check that was run, with what it found. */
  results: readonly Readonly<{
    check: Check;
    severity: Severity;
    findings: readonly Finding[];
    unseen: string | null;
  }>[];
}>;

const rank = (severity: Severity): number => severities.indexOf(severity);
export const worstOf = (all: readonly Severity[]): Severity =>
  all.reduce<Severity>((worst, each) => (rank(each) > rank(worst) ? each : worst), 'ok');

/** Judges a host by these facts. Pure: the same facts always come to the same. */
export function diagnose(checks: readonly Check[], observed: Partial<Observed>): Diagnosis {
  const results = checks.map((check) => {
    const result = check.run(observed);
    if (result.is === 'not looked') return { check, severity: 'ok' as const, findings: [], unseen: result.because };
    const severity = worstOf(result.findings.map((finding) => finding.severity));
    return { check, severity, findings: result.findings, unseen: null };
  });
  return { worst: worstOf(results.map(({ severity }) => severity)), results };
}

/** The checks that are meant; the error names what there is no check for. */
export function chooseChecks(
  all: readonly Check[],
  choice: Readonly<{ only: readonly string[]; skip: readonly string[] }>,
): Readonly<{ ok: true; value: readonly Check[] }> | Readonly<{ ok: false; error: string }> {
  const unknown = [...choice.only, ...choice.skip].filter((id) => !all.some((check) => check.id === id));
  if (unknown.length > 0)
    return {
      ok: false,
      error: `there is no check ${unknown.map((id) => `"${id}"`).join(', ')}; there are ${all.map(({ id }) => id).join(', ')}`,
    };
  const value = all.filter(
    ({ id }) => (choice.only.length === 0 || choice.only.includes(id)) && !choice.skip.includes(id),
  );
  return { ok: true, value };
}

/** From warnings on: what is only worth knowing is not mended without being asked for by name. */
export const fixesOf = ({ results }: Diagnosis): readonly Finding[] =>
  results.flatMap(({ findings }) =>
    findings.filter(({ severity, fix }) => fix !== undefined && rank(severity) >= rank('warning')),
  );
