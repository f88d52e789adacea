import { describe, expect, it } from 'vitest';
import { closeFd } from '../../src/sys/descriptors.ts';
import { libc } from '../../src/sys/libc.ts';
import { createSharedMemory, mapShared, unmap, viewOfMapping } from '../../src/sys/shared-memory.ts';

const EPERM = 1;

describe('shared memory', () => {
  it('is zeros at first, and then the same through every mapping, also when its descriptor is closed', () => {
    const fd = createSharedMemory('test', 8_192);
    const [a, b] = [mapShared(fd), mapShared(fd)];
    closeFd(fd);
    const [here, there] = [new Uint32Array(viewOfMapping(a)), new Uint32Array(viewOfMapping(b))];
    expect(here.every((word) => word === 0)).toBe(true);
    here[2_047] = 7;
    expect(there[2_047]).toBe(7);
    expect([a.bytes, b.bytes]).toEqual([8_192, 8_192]);
    unmap(a);
    unmap(b);
  });

  it('stays as long as it is, whoever has it', () => {
    const fd = createSharedMemory('test', 8_192);
    for (const bytes of [4_096, 16_384]) expect([libc().ftruncate(fd, bytes), libc().errno()]).toEqual([-1, EPERM]);
    closeFd(fd);
  });

  it('that cannot be had is said to be so', () => {
    expect(() => createSharedMemory('x'.repeat(300), 1)).toThrow('memfd_create');
    expect(() => createSharedMemory('test', -1)).toThrow('ftruncate');
    expect(() => mapShared(-1)).toThrow('lseek');
  });
});
