import { closeSync } from 'node:fs';
import { expect, it } from 'vitest';
import { AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from '../../src/sys/constants.ts';
import { libc } from '../../src/sys/libc.ts';
import { sockaddrOf } from '../../src/sys/sockaddr.ts';
import { pendingErrors } from '../../src/sys/wait.ts';

it('the sockets on which an error waits are found among any number, and it goes on waiting', async () => {
  const c = libc();
  const open = () => c.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  // Nobody listens on port 1 here.
  const [sound, refused, to] = [open(), open(), sockaddrOf(new Uint8Array([127, 0, 0, 1]), 1)];
  try {
    expect(c.connect(refused, to, to.length)).toBe(-1);
    await expect.poll(() => pendingErrors([sound, refused])).toEqual([1]);
    const many = new Array<number>(3_000).fill(sound).with(0, refused).with(1_024, refused).with(2_999, refused);
    for (let i = 0; i < 2; i++) expect(pendingErrors(many)).toEqual([0, 1_024, 2_999]);
    expect(pendingErrors([])).toEqual([]);
  } finally {
    closeSync(sound);
    closeSync(refused);
  }
});
