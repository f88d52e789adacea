import { familyOf, type Address, type Family } from '../net/address.ts';
import { blockMask, portCount } from '../net/ports.ts';
import type { Route } from '../wire/routes.ts';

/** Routes as files. Text in pieces: a file may have as many lines as there are slices. */

export type RouteFile = Readonly<{
  epoch: string;
  revision: number;
  routes: Iterable<Route>;
  /** Ports per slice of every pool that is meant, whether or not it has a route now. */
  sliceSizes: readonly number[];
}>;

export function* jsonFile({ epoch, revision, routes }: RouteFile): Generator<string, void, undefined> {
  yield `{"epoch":${JSON.stringify(epoch)},"revision":${revision},"routes":[`;
  let comma = '';
  for (const route of routes) {
    yield `${comma}\n${JSON.stringify(route)}`;
    comma = ',';
  }
  yield '\n]}\n';
}

const columns = 'address,first_port,last_port,machine,mark,next_hop,pool,slice,generation,revision';

/** RFC 4180, with a header line. Names, addresses and numbers have nothing in them that would want quotes. */
export function* csvFile({ routes }: RouteFile): Generator<string, void, undefined> {
  yield `${columns}\r\n`;
  for (const { address, ports, machine, mark, next_hop, pool, slice, generation, revision } of routes)
    yield `${[address, ports.first, ports.last, machine, mark ?? '', next_hop ?? '', pool, slice, generation, revision].join()}\r\n`;
}

const table = 'inet fishery_routes';
const families = [4, 6] as const;

/** What a map gives: the packet mark that the file's own rules set, or the next hop, for rules of the reader's own. */
const values = [
  { name: 'mark', type: 'meta mark', of: ({ mark }: Route) => mark },
  { name: 'next_hop', type: 'daddr', of: ({ next_hop }: Route) => next_hop },
] as const;

/** What a map is looked up by. nftables has no type that ports and echo identifiers share, so each has maps of its own. */
const keys = [
  { name: '', field: 'th dport' },
  { name: '_icmp', field: 'icmp id' },
] as const;

/**
 * A file for `nft -f`: hash maps from (address, first port of the slice) to mark and next hop, one per family and slice
 * size, and a chain that marks by them. It replaces what an earlier one put there, in one transaction, and leaves other
 * chains in the table alone. An interval map would be one instead of several, and slow to change.
 */
export function* nftFile({ epoch, revision, routes, sliceSizes }: RouteFile): Generator<string, void, undefined> {
  const list = [...routes];
  const bare = list.filter(({ mark }) => mark === null);
  yield `# Fishery: where packets that come back belong, as of revision ${revision} (epoch ${epoch}).\n`;
  yield `# routes: ${list.length}\n`;
  if (bare.length > 0) {
    const names = [...new Set(bare.map(({ machine }) => machine))].sort();
    yield `# ${bare.length} of them have no mark, because their machines have none: ${shorten(names)}\n`;
  }
  yield `add table ${table}\n`;
  const sizes = [...new Set([...sliceSizes, ...list.map(({ ports }) => portCount(ports))])].sort((a, b) => a - b);
  const groups = Map.groupBy(list, (route) => `${familyOf(route.address as Address)}_${portCount(route.ports)}`);
  for (const family of families)
    for (const size of sizes) yield* mapsOf(family, size, groups.get(`${family}_${size}`) ?? []);
  yield `add chain ${table} prerouting { type filter hook prerouting priority mangle; policy accept; }\n`;
  yield `flush chain ${table} prerouting\n`;
  for (const family of families) for (const size of sizes) yield* rulesOf(family, size);
}

function* mapsOf(family: Family, size: number, routes: readonly Route[]): Generator<string, void, undefined> {
  for (const key of keys)
    for (const value of values) {
      const name = `${value.name}${family}_${size}${key.name}`;
      const type = value.type === 'daddr' ? `${word(family)} daddr` : value.type;
      yield `add map ${table} ${name} { typeof ${word(family)} daddr . ${key.field} : ${type}; }\n`;
      yield `flush map ${table} ${name}\n`;
      const elements = routes.flatMap((route) => {
        const is = value.of(route);
        return is === null ? [] : [`${route.address} . ${route.ports.first} : ${is}`];
      });
      if (elements.length > 0) yield `add element ${table} ${name} {\n  ${elements.join(',\n  ')}\n}\n`;
    }
}

/**
 * Masked to the first port of its slice, a port is found in one look-up. An ICMP error belongs to whoever sent the packet
 * that it quotes: behind 8 bytes of ICMP and the quoted IP header comes the port, or for an echo request the identifier.
 */
function* rulesOf(family: Family, size: number): Generator<string, void, undefined> {
  const mask = `0x${blockMask(size).toString(16).padStart(4, '0')}`;
  const rule = (match: string, field: string, key: string): string =>
    `add rule ${table} prerouting ${match} meta mark set ${word(family)} daddr . (${field} & ${mask})` +
    ` map @mark${family}_${size}${key}\n`;
  yield rule('meta l4proto { tcp, udp }', 'th dport', '');
  if (family === 4) {
    // Only where the quoted header has no options; hardly any has.
    const error = 'icmp type { destination-unreachable, time-exceeded, parameter-problem } @th,64,8 0x45';
    yield rule('icmp type echo-reply', 'icmp id', '_icmp');
    yield rule(`${error} @th,136,8 { 6, 17 }`, '@th,224,16', '_icmp');
    yield rule(`${error} @th,136,8 1`, '@th,256,16', '_icmp');
  } else {
    const error = 'icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }';
    yield rule('icmpv6 type echo-reply', 'icmpv6 id', '_icmp');
    yield rule(`${error} @th,112,8 { 6, 17 }`, '@th,384,16', '_icmp');
    yield rule(`${error} @th,112,8 58`, '@th,416,16', '_icmp');
  }
}

const word = (family: Family): string => (family === 4 ? 'ip' : 'ip6');

const names_shown_max = 20;
const shorten = (names: readonly string[]): string =>
  names.length <= names_shown_max
    ? names.join(', ')
    : `${names.slice(0, names_shown_max).join(', ')} and ${names.length - names_shown_max} more`;
