/**
 * `npm run demo`: shows on this machine, in network namespaces of its own, what Fishery promises, each claim checked
 * against evidence. `--json` prints one document of facts instead of words; `--keep` leaves logs and capture behind. Exit
 * code 0 only if every step held.
 *
 * This process owns the lab: it builds it, starts walk.ts inside, and takes everything down again whatever happens.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './commands.ts';
import { createLab, removeLab } from './lab.ts';

const prefixes = { demo: 'fishery-demo', nat: 'fishery-demo-nat' } as const;
const tools = ['ip', 'nft', 'ss', 'sysctl', 'tcpdump', 'curl', 'ping', 'dig', 'haproxy', 'mount', 'id'];
const lockFile = join(tmpdir(), 'fishery-demo.lock');

process.env['PATH'] = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(delimiter);

const obstacle = whyNot();
if (obstacle !== undefined) {
  console.error(`demo: ${obstacle}`);
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), 'fishery-demo-'));
process.exit(await walk().finally(cleanUp));

/** Why the demo cannot run here; undefined when it can. */
function whyNot(): string | undefined {
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  const missing = tools.filter((tool) => !isOnPath(tool));
  if (missing.length > 0) return `needs ${missing.join(', ')} (on Debian: scripts/setup-debian)`;
  const other = lock();
  return other === undefined ? undefined : `another one is running (pid ${other}); there can be one at a time`;
}

function isOnPath(tool: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((place) => {
    try {
      accessSync(join(place, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Takes the lock, or says whose it is. One that a dead process left is taken over. */
function lock(): number | undefined {
  const mine = `${process.pid} ${startTimeOf(process.pid)}`;
  for (;;) {
    try {
      writeFileSync(lockFile, mine, { flag: 'wx' });
      return undefined;
    } catch {
      const [pid = 0, startTime] = readText(lockFile).split(' ').map(Number);
      // The start time tells the process from a later one that got its number.
      if (pid > 0 && startTimeOf(pid) === startTime) return pid;
      rmSync(lockFile, { force: true });
    }
  }
}

/** In clock ticks since boot: field 22 of /proc/PID/stat, counted from behind the name, which may have blanks. */
function startTimeOf(pid: number): number {
  const stat = readText(`/proc/${pid}/stat`);
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 0);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

async function walk(): Promise<number> {
  const demo = createLab(prefixes.demo);
  createLab(prefixes.nat);
  const program = fileURLToPath(new URL('walk.ts', import.meta.url));
  const args = [program, folder, prefixes.demo, prefixes.nat, ...process.argv.slice(2)];
  const child = spawn('ip', ['netns', 'exec', demo.host, process.execPath, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill('SIGTERM'));
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('exit', (code) => done(code ?? 1));
  });
}

function cleanUp(): void {
  removeLab(prefixes.demo);
  removeLab(prefixes.nat);
  rmSync(lockFile, { force: true });
  if (process.argv.includes('--keep')) {
    console.error(`demo: logs and capture are in ${folder}`);
    return;
  }
  // Inside, the checkout is mounted in this folder; should that ever be visible here, it must not be deleted.
  run('rm', '-rf', '--one-file-system', folder);
}
