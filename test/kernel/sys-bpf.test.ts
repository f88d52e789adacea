import { spawnSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLab, type Lab } from './support/sys-lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('bpf');
});
afterAll(() => lab.close());
afterEach(() => lab.host.call('closePrograms'));

/** A program that does nothing but answer; the descriptor. */
async function program(returns = 0): Promise<number> {
  const loaded = await lab.host.call('loadProgram', { returns });
  if (typeof loaded === 'string') throw new Error(loaded);
  return loaded;
}
const here = (device: string) => lab.host.call('ingressLinks', device);

describe('a program', () => {
  test('of ours is taken by the verifier, and one that makes no sense is refused with what the verifier said', async () => {
    expect(await lab.host.call('loadProgram', { tunIndex: 7 })).toBeGreaterThan(0);
    expect(await lab.host.call('loadProgram', { broken: true })).toMatch(/^bpf\(PROG_LOAD\): EINVAL \(.*insn/s);
  });

  test('is attached to one device, in front of those that are there, and goes with the last descriptor', async () => {
    expect(await here('h0')).toEqual([]);
    const first = await lab.host.call('attachProgram', await program(-1), 'h0');
    const [before] = (await here('h0')) as number[];
    const second = await lab.host.call('attachProgram', await program(-1), 'h0');
    const order = (await here('h0')) as number[];
    expect(order).toHaveLength(2);
    expect(order[1]).toBe(before);
    expect(await here('lo')).toEqual([]);
    const index = await lab.host.call('interfaceIndex', 'h0');
    expect(await lab.host.call('interfaceOfLink', first)).toBe(index);
    expect(await lab.host.call('interfaceOfLink', second)).toBe(index);
    await lab.host.call('closePrograms');
    expect(await here('h0')).toEqual([]);
  });

  test('twice on one device, or on none, is refused by errno', async () => {
    const once = await program();
    expect(await lab.host.call('attachProgram', once, 'h0')).toBeGreaterThan(0);
    expect(await lab.host.call('attachProgram', once, 'h0')).toBe(-17);
    expect(await lab.host.call('attachProgram', once, 'nowhere0')).toBeLessThan(0);
    expect(await lab.host.call('linksOfIndex', 9_999)).toBe(-19);
  });

  test('is replaced by another one in the same link', async () => {
    const link = await lab.host.call('attachProgram', await program(-1), 'h0');
    const before = await here('h0');
    expect(await lab.host.call('replaceProgram', link, await program(-1))).toBe(0);
    expect(await here('h0')).toEqual(before);
    // TC_ACT_SHOT, so that it shows which one is at work.
    expect(await lab.host.call('replaceProgram', link, await program(2))).toBe(0);
    expect(answers()).toBe(false);
    expect(await lab.host.call('replaceProgram', link, await program(-1))).toBe(0);
    expect(answers()).toBe(true);
  });

  test('that somebody detached shows as attached to nothing, and cannot be replaced', async () => {
    const link = await lab.host.call('attachProgram', await program(), 'h0');
    const [id = 0] = (await here('h0')) as number[];
    await lab.host.call('detachLinkById', id);
    expect(await lab.host.call('interfaceOfLink', link)).toBe(0);
    expect(await lab.host.call('replaceProgram', link, await program())).toBeLessThan(0);
    const other = await lab.host.call('attachProgram', await program(), 'h0');
    expect(await lab.host.call('detachLink', other)).toBe(0);
    expect(await here('h0')).toEqual([]);
  });
});

/** Whether what the peer sends comes through. */
function answers(): boolean {
  const ping = ['ping', '-q', '-c', '1', '-W', '1', '192.0.2.1'];
  return spawnSync('ip', ['netns', 'exec', lab.peer.namespace, ...ping]).status === 0;
}
