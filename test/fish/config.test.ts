import { describe, expect, test } from 'vitest';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { defaultTimers, fishConfig, type FishConfig } from '../../src/fish/config.ts';

const clientPrefixes = ['100.64.0.0/10' as Prefix];
const problemOf = (settings: Partial<FishConfig>) => {
  const checked = fishConfig({ clientPrefixes, ...settings });
  return checked.ok ? undefined : checked.error;
};

describe('the configuration of fish', () => {
  test('has defaults for everything but the clients, and the timers of the RFCs', () => {
    const checked = fishConfig({ clientPrefixes });
    expect(checked.ok && checked.value).toMatchObject({
      clientPrefixes,
      udpMapping: 'endpoint_independent',
      udpFiltering: 'endpoint_independent',
      udpInboundRefresh: false,
      udpPortParity: true,
      timers: { tcpEstablishedS: 7_440, tcpOpeningS: 240, tcpTransitoryS: 240, tcpRestS: 60, udpS: 300, icmpS: 60 },
    });
  });

  test.each<[string, Partial<FishConfig>, string]>([
    ['no clients', { clientPrefixes: [] }, 'clientPrefixes: name the networks that clients come from'],
    [
      'everybody as client',
      { clientPrefixes: ['0.0.0.0/0' as Prefix] },
      'clientPrefixes: 0.0.0.0/0 leaves nothing to be outside',
    ],
    [
      'all of IPv6 as clients',
      { clientPrefixes: ['::/0' as Prefix] },
      'clientPrefixes: ::/0 leaves nothing to be outside',
    ],
    [
      'an IPv6 source of errors',
      { icmpSource: '2001:db8::1' as Address },
      'icmpSource: 2001:db8::1 is not an IPv4 address',
    ],
    [
      'an IPv4 source of IPv6 errors',
      { icmpSource6: '192.0.2.1' as Address },
      'icmpSource6: 192.0.2.1 is not an IPv6 address',
    ],
    ['no IPv6 addresses', { ipv6AddressesMax: 0 }, 'ipv6AddressesMax: a whole number, 1 to 16777215'],
    [
      'a filter laxer than the mapping',
      { udpMapping: 'address_and_port_dependent', udpFiltering: 'address_dependent' },
      'udpFiltering: address_dependent cannot be had with udpMapping address_and_port_dependent: choose one at least as strict',
    ],
    ['no flows', { flowsMax: 0 }, 'flowsMax: a whole number, 1 to 16777216'],
    ['a share of nothing', { clientShare: 0 }, 'clientShare: 0.001 to 1'],
    ['a share of NaN', { clientShare: NaN }, 'clientShare: 0.001 to 1'],
    ['half a client', { clientsMax: 0.5 }, 'clientsMax: a whole number, 1 to 4194304'],
    ['half a block', { blocksMax: 0.5 }, 'blocksMax: a whole number, 1 to 65536'],
    ['a timer of 0', { timers: { ...defaultTimers, udpS: 0 } }, 'timers.udpS: 1 to 86400 seconds'],
    ['a rest without end', { timers: { ...defaultTimers, tcpRestS: Infinity } }, 'timers.tcpRestS: 0 to 86400 seconds'],
    ['a timer that is no number', { timers: { ...defaultTimers, icmpS: NaN } }, 'timers.icmpS: 1 to 86400 seconds'],
  ])('refuses %s', (_what, settings, problem) => {
    expect(problemOf(settings)).toBe(problem);
  });

  test('filters as strictly as it maps, unless told to be stricter', () => {
    const filterOf = (settings: Partial<FishConfig>) => {
      const checked = fishConfig({ clientPrefixes, ...settings });
      return checked.ok && checked.value.udpFiltering;
    };
    expect(filterOf({ udpMapping: 'address_dependent' })).toBe('address_dependent');
    expect(filterOf({ udpMapping: 'address_dependent', udpFiltering: 'address_and_port_dependent' })).toBe(
      'address_and_port_dependent',
    );
  });

  test('allows no rest', () => {
    expect(problemOf({ timers: { ...defaultTimers, tcpRestS: 0, udpRestS: 0 } })).toBeUndefined();
  });
});
