import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checks } from '../../src/doctor/checks.ts';
import { chooseChecks, diagnose, fixesOf } from '../../src/doctor/diagnose.ts';
import { doctorMarkdown } from '../../src/doctor/page.ts';
import { exitCodeOf, reportDocument, reportLines } from '../../src/doctor/report.ts';
import { err } from '../../src/net/result.ts';
import { runFishery } from '../support/run-fishery.ts';
import { healthy, seen } from '../support/doctor-facts.ts';
import { root } from '../support/tree.ts';

const sick = {
  ...seen({
    ...healthy,
    sysctls: new Map([...healthy.sysctls, ['net/ipv4/tcp_timestamps', '0'], ['net/ipv4/tcp_tw_reuse', '2']]),
    kernel: '6.2.0',
  }),
  packetSockets: err('permission denied'),
};
const diagnosis = diagnose(
  checks.filter(({ id }) => ['kernel-version', 'tcp-timestamps', 'tw-reuse', 'packet-sockets', 'tools'].includes(id)),
  sick,
);

it('tells the worst first, what --fix would do, and what it could not see', () => {
  expect(reportLines(diagnosis, null)).toEqual([
    'fatal    kernel-version: this is Linux 6.2.0',
    expect.stringContaining('IP_LOCAL_PORT_RANGE'),
    '         mend: boot Linux 6.3 or newer',
    'warning  tcp-timestamps: net.ipv4.tcp_timestamps is 0: ports rest a whole minute after each connection',
    expect.any(String),
    expect.stringContaining('mend: sysctl -w net.ipv4.tcp_timestamps="1"'),
    'info     tw-reuse: net.ipv4.tcp_tw_reuse is 2',
    expect.any(String),
    expect.stringContaining('mend: '),
    'unseen   packet-sockets: permission denied',
    '',
    '--fix would do this:',
    '  sysctl -w net.ipv4.tcp_timestamps="1"',
    '',
    '1 of 5 checks are content; the worst finding is: fatal',
  ]);
});

it('mends warnings and worse only', () => {
  expect(fixesOf(diagnosis)).toHaveLength(1);
});

it('has every check in the document for programs, with what was mended', () => {
  const document = reportDocument(diagnosis, [{ command: 'x', problem: 'EROFS' }]);
  expect(document).toMatchObject({ worst: 'fatal', exit_code: 12, mended: [{ command: 'x', problem: 'EROFS' }] });
  expect(document.checks.map(({ id, severity }) => `${id} ${severity}`)).toEqual([
    'kernel-version fatal',
    'tools ok',
    'tw-reuse info',
    'tcp-timestamps warning',
    'packet-sockets ok',
  ]);
  expect(reportLines(diagnosis, [{ command: 'x', problem: 'EROFS' }])[0]).toBe('failed   x: EROFS');
});

it('has an exit code for each severity, apart from those of the program', () => {
  expect(exitCodeOf).toEqual({ ok: 0, info: 0, warning: 10, error: 11, fatal: 12 });
});

it('chooses checks by name, and refuses names that it does not know', () => {
  const chosen = chooseChecks(checks, { only: ['nat', 'strangers'], skip: ['nat'] });
  expect(chosen.ok && chosen.value.map(({ id }) => id)).toEqual(['strangers']);
  expect(chooseChecks(checks, { only: ['nut'], skip: [] })).toMatchObject({
    ok: false,
    error: expect.stringContaining('there is no check "nut"; there are kernel-version') as string,
  });
});

it('docs/doctor.md is what the checks say (npm run openapi writes it)', () => {
  expect(readFileSync(join(root, 'docs/doctor.md'), 'utf8')).toBe(doctorMarkdown());
});

it.each([
  [['--only', 'nut'], 'there is no check "nut"'],
  [['--slices', '198.51.100.10'], '"198.51.100.10" is no slice'],
  [['--mark', '0'], 'mark'],
])('refuses %j', async (args, says) => {
  const ran = await runFishery(['doctor', ...args]);
  expect(ran.code).toBe(2);
  expect(ran.err).toContain(says);
});
