/** One line of `nft monitor trace`. `id`: of one packet on its way through the hooks of one turn. `table`: with its family. */
export type NftTraceLine = Readonly<{ id: string; table: string; chain: string }> &
  (
    | Readonly<{ kind: 'packet'; iif: string | null; oif: string | null; packet: PacketWords }>
    | Readonly<{ kind: 'rule'; rule: string; verdict: string }>
    | Readonly<{ kind: 'policy'; verdict: string }>
  );

/** `text` as `udp 100.64.0.2:40000 > 203.0.113.1:53`; `bytes`: of the whole, null where nft does not say it. */
export type PacketWords = Readonly<{ text: string; bytes: number | null }>;

const line_chars_max = 4_096;
const ipv6Header_bytes = 40;
const shape = /^trace id ([0-9a-f]+) (\w+ \S+) (\S+) (packet: |rule |policy |unknown rule handle )(.*)$/;

/** undefined: not a line of a packet (nft says other things too), or longer than one should be. */
export function parseTraceLine(line: string): NftTraceLine | undefined {
  if (line.length > line_chars_max) return undefined;
  const [, id = '', table = '', chain = '', what, rest = ''] = shape.exec(line.trim()) ?? [];
  if (what === undefined) return undefined;
  const common = { id, table, chain };
  if (what === 'packet: ') {
    const device = (name: string) => new RegExp(`\\b${name} (?:"([^"]*)"|(\\S+))`).exec(rest);
    const [iif, oif] = ['iif', 'oif'].map((name) => {
      const found = device(name);
      return found?.[1] ?? found?.[2] ?? null;
    });
    return { ...common, kind: 'packet', iif: iif ?? null, oif: oif ?? null, packet: packetWords(rest) };
  }
  if (what === 'policy ') return { ...common, kind: 'policy', verdict: rest.split(' ')[0] ?? '' };
  // After the verdict nft tells a packet's mark, if it has one.
  const told = /^(.*) ?\(verdict ([^)]+)\)[^()]*$/.exec(rest);
  if (!told) return undefined;
  const rule = (told[1] ?? '').trim();
  return { ...common, kind: 'rule', rule: what === 'rule ' ? rule : `handle ${rule}`, verdict: told[2] ?? '' };
}

/** From the fields that nft shows, in the words that fish's side of a trace has for a packet. */
function packetWords(fields: string): PacketWords {
  const field = (name: string) => new RegExp(`(?:^| )${name} (?:== )?(\\S+)`).exec(fields)?.[1];
  const isIPv6 = field('ip6 saddr') !== undefined;
  const ip = isIPv6 ? 'ip6' : 'ip';
  const transport = ['tcp', 'udp'].find((name) => field(`${name} sport`) !== undefined);
  const end = (address: string, port: string) => {
    const [host = '?', number] = [field(`${ip} ${address}`), transport && field(`${transport} ${port}`)];
    return number === undefined ? host : isIPv6 ? `[${host}]:${number}` : `${host}:${number}`;
  };
  const type = field('icmp type') ?? field('icmpv6 type');
  const named = transport ?? (type === undefined ? (field('ip protocol') ?? field('ip6 nexthdr') ?? 'ip') : undefined);
  const protocol = named ?? (isIPv6 ? 'icmpv6' : 'icmp');
  const flags = field('tcp flags');
  const more = flags === undefined ? (type === undefined ? '' : ` ${type}`) : ` [${flagLetters(flags)}]`;
  const length = field(`${ip} length`);
  return {
    text: `${protocol} ${end('saddr', 'sport')} > ${end('daddr', 'dport')}${more}`,
    bytes: length === undefined ? null : Number(length) + (isIPv6 ? ipv6Header_bytes : 0),
  };
}

const letters = { fin: 'F', syn: 'S', rst: 'R', psh: 'P', ack: 'A', urg: 'U', ecn: 'E', cwr: 'C' } as const;

/** In the order of their bits, as fish's side tells them. nft writes several as a number, or separates them by commas or bars. */
function flagLetters(flags: string): string {
  const [set, bits] = [flags.split(/[,|]/), Number(flags)];
  return Object.entries(letters)
    .flatMap(([name, letter], bit) => (set.includes(name) || (bits & (1 << bit)) !== 0 ? [letter] : []))
    .join('');
}
