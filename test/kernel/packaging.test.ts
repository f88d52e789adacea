import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from '../support/tree.ts';

/** What systemd itself thinks of the units; it need not be running. */
const source = join(root, 'packaging/systemd');
const units = readdirSync(source).filter((name) => name.endsWith('.service'));
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-units-'));
  // The program is not installed here: any that is will do.
  for (const name of units)
    writeFileSync(
      join(folder, name),
      readFileSync(join(source, name), 'utf8').replaceAll('/usr/bin/fishery', '/bin/true'),
    );
});
afterAll(() => rmSync(folder, { recursive: true }));

const analyze = (...args: readonly string[]) => {
  const done = spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    // Its own folder first, the ones of this machine behind it.
    env: { PATH: process.env['PATH'] ?? '', SYSTEMD_UNIT_PATH: `${folder}:`, LC_ALL: 'C' },
  });
  return { status: done.status, text: `${done.stdout}${done.stderr}` };
};

it.each(units)('%s has nothing that systemd does not understand', (name) => {
  const instance = name.replace('@.', '@0.');
  const { status, text } = analyze('verify', '--man=no', join(folder, instance));
  const ours = text.split('\n').filter((line) => line.includes('fishery'));
  expect(ours).toEqual([]);
  expect(status, text).toBe(0);
});

/** Of 10.0, which is a service without any walls; what systemd calls "OK" ends at 4.9. */
it.each([
  ['fishery-server.service', 2],
  ['fishery-keeper@.service', 2.5],
  ['fishery-sleep.service', 3],
  ['fishery-guard.service', 3],
  ['fishery-terminator.service', 3],
  ['fishery-agent.service', 4],
])('%s is exposed no more than %s of 10', (name, most) => {
  const { text } = analyze('security', '--offline=true', '--no-pager', join(folder, name.replace('@.', '@0.')));
  const score = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(text)?.[1]);
  console.log(`${name}: exposure ${score}`);
  expect(score).toBeGreaterThan(0);
  expect(score).toBeLessThanOrEqual(most);
});
