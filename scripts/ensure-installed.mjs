import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

// Plain JavaScript: this runs before anything is installed, on whatever Node.js the machine has, 20 or newer.

/** The hash of the lockfile that was installed; inside node_modules, so that it goes when they go. */
const stampFile = join('node_modules', '.fishery-installed');
const lockName = '.install-lock';
const heartbeat_ms = 2_000;
/** A holder that is alive touches the lock every `heartbeat_ms`; one that has not for this long is gone. */
const stale_after_ms = 60_000;
const lock_wait_max_ms = 900_000;
const lock_poll_ms = 200;
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** An installation that could not be made; the message is for a person and complete without the stack. */
export class InstallError extends Error {}

/** @param {string} root */
const lockfileHash = (root) =>
  createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');

/**
 * Why the dependencies under `root` cannot be used as they are; undefined when they can. Fast: no registry is asked,
 * the direct dependencies must be there, the lockfile must be the one that was installed, the pinned Node.js must run.
 * @param {string} root
 * @returns {string | undefined}
 */
export function whatIsAmiss(root) {
  if (!existsSync(join(root, 'node_modules'))) return 'node_modules is missing';
  let stamp;
  try {
    stamp = readFileSync(join(root, stampFile), 'utf8').trim();
  } catch {
    // Somebody ran npm by themselves, which leaves its own account of what it installed once it has finished.
    if (!isAsLocked(root)) return 'node_modules is not what package-lock.json says';
    stamp = lockfileHash(root);
  }
  if (stamp !== lockfileHash(root)) return 'package-lock.json has changed since the last installation';
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }))
    if (!existsSync(join(root, 'node_modules', name, 'package.json'))) return `the package ${name} is missing`;
  // `npm install x` drops what the `node` package's own install script had nested; only running the binary proves it.
  const binary = join(root, 'node_modules', 'node', 'bin', 'node');
  const expected = `v${manifest.devDependencies.node}`;
  const found = spawnSync(binary, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  if (found.stdout?.trim() !== expected) return `the pinned Node.js ${expected} does not run`;
  return undefined;
}

/**
 * Whether npm's account of node_modules has every package of the lockfile, as it is there. What is optional may be missing:
 * it is for other machines.
 * @param {string} root
 */
function isAsLocked(root) {
  try {
    const packagesOf = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
    const installed = packagesOf(join('node_modules', '.package-lock.json'));
    return Object.entries(packagesOf('package-lock.json')).every(([path, wanted]) => {
      const found = installed[path];
      if (path === '' || (found === undefined && wanted.optional === true)) return true;
      return found?.version === wanted.version && found.integrity === wanted.integrity;
    });
  } catch {
    return false;
  }
}

/**
 * Runs `npm ci` if and only if something is amiss. Of several processes at once one installs and the others wait.
 * @param {{ root: string, env?: NodeJS.ProcessEnv, log?: (line: string) => void }} options
 * @returns {Promise<boolean>} whether something was installed
 */
export async function ensureInstalled({ root, env = process.env, log = (line) => console.error(line) }) {
  const before = whatIsAmiss(root);
  if (before === undefined) return false;
  // npm would empty the folder behind the link, which belongs to another checkout.
  if (lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() === true)
    throw new InstallError(
      `The dependencies have to be installed, because ${before}; but ${join(root, 'node_modules')} is a link. ` +
        'Remove the link, or install where it points to.',
    );
  const release = await takeLock(root, log);
  try {
    const amiss = whatIsAmiss(root);
    if (amiss === undefined) return false;
    log(`Installing dependencies, because ${amiss} (npm ci; about half a minute) …`);
    const started = Date.now();
    // Taken before: if the lockfile is edited while npm works, the next start installs again.
    const hash = lockfileHash(root);
    await npmCi(root, env);
    if (existsSync(join(root, 'node_modules'))) writeFileSync(join(root, stampFile), `${hash}\n`);
    const still = whatIsAmiss(root);
    if (still !== undefined) {
      rmSync(join(root, stampFile), { force: true });
      throw new InstallError(
        `npm ci succeeded, but ${still}. The package "node" fetches its binary in an install script: check that npm ` +
          'may run it ("npm config get ignore-scripts" says false) and that the registry carries it for ' +
          `${process.platform}-${process.arch}.`,
      );
    }
    log(`Dependencies installed in ${Math.round((Date.now() - started) / 1000)} s.`);
    return true;
  } finally {
    release();
  }
}

