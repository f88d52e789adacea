import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { takeLock, type Lock, type LockPlace } from '../../../src/agent/start/lock.ts';
import { containing } from '../../support/matchers.ts';

let parent: string;
let place: LockPlace;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'fishery-lock-'));
  place = { folder: join(parent, 'run'), file: 'agent-1.lock', name: `fishery-test-${process.pid}` };
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

function take(what = 'the agent of machine edge'): Lock {
  const taken = takeLock(what, place);
  if (!taken.ok) throw new Error(taken.error);
  return taken.value;
}

it('one at a time; who comes second hears who was first; it is free again afterwards, and nothing is left', () => {
  const first = take();
  expect(takeLock('another', place)).toEqual({
    ok: false,
    error: `an agent is at work on this host already (the agent of machine edge, process ${process.pid}): stop it first`,
  });
  first.release();
  first.release();
  expect(readdirSync(place.folder)).toEqual([]);
  take('another').release();
});

it('is one for those who do not see the same files', () => {
  const first = take();
  expect(first.doubt).toBeNull();
  const container = { ...place, folder: join(parent, 'run of a container') };
  const refused = containing(
    `an agent is at work in this network namespace already, with a /run of its own (process ${process.pid}: `,
  );
  expect(takeLock('another', container)).toEqual({ ok: false, error: refused });
  expect(readdirSync(container.folder)).toEqual([]);
  first.release();
  const second = takeLock('another', container);
  expect(second.ok).toBe(true);
  expect(takeLock('me', place)).toEqual({ ok: false, error: refused });
  if (second.ok) second.value.release();
});

it('is one per network namespace', () => {
  const one = take();
  const other = takeLock('another', { ...place, file: 'agent-2.lock', name: `${place.name}-2` });
  expect(other.ok).toBe(true);
  if (other.ok) other.value.release();
  one.release();
});

it('is that of a process, and goes with it when it is killed', async () => {
  const script = `import { takeLock } from ${JSON.stringify(fileURLToPath(new URL('../../../src/agent/start/lock.ts', import.meta.url)))};
    const taken = takeLock('somebody else', ${JSON.stringify(place)});
    process.send(taken.ok);
    setInterval(() => {}, 1_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  try {
    expect(await once(child, 'message')).toEqual([true, undefined]);
    expect(takeLock('me', place)).toEqual({ ok: false, error: containing(`somebody else, process ${child.pid}`) });
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  expect(existsSync(join(place.folder, place.file))).toBe(true);
  take('me').release();
});

it('is not taken where others may write, nor by a file that others may open, nor through a link', () => {
  take().release();
  chmodSync(place.folder, 0o777);
  expect(takeLock('me', place)).toEqual({ ok: false, error: containing('only root can write to') });
  chmodSync(place.folder, 0o755);
  writeFileSync(join(place.folder, place.file), '', { mode: 0o644 });
  expect(takeLock('me', place)).toEqual({ ok: false, error: containing('must belong to root alone') });
  rmSync(join(place.folder, place.file));
  symlinkSync(join(parent, 'elsewhere'), join(place.folder, place.file));
  expect(takeLock('me', place)).toEqual({ ok: false, error: containing('cannot be taken') });
  expect(existsSync(join(parent, 'elsewhere'))).toBe(false);
});
