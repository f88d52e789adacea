/**
 * What `npm run check` runs: everything about the source that is not a test of behaviour. All of it, also after a failure,
 * and as much of it side by side as there are cores and memory for. What each has to say is shown when it is over.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const root = join(import.meta.dirname, '..');

/** The linter keeps the types of all that it has looked at, so its memory grows with the files of a run: some 1.5 GB for these. */
const FILES_PER_LINT = 250;
/** Bytes that a run may take. What Node would allow by itself depends on the machine: on a small one it is too little. */
const HEAP_LIMIT = 2 ** 31;

type Run = Readonly<{ name: string; args: readonly string[] }>;
type Outcome = Readonly<{ name: string; isGood: boolean; said: string }>;

function lintRuns(): Run[] {
  const isSkipped = (path: string): boolean => /(^|\/)(node_modules|dist|\.git)$/.test(path);
  const files = globSync('**/*.{ts,mjs,js}', { cwd: root, exclude: isSkipped }).sort();
  const runs: Run[] = [];
  for (let from = 0; from < files.length; from += FILES_PER_LINT) {
    const some = files.slice(from, from + FILES_PER_LINT);
    const args = ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '--no-warn-ignored', ...some];
    runs.push({ name: 'lint', args });
  }
  return runs;
}

/** The longest first; a name that comes more than once is one check in several parts. */
const runs: readonly Run[] = [
  ...lintRuns(),
  { name: 'format', args: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'] },
  { name: 'types', args: ['node_modules/typescript-native/bin/tsc', '-p', '.'] },
  {
    name: 'architecture',
    args: ['node_modules/vitest/vitest.mjs', 'run', '--project=unit', 'test/architecture.test.ts', 'test/tidy.test.ts'],
  },
];

async function outcomeOf({ name, args }: Run): Promise<Outcome> {
  const node = [`--max-old-space-size=${HEAP_LIMIT / 2 ** 20}`, ...args];
  const child = spawn(process.execPath, node, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<Readonly<{ status: number | null; signal: string | null }>>((resolve) =>
    child.on('close', (status, signal) => resolve({ status, signal })),
  );
  const [out, err, { status, signal }] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  const ending = signal === null ? '' : `ended by ${signal}, which is not about the source: is there memory enough?`;
  return { name, isGood: status === 0, said: `${out}${err}${ending}`.trim() };
}

/** Runs them all, no more at once than there are cores, and memory for: half of it, so that others live, too. */
async function outcomes(): Promise<Outcome[]> {
  const memory = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  const atOnce = Math.max(1, Math.min(availableParallelism(), Math.floor(memory / 2 / HEAP_LIMIT)));
  const waiting = [...runs];
  const done: Outcome[] = [];
  const work = async (): Promise<void> => {
    for (let run = waiting.shift(); run !== undefined; run = waiting.shift()) {
      const outcome = await outcomeOf(run);
      done.push(outcome);
      if (!outcome.isGood) console.log(`check: ${outcome.name}: failed\n${outcome.said}`);
      else if (isGood(outcome.name, done)) console.log(`check: ${outcome.name}: good`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return done;
}

/** Whether all parts of this check are over, and had nothing to object to. */
function isGood(name: string, done: readonly Outcome[]): boolean {
  return (
    done.filter((one) => one.name === name && one.isGood).length === runs.filter((one) => one.name === name).length
  );
}

const done = await outcomes();
const failed = [...new Set(done.filter((one) => !one.isGood).map(({ name }) => name))];
console.log(failed.length === 0 ? 'check: all good' : `check: failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
