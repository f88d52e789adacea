import { familyOf } from '../../net/address.ts';
import { protocolNumber } from '../../net/protocol.ts';
import type { TraceFilter } from '../../fish/log/packet-trace.ts';
import { ip } from '../rules/words.ts';

/** The table of a trace; there as long as one is under way. */
export const traceTableName = 'fishery_trace';
/** So many packets a second are traced, whatever is asked for: each costs the kernel a message for each rule that it meets. */
const packets_per_second_max = 100;

/**
 * The text of a table that has the kernel trace packets that match. Each packet is judged as it is at that place: before fish by
 * the client's address, behind it by the leased one. Before connection tracking, and before every chain that looks at them.
 */
export function traceTable({ protocol, addresses, ports }: TraceFilter): string {
  // Of each line one must be true. No rule says that neither end is something: nft 1.0.6 makes one comparison of two "!=" of
  // neighbouring fields, which is true when either differs.
  const conditions = [
    ...(protocol === undefined
      ? []
      : [[`meta l4proto { ${[...new Set([protocolNumber(protocol, 4), protocolNumber(protocol, 6)])].join(', ')} }`]]),
    ...addresses.map((address) => ['saddr', 'daddr'].map((field) => `${ip(familyOf(address))} ${field} ${address}`)),
    ...ports.map((port) => ['sport', 'dport'].map((field) => `meta l4proto { tcp, udp } th ${field} ${port}`)),
  ];
  const chain = (name: string, ...lines: readonly string[]) => [
    `  chain ${name} {`,
    ...lines.map((line) => `    ${line}`),
    '  }',
  ];
  const wanted = (at: number) => `wanted${at}`;
  const hook = (name: string) =>
    chain(name, `type filter hook ${name} priority -350; policy accept;`, `goto ${wanted(0)}`);
  return `${[
    `table inet ${traceTableName} {`,
    // Whoever is gone to is there first.
    ...chain(
      wanted(conditions.length),
      `limit rate ${packets_per_second_max}/second burst ${packets_per_second_max} packets meta nftrace set 1`,
    ),
    ...conditions
      .map((either, at) => chain(wanted(at), ...either.map((match) => `${match} goto ${wanted(at + 1)}`)))
      .reverse()
      .flat(),
    ...hook('prerouting'),
    ...hook('output'),
    '}',
  ].join('\n')}\n`;
}
