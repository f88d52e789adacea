import { describe, expect, it } from 'vitest';
import { parseAddresses, parseLinkIsUp, parseRoutes, parseRules } from '../../src/agent/linux/ip-json.ts';

// As iproute2 6.1 prints it, with -N -json -details.
describe('rules', () => {
  it('are told in the words that add them, and whose they are', () => {
    const json = `[{"priority":0,"src":"all","table":"255","protocol":"2"},
      {"priority":10,"src":"all","fwmark":"0x2a","fwmask":"0xff","table":"100","protocol":"70"},
      {"priority":12,"src":"all","iif":"wg0","iif_detached":null,"table":"100","protocol":"70"},
      {"priority":32766,"src":"all","table":"254","protocol":"2"}]`;
    expect([...parseRules(4, json)]).toEqual([
      ['-4 priority 0 lookup local', 'foreign'],
      ['-4 priority 10 fwmark 0x2a/0xff lookup 100', 'ours'],
      ['-4 priority 12 iif wg0 lookup 100', 'ours'],
      ['-4 priority 32766 lookup main', 'foreign'],
    ]);
  });

  it('of others keep everything that tells them apart', () => {
    const json = `[{"priority":5,"src":"192.0.2.0","srclen":24,"table":"255","protocol":"3"},
      {"priority":6,"not":null,"src":"all","fwmark":"0x1","table":"254","protocol":"3"},
      {"priority":7,"src":"all","action":"blackhole","protocol":"3"}]`;
    const rules = [...parseRules(6, json).keys()];
    expect(rules).toEqual([
      '-6 priority 5 from 192.0.2.0 {"srclen":24} lookup local',
      '-6 priority 6 fwmark 0x1/0xffffffff {"not":null} lookup main',
      '-6 priority 7 {"action":"blackhole"}',
    ]);
  });
});

describe('routes', () => {
  it('are told in the words that add them', () => {
    const json = `[{"type":"1","dst":"default","dev":"fishtun","protocol":"70","scope":"253","metric":1024,"flags":["linkdown"]},
      {"type":"6","dst":"default","dev":"lo","protocol":"70","scope":"0","metric":9999,"flags":[],"pref":"medium"},
      {"type":"1","dst":"192.0.2.0/24","gateway":"192.0.2.9","dev":"eth0","protocol":"3","scope":"0","flags":[]}]`;
    expect([...parseRoutes(4, 100, json)]).toEqual([
      ['-4 default dev fishtun metric 1024 table 100', 'ours'],
      ['-4 blackhole default metric 9999 table 100', 'ours'],
      ['-4 192.0.2.0/24 via 192.0.2.9 dev eth0 table 100', 'foreign'],
    ]);
  });

  it.each(['', '\n', '[]', '[{}]'])('may be none: %j', (json) => expect(parseRoutes(6, 100, json).size).toBe(0));
});

it('addresses are canonical, and those of the loopback device are apart', () => {
  const json = `[{},{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1"},{"family":"inet6","local":"2001:DB8:0::10"}]},
    {"ifname":"eth0","addr_info":[{"family":"inet","local":"192.0.2.1"}]},{"ifname":"eth1","addr_info":[{"local":"192.0.2.2"}]}]`;
  const { addresses, linkAddresses } = parseAddresses(json);
  expect([...addresses]).toEqual(['127.0.0.1', '2001:db8::10']);
  expect([...linkAddresses]).toEqual(['192.0.2.1', '192.0.2.2']);
});

it.each([
  ['["POINTOPOINT","UP","LOWER_UP"]', true],
  ['["NO-CARRIER","UP"]', true],
  ['["POINTOPOINT"]', false],
])('a device with flags %s is up: %s', (flags, isUp) => {
  expect(parseLinkIsUp(`[{"ifname":"fishtun","flags":${flags}}]`)).toBe(isUp);
});

it('anything else is a problem with words', () => {
  expect(() => parseRules(4, 'Object "rule" is unknown')).toThrow('ip -json answered something else: Object "rule"');
  expect(() => parseRules(4, '{"a":1}')).toThrow('ip -json answered something else');
});
