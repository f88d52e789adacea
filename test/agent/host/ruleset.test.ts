import { describe, expect, it } from 'vitest';
import { counterNames, rulesetOf, type RulesetInput } from '../../../src/agent/host/ruleset.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { protocols } from '../../../src/net/protocol.ts';
import { everyRuleset } from '../../support/rulesets.ts';

const text = (over: Partial<RulesetInput> = {}): string => rulesetOf({ ...everyRuleset.fish, ...over }).text;

const rulesOf = (name: keyof typeof everyRuleset, chain: string): readonly string[] => {
  const lines = rulesetOf(everyRuleset[name]).text.split('\n');
  const begin = lines.lastIndexOf(`  chain ${chain} {`) + 1;
  return lines.slice(begin, lines.indexOf('  }', begin)).map((line) => line.trim());
};

/** Chains with their rules; the first block of a name is its declaration. */
const chainsOf = (loaded: string): ReadonlyMap<string, readonly string[]> =>
  new Map(
    [...loaded.matchAll(/^ {2}chain (\S+) \{\n((?: {4}.*\n)*) {2}\}$/gm)].map(([, name = '', body = '']) => [
      name,
      body.split('\n').flatMap((line) => (line === '' ? [] : [line.trim()])),
    ]),
  );

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

  it('names protocols by words of nft’s own: what is in /etc/protocols is not there on a minimal system', () => {
    const names = Object.values(everyRuleset).flatMap((input) =>
      [...rulesetOf(input).text.matchAll(/l4proto (\{[^}]*\}|\S+)/g)].flatMap(
        ([, set = '']) => set.match(/[\w-]+/g) ?? [],
      ),
    );
    expect(new Set(names)).toEqual(new Set(['tcp', 'udp', 'icmp', 'icmpv6']));
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
    const rules = rulesOf('cgroups', `sender${family}_tcp`);
    const first = (part: string) => rules.findIndex((rule) => rule.includes(part));
    expect(first('@own_uid_')).toBe(0);
    expect(first('@own_uid_')).toBeLessThan(first('@own_cgroup_'));
    expect(first('@own_cgroup_')).toBeLessThan(first('@in_cgroup_'));
    expect(first('tcp flags & syn != 0')).toBeLessThan(first('@in_cgroup_'));
    for (const rule of rules.filter((each) => each.includes('@in_cgroup_')))
      expect(rule).toMatch(/meta skuid 0-4294967295 .*counter name "guard_cgroup" drop$/);
    const guard = rulesOf('cgroups', `guard${family}_tcp`);
    const at = (part: string) => guard.findIndex((rule) => rule.includes(part));
    expect(at('@in_cgroup_')).toBeGreaterThan(0);
    expect(at('@in_cgroup_')).toBeLessThan(at(`goto guard${family}_stranger`));
  });

  it.each([4, 6])(
    'for IPv%i drops live sockets that NAT has moved onto a block since, where others translate',
    (family) => {
      const moved = (rules: readonly string[]) => rules.filter((rule) => rule.includes('@in_cgroup_'));
      for (const protocol of protocols) {
        const rules = moved(rulesOf('cgroups', `guard${family}_${protocol}`));
        expect(rules).toHaveLength(1);
        expect(rules[0]).toMatch(new RegExp(`goto guard${family}_cgroup$`));
      }
      expect(rulesOf('cgroups', `guard${family}_cgroup`)).toEqual([
        'ct direction original ct status snat counter name "guard_translated" drop',
        'ct direction reply ct status dnat counter name "guard_translated" drop',
        'accept',
      ]);
    },
  );

  it('does not turn connection tracking on where nobody translates', () => {
    const { text: alone } = rulesetOf({ ...everyRuleset.cgroups, othersTranslate: false });
    expect(alone).not.toMatch(/\bct /);
    expect(
      chainsOf(alone)
        .get('guard4_tcp')
        ?.filter((rule) => rule.includes('@in_cgroup_')),
    ).toEqual([expect.stringMatching(/ accept$/)]);
  });

  it('has no hook on output where it has nothing to judge', () => {
    const deletion = 'delete chain inet fishery sender';
    expect(rulesetOf(everyRuleset.proxies).text).toContain(`${deletion}\n`);
    expect(rulesetOf(everyRuleset.cgroups).text).not.toContain(deletion);
  });
});

