import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cgroupMount, MountedCgroups, unifiedPath } from '../../../src/agent/linux/cgroups.ts';

describe('the mount of the unified hierarchy', () => {
  it('is found wherever it is, between the old ones', () => {
    const mounts = [
      'tmpfs /sys/fs/cgroup tmpfs rw 0 0',
      'cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0',
      'cgroup2 /mnt/my\\040groups\\134x cgroup2 rw 0 0',
      '',
    ].join('\n');
    expect(cgroupMount(mounts)).toBe('/mnt/my groups\\x');
    expect(cgroupMount('cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n')).toBeUndefined();
  });

  it('has a process at the path behind the empty controller', () => {
    expect(unifiedPath('12:cpu:/old\n0::/system.slice/web.service\n')).toBe('system.slice/web.service');
    expect(unifiedPath('0::/\n')).toBe('');
    expect(unifiedPath('12:cpu:/old\n')).toBeUndefined();
  });
});

describe('a cgroup', () => {
  let mount: string;
  beforeEach(() => {
    mount = mkdtempSync(join(tmpdir(), 'fishery-cgroups-'));
  });
  afterEach(() => rmSync(mount, { recursive: true }));
  const inode = (path: string) => String(statSync(join(mount, path), { bigint: true }).ino);
  /** Longer than an answer is remembered. */
  const later = () => sleep(150);

  it('has the number of its folder, and there is none where no folder is', async () => {
    const cgroups = new MountedCgroups(mount);
    mkdirSync(join(mount, 'a.slice/b.service/worker'), { recursive: true });
    writeFileSync(join(mount, 'a.slice/cgroup.procs'), '');
    expect(cgroups.idOf('a.slice')).toBe(inode('a.slice'));
    expect(cgroups.idOf('a.slice/none')).toBeUndefined();
    expect(cgroups.idOf('a.slice/cgroup.procs')).toBeUndefined();
    expect(cgroups.idsWithin('a.slice')).toEqual(
      new Set(['a.slice', 'a.slice/b.service', 'a.slice/b.service/worker'].map(inode)),
    );
    expect(cgroups.idsWithin('none')).toEqual(new Set());
    // Made anew. Both at once, so that the second cannot get the number of the first.
    mkdirSync(join(mount, 'next'));
    renameSync(join(mount, 'a.slice'), join(mount, 'gone'));
    renameSync(join(mount, 'next'), join(mount, 'a.slice'));
    await later();
    expect(cgroups.idOf('a.slice')).toBe(inode('a.slice'));
    expect(cgroups.idsWithin('a.slice')).toEqual(new Set([inode('a.slice')]));
  });

  it('of a process that is gone is unknown', () => {
    expect(new MountedCgroups(mount).pathOf(2 ** 22 + 1)).toBeUndefined();
  });
});
