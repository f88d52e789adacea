import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from '../support/tree.ts';

const run = join(root, 'scripts', 'run.mjs');
let script = '';
beforeAll(() => {
  script = join(mkdtempSync(join(tmpdir(), 'fishery-run-')), 'script.mjs');
});
afterAll(() => rmSync(join(script, '..'), { recursive: true }));

it('runs a file with the pinned Node.js, its arguments, and the exit code of the file', () => {
  writeFileSync(script, 'console.log(process.execPath, ...process.argv.slice(2)); process.exit(7);');
  const { status, stdout, stderr } = spawnSync(process.execPath, [run, script, '--port', '9000'], { encoding: 'utf8' });
  expect({ status, stdout, stderr }).toEqual({
    status: 7,
    stdout: `${join(root, 'node_modules/node/bin/node')} --port 9000\n`,
    stderr: '',
  });
});

it.each([
  ['passes signals on', `process.on('SIGTERM', () => process.exit(5));`, 5],
  ['ends like the file when a signal ends it', '', 128 + 15],
])('%s', async (_what, handler, expected) => {
  writeFileSync(script, `${handler} setInterval(() => {}, 1000); console.log('up');`);
  const child = spawn(process.execPath, [run, script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([expected, null]);
});

it('is called by the npm scripts so that a signal to npm arrives', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  expect(Object.values(scripts).filter((text) => !text.startsWith('exec node scripts/run.mjs '))).toEqual([]);
  expect(Object.keys(scripts)).toEqual(
    expect.arrayContaining(['start', 'test', 'check', 'demo', 'openapi', 'db:generate']),
  );
});
