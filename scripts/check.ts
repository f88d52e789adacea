/** What `npm run check` runs: everything about the source that is not a test of behaviour. All of it, also after a failure. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const steps: readonly Readonly<{ name: string; args: readonly string[] }>[] = [
  { name: 'types', args: ['node_modules/typescript-native/bin/tsc', '-p', '.'] },
  { name: 'lint', args: ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '.'] },
  { name: 'format', args: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'] },
  {
    name: 'architecture',
    args: ['node_modules/vitest/vitest.mjs', 'run', '--project=unit', 'test/architecture.test.ts', 'test/tidy.test.ts'],
  },
];

const failed = steps.filter(({ name, args }) => {
  console.log(`check: ${name}`);
  return spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status !== 0;
});
console.log(failed.length === 0 ? 'check: all good' : `check: failed: ${failed.map(({ name }) => name).join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
