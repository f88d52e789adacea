import { describe, expect, it } from 'vitest';
import { originOf, routeOf, routeText, ruleOf, ruleText } from '../../../src/agent/linux/routing-text.ts';

const rule = { family: 4, priority: 10, protocol: 70, table: 100, others: {} } as const;
const route = { family: 4, table: 100, type: 1, protocol: 70, destination: 'default', metric: 1_024 } as const;
const nameOf = (link: number) => ({ 1: 'lo', 7: 'fishtun' })[link] ?? 'unknown';

describe('rules', () => {
  it.each([
    ['-4 priority 0 lookup local', { ...rule, priority: 0, table: 255, protocol: 2 }],
    ['-4 priority 10 fwmark 0x2a/0xff lookup 100', { ...rule, mark: { value: 0x2a, mask: 0xff } }],
    ['-6 priority 12 iif wg0 lookup 100', { ...rule, family: 6, priority: 12, iif: 'wg0' }],
    [
      '-4 priority 12 from 100.64.255.1 iif lo lookup 100',
      { ...rule, priority: 12, source: '100.64.255.1', iif: 'lo' },
    ],
    ['-4 priority 32766 lookup main', { ...rule, priority: 32_766, table: 254 }],
  ] as const)('are told in the words that add them, and understood by them: %s', (text, kernel) => {
    expect(ruleText(kernel)).toBe(text);
    const { others: _others, ...understood } = kernel;
    expect(ruleOf(text)).toEqual(understood);
  });

  it('of others keep everything that tells them apart', () => {
    expect(ruleText({ ...rule, family: 6, source: '2001:db8::/32', table: 255 })).toBe(
      '-6 priority 10 from 2001:db8::/32 lookup local',
    );
    expect(ruleText({ ...rule, mark: { value: 1, mask: 0xffff_ffff }, others: { not: null } })).toBe(
      '-4 priority 10 fwmark 0x1/0xffffffff {"not":null} lookup 100',
    );
    const { table: _table, ...nowhere } = rule;
    expect(ruleText({ ...nowhere, others: { action: 6 } })).toBe('-4 priority 10 {"action":6}');
  });

  it.each(['-4 priority 10', '-4 priority 10 {"not":null} lookup 100', '-4 priority 10 lookup somewhere'])(
    'that the agent never makes are a bug: %s',
    (text) => expect(() => ruleOf(text)).toThrow("no rule of the agent's"),
  );
});

describe('routes', () => {
  it.each([
    ['-4 default dev fishtun metric 1024 table 100', { ...route, link: 7 }, 'device', 'fishtun'],
    ['-4 blackhole default metric 9999 table 100', { ...route, type: 6, metric: 9_999 }, 'nowhere', null],
    ['-4 local default metric 1024 table 100', { ...route, type: 2, link: 1 }, 'here', null],
    // IPv6 has a device where nothing was said.
    [
      '-6 blackhole default metric 9999 table 100',
      { ...route, family: 6, type: 6, metric: 9_999, link: 1 },
      'nowhere',
      null,
    ],
  ] as const)('are told in the words that add them, and understood by them: %s', (text, kernel, to, device) => {
    expect(routeText(kernel, nameOf)).toBe(text);
    expect(routeOf(text)).toEqual({ family: kernel.family, table: 100, metric: kernel.metric, to, device });
  });

  it('of others keep what people look for', () => {
    const { metric: _metric, ...foreign } = route;
    expect(routeText({ ...foreign, destination: '192.0.2.0/24', gateway: '192.0.2.9', link: 7 }, nameOf)).toBe(
      '-4 192.0.2.0/24 via 192.0.2.9 dev fishtun table 100',
    );
    expect(() => routeOf('-4 192.0.2.0/24 dev fishtun table 100')).toThrow("no route of the agent's");
  });
});

it('whose they are, their protocol number says', () => {
  expect(originOf({ protocol: 70 })).toBe('ours');
  expect(originOf({ protocol: 2 })).toBe('foreign');
});
