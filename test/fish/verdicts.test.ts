import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DROP, dropReasons, FORWARD, HELD, verdictName } from '../../src/fish/verdicts.ts';

const tests = readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts') && name !== 'verdicts.test.ts')
  .map((name) => readFileSync(join(import.meta.dirname, name), 'utf8'))
  .join('\n');

describe('the reasons for a drop', () => {
  test('are numbered in a row, and have their names in that order', () => {
    expect(Object.values(DROP)).toEqual(dropReasons.map((_, i) => i + 1));
    expect(dropReasons.map((_, i) => verdictName(i + 1))).toEqual(dropReasons);
    expect([FORWARD, HELD, 254].map(verdictName)).toEqual(['forward', 'held', 'unknown_254']);
  });

  test.each(dropReasons)('%s is shown by a test', (reason) => {
    expect(tests).toMatch(new RegExp(`\\b${reason}\\b`));
  });
});
