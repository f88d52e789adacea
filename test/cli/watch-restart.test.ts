import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FisheryClient } from '../../src/sdk/index.ts';
import { LogEntry } from '../../src/wire/agent.ts';
import { fakeTerminal } from '../support/fake-terminal.ts';
import { runFishery } from '../support/run-fishery.ts';
import { serverRuns } from '../support/server-runs.ts';

const test = serverRuns();

it('fishery watch goes on where it was when its server is killed and started again', async () => {
  const first = test.start();
  const url = await first.url();
  const env = { FISHERY_SERVER: url, FISHERY_TOKEN: test.secret() };
  const client = new FisheryClient({ url, token: env.FISHERY_TOKEN });
  const terminal = fakeTerminal();
  const file = join(test.folder, 'position');
  /** What it has printed nobody sees before it ends; how far it is, its file tells. */
  const printed = async (through: number) =>
    expect.poll(() => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0)).toBeGreaterThanOrEqual(through);
  const words = ['watch', '--json', '--after', '0', '--kind', 'machine', '--position-file', file];
  const watching = runFishery(words, { env, terminal });
  await printed((await client.machines.create({ id: 'before', enforcement: 'none' })).revision);
  first.child.kill('SIGKILL');
  await first.ended;
  await test.run('--data-dir', test.data, '--port', new URL(url).port).url();
  const { revision } = await client.machines.create({ id: 'after', enforcement: 'none' });
  await printed(revision);
  terminal.signals.emit('SIGTERM');
  const { code, out, err } = await watching;
  expect(code).toBe(0);
  const seen = out
    .trimEnd()
    .split('\n')
    .map((line) => LogEntry.parse(JSON.parse(line)));
  expect(seen).toMatchObject([
    { kind: 'machine', machine: { id: 'before' } },
    { kind: 'machine', revision, machine: { id: 'after' } },
  ]);
  expect(err).toMatch(/trying again until it answers\n.*the server answers again; going on after revision \d+\n/);
  const end = readFileSync(file, 'utf8').trim();
  expect(err).toContain(`ended at revision ${end}; go on with --after ${end}\n`);
});
