/**
 * What `npm test` runs: the unit tests always, the kernel tests, those on a PostgreSQL server and those under load where
 * they can run. Arguments are handed to vitest, so `npm test -- settings` runs the files with "settings" in their path. With
 * --require-all (or FISHERY_REQUIRE_ALL=1) whatever could not run is a failure.
 */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { postgresObstacle } from '../test/support/postgres/binaries.ts';
import { tally, totalsLine } from './test-report.ts';

const root = join(import.meta.dirname, '..');
const setup = join(root, 'scripts', 'setup-debian');
/** What the kernel tests call; on Debian the packages that bring them are in scripts/setup-debian. */
const kernelTools = [
  'nft',
  'ip',
  'ss',
  'sysctl',
  'ping',
  'haproxy',
  'nginx',
  'curl',
  'tcpdump',
  'iperf3',
  'traceroute',
  'ethtool',
  'conntrack',
  'dig',
  'cc',
  'systemd-analyze',
];

/** A root shell opened with `su` has a user's PATH, without the folders of nft and ip. */
const searchPath = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(delimiter);

function isOnPath(tool: string): boolean {
  return searchPath.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Why the kernel tests cannot run here; undefined when they can. Installs the Debian packages when it may. */
function kernelObstacle(): string | undefined {
  if (process.platform !== 'linux') return `it needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'it needs root';
  const onDebian = existsSync('/etc/debian_version');
  if (onDebian && spawnSync(setup, ['--check'], { stdio: 'ignore' }).status !== 0)
    spawnSync(setup, { stdio: ['ignore', 'inherit', 'inherit'] });
  const missing = kernelTools.filter((tool) => !isOnPath(tool));
  if (missing.length > 0) return `${missing.join(', ')} not found${onDebian ? '; see scripts/setup-debian' : ''}`;
  if (spawnSync('unshare', ['--net', 'true'], { stdio: 'ignore' }).status !== 0)
    return 'this root may not create network namespaces';
  return undefined;
}

function runVitest(args: readonly string[]): Promise<number> {
  // A developer's own FISHERY_* settings must not reach the programs under test.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FISHERY_')));
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...args], {
    cwd: root,
    env: { ...env, PATH: searchPath },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  child.on('error', reject);
  child.on('exit', (code) => resolve(code ?? 1));
  return promise;
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

const filters = process.argv.slice(2).filter((argument) => argument !== '--require-all');
const requireAll = process.argv.includes('--require-all') || process.env['FISHERY_REQUIRE_ALL'] === '1';
const suites = [
  { suite: 'unit', reason: undefined },
  { suite: 'kernel', reason: kernelObstacle() },
  { suite: 'postgres', reason: postgresObstacle() },
  { suite: 'load', reason: postgresObstacle() },
];
const folder = mkdtempSync(join(tmpdir(), 'fishery-test-'));
try {
  const reportFile = join(folder, 'report.json');
  const exitCode = await runVitest([
    ...['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`],
    ...suites.filter(({ reason }) => reason === undefined).map(({ suite }) => `--project=${suite}`),
    ...filters,
  ]);
  const leftOut = suites.flatMap(({ suite, reason }) => (reason === undefined ? [] : [{ suite, reason }]));
  const outcome = tally({ report: readJson(reportFile), exitCode, leftOut, requireAll });
  for (const remark of outcome.remarks) console.log(remark);
  console.log(totalsLine(outcome));
  process.exitCode = outcome.failed === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
