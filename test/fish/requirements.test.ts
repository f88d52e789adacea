import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { dropReasons } from '../../src/fish/verdicts.ts';

const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'docs/packet-path.md'), 'utf8');
const rows = page.split('\n').filter((line) => line.startsWith('|') && !/^\| *-/.test(line));
/** `test/fish/x.test.ts`: "title" */
const named = [...page.matchAll(/`(test\/[\w/.-]+\.test\.ts)`: "([^"]+)"/g)].map(([, file = '', title = '']) => ({
  file,
  title,
}));

describe('the page about the RFCs', () => {
  test('names tests for nearly all that it says, in a form that can be looked up', () => {
    expect(named.length).toBeGreaterThan(60);
    // Nothing that looks like a test escapes the look-up.
    expect(page.match(/`test\/[^`]+\.test\.ts`:/g)).toHaveLength(named.length);
    expect(rows.length).toBeGreaterThan(55);
    for (const row of rows) expect(row.split('|')).toHaveLength(5);
  });

  test.each([...Map.groupBy(named, ({ file }) => file)])('names tests that are in %s', (file, entries) => {
    expect(existsSync(join(root, file)), file).toBe(true);
    const source = readFileSync(join(root, file), 'utf8');
    for (const { title } of entries)
      expect(
        [`'${title}'`, `\`${title}\``].some((quoted) => source.includes(quoted)),
        `${file}: ${title}`,
      ).toBe(true);
  });

  test('says why, wherever something is done in another way', () => {
    const bold = rows.filter((row) => row.includes('**'));
    expect(bold.length).toBeGreaterThan(5);
    expect(page).toContain('## Where it deviates');
  });

  test('names only counters that there are', () => {
    const [, list = ''] = /drops_…`\): ([^.]+)\./.exec(page) ?? [];
    const counters = [...list.matchAll(/`(\w+)`/g)].map(([, name = '']) => name);
    expect(counters.length).toBeGreaterThan(8);
    for (const counter of counters) expect(dropReasons).toContain(counter);
  });
});