describe('the order of the guard', () => {
  const position = (rules: readonly string[], part: string): number => {
    const at = rules.findIndex((rule) => rule.includes(part));
    expect(at, part).toBeGreaterThanOrEqual(0);
    return at;
  };

  it.each([4, 6])("for IPv%i lets nothing pass before the dead man's switch but lo", (family) => {
    const rules = rulesOf('fish', `guard${family}`);
    expect(rules.slice(0, position(rules, '@alive'))).toEqual(['oif "lo" accept']);
    expect(rulesOf('fish', `guard${family}_dead`)).toEqual([
      'iifname "fishtun" counter name "guard_dead" drop',
      `${family === 4 ? 'ip' : 'ip6'} saddr @host${family} accept`,
      'counter name "guard_dead" drop',
    ]);
  });

  it.each([4, 6])('for IPv%i judges live sockets by user id before closed ones by block', (family) => {
    for (const protocol of ['tcp', 'udp']) {
      const rules = rulesOf('fish', `guard${family}_${protocol}`);
      expect(position(rules, `@own_uid_${protocol}`)).toBeLessThan(position(rules, `goto guard${family}_stranger`));
      expect(rules.at(-1)).toBe(`goto guard${family}_unowned`);
    }
    const tcp = rulesOf('fish', `guard${family}_tcp`);
    expect(position(tcp, `goto guard${family}_stranger`)).toBeLessThan(position(tcp, '@own_tcp'));
    expect(rulesOf('fish', `guard${family}_stranger`).at(-1)).toBe('counter name "guard_uid" drop');
    expect(rulesOf('fish', `guard${family}_unowned`).at(-1)).toBe('counter name "guard_unowned" drop');
  });

  it.each([4, 6])('for IPv%i lets nothing begin a connection, and no datagram leave, that no user sends', (family) => {
    const tcp = rulesOf('fish', `guard${family}_tcp`);
    expect(tcp[position(tcp, '@own_tcp') - 1]).toBe(`tcp flags & syn != 0 goto guard${family}_unowned`);
    expect(rulesOf('fish', `guard${family}_udp`).filter((rule) => rule.includes('@own_udp'))).toEqual([]);
  });

  it.each([4, 6])('for IPv%i steers by block, then by placeholder, and drops orphans last', (family) => {
    for (const protocol of ['tcp', 'udp']) {
      const rules = rulesOf('fish', `steer${family}_${protocol}`);
      const marked = position(rules, 'socket mark');
      // Whatever socket there is: it has no say about a block of fish's own.
      for (const rule of rules.slice(0, marked))
        expect(rule).toMatch(/@steer_.* counter name "steer_block" goto to_fish$/);
      expect(marked).toBeGreaterThan(0);
      expect(rules[marked]).toMatch(/: goto to_placeholder, 0x[0-9a-f]+-0xffffffff : accept \}$/);
      const anySocket = 'socket transparent { 0, 1 } accept';
      expect(marked).toBeLessThan(position(rules, anySocket));
      expect(position(rules, anySocket)).toBeLessThan(position(rules, '"orphan" drop'));
    }
    expect(text()).not.toContain('wildcard');
  });

  it.each([4, 6])('for IPv%i never lets a packet fall out of the end of a chain that judges it', (family) => {
    for (const name of ['proxies', 'cgroups', 'fish'] as const)
      for (const chain of ['', '_dead', '_passing', '_stranger', '_unowned', '_tcp', '_udp', '_icmp', '_fish'])
        expect(rulesOf(name, `guard${family}${chain}`).at(-1)).toMatch(/ drop$|^goto guard/);
  });
});

describe('what a packet costs', () => {
  const lookUps = (rules: readonly string[]): number => rules.filter((rule) => rule.includes(' @')).length;

  it.each([4, 6])(
    'over IPv%i from a leased port of the largest size: two look-ups, whatever else is leased',
    (family) => {
      const guard = rulesOf('fish', `guard${family}`);
      const toTcp = guard.findIndex((rule) => rule.includes(`goto guard${family}_tcp`));
      const tcp = rulesOf('fish', `guard${family}_tcp`);
      expect(lookUps(rulesOf('fish', 'guard'))).toBe(0);
      expect(lookUps([...guard.slice(0, toTcp), ...tcp.slice(0, 1)])).toBe(2);
      expect(toTcp).toBeLessThanOrEqual(3);
      expect(tcp[0]).toContain(`@own_uid_tcp${family}_65536 accept`);
    },
  );

  it('meets rules of its own protocol only', () => {
    for (const [name, rules] of chainsOf(text()))
      for (const [protocol, other] of [
        ['tcp', 'udp'],
        ['udp', 'tcp'],
      ] as const)
        if (name.includes(`_${protocol}`)) expect(rules.join('\n')).not.toContain(`_${other}`);
  });

  it('is compared with a few prefixes one by one, and with many by one look-up', () => {
    const prefixes = (count: number) =>
      Array.from({ length: count }, (_, index) => `198.51.${100 + index}.0/24` as Prefix);
    const guard = (count: number) => chainsOf(text({ prefixes: prefixes(count) })).get('guard') ?? [];
    expect(guard(4)).toHaveLength(4);
    expect(guard(5)).toEqual(['ip saddr @pool4 goto guard4']);
    expect(guard(0)).toEqual([]);
  });
});
