import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../net/result.ts';

/** A keeper that can be started: with the path of its socket as the last argument. */
export type KeeperProgram = Readonly<{
  implementation: 'native' | 'typescript';
  command: string;
  args: readonly string[];
}>;

export const implementations = ['auto', 'native', 'typescript'] as const;
export type Implementation = (typeof implementations)[number];

const beside = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
/** Made when the package is built; see scripts/build.ts. */
export const shippedProgram = (): string => beside(`native/keeper-linux-${process.arch}`);
const sourceFile = beside('native/keeper.c');
const typescriptProgram = beside(import.meta.url.endsWith('.ts') ? '../bin/keeper.ts' : '../bin/keeper.js');

/** A hundredth of a second on a fast machine; but some are not. */
const compile_ms_max = 60_000;

/**
 * The keepers that can be run here, best first: the native one as it was built with the package, or compiled by this machine's
 * own compiler into `folder` (this user's own, made before); then the TypeScript one, which needs nothing and takes a hundred
 * times the memory. The error says why the one that is insisted on cannot be had.
 */
export function keeperPrograms(wanted: Implementation, folder: string): Result<readonly KeeperProgram[], string> {
  const typescript: KeeperProgram = {
    implementation: 'typescript',
    command: process.execPath,
    args: [typescriptProgram],
  };
  if (wanted === 'typescript') return ok([typescript]);
  const native = nativeProgram(folder);
  if (!native.ok) return wanted === 'native' ? native : ok([typescript]);
  const program: KeeperProgram = { implementation: 'native', command: native.value, args: [] };
  return ok(wanted === 'native' ? [program] : [program, typescript]);
}

function nativeProgram(folder: string): Result<string, string> {
  const shipped = shippedProgram();
  if (existsSync(shipped)) return ok(shipped);
  const source = readFileSync(sourceFile);
  const path = join(folder, `keeper-${process.arch}-${createHash('sha256').update(source).digest('hex').slice(0, 16)}`);
  if (isOurs(path)) return ok(path);
  let work: string | undefined;
  try {
    // A folder of its own: whoever runs the half of a program that another is still writing gets ETXTBSY.
    work = mkdtempSync(join(folder, 'keeper-build-'));
    const made = join(work, 'keeper');
    const problem = compileKeeper(sourceFile, made);
    if (problem !== undefined) return err(problem);
    chmodSync(made, 0o700);
    renameSync(made, path);
    return ok(path);
  } catch (error) {
    return err(
      `the native keeper cannot be built in ${folder}: ${error instanceof Error ? error.message : String(error)}`,
    );
  } finally {
    if (work !== undefined) rmSync(work, { recursive: true, force: true });
  }
}

/** Statically where the machine can, because that takes a quarter of the memory. The answer says what went wrong. */
export function compileKeeper(source: string, program: string): string | undefined {
  let problem = '';
  for (const extra of [['-static'], []]) {
    const done = spawnSync('cc', ['-O2', '-s', ...extra, '-o', program, source], {
      encoding: 'utf8',
      timeout: compile_ms_max,
    });
    if (done.error) return `the native keeper needs a C compiler: ${done.error.message}`;
    if (done.status === 0) return undefined;
    problem = done.stderr.trim().split('\n').at(-1) ?? '';
  }
  return `the native keeper does not compile here: ${problem}`;
}

/** Root runs it: nobody else may have put it there, or may write to it. */
function isOurs(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isFile() === true && found.uid === process.geteuid?.() && (found.mode & 0o022) === 0;
}
