import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { fill } from '../../bench/fill.ts';
import { InProcess } from '../../bench/in-process.ts';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'fishery-fill-'))));
afterEach(() => rmSync(folder, { recursive: true }));

it('fills a table as grants would have: nothing is amiss, and grants go on', async () => {
  const sessions = { full: 0, crowd: 0 };
  {
    await using engine = await InProcess.open(folder);
    await engine.pool('bench', '100.64.0.0/28');
    sessions.full = await engine.machine('full', 'bench', 2);
    sessions.crowd = await engine.machine('crowd', 'bench', 1);
  }
  const leases = fill(folder, [
    { machine: 'crowd', holder: 'proxy', session: sessions.crowd, freeEvery: 0 },
    { machine: 'full', holder: 'proxy', session: sessions.full, freeEvery: 100 },
  ]);
  // Of each slice of 2,048 ports of the full machine 21 are free.
  expect(leases).toBe(2_048 + 2 * (2_048 - 21));
  {
    await using engine = await InProcess.open(folder);
    await engine.grant(sessions.full, 42, 8);
    await expect(engine.grant(sessions.full, 1, 1)).rejects.toThrow('no_ports');
  }
  await using snapshot = await openSnapshot({ url: undefined, directory: folder });
  expect((await check(snapshot)).flaws).toEqual([]);
});
