import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { clearPlace, keeperNumbers, keeperPath, occupy } from '../../src/keeper/place.ts';

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

it('a place is one keeper’s at a time, this user’s alone, and cleared of what a dead one left', () => {
  const place = mkdtempSync(join(folder, 'place-'));
  const path = keeperPath(0, place, 77);
  writeFileSync(path, 'left behind');
  const occupied = occupy(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(() => occupy(path)).toThrow(`a keeper is at work at ${path} already`);
  expect(clearPlace(path)).toBe(false);
  expect(existsSync(path)).toBe(true);
  occupied.leave();
  expect(readdirSync(place)).toEqual([]);
  writeFileSync(path, 'left behind');
  expect(clearPlace(path)).toBe(true);
  expect(readdirSync(place)).toEqual([]);
});
