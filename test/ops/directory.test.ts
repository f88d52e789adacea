import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeDirectory } from '../../src/ops/directory.ts';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'fishery-directory-'))));
afterEach(() => rmSync(folder, { recursive: true }));

describe('a directory that is to be there', () => {
  it('is made with those above it, for this user alone, and stays as it is the next time', () => {
    const path = join(folder, 'a', 'b');
    makeDirectory(path);
    writeFileSync(join(path, 'file'), '');
    makeDirectory(path);
    for (const made of [path, join(folder, 'a')]) expect(statSync(made).mode & 0o777).toBe(0o700);
    expect(statSync(join(path, 'file')).isFile()).toBe(true);
  });

  it.each([
    ['where there is none to make', () => '/proc/fishery/x', /ENOENT/],
    ['over a file', () => join(folder, 'file'), /EEXIST/],
    ['below a file', () => join(folder, 'file', 'x'), /EEXIST|ENOTDIR/],
  ])('fails at once %s', (_, path, says) => {
    writeFileSync(join(folder, 'file'), '');
    expect(() => makeDirectory(path())).toThrow(says);
  });
});
