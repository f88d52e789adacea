import { describe, expect, it } from 'vitest';
import { tally, totalsLine, type RunFacts } from '../../scripts/test-report.ts';

type FileReport = {
  name: string;
  status: string;
  message: string;
  assertionResults: { fullName: string; status: string }[];
};

function file(
  name: string,
  statuses: string[],
  status = statuses.includes('failed') ? 'failed' : 'passed',
): FileReport {
  const assertionResults = statuses.map((each, index) => ({ fullName: `test ${index}`, status: each }));
  return { name, status, message: status === 'failed' ? 'it broke' : '', assertionResults };
}
const facts = (files: FileReport[], more: Partial<RunFacts> = {}): RunFacts => ({
  report: { testResults: files },
  exitCode: 0,
  leftOut: [],
  requireAll: false,
  ...more,
});
const kernelLeftOut = { leftOut: [{ suite: 'kernel', reason: 'it needs root' }] };

describe('totals', () => {
  it('count the tests of all files', () => {
    const outcome = tally(facts([file('a', ['passed', 'passed']), file('b', ['passed', 'failed'])], { exitCode: 1 }));
    expect(outcome).toEqual({ passed: 3, failed: 1, remarks: [] });
    expect(totalsLine(outcome)).toBe('3 passed, 1 failed');
  });

  it.each([
    ['does not load', []],
    ['has a hook that throws, which skips its tests', ['passed']],
  ])('count a file that %s as one failure', (_how, statuses) => {
    expect(tally(facts([file('a.test.ts', statuses, 'failed')], { exitCode: 1 }))).toEqual({
      passed: statuses.length,
      failed: 1,
      remarks: ['a.test.ts failed outside its tests: it broke'],
    });
  });

  it.each([undefined, null, 'text', {}, { testResults: 3 }])('are a failure when the report is %j', (report) => {
    expect(tally(facts([], { report, exitCode: 1 }))).toEqual({
      passed: 0,
      failed: 1,
      remarks: ['vitest left no usable report (exit code 1)'],
    });
  });

  it('are a failure when vitest failed and no test did: an unhandled error, no test found', () => {
    const { passed, failed, remarks } = tally(facts([file('a', ['passed'])], { exitCode: 1 }));
    expect([passed, failed, remarks.length]).toEqual([1, 1, 1]);
  });
});

describe('what did not run', () => {
  it.each(['skipped', 'pending', 'todo', 'disabled'])('is told and no failure: a %s test', (status) => {
    expect(tally(facts([file('a', ['passed', status])]))).toEqual({
      passed: 1,
      failed: 0,
      remarks: ['skipped: a: test 1'],
    });
  });

  it('is told and no failure: a suite', () => {
    expect(tally(facts([file('a', ['passed'])], kernelLeftOut))).toEqual({
      passed: 1,
      failed: 0,
      remarks: ['the suite "kernel" was left out: it needs root'],
    });
  });

  it('is a failure when everything is required', () => {
    const outcome = tally(facts([file('a', ['passed', 'skipped', 'todo'])], { ...kernelLeftOut, requireAll: true }));
    expect(totalsLine(outcome)).toBe('1 passed, 3 failed');
    expect(outcome.remarks).toHaveLength(3);
  });
});
