import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

// Plain JavaScript: this runs on whatever Node.js the machine has, 20 or newer.

/** The folder with package.json. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** The Node.js that the lockfile pins (the development dependency `node`). */
export const pinnedNode = fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url));

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];

/**
 * Runs `node args…` as if this process were it: same standard streams, signals passed on, and the same end.
 * @param {string} node
 * @param {readonly string[]} args
 * @returns {Promise<number>} the exit code; 128 + n when signal n ended it
 */
export function runNode(node, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { stdio: 'inherit' });
    const forward = (signal) => child.kill(signal);
    for (const signal of forwarded) process.on(signal, forward);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      for (const name of forwarded) process.off(name, forward);
      resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
    });
  });
}
