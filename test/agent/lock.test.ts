import { expect, it } from 'vitest';
import { takeLock } from '../../src/agent/lock.ts';

/** Of this test run alone: other tests, and an agent on this machine, have theirs. */
const name = `\0fishery-lock-test-${process.pid}`;

it('one at a time; who comes second hears who was first; it is free again afterwards', async () => {
  const first = await takeLock('the agent of machine edge', name);
  if (!first.ok) throw new Error(first.error);
  expect(await takeLock('another', name)).toEqual({
    ok: false,
    error: `an agent is at work on this host already (the agent of machine edge, process ${process.pid}): stop it first`,
  });
  await first.value.release();
  const second = await takeLock('another', name);
  expect(second.ok).toBe(true);
  if (second.ok) await second.value.release();
});

it('of two that come at once, one gets it', async () => {
  const both = await Promise.all([takeLock('a', name), takeLock('b', name)]);
  expect(both.filter((each) => each.ok)).toHaveLength(1);
  for (const each of both) if (each.ok) await each.value.release();
});
