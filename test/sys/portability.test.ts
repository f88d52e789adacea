import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** Runs a few lines of TypeScript beside a copy of src/, by the Node that runs the tests. */
const source = fileURLToPath(new URL('../../src/', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fs-sys-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function outcome(script: string, at: string): string {
  writeFileSync(join(at, 'script.ts'), script);
  const done = spawnSync(process.execPath, [join(at, 'script.ts')], { encoding: 'utf8' });
  return done.status === 0 ? done.stdout.trim() : done.stderr;
}

const messageOfUse = `
  try { use(); } catch (error) { console.log(error.message); }
`;

describe('where it cannot work', () => {
  test('everything can be imported, and says so only when it is used', () => {
    const imports = readdirSync(join(source, 'sys'))
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `import ${JSON.stringify(join(source, 'sys', name))};`);
    expect(imports.length).toBeGreaterThan(15);
    const script = `
      Object.defineProperty(process, 'platform', { value: 'darwin' });
      Object.defineProperty(process, 'arch', { value: 'arm64' });
      await import(${JSON.stringify(join(folder, 'all.ts'))});
      const { openEventFd: use } = await import(${JSON.stringify(join(source, 'sys', 'wait.ts'))});
      ${messageOfUse}`;
    writeFileSync(join(folder, 'all.ts'), imports.join('\n'));
    expect(outcome(script, folder)).toBe('src/sys needs Linux on x86-64 or arm64; this is darwin on arm64');
  });

  test('a missing koffi is one clear error', () => {
    cpSync(join(source, 'sys'), join(folder, 'sys'), { recursive: true });
    const script = `
      Object.defineProperty(process, 'platform', { value: 'linux' });
      Object.defineProperty(process, 'arch', { value: 'x64' });
      const { closeFd } = await import('./sys/descriptors.ts');
      const use = () => closeFd(-1);
      ${messageOfUse}`;
    expect(outcome(script, folder)).toBe(
      'src/sys needs the package koffi with its native part for this platform; run npm ci',
    );
  });
});
