/**
 * What `npm run build` runs, and `npm pack` before it packs: src/ as JavaScript with types in dist/. Only packages need it:
 * Node.js runs the TypeScript of a checkout as it is, but strips no types below node_modules.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
// What an older source left behind must not be packed.
rmSync(join(root, 'dist'), { recursive: true, force: true });
const compiled = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript-native/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
process.exitCode = compiled.status ?? 1;
