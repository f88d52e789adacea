import { describe, expect, it } from 'vitest';
import { FollowedLinks } from '../../../src/agent/host/followed-links.ts';

describe('the largest segment that connections may be told to send', () => {
  const withMtu = (mtu: number | undefined) => {
    const place = { mtu, looks: 0, narrowestMtu: () => (place.looks++, place.mtu) };
    return place;
  };

  it('is by default what fits through the narrowest link, behind the headers of either family', () => {
    expect(new FollowedLinks('mtu', withMtu(1_500)).mss).toEqual({ mssMax: 1_460, mssMax6: 1_440 });
    expect(new FollowedLinks('mtu', withMtu(1_420)).mss).toEqual({ mssMax: 1_380, mssMax6: 1_360 });
  });

  it('is never so small that no connection would take it', () => {
    expect(new FollowedLinks('mtu', withMtu(68)).mss).toEqual({ mssMax: 88, mssMax6: 88 });
  });

  it('is anything where no link is there yet, or nothing is to be lowered', () => {
    const anything = { mssMax: 65_535, mssMax6: 65_535 };
    expect(new FollowedLinks('mtu', withMtu(undefined)).mss).toEqual(anything);
    expect(new FollowedLinks('off', withMtu(1_400)).mss).toEqual(anything);
  });

  it('is told again when the narrowest link is another, and only then', async () => {
    const place = withMtu(1_500);
    const links = new FollowedLinks('mtu', place);
    const told: unknown[] = [];
    const clamp = async (max: unknown) => void told.push(max);
    await links.follow(clamp);
    place.mtu = 1_280;
    await links.follow(clamp);
    await links.follow(clamp);
    expect(told).toEqual([{ mssMax: 1_240, mssMax6: 1_220 }]);
  });

  it('is told once more if that failed', async () => {
    const place = withMtu(1_500);
    const links = new FollowedLinks('mtu', place);
    place.mtu = 1_300;
    await expect(links.follow(() => Promise.reject(new Error('the thread is gone')))).rejects.toThrow('gone');
    const told: unknown[] = [];
    await links.follow(async (max) => void told.push(max));
    expect(told).toEqual([{ mssMax: 1_260, mssMax6: 1_240 }]);
  });

  it('of settings that name it is that, and no link is looked at', async () => {
    const place = withMtu(1_500);
    const links = new FollowedLinks(1_220, place);
    expect(links.mss).toEqual({ mssMax: 1_220, mssMax6: 1_220 });
    await links.follow(() => Promise.reject(new Error('nothing is to be told')));
    expect(place.looks).toBe(0);
  });
});
