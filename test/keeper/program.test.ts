import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compileKeeper, keeperPrograms } from '../../src/keeper/program.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-program-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('the keeper to be run', () => {
  it('is the TypeScript one where that is asked for, and nothing is built', () => {
    const programs = keeperPrograms('typescript', folder);
    expect(programs).toMatchObject({ ok: true, value: [{ implementation: 'typescript', command: process.execPath }] });
    expect(programs.ok && existsSync(programs.value[0]?.args[0] ?? '')).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is the TypeScript one where no other can be had, and an error where that is not wanted', () => {
    const nowhere = join(folder, 'nowhere');
    expect(keeperPrograms('auto', nowhere)).toMatchObject({ ok: true, value: [{ implementation: 'typescript' }] });
    expect(keeperPrograms('native', nowhere)).toMatchObject({
      ok: false,
      error: expect.stringContaining(`the native keeper cannot be built in ${nowhere}`) as string,
    });
  });

  it('does not compile from what is no program, and the compiler says why, or there is none', () => {
    const source = join(folder, 'wrong.c');
    writeFileSync(source, 'int main(void) { return nothing; }\n');
    expect(compileKeeper(source, join(folder, 'program'))).toMatch(
      /^the native keeper (?:does not compile here|needs a C compiler): ./,
    );
  });
});

/** Of a machine with a compiler; on others the one above is all there is. */
const built = () => {
  const programs = keeperPrograms('auto', folder);
  return programs.ok ? programs.value.filter(({ implementation }) => implementation === 'native') : [];
};

it('is built once, for this user alone, and built anew where somebody else could have written to it', () => {
  for (const { command } of built()) {
    const first = statSync(command);
    expect(first.mode & 0o777).toBe(0o700);
    expect(readdirSync(folder)).toHaveLength(1);
    expect(built()[0]?.command).toBe(command);
    expect(statSync(command).ino).toBe(first.ino);
    chmodSync(command, 0o722);
    built();
    expect(statSync(command).ino).not.toBe(first.ino);
    expect(statSync(command).mode & 0o777).toBe(0o700);
  }
});
