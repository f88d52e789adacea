/**
 * `npm run demo`: shows on this machine, in network namespaces of its own, what Fishery promises, each claim checked
 * against evidence. `--json` prints one document of facts instead of words; `--keep` leaves logs and capture behind. Exit
 * code 0 only if every step held.
 *
 * This process owns the lab: it builds it, starts walk.ts inside, and takes everything down again whatever happens.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './commands.ts';
import { createLab, removeLab } from './lab.ts';
import { lock, unlock } from './lock.ts';

const prefixes = { demo: 'fishery-demo', nat: 'fishery-demo-nat' } as const;
const tools = ['ip', 'nft', 'sysctl', 'tcpdump', 'curl', 'ping', 'dig', 'haproxy', 'mount', 'id'];
const flags = process.argv.slice(2);

process.env['PATH'] = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(delimiter);

const obstacle = whyNot();
if (obstacle !== undefined) refuse(obstacle);
const folder = mkdtempSync(join(tmpdir(), 'fishery-demo-'));
const held = lock(folder);
if (!held.isMine) {
  removeFolder(folder);
  refuse(`another one is running (pid ${held.pid}); there can be one at a time`);
}
process.exit(await walk(held.leftFolder).finally(cleanUp));

function refuse(why: string): never {
  console.error(`demo: ${why}`);
  process.exit(2);
}

/** Why the demo cannot run here; undefined when it can. */
function whyNot(): string | undefined {
  const unknown = flags.filter((flag) => !['--json', '--keep'].includes(flag));
  if (unknown.length > 0) return `takes --json and --keep, not ${unknown.join(' ')}`;
  if (process.platform !== 'linux') return `needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  const missing = tools.filter((tool) => !isOnPath(tool));
  return missing.length > 0 ? `needs ${missing.join(', ')} (on Debian: scripts/setup-debian)` : undefined;
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

async function walk(leftFolder: string | undefined): Promise<number> {
  const demo = createLab(prefixes.demo);
  createLab(prefixes.nat);
  // Only now: what the run that died had started used it until its namespaces were emptied.
  if (leftFolder !== undefined) removeFolder(leftFolder);
  const program = fileURLToPath(new URL('walk.ts', import.meta.url));
  const args = [program, folder, prefixes.demo, prefixes.nat, ...flags];
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
  if (flags.includes('--keep')) console.error(`demo: logs and capture are in ${folder}`);
  else removeFolder(folder);
  unlock();
}

/** Inside, the checkout is mounted in this folder; should that ever be visible here, it must not be deleted. */
function removeFolder(path: string): void {
  run('rm', '-rf', '--one-file-system', path);
}
