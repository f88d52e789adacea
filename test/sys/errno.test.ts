import { expect, test } from 'vitest';
import { errnoName, SysError } from '../../src/sys/errno.ts';

test.each([
  [1, 'EPERM'],
  [11, 'EAGAIN'],
  [40, 'ELOOP'],
  [42, 'ENOMSG'],
  [57, 'EBADSLT'],
  [59, 'EBFONT'],
  [98, 'EADDRINUSE'],
  [99, 'EADDRNOTAVAIL'],
  [103, 'ECONNABORTED'],
  [115, 'EINPROGRESS'],
  [133, 'EHWPOISON'],
])('errno %i of Linux is %s, in either sign', (number, name) => {
  expect(errnoName(number)).toBe(name);
  expect(errnoName(-number)).toBe(name);
});

test.each([0, 41, 58, 134, 524])('a number that has no name (%i) stays visible', (number) => {
  expect(errnoName(number)).toBe(`E${number}`);
});

test('a SysError says what failed, why, and on what', () => {
  const error = new SysError('TUNSETIFF', -16, 'fishtun');
  expect(error.message).toBe('TUNSETIFF: EBUSY (fishtun)');
  expect(error).toMatchObject({ name: 'SysError', syscall: 'TUNSETIFF', errno: 16, code: 'EBUSY' });
  expect(new SysError('poll', 22).message).toBe('poll: EINVAL');
});
