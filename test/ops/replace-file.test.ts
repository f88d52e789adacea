import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { replaceFile } from '../../src/ops/replace-file.ts';

let parent: string;
let folder: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-replace-'));
  folder = join(parent, 'deep', 'er');
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

describe('a file that is replaced', () => {
  it.each([true, false])(
    'is there as a whole, for this user alone, with nothing beside it (durable: %s)',
    (isDurable) => {
      const text = 'ü'.repeat(300_000);
      replaceFile(folder, 'a.json', 'first', isDurable);
      // What a process left that died while it wrote.
      writeFileSync(join(folder, 'a.json.new'), 'half', { mode: 0o644 });
      replaceFile(folder, 'a.json', text, isDurable);
      expect(readFileSync(join(folder, 'a.json'), 'utf8')).toBe(text);
      expect(readdirSync(folder)).toEqual(['a.json']);
      expect(statSync(join(folder, 'a.json')).mode & 0o777).toBe(0o600);
    },
  );

  it('is as it was when it cannot be', () => {
    replaceFile(folder, 'a.json', 'first', false);
    mkdirSync(join(folder, 'a.json.new'));
    expect(() => replaceFile(folder, 'a.json', 'second', false)).toThrow();
    expect(readFileSync(join(folder, 'a.json'), 'utf8')).toBe('first');
  });
});
