import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesUnder, root } from './support/tree.ts';

const lines_max = 600;
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** What a person reads and writes here; generated files and long documents have their own measure. */
const isSource = (path: string) => /\.(?:ts|mjs|js)$/.test(path);
const isBinary = (path: string) => /\.(?:png|jpg|gif|ico|woff2?|pcap|gz)$/.test(path);
const files = filesUnder('.');

/** Lines of the project's files that match, as `path:line: text`. */
function grep(pattern: RegExp, paths: readonly string[]): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 120)}`] : [])),
  );
}

describe('the tree is tidy', () => {
  const texts = files.filter((path) => !isBinary(path));
  const sources = files.filter(isSource);

  it(`has no source file of ${lines_max} lines or more`, () => {
    expect(sources).toContain('test/tidy.test.ts');
    expect(sources.filter((path) => read(path).split('\n').length > lines_max)).toEqual([]);
  });

  it('names no path of the machine it was written on', () => {
    expect(grep(/(?<![\w.\-/])\/(?:work|root|home)\b(?!-)/, texts)).toEqual([]);
  });

  it('leaves nothing for later', () => {
    expect(grep(new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X'].join('|')})\\b`), sources)).toEqual([]);
  });

  it('skips no test and runs none alone', () => {
    expect(grep(/\b(?:it|test|describe)\.(?:only|skip|todo|skipIf|runIf|fails)\b/, sources)).toEqual([]);
  });

  it('has a lockfile that names no registry', () => {
    expect(grep(/"resolved"/, ['package-lock.json'])).toEqual([]);
  });

  it('explains each part of the system in a README of a few lines', () => {
    const parts = ['leases', 'agent', 'fish', 'keeper', 'terminate', 'db', 'api', 'sys', 'feed']
      .map((folder) => `src/${folder}/`)
      .filter((folder) => sources.some((path) => path.startsWith(folder)));
    const lineCount = (path: string) => (existsSync(join(root, path)) ? (read(path).match(/\S.*$/gm) ?? []).length : 0);
    expect(parts.map((folder) => `${folder}README.md`).filter((readme) => lineCount(readme) < 3)).toEqual([]);
  });
});
