import { familyOf, type Address } from '../../net/address.ts';
import { prefixContains, prefixFamily, type Prefix } from '../../net/prefix.ts';
import type { HostSettings } from '../host/desired-host.ts';
import { isLocalRule, type HostState } from '../host/host-state.ts';

/**
 * What others have put on the host that does not go together with Fishery. The agent never removes it: it says what is
 * there, what comes of it, and which setting to change, in lines for people.
 */

/**
 * The host's own addresses inside the pools: on a link, and never of a slice of this machine. The guard lets them alone, for
 * one of them may be the host's only way to its server. What is on `lo` is no such way, and fleets put whole pools there:
 * that stays guarded. So does what was of a slice (`sliced`): it may be another machine's by now.
 */
export function hostAddressesInPools(
  { linkAddresses }: Pick<HostState, 'linkAddresses'>,
  load: Readonly<{ prefixes: readonly Prefix[]; sliced: ReadonlySet<Address> }>,
): readonly Address[] {
  return [...linkAddresses]
    .filter((each) => !load.sliced.has(each) && load.prefixes.some((prefix) => isIn(prefix, each)))
    .sort();
}

export const describeHostAddress = (address: Address, pool: string): string =>
  `${address} is an ordinary address of this host and lies in pool ${pool}: carve it out of the pool. ` +
  'The guard lets it alone, whoever the server gives it to';

/** Whether an address lies in a prefix of the same family. */
export const isIn = (prefix: Prefix, address: Address): boolean =>
  prefixFamily(prefix) === familyOf(address) && prefixContains(prefix, address);

/** Who has packets led to it by a mark and a routing table of its own, and what its settings are called. */
type Led = Readonly<{ whose: string; mark: number; routeTable: number; setting: (name: string) => string }>;

export type RoutingSettings = Pick<
  HostSettings,
  'fish' | 'mark' | 'markMask' | 'routeTable' | 'rulePriority' | 'terminate'
>;

const ledBy = ({ fish, mark, routeTable, terminate }: RoutingSettings): readonly Led[] => [
  ...(fish ? [{ whose: "fish's", mark, routeTable, setting: (name: string) => name }] : []),
  ...(terminate === null
    ? []
    : [{ whose: "the terminator's", ...terminate, setting: (name: string) => `${name} of terminate` }]),
];

/** Routes and rules of others that take the packets of fish or the terminator, or whose packets those would take. */
export function foreignRouting(
  observed: Pick<HostState, 'routes' | 'rules'>,
  settings: RoutingSettings,
): readonly string[] {
  const foreign = (entries: HostState['rules']): readonly string[] =>
    [...entries].flatMap(([text, origin]) => (origin === 'foreign' ? [text] : [])).sort();
  const led = ledBy(settings);
  return [
    ...foreign(observed.routes).flatMap((route) => {
      const found = led.find(({ routeTable }) => route.endsWith(` table ${routeTable}`));
      if (!found) return [];
      const { whose, setting } = found;
      return [
        `somebody else's route is in ${whose} routing table (${route}): remove it, or change ${setting('route_table')}`,
      ];
    }),
    ...foreign(observed.rules).flatMap((rule) => {
      for (const each of led) {
        const trouble = troubleWith(parseRule(rule), rule, each, settings);
        if (trouble) return [`somebody else's rule ${trouble[0]} (${rule}): remove it, or change ${trouble[1]}`];
      }
      return [];
    }),
  ];
}

type Rule = Readonly<{
  priority: number;
  table: string | undefined;
  fwmark: Readonly<{ value: number; mask: number }> | undefined;
  /** `not` turns the rule's condition round. */
  isInverted: boolean;
  /** Only packets from somewhere, or by something that is not known here. */
  isNarrow: boolean;
}>;

/** Of the text that host-state.ts speaks of. */
function parseRule(text: string): Rule {
  const word = (name: string): string | undefined => new RegExp(` ${name} (\\S+)`).exec(text)?.[1];
  const [value, mask] = (word('fwmark') ?? '').split('/').map(Number);
  return {
    priority: Number(word('priority')),
    table: word('lookup'),
    fwmark: word('fwmark') === undefined ? undefined : { value: value ?? 0, mask: mask ?? 0xffff_ffff },
    isInverted: text.includes('"not"'),
    isNarrow: / (from|iif) /.test(text) || (text.includes('{') && !text.includes('{"not":null}')),
  };
}

/** What is wrong, and the setting that avoids it. */
function troubleWith(
  rule: Rule,
  text: string,
  { whose, mark, routeTable, setting }: Led,
  { markMask, rulePriority }: RoutingSettings,
): readonly [string, string] | undefined {
  // The kernel's own, which the agent moves.
  if (isLocalRule(text) && rule.priority < rulePriority) return undefined;
  if (rule.priority >= rulePriority && rule.priority <= rulePriority + 2)
    return [`has a priority between ${rulePriority} and ${rulePriority + 2}`, 'rule_priority'];
  if (rule.table === String(routeTable)) return [`leads to ${whose} routing table`, setting('route_table')];
  const shared = rule.fwmark === undefined ? 0 : (rule.fwmark.mask & markMask) >>> 0;
  // Bits that both look at, and that both want the same: one packet could be meant by either.
  const wantsOurMark = rule.fwmark !== undefined && ((rule.fwmark.value ^ mark) & shared) === 0;
  if (shared !== 0 && wantsOurMark && !rule.isInverted)
    return [`matches packets with ${whose} mark`, `${setting('mark')} and mark_mask`];
  const takesOurs = !rule.isNarrow && (rule.isInverted ? !wantsOurMark : rule.fwmark === undefined || wantsOurMark);
  if (rule.priority < rulePriority && takesOurs)
    return [`comes before ${whose} and takes its packets`, 'rule_priority'];
  return undefined;
}
