import { familyOf, type Address, type Family } from '../../net/address.ts';
import { prefixFamily, type Prefix } from '../../net/prefix.ts';
import { familyFlag, flaggedFamily, type DesiredHost, type Recorded, type Wish } from './host-state.ts';
import { rulesetOf } from './ruleset.ts';
import type { TerminateInput } from '../rules/terminate.ts';
import type { ElementsBySet, SetClass } from './sets.ts';
import type { SteeringMode } from '../steering/choose.ts';

/** The settings that decide how the host looks. */
export type HostSettings = Readonly<{
  fish: boolean;
  tun: string;
  mark: number;
  markMask: number;
  routeTable: number;
  /** Of the rule on fish's mark; the local table and the clients' rule take the two after it. */
  rulePriority: number;
  uplinks: readonly string[];
  clientInterfaces: readonly string[];
  managePortRange: boolean;
  /** Whether the source NAT of others is kept from what has a pool's address. */
  keepSource: boolean;
  steering: SteeringMode;
  /** Addresses of this host whose programs' packets go to fish. */
  localClients: readonly Prefix[];
  /** Connections that are not fish's but the terminator's; null on a host without one. */
  terminate: (TerminateInput & Readonly<{ routeTable: number }>) | null;
  /** Fish has clients that speak IPv6. */
  forwardsIpv6: boolean;
}>;

/** What the host has to carry at this moment, as far as it is not lease by lease. */
export type HostLoad = Readonly<{
  /** Families that this host speaks; the other one's rules, routes and addresses are left out. */
  families: readonly Family[];
  /** Of them, those that the TUN device speaks; absent: all. */
  tunFamilies?: readonly Family[];
  prefixes: readonly Prefix[];
  addresses: readonly Address[];
  /** Ordinary addresses of this host inside the pools. */
  hostAddresses: readonly Address[];
  /** Somebody else has source NAT on this host; absent: nobody. */
  othersTranslate?: boolean;
  classes: readonly SetClass[];
  elements: ElementsBySet;
}>;

/** Far behind the device's own route (1024): used when the device is gone, so that fish's packets never fall through. */
const blackholeMetric = 9_999;
const deviceMetric = 1_024;

/** How the host should be. `recorded` says which rules it had before, in case fish was switched off since. */
export function desiredHost(settings: HostSettings, load: HostLoad, recorded: Recorded): DesiredHost {
  const { fish, tun, mark, markMask, uplinks, clientInterfaces, terminate } = settings;
  const { tunFamilies = load.families } = load;
  // A family that is off has its rules again as they were, for when it is on.
  const unused = [...recorded.rules].filter((rule) => !fish || !tunFamilies.includes(flaggedFamily(rule)));
  return {
    sysctls: wishesOf(settings, tunFamilies),
    ruleset: rulesetOf({
      tun: fish ? tun : null,
      mark,
      markMask,
      arrivals: uplinks.length > 0 ? [...uplinks, ...clientInterfaces] : [],
      clients: clientInterfaces,
      terminate,
      prefixes: load.prefixes,
      hostAddresses: load.hostAddresses,
      keepSource: settings.keepSource && load.othersTranslate === true,
      othersTranslate: load.othersTranslate === true,
      classes: load.classes,
    }),
    elements: load.elements,
    tun: fish ? tun : null,
    steering: new Set(steeredDevices(settings)),
    routes: new Set([
      ...(fish ? tunFamilies.flatMap((family) => routesOf(family, settings)) : []),
      ...load.families.flatMap((family) => terminatedRoutes(family, settings)),
    ]),
    rules: new Set([
      ...(fish ? tunFamilies.flatMap((family) => rulesOf(family, settings)) : []),
      ...unused,
      ...load.families.flatMap((family) => terminatedRules(family, settings)),
    ]),
    addresses: new Set(load.addresses.filter((address) => load.families.includes(familyOf(address)))),
  };
}

/**
 * Where replies to placeholders arrive, if a program is to take them from there. Not the clients' devices: what comes from
 * there is no reply, and every packet would pay for a look-up that finds nothing.
 */
export const steeredDevices = ({ fish, steering, uplinks, clientInterfaces }: HostSettings): readonly string[] =>
  fish && steering === 'ebpf' ? arrivalsOfReplies(uplinks, clientInterfaces) : [];

/** Uplinks, each once; a host that names none has its clients' devices for both. */
export const arrivalsOfReplies = (
  uplinks: readonly string[],
  clientInterfaces: readonly string[],
): readonly string[] => [...new Set(uplinks.length > 0 ? uplinks : clientInterfaces)];

const routesOf = (family: Family, { tun, routeTable }: HostSettings): readonly string[] => [
  `${familyFlag(family)} default dev ${tun} metric ${deviceMetric} table ${routeTable}`,
  `${familyFlag(family)} blackhole default metric ${blackholeMetric} table ${routeTable}`,
];

