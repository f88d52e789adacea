// node scripts/run.mjs FILE ARGS…: installs what is missing, then runs FILE of this checkout with the pinned Node.js.
// The npm scripts `exec` it: without that, a SIGTERM sent to npm ends the shell in between and reaches nobody else.
import { resolve } from 'node:path';
import { pinnedNode, root, runNode } from '../bin/pinned-node.mjs';
import { ensureInstalled, InstallError } from './ensure-installed.mjs';

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node scripts/run.mjs FILE [ARGS…]');
  process.exit(2);
}
try {
  await ensureInstalled({ root });
} catch (cause) {
  console.error(cause instanceof InstallError ? cause.message : cause);
  process.exit(1);
}
process.exit(await runNode(pinnedNode, [resolve(root, file), ...args]));
