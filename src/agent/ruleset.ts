import { familyOf, type Address, type Family } from '../net/address.ts';
import { blockMask } from '../net/ports.ts';
import { prefixFamily, type Prefix } from '../net/prefix.ts';
import { protocolNumber, protocols } from '../net/protocol.ts';
import { roles, senderIn, setName, type Role, type SetClass } from './sets.ts';

/**
 * The text of table `inet fishery`: the egress guard, the steering of fish's replies, and the orphan rule. Pure; the
 * agent loads it in one transaction, which keeps the elements of sets that stay and the values of counters.
 */
export type RulesetInput = Readonly<{
  /** Name of fish's TUN device; null on a host without fish. */
  tun: string | null;
  mark: number;
  /** Which bits of the packet mark are ours; the others keep whatever somebody else put there. */
  markMask: number;
  /** Where packets for the pool's addresses arrive: uplinks and client interfaces. Empty: anywhere but `lo` and the TUN. */
  arrivals: readonly string[];
  /** Those of them whose packets go to fish. */
  clients: readonly string[];
  /** All prefixes of all pools, also of those where this machine owns nothing. */
  prefixes: readonly Prefix[];
  /** Ordinary addresses of this host inside those prefixes: not the guard's business. */
  hostAddresses: readonly Address[];
  /** Which lease sets there are; each one costs a look-up per packet, so only those that are in use. */
  classes: readonly SetClass[];
}>;

export type Ruleset = Readonly<{
  text: string;
  /** Names of the lease sets; one that is in the kernel and not here is deleted in the same transaction. */
  sets: readonly string[];
}>;

export const tableName = 'fishery';

/** Every reason for a drop, and every reason for steering, has a counter. Names are stable: metrics carry them. */
export const counterNames = [
  /** The guard is shut: no keepalive was answered in time. */
  'guard_dead',
  /** From the TUN device, with a source that fish does not lease, or a fragment that does not say its port. */
  'guard_fish',
  /** Forwarded from anywhere else (a container, a bridge) with a pool address as source. */
  'guard_forwarded',
  /** Something new from a port whose lease ends: a connection, any datagram, an echo. */
  'guard_ending',
  /** From a socket of a user who does not lease the port. */
  'guard_uid',
  /** From a socket in a cgroup that does not lease the port, on a block that a cgroup leases. */
  'guard_cgroup',
  /** From the kernel itself (a reset, an ICMP error) or a closed socket, on a port that no proxy here leases. */
  'guard_unowned',
  /** To a leased port, and no socket is there: dropped in silence instead of answered with a reset. */
  'orphan',
  /** To fish, because a placeholder holds this 5-tuple. */
  'steer_placeholder',
  /** To fish, because the block is its own. */
  'steer_block',
  'steer_echo',
  /** To fish: an ICMP error that quotes a packet from a block of its own. */
  'steer_error',
] as const;
export type CounterName = (typeof counterNames)[number];

const chains = [
  'guard',
  'guard4',
  'guard6',
  'guard4_fish',
  'guard6_fish',
  'sender',
  'sender4',
  'sender6',
  'steer',
  'steer4',
  'steer6',
  'error4',
  'error6',
  'told4',
  'told6',
  'whole',
  'to_fish',
] as const;
type Chain = (typeof chains)[number];

const families = [4, 6] as const;
const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;
const quoted = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(', ');
const drop = (reason: CounterName): string => `counter name "${reason}" drop`;

export function rulesetOf(input: RulesetInput): Ruleset {
  const classes = [...input.classes].sort(
    (a, b) =>
      roles.indexOf(a.role) - roles.indexOf(b.role) ||
      a.family - b.family ||
      protocols.indexOf(a.protocol) - protocols.indexOf(b.protocol) ||
      a.size - b.size ||
      (a.level ?? 0) - (b.level ?? 0),
  );
  const rules: Readonly<Record<Chain, readonly string[]>> = {
    guard: [
      // From fish, what is not leased is dropped whatever address it has.
      ...(input.tun === null
        ? []
        : families.map((family) => `iifname "${input.tun}" ${ip(family)} saddr @pool${family} goto guard${family}`)),
      ...families.map(
        (family) => `${ip(family)} saddr @pool${family} ${ip(family)} saddr != @host${family} goto guard${family}`,
      ),
    ],
    guard4: guard(4, classes, input.tun),
    guard6: guard(6, classes, input.tun),
    guard4_fish: guardFish(4, classes),
    guard6_fish: guardFish(6, classes),
    sender: sender(classes),
    sender4: senderOf(4, classes),
    sender6: senderOf(6, classes),
    steer: steer(input),
    steer4: steerTo(4, classes, input),
    steer6: steerTo(6, classes, input),
    error4: input.tun === null ? [] : errorsAbout(4, classes),
    error6: input.tun === null ? [] : errorsAbout(6, classes),
    told4: errorsFrom(4, classes),
    told6: errorsFrom(6, classes),
    whole: input.tun === null ? [] : defragmentation,
    to_fish: [
      `meta mark set meta mark & ${hex32(~input.markMask)} | ${hex32(input.mark & input.markMask)} notrack accept`,
    ],
  };
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
      ...chains.flatMap((chain) => block(`chain ${chain}`, ...(hooks[chain] ?? []))),
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
    ...chains.map((chain) => `flush chain inet ${tableName} ${chain}`),
    ...table(...chains.flatMap((chain) => block(`chain ${chain}`, ...rules[chain]))),
  ];
  return { text: `${lines.join('\n')}\n`, sets: classes.map(setName) };
}

