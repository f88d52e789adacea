import { runKeeper } from '../keeper/keeper.ts';

/**
 * `node keeper.ts PATH`: the TypeScript keeper as a process of its own, started as the native one is: says `ready` on standard
 * output once it listens, and what is wrong on standard error.
 */
const [path] = process.argv.slice(2);
try {
  if (path === undefined) throw new Error('the path of its socket is missing');
  runKeeper(path, () => process.stdout.write('ready\n'));
  process.exit(0);
} catch (error) {
  process.stderr.write(`keeper: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
