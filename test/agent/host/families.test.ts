import { describe, expect, it } from 'vitest';
import { familiesOf, familyKeys, missingFamily } from '../../../src/agent/host/families.ts';
import { withFish } from '../../support/agent-values.ts';
import { address } from '../../support/fake-host.ts';

const off = (...devices: readonly string[]) =>
  new Map(
    ['all', 'default', 'lo', ...(devices.includes('-tun') ? [] : ['fishtun'])].map((device) => [
      `net/ipv6/conf/${device}/disable_ipv6`,
      devices.includes(device) ? '1' : '0',
    ]),
  );

describe('the families of a host', () => {
  it.each([
    ['nowhere', off(), [4, 6], [4, 6]],
    ['everywhere', off('all', 'default', 'lo', 'fishtun'), [4], [4]],
    ['not compiled in', new Map<string, string>(), [4], [4]],
    ['on lo', off('lo'), [4], [4]],
    ['on the TUN device', off('fishtun'), [4, 6], [4]],
    ['on new devices', off('default'), [4, 6], [4, 6]],
    ['on new devices, as the TUN will be', off('default', '-tun'), [4, 6], [4]],
  ])('where IPv6 is off %s', (_where, sysctls, host, tun) => {
    expect(familiesOf(sysctls, 'fishtun')).toEqual({ host, tun });
    expect([...sysctls.keys()].filter((key) => !familyKeys('fishtun').includes(key))).toEqual([]);
  });

  it('are told where what is there needs the one that is off', () => {
    const settings = { ...withFish, forwardsIpv6: true };
    const addresses = [address('198.51.100.10'), address('2001:db8::10')];
    const told = (host: readonly (4 | 6)[], tun: readonly (4 | 6)[]) =>
      missingFamily({ host, tun }, settings, addresses);
    expect(told([4, 6], [4, 6])).toEqual([]);
    expect(told([4, 6], [4])).toEqual([
      'IPv6 is switched off on fishtun: clients of fish that speak it are not served',
    ]);
    expect(told([4], [4])).toEqual([
      'IPv6 is switched off on this host, which has slices of 2001:db8::10: nothing of them can be used',
      'IPv6 is switched off on this host: clients of fish that speak it are not served',
    ]);
    expect(missingFamily({ host: [4], tun: [4] }, withFish, [address('198.51.100.10')])).toEqual([]);
  });
});
