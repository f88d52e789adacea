import { severities, type Severity } from './check.ts';
import { fixesOf, type Diagnosis } from './diagnose.ts';
import type { Mended } from './doctor.ts';
import { describeFix } from './fix.ts';

/** What a shell learns: nothing worse than worth knowing, warnings, errors, or that leases are not kept. */
export const exitCodeOf: Readonly<Record<Severity, number>> = { ok: 0, info: 0, warning: 10, error: 11, fatal: 12 };

const bySeverity = ({ results }: Diagnosis) =>
  severities
    .toReversed()
    .filter((severity) => severity !== 'ok')
    .flatMap((severity) =>
      results.flatMap(({ check, findings }) =>
        findings.filter((finding) => finding.severity === severity).map((finding) => ({ check, finding })),
      ),
    );

/** The worst first. `mended`: what `--fix` did before this look; null: it was not asked to. */
export function reportLines(diagnosis: Diagnosis, mended: readonly Mended[] | null): readonly string[] {
  const found = bySeverity(diagnosis);
  const unseen = Map.groupBy(
    diagnosis.results.filter((result) => result.unseen !== null),
    (result) => result.unseen,
  );
  const fixable = [...new Set(fixesOf(diagnosis).flatMap(({ fix }) => (fix ? [describeFix(fix)] : [])))];
  const good = diagnosis.results.filter(({ severity, unseen: because }) => severity === 'ok' && because === null);
  return [
    ...(mended ?? []).map(({ command, problem }) =>
      problem === null ? `mended   ${command}` : `failed   ${command}: ${problem}`,
    ),
    ...found.flatMap(({ check, finding }, index) => [
      `${finding.severity.padEnd(8)} ${check.id}: ${finding.what}`,
      // Why it matters once, not once for each device.
      ...(found[index - 1]?.check === check ? [] : [`         ${check.why}`]),
      `         mend: ${finding.mend}`,
    ]),
    ...[...unseen].map(
      ([because, results]) => `unseen   ${results.map(({ check }) => check.id).join(', ')}: ${because ?? ''}`,
    ),
    ...(mended === null && fixable.length > 0
      ? ['', '--fix would do this:', ...fixable.map((command) => `  ${command}`)]
      : []),
    ...(found.length > 0 ? [''] : []),
    `${good.length} of ${diagnosis.results.length} checks are content; the worst finding is: ${diagnosis.worst}`,
  ];
}

/** For programs: every check, with what it found. */
export const reportDocument = (diagnosis: Diagnosis, mended: readonly Mended[] | null) => ({
  worst: diagnosis.worst,
  exit_code: exitCodeOf[diagnosis.worst],
  mended: mended ?? [],
  checks: diagnosis.results.map(({ check, severity, findings, unseen }) => ({
    id: check.id,
    title: check.title,
    severity,
    why: check.why,
    unseen,
    findings: findings.map(({ severity: how, what, mend, fix }) => ({
      severity: how,
      what,
      mend,
      fix: fix === undefined ? null : describeFix(fix),
    })),
  })),
});
