import { checkGroups } from './checks.ts';
import { exitCodeOf } from './report.ts';

/** docs/doctor.md: what is committed is compared with this by a test. */
export function doctorMarkdown(): string {
  const count = checkGroups.reduce((sum, { checks }) => sum + checks.length, 0);
  return [
    '# What the doctor looks for',
    '',
    '<!-- Written by npm run openapi from the checks themselves; a test compares. -->',
    '',
    '`fishery doctor` looks at the host (and the network namespace) that it runs in, as root, and says what would break leases,',
    'why that matters and how to mend it. It changes nothing, unless it is told to `--fix`; without that it says what it would do.',
    'What the agent sets by itself is left to the agent.',
    '',
    '```sh',
    'sudo fishery doctor --config /etc/fishery/agent.yaml          # everything',
    'sudo fishery doctor --slices 198.51.100.10:8192-10239         # before there is an agent, or a server',
    'sudo fishery doctor --only strangers --only binding --json    # two checks, for a program',
    'sudo fishery doctor --config /etc/fishery/agent.yaml --fix    # mends what is safe to mend, and looks again',
    '```',
    '',
    'It judges by the settings of the agent (section `agent` of the file), and by the slices, leases and holders that the server',
    "tells of with the agent's token; else by what the agent says at its status socket; else by `--slices`.",
    '',
    ...exitCodeTable(),
    '',
    `It knows ${count} traps. A sysctl that it sets lasts until the next boot: write it into /etc/sysctl.d to keep it. Each check`,
    'below is tried by a kernel test that breaks a network namespace in exactly that way.',
    ...checkGroups.flatMap(({ title, checks }) => [
      '',
      `## ${title}`,
      '',
      ...checks.flatMap(({ id, title: what, why, remedy, worst, isFixable }) => [
        `- **\`${id}\`** (${worst}${isFixable ? ', `--fix`' : ''}): ${what}. ${why} _Mend:_ ${remedy}`,
      ]),
    ]),
    '',
  ].join('\n');
}

/** Padded, so that the formatter has nothing to do. */
function exitCodeTable(): readonly string[] {
  const rows = [
    ['exit code', 'the worst finding'],
    [String(exitCodeOf.ok), 'none, or only what is worth knowing (info)'],
    [String(exitCodeOf.warning), 'a warning: it works, and will hurt some day or some users'],
    [String(exitCodeOf.error), 'an error: leases do not work as they should'],
    [String(exitCodeOf.fatal), 'fatal: the host cannot work, or sends what is not its own'],
    ['1, 2', 'it could not do its work; wrong usage or configuration'],
  ] as const;
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [heading, ...rest] = rows;
  return [line(heading), line(widths.map((width) => '-'.repeat(width))), ...rest.map(line)];
}
