import { addressToBytes, familyOf, type Address, type Family } from '../../net/address.ts';
import { protocolNumber, protocols, type Protocol } from '../../net/protocol.ts';
import type { TraceFilter } from '../../fish/log/packet-trace.ts';
import { quotations, quotedAddresses } from '../rules/quoted.ts';
import { echoes, errors, families, ip } from '../rules/words.ts';

/** The table of a trace; there as long as one is under way. */
export const traceTableName = 'fishery_trace';
/** So many packets a second are traced, whatever is asked for: each costs the kernel a message for each rule that it meets. */
const packets_per_second_max = 100;
/** Packets whose first fragment was looked for, and for how long their others are: as long as the kernel itself waits for them. */
const [cutPackets_max, cutPackets_s] = [1_024, 30];
const found = 'found';

/**
 * The text of a table that has the kernel trace packets that match, the errors about such packets, and the fragments that follow
 * the first one. Each packet is judged as it is at that place: before fish by the client's address, behind it by the leased one.
 * Before connection tracking, and before every chain that looks at them.
 */
export function traceTable(filter: TraceFilter): string {
  // A family that none of the addresses has quotes none of them.
  const quoting = families.filter((family) => filter.addresses.every((address) => familyOf(address) === family));
  const isCut = { 4: 'ip frag-off & 0x1fff != 0', 6: 'frag frag-off != 0' } as const;
  const isFirst = { 4: 'ip frag-off & 0x3fff == 0x2000', 6: 'frag frag-off 0 frag more-fragments 1' } as const;
  const begin = [
    ...families.map((family) => `${isCut[family]} ${cutPacket[family]} @cut${family} goto ${found}`),
    'jump wanted0',
    ...quoting.map((family) => `${errors[family]} jump ${quotedChain(family)}0`),
  ];
  const hook = (name: string) => chain(name, [`type filter hook ${name} priority -350; policy accept;`, ...begin]);
  return `${[
    `table inet ${traceTableName} {`,
    ...families.flatMap((family) => [
      `  set cut${family} {`,
      `    typeof ${cutPacket[family]}`,
      '    flags dynamic,timeout',
      `    timeout ${cutPackets_s}s`,
      `    size ${cutPackets_max}`,
      '  }',
    ]),
    // Whoever is gone to is there first.
    ...chain(found, [
      ...families.map((family) => `${isFirst[family]} update @cut${family} { ${cutPacket[family]} }`),
      `limit rate ${packets_per_second_max}/second burst ${packets_per_second_max} packets meta nftrace set 1`,
      // Nothing else of this table looks at it.
      'accept',
    ]),
    ...chains('wanted', ownConditions(filter)),
    ...quoting.flatMap((family) => chains(quotedChain(family), quotedConditions(filter, family))),
    ...hook('prerouting'),
    ...hook('output'),
    '}',
  ].join('\n')}\n`;
}

/** What tells the fragments of one packet from those of others. */
const cutPacket = {
  4: 'ip saddr . ip daddr . ip protocol . ip id',
  6: 'ip6 saddr . ip6 daddr . frag id',
} as const;
const quotedChain = (family: Family): string => `quoted${family}_`;

const chain = (name: string, lines: readonly string[]): readonly string[] => [
  `  chain ${name} {`,
  ...lines.map((line) => `    ${line}`),
  '  }',
];

/**
 * Of each line of the conditions one match must be true, then the packet is found. No rule says that neither end is something: nft
 * 1.0.6 makes one comparison of two "!=" of neighbouring fields, which is true when either differs.
 */
const chains = (name: string, conditions: readonly (readonly string[])[]): readonly string[] =>
  [
    ...conditions.map((either, at) =>
      chain(
        `${name}${at}`,
        either.map((match) => `${match} goto ${at + 1 === conditions.length ? found : `${name}${at + 1}`}`),
      ),
    ),
    ...(conditions.length === 0 ? [chain(`${name}0`, [`goto ${found}`])] : []),
  ]
    .reverse()
    .flat();

function ownConditions({ protocol, addresses, ports }: TraceFilter): readonly (readonly string[])[] {
  return [
    ...(protocol === undefined
      ? []
      : [[`meta l4proto { ${[...new Set(families.map((family) => protocolNumber(protocol, family)))].join(', ')} }`]]),
    ...addresses.map((address) => ['saddr', 'daddr'].map((field) => `${ip(familyOf(address))} ${field} ${address}`)),
    ...ports.map((port) => [
      ...['sport', 'dport'].map((field) => `meta l4proto { tcp, udp } th ${field} ${port}`),
      ...families.map((family) => `${echoes(family)} ${family === 4 ? 'icmp' : 'icmpv6'} id ${port}`),
    ]),
  ];
}

/** Of the packet that an error quotes, by the places in which its ports may be. */
function quotedConditions({ protocol, addresses, ports }: TraceFilter, family: Family): readonly (readonly string[])[] {
  const those: readonly Protocol[] = protocol === undefined ? protocols : [protocol];
  const places = (portAt: (protocol: Protocol) => number) =>
    those.flatMap((each) => quotations({ family, protocol: each }, portAt(each)));
  const [bits, places4] = [family === 4 ? 32 : 128, quotedAddresses[family]];
  return [
    ...addresses.map((address) => places4.map((at) => `@th,${at},${bits} ${hexOf(address)}`)),
    ...ports.map((port) => [
      ...new Set(
        [0, destinationPortAt].flatMap((portAt) =>
          places((each) => (each === 'icmp' ? echoIdAt : portAt)).map(([match, at]) => `${match} @th,${at},16 ${port}`),
        ),
      ),
    ]),
    ...(protocol === undefined || ports.length > 0 ? [] : [places(() => 0).map(([match]) => match)]),
  ];
}

/** In bits behind the end of the quoted headers. */
const [echoIdAt, destinationPortAt] = [32, 16];

const hexOf = (address: Address): string => `0x${Buffer.from(addressToBytes(address)).toString('hex')}`;