/**
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 */
async function npmCi(root, env) {
  // npm must not run on the node_modules/.bin/node that it is about to delete, which `npm run` puts first in PATH.
  const own = join(root, 'node_modules', '.bin');
  const path = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== own);
  // --include=dev: NODE_ENV=production or --omit=dev in the caller's environment would leave out the pinned Node.js.
  const child = spawn('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'], {
    cwd: root,
    env: { ...env, PATH: path.join(delimiter) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const tail = [];
  const keep = (chunk) => {
    tail.push(String(chunk));
    if (tail.length > 200) tail.shift();
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  // The lock must not be let go while npm still works on the folder: stop npm first, then report the failure.
  const stop = (signal) => child.kill(signal);
  for (const signal of stopSignals) process.on(signal, stop);
  const problem = await new Promise((resolve) => {
    child.on('error', (cause) =>
      resolve(cause.code === 'ENOENT' ? 'npm was not found in PATH; it comes with Node.js' : cause.message),
    );
    child.on('close', (code, signal) => resolve(code === 0 ? undefined : `npm ci ended with ${signal ?? code}`));
  });
  for (const signal of stopSignals) process.off(signal, stop);
  if (problem === undefined) return;
  const said = tail.join('').trim().split('\n').slice(-20).join('\n');
  throw new InstallError(
    `The dependencies could not be installed: ${problem}.${said && `\n${said}`}\n` +
      `If it was the network or the registry, simply try again; the folder is ${root}.`,
  );
}

/**
 * The lock is a folder that comes into being with its owner's name inside, by one rename. Its age is its heartbeat.
 * @param {string} root
 * @param {(line: string) => void} log
 * @returns {Promise<() => void>} releases the lock
 */
async function takeLock(root, log) {
  const path = join(root, lockName);
  const giveUp = Date.now() + lock_wait_max_ms;
  for (let told = false; ;) {
    if (putLock(root, path)) break;
    if (isStale(path)) {
      breakLock(path);
      continue;
    }
    if (Date.now() > giveUp)
      throw new InstallError(
        `Another installation holds ${path} for too long. If none is running, delete that folder.`,
      );
    if (!told) log('Another process is installing dependencies; waiting for it …');
    told = true;
    await sleep(lock_poll_ms);
  }
  const beat = setInterval(() => {
    const now = new Date();
    try {
      utimesSync(path, now, now);
    } catch {
      // Somebody deleted the lock by hand. There is nothing to keep alive then.
    }
  }, heartbeat_ms);
  return () => {
    clearInterval(beat);
    removeLock(path);
  };
}

/** True when this process now has the lock. */
function putLock(root, path) {
  const fresh = join(root, `${lockName}-${randomUUID()}`);
  try {
    mkdirSync(fresh);
    writeFileSync(join(fresh, 'owner'), JSON.stringify({ host: hostname(), pid: process.pid }));
  } catch (cause) {
    throw new InstallError(`Dependencies must be installed, but ${root} cannot be written to (${cause.code}).`);
  }
  try {
    renameSync(fresh, path); // fails when the target is there and not empty, which a held lock never is
    return true;
  } catch (cause) {
    rmSync(fresh, { recursive: true, force: true });
    if (['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(cause.code)) return false;
    throw cause;
  }
}

const ownerOf = (path) => {
  try {
    return readFileSync(join(path, 'owner'), 'utf8');
  } catch {
    return undefined;
  }
};

function isStale(path) {
  try {
    if (Date.now() - statSync(path).mtimeMs > stale_after_ms) return true;
    const { host, pid } = JSON.parse(ownerOf(path) ?? '{}');
    if (host !== hostname() || typeof pid !== 'number') return false;
    process.kill(pid, 0);
    return false;
  } catch (cause) {
    return cause.code === 'ESRCH';
  }
}

/** Moves a stale lock out of the way; if a new owner took it in between, gives it back. */
function breakLock(path) {
  const owner = ownerOf(path);
  removeLock(path, (aside) => ownerOf(aside) === owner);
}

/**
 * By one rename, as it came: a lock that is deleted file by file stands empty for a moment, and an empty folder is one
 * that the next process may rename its own onto, only to have it deleted underneath.
 */
function removeLock(path, isTheRightOne = () => true) {
  const aside = `${path}-${randomUUID()}`;
  try {
    renameSync(path, aside);
    if (!isTheRightOne(aside)) {
      renameSync(aside, path);
      return;
    }
  } catch {
    // Somebody else was faster; the next look at the lock shows what is there now.
  }
  rmSync(aside, { recursive: true, force: true });
}
