/**
 * What `npm run build` runs, and `npm pack` before it packs: src/ as JavaScript with types in dist/. Only packages need it:
 * Node.js runs the TypeScript of a checkout as it is, but strips no types below node_modules. The native keeper goes with it:
 * its source, and where there is a C compiler the program for machines like this one. An argument names another folder.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { compileKeeper } from '../src/keeper/program.ts';

const root = join(import.meta.dirname, '..');
const out = resolve(process.argv[2] ?? join(root, 'dist'));
// What an older source left behind must not be packed.
rmSync(out, { recursive: true, force: true });
const compiled = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript-native/bin/tsc'), '-p', join(root, 'tsconfig.build.json'), '--outDir', out],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
process.exitCode = compiled.status ?? 1;

const native = join(out, 'keeper', 'native');
const source = join(root, 'src', 'keeper', 'native', 'keeper.c');
mkdirSync(native, { recursive: true });
copyFileSync(source, join(native, 'keeper.c'));
if (process.platform === 'linux') {
  const problem = compileKeeper(source, join(native, `keeper-linux-${process.arch}`));
  // A machine without compiler then uses the keeper in TypeScript.
  if (problem !== undefined) console.warn(`build: ${problem}`);
}
