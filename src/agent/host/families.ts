import { familyOf, type Address, type Family } from '../../net/address.ts';
import type { HostSettings } from './desired-host.ts';

/**
 * Which of both families are switched on: IPv6 may be compiled out, or switched off and on while the agent runs, for all devices, for
 * those that are new, or for a single one. `tun`: what fish can have by its device.
 */
export type Families = Readonly<{ host: readonly Family[]; tun: readonly Family[] }>;

const offKey = (device: string): string => `net/ipv6/conf/${device}/disable_ipv6`;

/** The sysctls that say so. */
export const familyKeys = (tun: string): readonly string[] => ['all', 'default', 'lo', tun].map(offKey);

/** A device that is not there yet will be as new ones are. */
export function familiesOf(sysctls: ReadonlyMap<string, string>, tun: string): Families {
  const isOn = (device: string): boolean => sysctls.get(offKey(device)) === '0';
  const isOnHere = isOn('all') && isOn('lo');
  const both = [4, 6] as const;
  return {
    host: isOnHere ? both : [4],
    tun: isOnHere && isOn(sysctls.has(offKey(tun)) ? tun : 'default') ? both : [4],
  };
}

/** What cannot be had because IPv6 is off, a line each. */
export function missingFamily(
  families: Families,
  { fish, forwardsIpv6, tun }: Pick<HostSettings, 'fish' | 'forwardsIpv6' | 'tun'>,
  addresses: readonly Address[],
): readonly string[] {
  const lost = families.host.includes(6) ? [] : addresses.filter((each) => familyOf(each) === 6);
  return [
    ...(lost.length > 0
      ? [
          `IPv6 is switched off on this host, which has slices of ${lost.slice(0, 3).join(', ')}: nothing of them can be used`,
        ]
      : []),
    ...(fish && forwardsIpv6 && !families.tun.includes(6)
      ? [
          `IPv6 is switched off ${families.host.includes(6) ? `on ${tun}` : 'on this host'}: clients of fish that speak it are not served`,
        ]
      : []),
  ];
}
