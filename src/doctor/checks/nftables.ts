import { formatPorts, rangesOverlap } from '../../net/ports.ts';
import { prefixContains } from '../../net/prefix.ts';
import { defineCheck, some, type Check, type Finding } from '../check.ts';
import type { Facts } from '../facts.ts';
import {
  hasStatement,
  isObject,
  isOurs,
  ourSet,
  placeOf,
  type Json,
  type NftFacts,
  type NftRule,
} from '../nft-json.ts';
import { destinationRanges, markSetBy, seesSource } from '../nft-rules.ts';

/** Elements of other people's interval sets above which one reload of them takes longer than a guard may wait. */
const interval_elements_max = 5_000;

const foreign = (nft: NftFacts): readonly NftRule[] => nft.rules.filter((rule) => !isOurs(rule));
const removal = (rule: NftRule): string =>
  `nft delete rule ${rule.family} ${rule.table} ${rule.chain} handle ${rule.handle}`;

/** The guard as a whole: chain, hook and the element that it hangs on. */
const guardStands = (nft: NftFacts): boolean =>
  nft.chains.some((chain) => isOurs(chain) && chain.name === 'guard' && chain.hook === 'postrouting') &&
  nft.rules.some((rule) => isOurs(rule) && rule.chain === 'guard');

const poolAddressesHere = ({ links, scope }: Pick<Facts, 'links' | 'scope'>): readonly string[] =>
  links
    .flatMap(({ addresses }) => addresses)
    .filter((address) => scope.slices.some((slice) => slice.address === address));

const timeoutOf = (element: Json): boolean => {
  const inner = isObject(element) ? element['elem'] : undefined;
  return isObject(inner) && typeof inner['timeout'] === 'number';
};

