import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLab, type Lab } from './support/sys-lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('wait');
});
afterAll(() => lab.close());

test('a thread that waits is woken from another thread, and not before', async () => {
  expect(await lab.host.call('wakeThread')).toEqual({ refused: 'EADDRNOTAVAIL', early: 0, answered: 1 });
});

test('every ready descriptor is one bit, and draining takes any number of notifications back', async () => {
  expect(await lab.host.call('readiness', 5, [0, 3])).toEqual({ ready: 0b01001, drained: 0 });
  expect(await lab.host.call('readiness', 5, [])).toEqual({ ready: 0, drained: 0 });
});

test('31 descriptors fit, the last one is not taken for an error, and 32 are refused', async () => {
  expect(await lab.host.call('readiness', 31, [30])).toEqual({ ready: 2 ** 30, drained: 0 });
  await expect(lab.host.call('readiness', 32, [])).rejects.toThrow('32 descriptors; at most 31');
});

test('a hang-up is readable, a closed descriptor is an error and no endless loop', async () => {
  expect(await lab.host.call('hangUps')).toEqual({ hungUp: 1, closed: 'EBADF' });
});
