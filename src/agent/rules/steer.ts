import type { Family } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import { setName, type SetClass } from '../host/sets.ts';
import { errorsAbout } from './quoted.ts';
import { lookUp, toFish } from './steer-words.ts';
import { toTerminate, type TerminateInput } from './terminate.ts';
import { drop, errors, families, hex32, inPools, ip, isFrom, l4, masked16, ofRole, type Chains } from './words.ts';

export type SteerInput = Readonly<{
  /** Name of fish's TUN device; null on a host without fish. */
  tun: string | null;
  mark: number;
  /** Which bits of the packet mark are ours; the others keep whatever somebody else put there. */
  markMask: number;
  /** Where packets for the pool's addresses arrive: uplinks and client interfaces. Empty: anywhere but `lo` and the TUN. */
  arrivals: readonly string[];
  /** Those of them whose packets go to fish. */
  clients: readonly string[];
  /** Which of their connections go to the terminator instead; null on a host without one. */
  terminate: TerminateInput | null;
  /** All prefixes of all pools, also of those where this machine owns nothing. */
  prefixes: readonly Prefix[];
  /** Which lease sets there are; each one costs a look-up per packet, so only those that are in use. */
  classes: readonly SetClass[];
}>;

/** Which arriving packets are fish's, and which are nobody's. */
export const steerChains = (input: SteerInput): Chains =>
  Object.assign(
    { steer: steer(input) },
    ...families.flatMap((family) => [
      {
        [`steer${family}`]: [
          elsewhere(input),
          ...protocols.map((protocol) => `${l4(protocol, family)} goto steer${family}_${protocol}`),
        ],
        [`steer${family}_icmp`]: echoAndErrors(family, input),
        [`error${family}`]: input.tun === null ? [] : errorsAbout(family, input.classes),
      },
      ...(['tcp', 'udp'] as const).map((protocol) => ({
        [`steer${family}_${protocol}`]: withPorts(family, protocol, input),
      })),
    ]),
    {
      whole: input.tun === null ? [] : defragmentation,
      to_placeholder: [toFish('steer_placeholder')],
      to_fish: [
        `meta mark set meta mark & ${hex32(~input.markMask)} | ${hex32(input.mark & input.markMask)} notrack accept`,
      ],
    },
  ) as Chains;

/**
 * No packet comes here. A rule with `tproxy` makes the kernel put fragments together before any hook of prerouting sees
 * them, without connection tracking, for as long as the rule is there.
 */
const defragmentation = ['meta l4proto tcp tproxy ip to :1', 'meta l4proto tcp tproxy ip6 to :1'] as const;

/** What every packet of the host meets: few and cheap, by the pools' prefixes before the devices' names. */
const steer = ({ tun, clients, terminate, prefixes }: SteerInput): readonly string[] => [
  // What fish sends is final: connection tracking would only keep a second, wrong idea of its flows.
  ...(tun === null ? [] : [`iifname "${tun}" notrack accept`]),
  ...families.flatMap((family) => inPools(family, 'daddr', prefixes).map((match) => `${match} goto steer${family}`)),
  ...toTerminate(terminate, clients),
  ...(tun === null || clients.length === 0 ? [] : [`${isFrom(clients)} ${fromClients}`]),
];

/**
 * What clients send through fish, as its answers are not tracked either: with one half alone, connection tracking takes the
 * other for invalid, and others drop what is. What is for the host itself stays theirs to track.
 */
const fromClients = 'fib daddr type unicast notrack';

/** Where no packet for a pool's address is expected, it is nobody's business here. */
const elsewhere = ({ arrivals, tun }: SteerInput): string =>
  arrivals.length > 0
    ? `${isFrom(arrivals, '!= ')} accept`
    : `${isFrom(['lo', ...(tun === null ? [] : [tun])])} accept`;

/** Blocks that fish has to itself. */
const fishBlocks = (family: Family, protocol: Protocol, { tun, classes }: SteerInput): readonly string[] =>
  tun === null
    ? []
    : ofRole(classes, family, ['steer'], protocol).map((each) =>
        protocol === 'icmp'
          ? `${family === 4 ? 'icmp' : 'icmpv6'} type echo-reply ${lookUp(each, 32)} ${toFish('steer_echo')}`
          : `${lookUp(each, 16)} ${toFish('steer_block')}`,
      );

function withPorts(family: Family, protocol: 'tcp' | 'udp', input: SteerInput): readonly string[] {
  return [
    // Ahead of the sockets, which have no say about these: a look-up in a set costs less than one among all sockets.
    ...fishBlocks(family, protocol, input),
    ...(input.tun === null ? [] : [socketVerdict(input)]),
    // Any socket at all. Not `socket wildcard`: that is unknown for TIME_WAIT and for a listener's handshake, whose
    // packets would then fall into the drop below.
    'socket transparent { 0, 1 } accept',
    ...hairpins(family, protocol, input),
    ...ofRole(input.classes, family, ['own', 'fish'], protocol).map(
      (each) => `${ip(family)} daddr . th dport${masked16(each.size)} @${setName(each)} ${drop('orphan')}`,
    ),
  ];
}

/** From a client to another one's port in a shared block: no socket is about that, as the client's own address is in no tuple. */
function hairpins(family: Family, protocol: 'tcp' | 'udp', { tun, clients, classes }: SteerInput): readonly string[] {
  // Only TCP has blocks that are shared; those that fish has to itself are its own from anywhere.
  if (tun === null || clients.length === 0 || protocol !== 'tcp') return [];
  return ofRole(classes, family, ['fish'], protocol).map(
    (each) =>
      `${isFrom(clients)} ${ip(family)} daddr . th dport${masked16(each.size)} @${setName(each)} ${toFish('steer_hairpin')}`,
  );
}

/**
 * The placeholder's own mark: no table of flows that could drift from the sockets. Each mention of the socket looks it up
 * anew, so this one rule decides for sockets with the mark and for all others that have one. TIME_WAIT, a handshake and no
 * socket at all have none, and go on to the next rule.
 */
function socketVerdict({ mark, markMask }: SteerInput): string {
  const ours = (mark & markMask) >>> 0;
  const range = (first: number, last: number): readonly string[] =>
    first > last ? [] : [`${first === last ? hex32(first) : `${hex32(first)}-${hex32(last)}`} : accept`];
  const verdicts = [...range(0, ours - 1), `${hex32(ours)} : goto to_placeholder`, ...range(ours + 1, 0xffff_ffff)];
  return `socket mark & ${hex32(markMask)} vmap { ${verdicts.join(', ')} }`;
}

/** Echo, and ICMP errors, which are matched by the packet that they quote. */
const echoAndErrors = (family: Family, input: SteerInput): readonly string[] =>
  input.tun === null
    ? []
    : [
        ...fishBlocks(family, 'icmp', input),
        `${errors[family]} socket mark & ${hex32(input.markMask)} == ${hex32(input.mark & input.markMask)} goto to_placeholder`,
        `${errors[family]} jump error${family}`,
      ];
