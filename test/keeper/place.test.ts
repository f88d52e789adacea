import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { keeperNumbers, keeperPath } from '../../src/keeper/place.ts';

const folder = mkdtempSync(join(tmpdir(), 'fishery-place-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('keepers are told apart by number and network namespace', () => {
  for (const number of [10, 0, 2]) writeFileSync(keeperPath(number, folder, 77), '');
  writeFileSync(keeperPath(1, folder, 78), '');
  writeFileSync(`${keeperPath(4, folder, 77)}.lock`, '');
  writeFileSync(join(folder, 'agent-77.lock'), '');
  expect(keeperPath(10, folder, 77)).toBe(join(folder, 'keeper-77-10.sock'));
  expect(keeperNumbers(folder, 77)).toEqual([0, 2, 10]);
  expect(keeperNumbers(folder, 79)).toEqual([]);
  expect(keeperNumbers(join(folder, 'nowhere'), 77)).toEqual([]);
});

it('are those of this network namespace unless said otherwise', () => {
  expect(keeperPath(3)).toMatch(/^\/run\/fishery\/keeper-\d+-3\.sock$/);
});
