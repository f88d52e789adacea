/**
 * What `npm run assemble -- FOLDER` runs: writes a folder from which `packaging/install` installs Fishery on a machine that
 * has neither npm nor a network: compiled program, production packages, and the Node.js that the lockfile pins.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const root = join(import.meta.dirname, '..');
const [folder, ...more] = process.argv.slice(2);
if (folder === undefined || more.length > 0) {
  console.error('usage: npm run assemble -- FOLDER');
  process.exit(2);
}
const out = resolve(folder);
if (existsSync(out) && readdirSync(out).length > 0) {
  console.error(`assemble: ${out} is not empty`);
  process.exit(1);
}

/** A link where the file system can: these are the largest part, and nobody changes them. */
function copyTree(from: string, to: string, isMeant: (path: string) => boolean = () => true): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (!isMeant(source)) continue;
    if (entry.isDirectory()) copyTree(source, target, isMeant);
    else if (entry.isFile()) linkOrCopy(source, target);
  }
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

const built = spawnSync(process.execPath, [join(root, 'scripts/build.ts'), join(out, 'dist')], {
  stdio: ['ignore', 'inherit', 'inherit'],
});
if (built.status !== 0) process.exit(1);

type Lockfile = Readonly<{ packages: Readonly<Record<string, Readonly<{ dev?: boolean; os?: readonly string[] }>>> }>;
const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lockfile;
for (const [path, { dev }] of Object.entries(packages)) {
  // What is for other machines was not installed here either.
  if (path === '' || dev === true || !existsSync(join(root, path))) continue;
  // A package inside of another one has an entry of its own.
  copyTree(join(root, path), join(out, path), (each) => each !== join(root, path, 'node_modules'));
}
for (const path of ['package.json', 'LICENSE', 'CHANGELOG.md', 'README.md', 'bin/fishery.mjs', 'bin/pinned-node.mjs']) {
  mkdirSync(dirname(join(out, path)), { recursive: true });
  copyFileSync(join(root, path), join(out, path));
}
for (const path of ['migrations', 'openapi', 'docs', 'packaging', 'ops'])
  cpSync(join(root, path), join(out, path), { recursive: true });
mkdirSync(join(out, 'runtime'));
linkOrCopy(join(root, 'node_modules/node/bin/node'), join(out, 'runtime/node'));
for (const script of ['install', 'uninstall']) chmodSync(join(out, 'packaging', script), 0o755);
rmSync(join(out, 'packaging', 'try-in-clean-root'), { force: true });
console.log(`assembled in ${out}: install it with ${join(out, 'packaging/install')}`);
