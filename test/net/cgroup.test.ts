import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cgroup_depth_max, cgroupDepth, cgroupPattern, cgroupsOverlap } from '../../src/net/cgroup.ts';

const name = fc.constantFrom(
  'a',
  'b',
  'a.slice',
  'web.service',
  'user@1000.service',
  'dev-disk-by\\x2dlabel.swap',
  '..a',
);
const path = fc.array(name, { minLength: 1, maxLength: 4 });

describe('a path of a cgroup', () => {
  it('is names between single slashes, none of which climbs', () => {
    fc.assert(fc.property(path, (names) => cgroupPattern.test(names.join('/'))));
    for (const wrong of [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '.',
      '..',
      'a/..',
      '../a',
      'a/./b',
      'a b',
      'a\n',
      'ä',
      'a'.repeat(256),
    ])
      expect(cgroupPattern.test(wrong), JSON.stringify(wrong)).toBe(false);
  });

  it('has a depth that is bounded', () => {
    const deepest = Array.from({ length: cgroup_depth_max }, () => 'a').join('/');
    expect([cgroupDepth('a'), cgroupDepth('a/b'), cgroupDepth(deepest)]).toEqual([1, 2, cgroup_depth_max]);
    expect([deepest, `${deepest}/a`].map((each) => cgroupPattern.test(each))).toEqual([true, false]);
  });
});

describe('two cgroups', () => {
  it('overlap when one begins with all names of the other', () => {
    fc.assert(
      fc.property(path, path, (a, b) => {
        const [short, long] = a.length <= b.length ? [a, b] : [b, a];
        expect(cgroupsOverlap(a.join('/'), b.join('/'))).toBe(short.every((each, at) => each === long[at]));
      }),
    );
  });
});