export const nftablesChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'guard-missing',
      title: 'addresses of slices are here, and no guard is',
      why: 'Any program on this host can send from any port of these addresses, those of other machines included. The remote cannot tell, and two machines meet on a 5-tuple.',
      remedy: 'Start the agent; it puts the guard there before the addresses. Or take the addresses away.',
      worst: 'fatal',
    },
    ['nft', 'links', 'scope'],
    ({ nft, links, scope }) => {
      const here = poolAddressesHere({ links, scope });
      if (guardStands(nft) || here.length === 0) return [];
      const what = `${some(here)} on this host, and table inet fishery has no chain guard at postrouting`;
      return [{ severity: 'fatal', what, mend: 'systemctl start fishery-agent' }];
    },
  ),
  defineCheck(
    {
      id: 'guard-defeated',
      title: "the guard's dead man's switch does not time out",
      why: 'The element that keeps the guard open is permanent (a plain `nft add element` makes it so): a host that is cut off goes on sending from ports that are another machine’s by then.',
      remedy: 'Delete the element: the agent opens the guard again with its next answered keepalive.',
      worst: 'fatal',
      isFixable: true,
    },
    ['nft', 'agent'],
    ({ nft }) => {
      const alive = ourSet(nft, 'alive') ?? [];
      if (alive.every(timeoutOf)) return [];
      const mend = 'nft delete element inet fishery alive { 0 }';
      const what = 'the element of set alive in table inet fishery has no timeout';
      return [{ severity: 'fatal', what, mend, fix: { do: 'shut-guard' } }];
    },
  ),
  defineCheck(
    {
      id: 'guard-shut',
      title: 'the guard is shut',
      why: "Nothing leaves with a pool's address: no keepalive was answered within the horizon, or no agent runs.",
      remedy: 'See why the server does not answer: `fishery doctor --only server`, status and log of the agent.',
      worst: 'error',
    },
    ['nft', 'agent'],
    ({ nft, agent }) => {
      if (!guardStands(nft) || (ourSet(nft, 'alive') ?? []).length > 0) return [];
      const why = agent.status?.guard.problem ?? agent.status?.server.problem ?? agent.problem;
      const what = `the guard is shut${why === null ? '' : `: ${why}`}`;
      const mend = agent.status === null ? 'systemctl start fishery-agent' : 'journalctl --unit fishery-agent';
      return [{ severity: agent.status === null ? 'warning' : 'error', what, mend }];
    },
  ),
  defineCheck(
    {
      id: 'guard-drops',
      title: 'the guard dropped packets',
      why: 'Somebody here sends from pool addresses without a right to: a program with a wrong setting, mostly. Its connections time out without an error.',
      remedy:
        'See `fishery doctor --only strangers,binding`, and the counters in `nft list counters table inet fishery`.',
      worst: 'info',
    },
    ['nft'],
    ({ nft }) => {
      const drops = [...nft.counters].filter(([name, packets]) => name.startsWith('guard_') && packets > 0);
      if (drops.length === 0) return [];
      const what = `packets dropped: ${drops.map(([name, packets]) => `${name} ${packets}`).join(', ')}`;
      return [{ severity: 'info', what, mend: 'nft list counters table inet fishery' }];
    },
  ),
  defineCheck(
    {
      id: 'nat',
      title: 'source NAT may rewrite leased traffic',
      why: 'connect() succeeds and getsockname() says the leased port, but the packets leave from another one, also outside of the slice: replies go to another machine.',
      remedy: "Except the pool's prefixes in that rule: `ip saddr != 198.51.100.0/24 … masquerade`.",
      worst: 'error',
    },
    ['nft', 'scope'],
    ({ nft, scope }) =>
      foreign(nft).flatMap((rule): readonly Finding[] => {
        if (scope.prefixes.length === 0 || !hasStatement(rule, ['snat', 'masquerade', 'netmap'])) return [];
        const sees = seesSource(rule, nft, scope.prefixes);
        if (sees === 'no') return [];
        const isKept = nft.chains.some((chain) => isOurs(chain) && chain.name === 'keep');
        if (isKept)
          return [
            {
              severity: 'info',
              what: `source NAT in ${placeOf(rule)} would see packets from ${some(scope.prefixes)}; the agent keeps it from them (keep_source)`,
              mend: 'none needed while keep_source is on',
            },
          ];
        const what = `source NAT in ${placeOf(rule)} ${sees === 'yes' ? 'sees' : 'may see'} packets from ${some(scope.prefixes)}`;
        const mend = `put the same rule without the pools in its place (ip saddr != { ${scope.prefixes.join(', ')} } …), then: ${removal(rule)}`;
        return [{ severity: sees === 'yes' ? 'error' : 'warning', what, mend }];
      }),
  ),
  defineCheck(
    {
      id: 'wide-mark',
      title: 'somebody marks packets by a range of ports of slices',
      why: 'Replies to real sockets in that range are taken away with the others: new connections time out, established ones lose their replies.',
      remedy: 'Mark exact ports, or the sockets themselves (`socket mark`); fish needs no such rule.',
      worst: 'warning',
    },
    ['nft', 'scope'],
    ({ nft, scope }) =>
      foreign(nft).flatMap((rule): readonly Finding[] => {
        if (markSetBy(rule) === undefined && !hasStatement(rule, ['mark'])) return [];
        const hit = destinationRanges(rule, nft).filter((range) =>
          scope.slices.some(({ ports }) => rangesOverlap(ports, range)),
        );
        if (hit.length === 0) return [];
        const what = `${placeOf(rule)} sets a mark on packets to ports ${some(hit.map(formatPorts))}`;
        return [{ severity: 'warning', what, mend: removal(rule) }];
      }),
  ),
  defineCheck(
    {
      id: 'mark-collision',
      title: "somebody else sets bits of fish's mark",
      why: 'A packet that gets our mark from them goes to fish; one that loses it to them does not.',
      remedy:
        'Have them set their own bits only (`meta mark set meta mark & 0xffffff00 | …`), or choose other `mark` and `mark_mask`.',
      worst: 'error',
    },
    ['nft', 'setup'],
    ({ nft, setup }) =>
      foreign(nft).flatMap((rule): readonly Finding[] => {
        const set = markSetBy(rule);
        const { mark, markMask } = setup.host;
        if (set === undefined || (set.bits & markMask) === 0) return [];
        const isOurMark = set.value !== undefined && ((set.value ^ mark) & markMask) === 0;
        const what = `${placeOf(rule)} sets ${isOurMark ? "the very mark that is fish's" : `bits of 0x${markMask.toString(16)} in the packet mark`}`;
        const mend = `choose another mark and mark_mask in the agent's settings, or: ${removal(rule)}`;
        return [{ severity: isOurMark ? 'error' : 'warning', what, mend }];
      }),
  ),
  defineCheck(
    {
      id: 'interval-sets',
      title: 'somebody else has a large interval set',
      why: 'Reloading it takes seconds (7 s for 10,000 intervals in one transaction), and no other change of nftables gets in meanwhile: the guard is not renewed, and shuts.',
      remedy: 'Change such sets element by element, or use hash sets (without `flags interval`).',
      worst: 'warning',
    },
    ['nft'],
    ({ nft }) =>
      nft.sets.flatMap((set): readonly Finding[] => {
        if (isOurs(set) || !set.isInterval || set.elements.length < interval_elements_max) return [];
        const what = `set ${set.name} of table ${set.family} ${set.table} has ${set.elements.length} intervals`;
        return [{ severity: 'warning', what, mend: 'do not flush and reload it as a whole; or make it a hash set' }];
      }),
  ),
  defineCheck(
    {
      id: 'late-postrouting',
      title: 'somebody changes packets behind the guard',
      why: 'The guard judges what leaves: a rule behind it may change the source, or send the packet elsewhere, unseen.',
      remedy: 'Give that chain a priority below 300.',
      worst: 'warning',
    },
    ['nft'],
    ({ nft }) =>
      nft.chains.flatMap((chain): readonly Finding[] => {
        if (isOurs(chain) || chain.hook !== 'postrouting' || (chain.priority ?? 0) < 300) return [];
        const rewrites = nft.rules.some(
          (rule) =>
            rule.family === chain.family &&
            rule.table === chain.table &&
            rule.chain === chain.name &&
            hasStatement(rule, ['mangle', 'snat', 'masquerade', 'dup', 'fwd', 'queue']),
        );
        if (!rewrites) return [];
        const what = `chain ${chain.name} of table ${chain.family} ${chain.table} stands at postrouting with priority ${chain.priority}, and changes packets`;
        return [{ severity: 'warning', what, mend: 'give that chain a priority below 300' }];
      }),
  ),
  defineCheck(
    {
      id: 'flush-ruleset',
      title: 'a reload of the firewall takes the guard away',
      why: '`flush ruleset` deletes table inet fishery as well. An agent at work puts it back within a second; while none runs nothing is fenced, and the server gives these ports to others because the guard is taken to have shut.',
      remedy:
        'In /etc/nftables.conf, destroy your own tables instead of `flush ruleset`; and enable fishery-guard, which loads the guard again whenever nftables is started, restarted or reloaded.',
      worst: 'error',
    },
    ['nftablesConf'],
    ({ nftablesConf }) =>
      nftablesConf !== null && /^\s*flush\s+ruleset\b/m.test(nftablesConf)
        ? [
            {
              severity: 'error',
              what: '/etc/nftables.conf begins with "flush ruleset"',
              mend: 'for each table of yours write "table inet filter; delete table inet filter" in its place; and: systemctl enable fishery-guard',
            },
          ]
        : [],
  ),
];

/** Whether an address lies in one of the pools. */
export const isInPools = (scope: Facts['scope'], address: Facts['scope']['slices'][number]['address']): boolean =>
  scope.prefixes.some((prefix) => prefix.includes(':') === address.includes(':') && prefixContains(prefix, address));
