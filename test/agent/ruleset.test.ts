import { describe, expect, it } from 'vitest';
import { counterNames, rulesetOf, type RulesetInput } from '../../src/agent/ruleset.ts';
import { everyRuleset } from '../support/rulesets.ts';

const text = (over: Partial<RulesetInput> = {}): string => rulesetOf({ ...everyRuleset.fish, ...over }).text;

const rulesOf = (name: keyof typeof everyRuleset, chain: string): readonly string[] => {
  const lines = rulesetOf(everyRuleset[name]).text.split('\n');
  const begin = lines.lastIndexOf(`  chain ${chain} {`) + 1;
  return lines.slice(begin, lines.indexOf('  }', begin)).map((line) => line.trim());
};

describe('the text of the table', () => {
  // The whole text is under review: a change of a rule shows as a change of a file.
  it.each(Object.entries(everyRuleset))('for %s', async (name, input) => {
    await expect(rulesetOf(input).text).toMatchFileSnapshot(`golden/${name}.nft`);
  });

  it('is the same whatever the order in which sets came up', () => {
    const classes = [...everyRuleset.fish.classes].reverse();
    expect(text({ classes })).toBe(text());
  });

  it('declares exactly the sets that it names', () => {
    const { sets, text: loaded } = rulesetOf(everyRuleset.fish);
    const declared = [...loaded.matchAll(/^ {2}set (\S+) \{$/gm)].map(([, name]) => name);
    expect(declared).toEqual(['alive', 'pool4', 'pool6', 'host4', 'host6', ...sets]);
    for (const set of sets) expect(loaded).toContain(`@${set} `);
  });

  it('gives every drop a counter, and declares every counter', () => {
    const drops = text()
      .split('\n')
      .filter((line) => / drop$/.test(line));
    expect(drops.length).toBeGreaterThan(10);
    for (const line of drops) expect(line).toMatch(/counter name "\w+" drop$/);
    for (const name of counterNames) expect(text()).toContain(`  counter ${name} {`);
  });

  it('keeps the bits of the mark that are not ours', () => {
    expect(text({ mark: 0x2a00, markMask: 0xff00 })).toContain(
      'meta mark set meta mark & 0xffff00ff | 0x00002a00 notrack',
    );
    expect(text({ mark: 0x2a00, markMask: 0xff00 })).toContain('socket mark & 0x0000ff00 == 0x00002a00');
  });
});

describe('what comes from the TUN', () => {
  it.each([
    [4, 'ip frag-off & 0x1fff != 0'],
    [6, 'frag frag-off != 0'],
  ])('over IPv%i is never let by without a lease, fragments without ports included', (family, isFragment) => {
    const rules = rulesOf('fish', `guard${family}_fish`);
    expect(rules[0]).toBe(`${isFragment} counter name "guard_fish" drop`);
    for (const rule of rules.filter((each) => each.endsWith(' accept'))) expect(rule).toContain('@fish_');
    expect(rules.at(-1)).toBe('counter name "guard_fish" drop');
  });
});

describe('the judgement of cgroups', () => {
  it('is not there where nobody is known by one', () => {
    expect(rulesOf('proxies', 'sender')).toEqual([]);
    expect(rulesOf('proxies', 'sender4')).toEqual([]);
  });

  it.each([4, 6])('for IPv%i lets by whom the guard knows, and drops live sockets only', (family) => {
    const rules = rulesOf('cgroups', `sender${family}`);
    const first = (part: string) => rules.findIndex((rule) => rule.includes(part));
    expect(first('@own_uid_')).toBeLessThan(first('@own_cgroup_'));
    expect(first('@own_cgroup_')).toBeLessThan(first('@in_cgroup_'));
    expect(first('tcp flags & syn != 0')).toBeLessThan(first('@in_cgroup_'));
    for (const rule of rules.filter((each) => each.includes('@in_cgroup_')))
      expect(rule).toMatch(/meta skuid 0-4294967295 .*counter name "guard_cgroup" drop$/);
    const guard = rulesOf('cgroups', `guard${family}`);
    const at = (part: string) => guard.findIndex((rule) => rule.includes(part));
    expect(at('@alive')).toBeLessThan(at('@in_cgroup_'));
    expect(at('@in_cgroup_')).toBeLessThan(at('"guard_uid" drop'));
  });
});

describe('the order of the guard', () => {
  const rulesOf = (name: string): readonly string[] => {
    const lines = text().split('\n');
    // The first is the declaration, the second has the rules.
    const begin = lines.lastIndexOf(`  chain ${name} {`) + 1;
    return lines.slice(begin, lines.indexOf('  }', begin)).map((line) => line.trim());
  };
  const position = (rules: readonly string[], part: string): number => {
    const at = rules.findIndex((rule) => rule.includes(part));
    expect(at, part).toBeGreaterThanOrEqual(0);
    return at;
  };

  it.each([4, 6])(
    "for IPv%i lets nothing pass before the dead man's switch but lo and neighbour discovery",
    (family) => {
      const rules = rulesOf(`guard${family}`);
      const before = rules.slice(0, position(rules, '@alive')).filter((rule) => rule.includes('accept'));
      for (const rule of before) expect(rule).toMatch(/^(oif "lo"|icmpv6 type \{ (nd-|mld))/);
    },
  );

  it.each([4, 6])('for IPv%i judges live sockets by user id before closed ones by block', (family) => {
    const rules = rulesOf(`guard${family}`);
    expect(position(rules, '@own_uid_tcp')).toBeLessThan(position(rules, 'meta skuid 0-4294967295'));
    expect(position(rules, 'meta skuid 0-4294967295')).toBeLessThan(position(rules, '@own_tcp'));
    expect(rules.at(-1)).toBe('counter name "guard_unowned" drop');
  });

  it.each([4, 6])('for IPv%i steers by placeholder, then by block, and drops orphans last', (family) => {
    const rules = rulesOf(`steer${family}`);
    expect(position(rules, 'socket mark')).toBe(0);
    expect(position(rules, '@steer_')).toBeLessThan(position(rules, 'socket transparent { 0, 1 } accept'));
    expect(position(rules, 'socket transparent { 0, 1 } accept')).toBeLessThan(position(rules, '"orphan" drop'));
    expect(rules.join('\n')).not.toContain('wildcard');
  });
});