const hooks: Readonly<Partial<Record<Chain, readonly string[]>>> = {
  // After every other postrouting chain, source NAT included: what is judged is what leaves.
  guard: ['type filter hook postrouting priority 300; policy accept;'],
  // The only place that knows the cgroup of a packet's socket. After all others, but before NAT could change the source.
  sender: ['type filter hook output priority 300; policy accept;'],
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
 * nft insists that the two sides of a look-up have the same type, down to the name. `tcp sport` is an inet_service,
 * `icmp id` and any raw 16 bits are an integer of 16 bits, and `tcp sequence` is the way to spell one of 32.
 */
function setType({ role, protocol, family, level }: SetClass): string {
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const ip = family === 4 ? 'ip' : 'ip6';
  const sender = senderIn(role);
  if (role === 'steer') return `typeof ${ip} daddr . tcp sequence`;
  if (role === 'quoted' || protocol === 'icmp') {
    const raw = sender === 'uid' ? ' . meta skuid' : sender === 'cgroup' ? ` . socket cgroupv2 level ${level}` : '';
    return `typeof ${ip} saddr . icmp id${raw}`;
  }
  return `type ${address} . inet_service${sender === 'uid' ? ' . uid' : sender === 'cgroup' ? ' . cgroupsv2' : ''}`;
}

const ofRole = (classes: readonly SetClass[], family: Family, wanted: readonly Role[]): readonly SetClass[] =>
  classes.filter((each) => each.family === family && wanted.includes(each.role));

const ip = (family: Family): string => (family === 4 ? 'ip' : 'ip6');
const masked16 = (size: number): string => (size === 1 ? '' : ` & 0x${blockMask(size).toString(16)}`);
const masked32 = (size: number): string => ` & ${hex32(blockMask(size))}`;
const echoes = (family: Family): string =>
  family === 4 ? 'icmp type { echo-reply, echo-request }' : 'icmpv6 type { echo-reply, echo-request }';

/** The source port or echo identifier, cut down to its block, as the second field of a key. */
function sourceBlock({ protocol, family, size }: SetClass): string {
  const field = protocol === 'icmp' ? (family === 4 ? 'icmp id' : 'icmpv6 id') : `${protocol} sport`;
  return `${ip(family)} saddr . ${field}${masked16(size)}`;
}

/** A socket that is open: a closed one has no user id. */
const anyUser = 'meta skuid 0-4294967295';

/** Who may send from a pool's address. The order of the rules is the meaning; each comment says what breaks otherwise. */
function guard(family: Family, classes: readonly SetClass[], tun: string | null): readonly string[] {
  const guarded = (role: Role, what: (each: SetClass) => string): readonly string[] =>
    ofRole(classes, family, [role]).map(
      (each) => `${each.protocol === 'icmp' ? `${echoes(family)} ` : ''}${what(each)} @${setName(each)} accept`,
    );
  return [
    // Neighbour discovery is how IPv6 finds its next hop: dropping it would cut the host off.
    ...(family === 6
      ? [
          'icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } accept',
          'icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept',
        ]
      : []),
    `oif "lo" accept`,
    // The constant 0 is looked up in a set whose only element expires unless an answered keepalive renews it.
    `meta mark & 0x00000000 != @alive ${drop('guard_dead')}`,
    ...(tun === null ? [] : [`iifname "${tun}" goto guard${family}_fish`]),
    `iif != 0 ${drop('guard_forwarded')}`,
    ...guarded('own_uid', (each) => `${sourceBlock(each)} . meta skuid`),
    ...ofRole(classes, family, ['closing']).flatMap((each) => closingRules(each, 'meta skuid')),
    // A live socket on such a block has passed `sender`, which knows the cgroups.
    ...guarded('in_cgroup', (each) => `${anyUser} ${sourceBlock(each)}`),
    // Any user id: a live socket that no rule above let through.
    `${anyUser} ${drop('guard_uid')}`,
    // No user id: sockets that are closing (their data and FIN must get out), TIME_WAIT, and the kernel's own packets.
    ...guarded('own', (each) => sourceBlock(each)),
    drop('guard_unowned'),
  ];
}

/**
 * From a port whose lease ends. A connection begins with SYN, in either direction and with or without data (Fast Open);
 * without it a packet belongs to what was there before. UDP and echo have nothing that could drain.
 */
function closingRules(each: SetClass, by: string): readonly string[] {
  const key = `${sourceBlock(each)} . ${by} @${setName(each)}`;
  const shut = drop('guard_ending');
  if (each.protocol === 'tcp') return [`${key} tcp flags & syn != 0 ${shut}`, `${key} accept`];
  return [each.protocol === 'icmp' ? `${echoes(each.family)} ${key} ${shut}` : `${key} ${shut}`];
}

/** Without a lease by a cgroup there is nothing to judge here, and the chain costs next to nothing. */
const sender = (classes: readonly SetClass[]): readonly string[] =>
  families
    .filter((family) => ofRole(classes, family, ['in_cgroup']).length > 0)
    .map((family) => `${ip(family)} saddr @pool${family} ${ip(family)} saddr != @host${family} goto sender${family}`);

/**
 * Whose sockets may use the blocks that cgroups have leased: those in the cgroup, at the level where it is, and those of
 * users who have a lease of the same block. Packets without a live socket (its FIN, a reset of the kernel's own) go on to
 * the guard, which lets them pass where a proxy leases the port.
 */
function senderOf(family: Family, classes: readonly SetClass[]): readonly string[] {
  const blocks = ofRole(classes, family, ['in_cgroup']);
  if (blocks.length === 0) return [];
  const about = (each: SetClass) => (each.protocol === 'icmp' ? `${echoes(family)} ` : '');
  const byCgroup = (each: SetClass) => `socket cgroupv2 level ${each.level}`;
  return [
    `oif "lo" accept`,
    // Judged by the guard, which knows them.
    ...ofRole(classes, family, ['own_uid', 'closing']).map(
      (each) => `${about(each)}${sourceBlock(each)} . meta skuid @${setName(each)} accept`,
    ),
    ...ofRole(classes, family, ['own_cgroup']).map(
      (each) => `${about(each)}${sourceBlock(each)} . ${byCgroup(each)} @${setName(each)} accept`,
    ),
    ...ofRole(classes, family, ['closing_cgroup']).flatMap((each) => closingRules(each, byCgroup(each))),
    ...blocks.map((each) => `${about(each)}${anyUser} ${sourceBlock(each)} @${setName(each)} ${drop('guard_cgroup')}`),
  ];
}

/** Where the port of the packet that an ICMP error quotes begins, in bits from the start of the error (RFC 792, 4443). */
const quotedHeader = { 4: { protocolAt: 136, portsAt: 224 }, 6: { protocolAt: 112, portsAt: 384 } } as const;

const errors = {
  4: 'icmp type { destination-unreachable, time-exceeded, parameter-problem }',
  6: 'icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }',
} as const;

/** Words of IP options that a quoted header may have: they move the ports, and a rule looks in one place only. */
const optionWords_max = 10;

/**
 * For each place in which a quoted packet of this protocol may have its port or identifier, `portAt` bits behind the end of
 * the header: how to tell that it is there, and where. Extension headers of IPv6 are not followed.
 */
function quotations(each: SetClass, portAt: number): readonly (readonly [match: string, at: number])[] {
  const { protocolAt, portsAt } = quotedHeader[each.family];
  const protocol = `@th,${protocolAt},8 ${protocolNumber(each.protocol, each.family)}`;
  if (each.family === 6) return [[protocol, portsAt + portAt]];
  return Array.from({ length: optionWords_max + 1 }, (_, words) => [
    // Version 4, and five words without options.
    `@th,64,8 0x4${(5 + words).toString(16)} ${protocol}`,
    portsAt + 32 * words + portAt,
  ]);
}

/** The port of a quoted packet is its source's: the packet went out. An echo has its identifier in the second word. */
const sentPortAt = ({ protocol }: SetClass): number => (protocol === 'icmp' ? 32 : 0);
/** The port of a quoted packet is its destination's: the packet came in. */
const arrivedPortAt = ({ protocol }: SetClass): number => (protocol === 'icmp' ? 32 : 16);

/** What may leave the TUN device. */
function guardFish(family: Family, classes: readonly SetClass[]): readonly string[] {
  return [
    // A fragment other than the first has no ports by which it could be judged. Fish sends none, and the kernel cuts what is
    // too large only after this.
    `${family === 4 ? 'ip frag-off & 0x1fff' : 'frag frag-off'} != 0 ${drop('guard_fish')}`,
    ...ofRole(classes, family, ['fish']).map(
      (each) => `${each.protocol === 'icmp' ? `${echoes(family)} ` : ''}${sourceBlock(each)} @${setName(each)} accept`,
    ),
    // An ICMP error from a client, about a packet that came in to the block: the quoted destination is ours.
    `${errors[family]} jump told${family}`,
    drop('guard_fish'),
  ];
}

/** Errors that fish may tell the outside about what came in. */
const errorsFrom = (family: Family, classes: readonly SetClass[]): readonly string[] =>
  ofRole(classes, family, ['quoted', 'fish'])
    .filter((each) => (each.protocol === 'icmp') === (each.role === 'fish'))
    .flatMap((each) =>
      quotations(each, arrivedPortAt(each)).map(
        ([match, at]) => `${match} ${ip(family)} saddr . @th,${at},16${masked16(each.size)} @${setName(each)} accept`,
      ),
    );

/** Errors from outside about what fish sent. */
const errorsAbout = (family: Family, classes: readonly SetClass[]): readonly string[] =>
  ofRole(classes, family, ['steer']).flatMap((each) =>
    quotations(each, sentPortAt(each)).map(([match, at]) => `${match} ${lookUp(each, at)} ${toFish('steer_error')}`),
  );

/**
 * No packet comes here. A rule with `tproxy` makes the kernel put fragments together before any hook of prerouting sees
 * them, without connection tracking, for as long as the rule is there.
 */
const defragmentation = ['meta l4proto tcp tproxy ip to :1', 'meta l4proto tcp tproxy ip6 to :1'] as const;

function steer({ tun, arrivals, clients }: RulesetInput): readonly string[] {
  const from =
    arrivals.length > 0
      ? `iifname { ${quoted([...new Set(arrivals)])} }`
      : `iifname != { ${quoted(['lo', ...(tun === null ? [] : [tun])])} }`;
  return [
    // What fish sends is final: connection tracking would only keep a second, wrong idea of its flows.
    ...(tun === null ? [] : [`iifname "${tun}" notrack`]),
    `${from} ip daddr @pool4 goto steer4`,
    `${from} ip6 daddr @pool6 goto steer6`,
    // What clients send through fish, as its answers are not tracked either: with one half alone, connection tracking
    // takes the other for invalid, and others drop what is. What is for the host itself stays theirs to track.
    ...(tun === null || clients.length === 0
      ? []
      : [`iifname { ${quoted([...new Set(clients)])} } fib daddr type unicast notrack`]),
  ];
}

const toFish = (reason: CounterName): string => `counter name "${reason}" goto to_fish`;

/** 32 bits that end with the port: the only way to give direct and quoted ports the same type, and so the same set. */
const lookUp = (each: SetClass, portAt: number): string =>
  `${ip(each.family)} daddr . @th,${portAt - 16},32${masked32(each.size)} @${setName(each)}`;

/** Which arriving packets are fish's, and which are nobody's. */
function steerTo(family: Family, classes: readonly SetClass[], input: RulesetInput): readonly string[] {
  const daddr = `${ip(family)} daddr`;
  const ours = ofRole(classes, family, ['steer']);
  const fishRules =
    input.tun === null
      ? []
      : [
          // The placeholder's own mark: no table of flows that could drift from the sockets. ICMP errors are matched
          // by the packet they quote.
          `socket mark & ${hex32(input.markMask)} == ${hex32(input.mark & input.markMask)} ${toFish('steer_placeholder')}`,
          ...ours.map((each) =>
            each.protocol === 'icmp'
              ? `${family === 4 ? 'icmp' : 'icmpv6'} type echo-reply ${lookUp(each, 32)} ${toFish('steer_echo')}`
              : `meta l4proto ${each.protocol} ${lookUp(each, 16)} ${toFish('steer_block')}`,
          ),
          `${errors[family]} jump error${family}`,
        ];
  return [
    ...fishRules,
    // Any socket at all. Not `socket wildcard`: that is unknown for TIME_WAIT and for a listener's handshake, whose
    // packets would then fall into the drop below.
    'socket transparent { 0, 1 } accept',
    ...ofRole(classes, family, ['own', 'fish'])
      .filter((each) => each.protocol !== 'icmp')
      .map((each) => `${daddr} . ${each.protocol} dport${masked16(each.size)} @${setName(each)} ${drop('orphan')}`),
  ];
}
