import { familyOf, type Address } from '../../net/address.ts';
import { prefixFamily, type Prefix } from '../../net/prefix.ts';
import { protocols } from '../../net/protocol.ts';
import { counterNames } from '../rules/counters.ts';
import { guardChains } from '../rules/guard.ts';
import { judgesCgroups, senderChains } from '../rules/sender.ts';
import { steerChains, type SteerInput } from '../rules/steer.ts';
import { terminateChains } from '../rules/terminate.ts';
import { families, inPools, ip } from '../rules/words.ts';
import { roles, senderIn, setName, type SetClass } from './sets.ts';

export { counterNames, type CounterName } from '../rules/counters.ts';

/**
 * The text of table `inet fishery`: the egress guard, the steering of fish's replies, and the orphan rule. Pure; the
 * agent loads it in one transaction, which keeps the elements of sets that stay and the values of counters.
 */
export type RulesetInput = SteerInput &
  Readonly<{
    /** Ordinary addresses of this host inside those prefixes: not the guard's business. */
    hostAddresses: readonly Address[];
    /** The source NAT of others is to leave the pools' addresses as they are. */
    keepSource: boolean;
    othersTranslate: boolean;
  }>;

export type Ruleset = Readonly<{
  text: string;
  /** Names of the lease sets; one that is in the kernel and not here is deleted in the same transaction. */
  sets: readonly string[];
}>;

export const tableName = 'fishery';
/** Of chain `guard`, at hook postrouting. */
export const guardPriority = 300;

export function rulesetOf(input: RulesetInput): Ruleset {
  const classes = [...input.classes].sort(
    (a, b) =>
      roles.indexOf(a.role) - roles.indexOf(b.role) ||
      a.family - b.family ||
      protocols.indexOf(a.protocol) - protocols.indexOf(b.protocol) ||
      // Where there are more ports, there is more traffic: a packet is looked up in the larger blocks first.
      b.size - a.size ||
      (a.level ?? 0) - (b.level ?? 0),
  );
  const chains = Object.entries({
    ...guardChains({ ...input, classes }),
    ...senderChains({ ...input, classes }),
    ...steerChains({ ...input, classes }),
    ...terminateChains(input),
    keep: input.keepSource ? keepRules(input.prefixes) : [],
  });
  // A hook is called for every packet of the host: one that has nothing to judge goes.
  const idle = [...(judgesCgroups(classes) ? [] : ['sender']), ...(input.keepSource ? [] : ['keep'])];
  const table = (...body: readonly string[]): readonly string[] => [`table inet ${tableName} {`, ...body, '}'];
  const lines = [
    ...table(
      ...counterNames.flatMap((name) => block(`counter ${name}`)),
      ...block('set alive', 'type mark', 'flags timeout'),
      ...block('set pool4', 'type ipv4_addr', 'flags interval'),
      ...block('set pool6', 'type ipv6_addr', 'flags interval'),
      ...block('set host4', 'type ipv4_addr'),
      ...block('set host6', 'type ipv6_addr'),
      ...classes.flatMap((each) => block(`set ${setName(each)}`, setType(each))),
      ...chains.flatMap(([name]) => block(`chain ${name}`, ...(hooks[name] ?? []))),
    ),
    ...families.flatMap((family) => [
      ...setTo(
        `pool${family}`,
        input.prefixes.filter((prefix) => prefixFamily(prefix) === family),
      ),
      ...setTo(
        `host${family}`,
        input.hostAddresses.filter((address) => familyOf(address) === family),
      ),
    ]),
    ...chains.map(([name]) => `flush chain inet ${tableName} ${name}`),
    ...table(...chains.flatMap(([name, rules]) => block(`chain ${name}`, ...rules))),
    ...idle.map((name) => `delete chain inet ${tableName} ${name}`),
  ];
  return { text: `${lines.join('\n')}\n`, sets: classes.map(setName) };
}

/**
 * What has a pool's address as its source keeps it: a connection is translated by the first who says how, here to itself. Its
 * port stays too, unless another connection has the same addresses and ports by then; the guard drops what leaves elsewhere.
 */
const keepRules = (prefixes: readonly Prefix[]): readonly string[] =>
  families.flatMap((family) =>
    inPools(family, 'saddr', prefixes).map(
      (match) =>
        `oifname != "lo" ${match} ${ip(family)} saddr != @host${family} snat ${ip(family)} to ${ip(family)} saddr`,
    ),
  );

const hooks: Readonly<Record<string, readonly string[]>> = {
  // After every other postrouting chain, source NAT included: what is judged is what leaves.
  guard: [`type filter hook postrouting priority ${guardPriority}; policy accept;`],
  // The only place that knows the cgroup of a packet's socket. After all others, but before NAT could change the source.
  sender: ['type filter hook output priority 300; policy accept;'],
  // Before others' source NAT: the kernel takes no lower number for this type, and asks all of the type at one place. Only
  // beside others', because a chain of this type turns connection tracking on.
  keep: ['type nat hook postrouting priority -199; policy accept;'],
  // Before connection tracking, so that fish's packets can be kept out of it.
  steer: ['type filter hook prerouting priority raw; policy accept;'],
};

const block = (head: string, ...body: readonly string[]): readonly string[] => [
  `  ${head} {`,
  ...body.map((line) => `    ${line}`),
  '  }',
];

function setTo(set: string, members: readonly string[]): readonly string[] {
  const flush = `flush set inet ${tableName} ${set}`;
  if (members.length === 0) return [flush];
  return [flush, `add element inet ${tableName} ${set} { ${[...members].sort().join(', ')} }`];
}

/**
 * nft insists that the two sides of a look-up have the same type, down to the name. `th sport` is an inet_service,
 * `icmp id` and any raw 16 bits are an integer of 16 bits, and `tcp sequence` is the way to spell one of 32.
 */
function setType({ role, protocol, family, level }: SetClass): string {
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const sender = senderIn(role);
  if (role === 'steer') return `typeof ${ip(family)} daddr . tcp sequence`;
  if (role === 'quoted' || protocol === 'icmp') {
    const raw = sender === 'uid' ? ' . meta skuid' : sender === 'cgroup' ? ` . socket cgroupv2 level ${level}` : '';
    return `typeof ${ip(family)} saddr . icmp id${raw}`;
  }
  return `type ${address} . inet_service${sender === 'uid' ? ' . uid' : sender === 'cgroup' ? ' . cgroupsv2' : ''}`;
}
