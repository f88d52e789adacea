import { z } from 'zod';

/** The part of vitest's JSON report that is counted. */
const Report = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
});

export type Outcome = Readonly<{
  passed: number;
  failed: number;
  /** What makes `failed` higher than the number of failed tests, and what else a reader must not overlook. */
  remarks: readonly string[];
}>;

export type RunFacts = Readonly<{
  /** The report as parsed JSON; undefined when vitest wrote none. */
  report: unknown;
  /** vitest's exit code. */
  exitCode: number;
  /** Suites that could not run here, with the reason. */
  leftOut: readonly Readonly<{ suite: string; reason: string }>[];
  /** Whether something that did not run is a failure. */
  requireAll: boolean;
}>;

/**
 * The honest totals of a run. A test file that failed outside its tests (it does not load, a hook threw) counts as one
 * failed; so does a run that ended badly without saying which test it was.
 */
export function tally({ report, exitCode, leftOut, requireAll }: RunFacts): Outcome {
  const remarks: string[] = [];
  let passed = 0;
  let failed = 0;
  const fail = (remark: string) => {
    failed += 1;
    remarks.push(remark);
  };

  const parsed = Report.safeParse(report);
  if (!parsed.success) fail(`vitest left no usable report (exit code ${exitCode})`);
  const skipped: string[] = [];
  for (const file of parsed.data?.testResults ?? []) {
    const failedTests = file.assertionResults.filter((test) => test.status === 'failed').length;
    passed += file.assertionResults.filter((test) => test.status === 'passed').length;
    failed += failedTests;
    for (const test of file.assertionResults)
      if (test.status !== 'passed' && test.status !== 'failed') skipped.push(`${file.name}: ${test.fullName}`);
    if (file.status !== 'passed' && failedTests === 0) fail(`${file.name} failed outside its tests: ${file.message}`);
  }
  if (exitCode !== 0 && failed === 0)
    fail(`vitest ended with exit code ${exitCode} although no test failed; see above`);

  const judge = requireAll ? fail : (remark: string) => void remarks.push(remark);
  for (const test of skipped) judge(`skipped: ${test}`);
  for (const { suite, reason } of leftOut) judge(`the suite "${suite}" was left out: ${reason}`);
  return { passed, failed, remarks };
}

/** The last line of a run, for people and for programs. */
export const totalsLine = ({ passed, failed }: Outcome): string => `${passed} passed, ${failed} failed`;
