/**
 * What `npm run db:generate -- NAME` runs: writes the next migration of both databases from what changed in the schema,
 * under one name. What a schema cannot say, triggers and the like, is written by hand: `npm run db:generate -- NAME --custom`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const [name, ...rest] = process.argv.slice(2);
if (name === undefined || name.startsWith('-')) {
  console.error('usage: npm run db:generate -- NAME [--custom]');
  process.exit(2);
}
for (const config of ['drizzle.config.ts', 'drizzle.postgres.config.ts']) {
  const args = ['node_modules/drizzle-kit/bin.cjs', 'generate', '--config', config, '--name', name, ...rest];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
