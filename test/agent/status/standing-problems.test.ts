import { describe, expect, it } from 'vitest';
import type { Origin } from '../../../src/agent/host/host-state.ts';
import { foreignRouting, hostAddressesInPools } from '../../../src/agent/status/standing-problems.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { withFish, withoutFish } from '../../support/agent-values.ts';
import { address } from '../../support/fake-host.ts';

describe("the host's own addresses in the pools", () => {
  const inPools = (on: { links: string[]; slices?: string[] }) =>
    hostAddressesInPools(
      { linkAddresses: new Set(on.links.map(address)) },
      {
        prefixes: ['198.51.100.0/24', '2001:db8:a::/64'] as Prefix[],
        sliced: new Set((on.slices ?? []).map(address)),
      },
    );

  it.each([
    ['one of an uplink', { links: ['192.0.2.1', '198.51.100.1', '2001:db8:a::1'] }, ['198.51.100.1', '2001:db8:a::1']],
    [
      "one that is, or was, of a slice is the pool's, also on an uplink",
      { links: ['198.51.100.10'], slices: ['198.51.100.10'] },
      [],
    ],
  ])('%s', (_what, on, expected) => expect(inPools(on)).toEqual(expected));
});

describe('routing of others', () => {
  const found = (o: { rules?: string[]; routes?: string[]; origin?: Origin }, settings = withFish) => {
    const entries = (texts: string[] = []) => new Map(texts.map((text) => [text, o.origin ?? 'foreign'] as const));
    return foreignRouting({ rules: entries(o.rules), routes: entries(o.routes) }, settings);
  };

  it("in fish's table is named, with the setting to change", () => {
    const routes = ['-4 192.0.2.0/24 via 192.0.2.9 dev eth0 table 100'];
    expect(found({ routes })).toEqual([
      "somebody else's route is in fish's routing table (-4 192.0.2.0/24 via 192.0.2.9 dev eth0 table 100): " +
        'remove it, or change route_table',
    ]);
    expect(found({ routes, origin: 'ours' })).toEqual([]);
    expect(found({ routes }, withoutFish)).toEqual([]);
  });

  it("in the terminator's table, or with its mark, is named with its own settings, also where there is no fish", () => {
    const paths = { rules: [], otherwise: 'terminate' as const };
    const settings = { ...withoutFish, terminate: { port: 7_490, mark: 0x2b, routeTable: 101, paths } };
    const trouble = { routes: ['-4 default dev eth0 table 101'], rules: ['-4 priority 500 fwmark 0x2b/0xff lookup 7'] };
    expect(found(trouble, settings)).toEqual([
      "somebody else's route is in the terminator's routing table (-4 default dev eth0 table 101): remove it, or change route_table of terminate",
      "somebody else's rule matches packets with the terminator's mark (-4 priority 500 fwmark 0x2b/0xff lookup 7): remove it, or change mark of terminate and mark_mask",
    ]);
    expect(found(trouble, withoutFish)).toEqual([]);
    // A rule that is in the way of both is told once.
    expect(found({ rules: ['-4 priority 5 lookup 200'] }, { ...settings, fish: true })).toHaveLength(1);
  });

  it.each([
    ['-4 priority 10 from 192.0.2.9 lookup 200', 'rule_priority'],
    ['-6 priority 12 iif eth9 lookup 200', 'rule_priority'],
    ['-4 priority 11 lookup local', 'rule_priority'],
    ['-4 priority 500 from 192.0.2.0/24 lookup 100', 'route_table'],
    ['-4 priority 500 fwmark 0x2a/0xffffffff lookup 200', 'mark and mark_mask'],
    ['-4 priority 500 fwmark 0x2/0x2 lookup 200', 'mark and mark_mask'],
    ['-4 priority 5 fwmark 0x0/0x1 lookup 200', 'mark and mark_mask'],
    ['-4 priority 5 lookup 200', 'rule_priority'],
    ['-4 priority 5 fwmark 0x100/0x100 lookup 200', 'rule_priority'],
    ['-4 priority 5 fwmark 0xca6c/0xffffffff {"not":null} lookup 51820', 'rule_priority'],
  ])('%s: change %s', (rule, setting) => {
    const lines = found({ rules: [rule] });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(`(${rule})`);
    expect(lines[0]).toMatch(new RegExp(`or change ${setting}$`));
    expect(found({ rules: [rule], origin: 'ours' })).toEqual([]);
  });

  it.each([
    '-4 priority 0 lookup local',
    '-4 priority 32766 lookup main',
    // As wg-quick makes them.
    '-4 priority 32765 fwmark 0xca6c/0xffffffff {"not":null} lookup 51820',
    '-4 priority 32764 {"suppress_prefixlen":0} lookup main',
    '-4 priority 500 fwmark 0xca6c/0xffffffff lookup 200',
    '-4 priority 500 fwmark 0x100/0x100 lookup 200',
    '-4 priority 5 from 192.0.2.9 lookup 200',
    '-4 priority 13 lookup 1000',
  ])('%s: goes together with fish', (rule) => expect(found({ rules: [rule] })).toEqual([]));
});
