/**
 * What `npm run check` runs: everything about the source that is not a test of behaviour. All of it, also after a failure,
 * and side by side, because most of the time goes by in one of the steps. What each has to say is shown when it is over.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const root = join(import.meta.dirname, '..');

type Step = Readonly<{ name: string; args: readonly string[] }>;
/** The longest first. */
const steps: readonly Step[] = [
  { name: 'lint', args: ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '.'] },
  { name: 'format', args: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'] },
  { name: 'types', args: ['node_modules/typescript-native/bin/tsc', '-p', '.'] },
  {
    name: 'architecture',
    args: ['node_modules/vitest/vitest.mjs', 'run', '--project=unit', 'test/architecture.test.ts', 'test/tidy.test.ts'],
  },
];

/** Whether the step found nothing to object to. */
async function run({ name, args }: Step): Promise<boolean> {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  const [out, err, status] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  const isGood = status === 0;
  console.log(`check: ${name}: ${isGood ? 'good' : 'failed'}`);
  if (!isGood) console.log(`${out}${err}`.trimEnd());
  return isGood;
}

const verdicts = await Promise.all(steps.map(run));
const failed = steps.filter((_, index) => !verdicts[index]).map(({ name }) => name);
console.log(failed.length === 0 ? 'check: all good' : `check: failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
