import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLab, NamespaceProcess, type Lab } from './support/sys-lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('fds');
});
afterAll(() => lab.close());

describe('descriptors passed over a Unix socket', () => {
  test.each([0, 1, 253])('arrive in a number of %i with their message, and the end is told', async (count) => {
    const payload = Uint8Array.of(1, 2, 3, 255);
    expect(await lab.host.call('passDescriptors', payload, count)).toEqual({
      sent: 4,
      payload,
      same: count,
      end: 0,
      leak: 0,
    });
  });

  test('are never lost in silence: too little room is an error, and what arrived is closed', async () => {
    expect(await lab.host.call('loseDescriptors')).toEqual({
      outcome: [
        'recvmsg: EMFILE (descriptors were lost on the way; is RLIMIT_NOFILE reached?)',
        'recvmsg: EMSGSIZE (a message of more than 5 bytes)',
        'EAGAIN',
        'EPIPE',
      ],
      leak: 0,
    });
  });

  test('are at most 253', async () => {
    await expect(lab.host.call('tooManyDescriptors', 254)).rejects.toThrow('254 descriptors; at most 253');
    expect(await lab.host.call('tooManyDescriptors', 253)).toBe(-9 /* EBADF: it got as far as the kernel */);
  });

  test('need somebody who listens', async () => {
    await expect(lab.host.call('connectNowhere')).rejects.toThrow('connect: ENOENT');
  });
});

test('each end of a Unix socket learns who the other is', async () => {
  const { seen, own } = await lab.host.call('credentials');
  expect(seen).toEqual([own, own]);
});

test('the soft limit of descriptors is raised to the hard one', async () => {
  const { lowered, raised, now, hard } = await lab.host.call('raiseDescriptorLimit');
  expect(lowered).toBe(100);
  expect(raised).toEqual({ soft: hard, hard });
  expect(now).toBe(hard);
});

test('closing a descriptor twice is a bug that shows', async () => {
  await expect(lab.host.call('closeTwice')).rejects.toThrow(/^close: EBADF \(descriptor \d+\)$/);
});

test('a thread moves into another network namespace', async () => {
  const visitor = await NamespaceProcess.start(lab.host.namespace);
  try {
    const [before, after] = await visitor.call('enterNetns', `/run/netns/${lab.peer.namespace}`);
    const [home] = await lab.host.call('enterNetns', `/run/netns/${lab.host.namespace}`);
    const [there] = await lab.peer.call('enterNetns', `/run/netns/${lab.peer.namespace}`);
    expect([before, after]).toEqual([home, there]);
    expect(await visitor.call('openBound', '203.0.113.1', 9000, 'tcp')).toBe('open');
    await expect(visitor.call('enterNetns', '/run/netns/fs-nowhere')).rejects.toThrow('open: ENOENT');
  } finally {
    await visitor.stop();
  }
});
