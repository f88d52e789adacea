import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changeGuard, type ShutInKernel } from '../../../src/agent/guard/sleep-guard.ts';
import { serveStatus } from '../../../src/agent/status/status-server.ts';
import { err, ok } from '../../../src/net/result.ts';
import { containing } from '../../support/matchers.ts';

let folder: string;
let done: string[];
const inKernel =
  (answer: Awaited<ReturnType<ShutInKernel>>): ShutInKernel =>
  async () => {
    done.push('shut in the kernel');
    return answer;
  };
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-sleep-'));
  done = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('with an agent at work', () => {
  it('it is the agent that shuts the guard, and lets it open', async () => {
    const guard = { holdShut: () => void done.push('held shut'), letOpen: () => void done.push('let open') };
    const served = await serveStatus(folder, { guard } as never);
    if (!served.ok) throw new Error(served.error);
    expect(await changeGuard('shut', folder, inKernel(ok('shut')))).toEqual(ok('the guard is shut'));
    expect(await changeGuard('open', folder)).toEqual(ok('the guard may open again'));
    expect(done).toEqual(['held shut', 'let open']);
    await served.value();
  });
});

describe('without an agent that answers', () => {
  it.each([
    ['shut', 'the guard is shut'],
    ['missing', 'the guard was not open'],
  ] as const)('the guard is shut in the kernel: %s', async (what, said) => {
    expect(await changeGuard('shut', folder, inKernel(ok(what)))).toMatchObject({ ok: true, value: containing(said) });
    expect(done).toEqual(['shut in the kernel']);
  });

  it('says what stands in the way of that, and that nobody can open it', async () => {
    expect(await changeGuard('shut', folder, inKernel(err('nft: no')))).toMatchObject({
      ok: false,
      error: containing('the guard cannot be shut: nft: no'),
    });
    expect(await changeGuard('open', folder)).toMatchObject({ ok: false, error: containing('no agent answers at') });
  });
});