/**
 * The mark comes before the local table, because fish's replies are addressed to the host itself. The clients' rule
 * comes behind it: in front, even ARP for the host's own address on that interface would go unanswered.
 */
const rulesOf = (family: Family, settings: HostSettings): readonly string[] => {
  const { rulePriority: first, routeTable, mark, markMask, clientInterfaces, localClients } = settings;
  const rule = (priority: number, what: string) => `${familyFlag(family)} priority ${priority} ${what}`;
  return [
    rule(first, `fwmark 0x${mark.toString(16)}/0x${markMask.toString(16)} lookup ${routeTable}`),
    rule(first + 1, 'lookup local'),
    ...clientInterfaces.map((name) => rule(first + 2, `iif ${name} lookup ${routeTable}`)),
    // What programs of this host send from these addresses; what they are sent comes out of the TUN, and is for the host.
    ...localClients
      .filter((prefix) => prefixFamily(prefix) === family)
      .map((prefix) => rule(first + 2, `from ${withoutWholeLength(prefix)} iif lo lookup ${routeTable}`)),
  ];
};

/** Whatever its address is, a packet that is led to the terminator is for this host. */
const terminatedRoutes = (family: Family, { terminate }: HostSettings): readonly string[] =>
  terminate === null
    ? []
    : [`${familyFlag(family)} local default metric ${deviceMetric} table ${terminate.routeTable}`];

/**
 * By interface: what the terminator's own sockets send is not meant. Beside the rule on fish's mark, which is another one, and
 * before that of the clients.
 */
const terminatedRules = (family: Family, settings: HostSettings): readonly string[] => {
  const { terminate, rulePriority, markMask, clientInterfaces } = settings;
  if (terminate === null) return [];
  const { mark, routeTable } = terminate;
  return clientInterfaces.map(
    (name) =>
      `${familyFlag(family)} priority ${rulePriority} iif ${name} fwmark 0x${mark.toString(16)}/0x${markMask.toString(16)} lookup ${routeTable}`,
  );
};

/** As `ip` shows it: a single address has no length. */
const withoutWholeLength = (prefix: Prefix): string =>
  prefix.replace(prefixFamily(prefix) === 4 ? /\/32$/ : /\/128$/, '');

const widest = { first: 1_024, last: 65_535 } as const;

function wishesOf(settings: HostSettings, families: readonly Family[]): readonly Wish[] {
  const { fish, tun, uplinks, clientInterfaces, managePortRange, steering, terminate } = settings;
  const always = (key: string, value: string, without: string, more: Partial<Wish> = {}): Wish => ({
    ...{ key, mend: () => value, without, ...more },
  });
  const ofDevice = (device: string, name: string) => `net/ipv4/conf/${device}/${name}`;
  return [
    // Late binding takes ports from this range only, and says nothing when a lease lies outside. Unrelated sockets may
    // get a port of a slice by it; the guard is what keeps them from using it with a pool's address.
    ...(managePortRange
      ? [
          {
            key: 'net/ipv4/ip_local_port_range',
            mend: (now: string) => widen(now, widest.first, widest.last),
            without: 'late-bound ports outside of it are not had',
          },
        ]
      : []),
    // What its connections leave behind would keep their ports from the same destination for a minute. Timestamps tell the old
    // connection's packets from those of the new one (RFC 6191).
    ...(terminate === null ? [] : [always('net/ipv4/tcp_tw_reuse', '1', 'ports of the terminator rest for a minute')]),
    ...(fish
      ? [
          // With it, a reply finds the placeholder before routing has seen the mark, and forwarding then drops it.
          ...(steering === 'nftables'
            ? [always('net/ipv4/tcp_early_demux', '0', 'replies do not find fish', fishs)]
            : []),
          // Bit 0: sockets may use Fast Open as clients, which is what a connected placeholder does.
          {
            key: 'net/ipv4/tcp_fastopen',
            mend: (now: string) => String(Number(now) | 1),
            without: 'flows in shared blocks cannot be held',
            ...fishs,
          },
          // Echo placeholders are ping sockets, which are refused even to root unless its group is in here.
          {
            key: 'net/ipv4/ping_group_range',
            mend: (now: string) => widen(now, 0, 0),
            without: 'echo identifiers cannot be held',
          },
          // Forwarding only where fish's packets come in, not for the whole host.
          ...[...new Set([...clientInterfaces, ...uplinks])].map((name) =>
            always(ofDevice(name, 'forwarding'), '1', unforwarded, {
              ...fishs,
              reads: [ofDevice('all', 'forwarding')],
            }),
          ),
          always(ofDevice(tun, 'forwarding'), '1', unforwarded, { ...fishs, ofTun: true }),
          // What fish sends has the host's own address as source; without this IPv4 takes it for a martian.
          always(ofDevice(tun, 'accept_local'), '1', martian, { ...fishs, ofTun: true }),
          {
            key: ofDevice(tun, 'rp_filter'),
            // Strict filtering would drop it for the same reason. The stricter of this file and `all` counts, but for
            // "loose" (2), which wins over strict.
            mend: (_now: string, others: ReadonlyMap<string, string>) =>
              others.get('net/ipv4/conf/all/rp_filter') === '1' ? '2' : '0',
            reads: ['net/ipv4/conf/all/rp_filter'],
            without: martian,
            ...fishs,
            ofTun: true,
          },
          ...[...new Set([...uplinks, ...clientInterfaces])].map((name) =>
            looseForMarks(name, arrivalsOfReplies(uplinks, clientInterfaces).includes(name)),
          ),
          ...(families.includes(6) && settings.forwardsIpv6 ? ipv6Forwarding(settings) : []),
          // No link-local address, so no router solicitations: nothing but fish's own packets is on this device.
          ...(families.includes(6)
            ? [
                always(`net/ipv6/conf/${tun}/addr_gen_mode`, '1', 'the kernel has a word on the TUN device, too', {
                  ...{ ofTun: true, ofOwnTun: true },
                }),
              ]
            : []),
        ]
      : []),
  ];
}

const fishs = { stopsFish: true } as const;
const unforwarded = 'packets do not come to fish';
const martian = 'what fish sends is dropped';
const unforwarded6 = 'packets of IPv6 clients do not come to fish';

/**
 * Where `src_valid_mark` counts (VPN tools set it for all devices) the kernel looks the way back up with the mark that the table
 * has given a packet for fish. That way leads to the TUN device and not to where it came from, so that strict filtering takes
 * every reply for a martian. Loose filtering asks only whether there is a way. Either of a device's own value and that of `all`
 * switches the mark on; of the filter the greater counts, and loose is greater than strict.
 */
function looseForMarks(device: string, bringsReplies: boolean): Wish {
  const of = (name: string, which: string) => `net/ipv4/conf/${which}/${name}`;
  const [ofAll, marks, marksOfAll] = [
    of('rp_filter', 'all'),
    of('src_valid_mark', device),
    of('src_valid_mark', 'all'),
  ];
  return {
    key: of('rp_filter', device),
    mend: (now, others) => {
      const isStrict = Math.max(Number(now), Number(others.get(ofAll) ?? 0)) === 1;
      const marksCount = [marks, marksOfAll].some((key) => Number(others.get(key) ?? 0) !== 0);
      return isStrict && marksCount ? '2' : now;
    },
    reads: [ofAll, marks, marksOfAll],
    without: 'replies to fish are taken for martians, because src_valid_mark is set',
    // Of a client interface it is only what clients send to one another's ports.
    ...(bringsReplies ? fishs : {}),
  };
}

const ipv6 = (device: string, name: string) => `net/ipv6/conf/${device}/${name}`;
/** Kernels since 6.17 let a single device forward IPv6. */
const singleDevices = ipv6('lo', 'force_forwarding');

/**
 * Forwarding of IPv6 where fish's packets come in: on the single devices where the kernel can. Elsewhere it is the whole host's
 * matter, and would take the default route away that it has learned from router advertisements: a router does not listen to
 * them unless it is told to (accept_ra 2), which therefore comes first.
 */
function ipv6Forwarding({ tun, uplinks, clientInterfaces }: HostSettings): readonly Wish[] {
  const devices = [...new Set([...clientInterfaces, ...uplinks])];
  const single = (device: string, ofTun: boolean): Wish => ({
    key: ipv6(device, 'force_forwarding'),
    mend: (now, others) => (others.has(singleDevices) ? '1' : now),
    reads: [singleDevices, ipv6('all', 'force_forwarding')],
    without: unforwarded6,
    ofTun,
  });
  const otherwise = (key: string, mended: (now: string) => string, without: string): Wish => ({
    key,
    mend: (now, others) => (others.has(singleDevices) ? now : mended(now)),
    reads: [singleDevices],
    without,
  });
  const accepting = devices.map((device) => ipv6(device, 'accept_ra'));
  return [
    ...devices.map((device) => single(device, false)),
    single(tun, true),
    ...accepting.map((key) => otherwise(key, (now) => (now.trim() === '1' ? '2' : now), unforwarded6)),
    { ...otherwise(ipv6('all', 'forwarding'), () => '1', unforwarded6), after: accepting },
  ];
}

/** `first last`, wide enough for both bounds. "1 0", the kernel's default for ping_group_range, means nobody. */
function widen(now: string, first: number, last: number): string {
  const [from, to] = now.trim().split(/\s+/).map(Number);
  if (from === undefined || to === undefined || from > to) return `${first} ${last}`;
  return `${Math.min(from, first)} ${Math.max(to, last)}`;
}
