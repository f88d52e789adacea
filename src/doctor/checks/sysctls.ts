import { desiredHost } from '../../agent/host/desired-host.ts';
import { nothingRecorded, type Wish } from '../../agent/host/host-state.ts';
import { formatPorts, rangesOverlap, type PortRange } from '../../net/ports.ts';
import { defineCheck, some, sysctlCommand, sysctlName, type Check, type Finding } from '../check.ts';
import type { Facts } from '../facts.ts';

type Unmet = Readonly<{ wish: Wish; now: string; value: string }>;

/** Of the very wishes that the agent acts on, those that are not as they should be. */
function unmet({ sysctls, setup }: Pick<Facts, 'sysctls' | 'setup'>): readonly Unmet[] {
  const none = { prefixes: [], addresses: [], hostAddresses: [], classes: [], elements: new Map() };
  const wishes = desiredHost(setup.host, { families: [4, 6], ...none }, nothingRecorded).sysctls;
  return wishes.flatMap((wish): readonly Unmet[] => {
    const now = sysctls.get(wish.key);
    const value = now === undefined ? undefined : wish.mend(now, sysctls);
    return now === undefined || value === undefined || words(now) === words(value) ? [] : [{ wish, now, value }];
  });
}

/** Sysctls that the agent sets by itself. */
function managed(
  { agent, ...facts }: Pick<Facts, 'sysctls' | 'setup' | 'agent'>,
  isMeant: (key: string) => boolean,
): readonly Finding[] {
  return unmet(facts).flatMap(({ wish, now, value }): readonly Finding[] => {
    if (!isMeant(wish.key)) return [];
    const what = `${sysctlName(wish.key)} is ${words(now)}, and has to be ${value}`;
    return agent.status === null
      ? [{ severity: 'info', what, mend: 'the agent sets it when it starts, and puts it back on "fishery agent down"' }]
      : [
          {
            severity: 'error',
            what,
            mend: `the agent puts it back within seconds. If this stays, something else sets it again and again: grep -rn ${sysctlName(wish.key)} /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d`,
          },
        ];
  });
}
const words = (value: string): string => value.trim().split(/\s+/).join(' ');

const leftToAgent = 'The agent sets it when it starts.';

/** `first last` of net.ipv4.ip_local_port_range. */
export function localPortRange(sysctls: Facts['sysctls']): PortRange | undefined {
  const [first, last] = (sysctls.get('net/ipv4/ip_local_port_range') ?? '').trim().split(/\s+/).map(Number);
  return first !== undefined && last !== undefined && last >= first ? { first, last } : undefined;
}

/** `1000,2000-2010` of net.ipv4.ip_local_reserved_ports. */
export function parseReserved(text: string): readonly PortRange[] {
  return text.split(',').flatMap((part) => {
    const match = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part);
    return match ? [{ first: Number(match[1]), last: Number(match[2] ?? match[1]) }] : [];
  });
}

/** What is left of ranges when others are taken out. */
export function withoutRanges(ranges: readonly PortRange[], taken: readonly PortRange[]): readonly PortRange[] {
  return taken.reduce<readonly PortRange[]>(
    (left, { first, last }) =>
      left.flatMap((range) =>
        rangesOverlap(range, { first, last })
          ? [
              { first: range.first, last: first - 1 },
              { first: last + 1, last: range.last },
            ].filter((piece) => piece.first <= piece.last)
          : [range],
      ),
    ranges,
  );
}

const device = (key: string): string => key.split('/')[3] ?? '';

export const sysctlChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'sysctls-refused',
      title: 'sysctls cannot be set here',
      why: 'In a container that is not privileged /proc/sys is read-only: the agent guards what there is and serves proxies, and what depends on the sysctls below does not work. Fish mostly needs them.',
      remedy:
        'Set them on the host before the agent starts (those of the TUN device after `ip tuntap add`), or run its container with `--privileged`.',
      worst: 'error',
    },
    ['sysctlRefusal', 'sysctls', 'setup'],
    ({ sysctlRefusal: code, sysctls, setup }) => {
      if (code === null) return [];
      const missing = unmet({ sysctls, setup });
      // Its own sysctls are to be set as soon as it is there.
      const { fish, tun } = setup.host;
      const lacksTun = fish && !sysctls.has(`net/ipv4/conf/${tun}/accept_local`);
      if (missing.length === 0 && !lacksTun) return [];
      const severity = lacksTun || missing.some(({ wish }) => wish.stopsFish) ? 'error' : 'warning';
      const told = [
        ...missing.map(({ wish, value }) => `${sysctlName(wish.key)} = ${value} (${wish.without})`),
        ...(lacksTun ? [`those of ${tun} (fish does not work)`] : []),
      ];
      const commands = missing.map(({ wish, value }) => `sysctl -w ${sysctlName(wish.key)}="${value}"`);
      const before = lacksTun ? [`ip tuntap add ${tun} mode tun vnet_hdr`, ...commands] : commands;
      const mend = `run the container with --privileged, or on the host: ${before.join(' && ')}`;
      return [{ severity, what: `this process may not set (${code}): ${some(told)}`, mend }];
    },
  ),
  defineCheck(
    {
      id: 'early-demux',
      title: 'early demux is on where nftables steers',
      why: "A reply finds fish's connected placeholder before routing has seen the mark, and forwarding then drops it without a word or a counter.",
      remedy: leftToAgent,
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => key.endsWith('_early_demux')),
  ),
  defineCheck(
    {
      id: 'fastopen-client',
      title: 'sockets may not use TCP Fast Open as clients',
      why: 'Without it the connect() of a placeholder sends a SYN instead of holding a 5-tuple in silence.',
      remedy: leftToAgent,
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => key === 'net/ipv4/tcp_fastopen'),
  ),
  defineCheck(
    {
      id: 'fastopen-blackhole',
      title: 'the kernel may suspend Fast Open by itself',
      why: 'When its blackhole detection strikes, every connected placeholder is refused for as long as it lasts: no new flows in shared blocks.',
      remedy: 'Set `net.ipv4.tcp_fastopen_blackhole_timeout_sec` to 0.',
      worst: 'warning',
      isFixable: true,
    },
    ['sysctls'],
    ({ sysctls }) => {
      const key = 'net/ipv4/tcp_fastopen_blackhole_timeout_sec';
      const now = sysctls.get(key);
      if (now === undefined || now === '0') return [];
      const what = `${sysctlName(key)} is ${now}: Fast Open is suspended for that long whenever the kernel suspects a firewall`;
      return [{ severity: 'warning', what, mend: sysctlCommand(key, '0'), fix: { do: 'sysctl', key, value: '0' } }];
    },
  ),
  defineCheck(
    {
      id: 'ping-group-range',
      title: 'ping sockets are refused to root',
      why: 'Echo identifiers are held by ping sockets; the default of the kernel ("1 0") refuses them to everybody.',
      remedy: leftToAgent,
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => key === 'net/ipv4/ping_group_range'),
  ),
  defineCheck(
    {
      id: 'port-range-clamps',
      title: 'slices lie outside of `ip_local_port_range`',
      why: 'Late binding takes ports from this range only: outside of it the kernel picks any other port, and says nothing.',
      remedy: 'Set `manage_port_range` (the default), or widen `net.ipv4.ip_local_port_range` over all slices.',
      worst: 'error',
      isFixable: true,
    },
    ['sysctls', 'setup', 'scope', 'agent'],
    ({ sysctls, setup, scope, agent }) => {
      const key = 'net/ipv4/ip_local_port_range';
      const range = localPortRange(sysctls);
      const outside = scope.slices.filter(
        ({ ports }) => !range || ports.first < range.first || ports.last > range.last,
      );
      if (!range || outside.length === 0) return [];
      const what = `${sysctlName(key)} is ${range.first} ${range.last}, which does not cover ${some(outside.map(({ address, ports }) => `${address}:${formatPorts(ports)}`))}`;
      const wide = `${Math.min(range.first, ...outside.map(({ ports }) => ports.first))} ${Math.max(range.last, ...outside.map(({ ports }) => ports.last))}`;
      if (!setup.host.managePortRange)
        return [{ severity: 'error', what, mend: sysctlCommand(key, wide), fix: { do: 'sysctl', key, value: wide } }];
      return [
        {
          severity: agent.status === null ? 'info' : 'error',
          what,
          mend: 'the agent widens it, when it starts and whenever it finds it narrower',
        },
      ];
    },
  ),
  defineCheck(
    {
      id: 'port-range-overlaps',
      title: 'automatic ports of everybody may be ports of slices',
      why: 'A socket that lets the kernel choose may be given a port of a slice, on any of the addresses of this host; it then keeps that port from late binders (on all addresses) as long as it lives. The guard drops what it sends with a leased address.',
      remedy:
        'Keep slices out of the range that the host needs for itself, where nothing binds late; else it is the price of late binding.',
      worst: 'info',
    },
    ['sysctls', 'scope'],
    ({ sysctls, scope }) => {
      const range = localPortRange(sysctls);
      const inside = range === undefined ? [] : scope.slices.filter(({ ports }) => rangesOverlap(ports, range));
      if (!range || inside.length === 0) return [];
      const what = `${inside.length} of ${scope.slices.length} slices have ports in net.ipv4.ip_local_port_range (${range.first} ${range.last})`;
      const mend = 'nothing, where programs bind late; else assign slices outside of that range, or narrow it';
      return [{ severity: 'info', what, mend }];
    },
  ),
  defineCheck(
    {
      id: 'reserved-ports',
      title: '`ip_local_reserved_ports` has ports of slices',
      why: 'Late binding is refused these ports (EADDRNOTAVAIL), though an explicit bind() gets them: leases look full that are not.',
      remedy: 'Take the ports of slices out of `net.ipv4.ip_local_reserved_ports`.',
      worst: 'error',
      isFixable: true,
    },
    ['sysctls', 'scope'],
    ({ sysctls, scope }) => {
      const key = 'net/ipv4/ip_local_reserved_ports';
      const reserved = parseReserved(sysctls.get(key) ?? '');
      const slices = scope.slices.map(({ ports }) => ports);
      const hit = reserved.filter((range) => slices.some((ports) => rangesOverlap(ports, range)));
      if (hit.length === 0) return [];
      const value = withoutRanges(reserved, slices).map(formatPorts).join(',');
      const what = `${sysctlName(key)} reserves ${some(hit.map(formatPorts))}, which slices of this host have`;
      return [{ severity: 'error', what, mend: sysctlCommand(key, value), fix: { do: 'sysctl', key, value } }];
    },
  ),
  defineCheck(
    {
      id: 'tw-reuse',
      title: 'late-bound ports rest for a minute after each connection',
      why: 'With `tcp_tw_reuse` other than 1 a 5-tuple in TIME_WAIT is refused to late binders for 60 s, instead of 1 s: busy destinations run out of ports.',
      remedy: 'Set `net.ipv4.tcp_tw_reuse` to 1 on hosts of busy proxies.',
      worst: 'info',
    },
    ['sysctls'],
    ({ sysctls }) => {
      const key = 'net/ipv4/tcp_tw_reuse';
      const now = sysctls.get(key);
      if (now === undefined || now === '1') return [];
      return [{ severity: 'info', what: `${sysctlName(key)} is ${now}`, mend: sysctlCommand(key, '1') }];
    },
  ),
  defineCheck(
    {
      id: 'tcp-timestamps',
      title: 'TCP timestamps are off',
      why: 'Without them no 5-tuple in TIME_WAIT is ever used again early, neither by late binders nor by explicit ones with SO_REUSEADDR.',
      remedy: 'Set `net.ipv4.tcp_timestamps` to 1.',
      worst: 'warning',
      isFixable: true,
    },
    ['sysctls'],
    ({ sysctls }) => {
      const key = 'net/ipv4/tcp_timestamps';
      if (sysctls.get(key) !== '0') return [];
      const what = `${sysctlName(key)} is 0: ports rest a whole minute after each connection`;
      return [{ severity: 'warning', what, mend: sysctlCommand(key, '1'), fix: { do: 'sysctl', key, value: '1' } }];
    },
  ),
  defineCheck(
    {
      id: 'forwarding',
      title: "forwarding is off where fish's packets pass",
      why: "What comes from a client interface, or back over an uplink, is never routed to fish's device.",
      remedy: leftToAgent,
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => key.endsWith('/forwarding')),
  ),
  defineCheck(
    {
      id: 'tun-martians',
      title: "fish's packets are taken for martians",
      why: 'What fish sends has an address of this host as its source: without `accept_local`, or with a strict `rp_filter`, IPv4 drops it on arrival from the TUN device.',
      remedy: leftToAgent,
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => device(key) === facts.setup.host.tun && /\/(accept_local|rp_filter)$/.test(key)),
  ),
  defineCheck(
    {
      id: 'marked-martians',
      title: 'replies to fish are taken for martians',
      why: 'With `src_valid_mark` (wg-quick and other VPN tools set it) strict reverse path filtering asks with the mark of what it filters. That of a reply to fish leads to the TUN device, not to the uplink that it came from, and all of them are dropped.',
      remedy: 'The agent sets `rp_filter` to 2 (loose) there.',
      worst: 'error',
    },
    ['sysctls', 'setup', 'agent'],
    (facts) => managed(facts, (key) => device(key) !== facts.setup.host.tun && key.endsWith('/rp_filter')),
  ),
  defineCheck(
    {
      id: 'strict-rp-filter',
      title: 'strict reverse path filtering where packets come back',
      why: 'Behind routers that steer by port, replies come in over any uplink; strict filtering drops those that this host would not answer the same way. On a client interface it drops clients without a route back.',
      remedy: 'Set `rp_filter` to 2 (loose) on uplinks and client interfaces.',
      worst: 'warning',
      isFixable: true,
    },
    ['sysctls', 'setup'],
    ({ sysctls, setup }) =>
      [...new Set([...setup.host.uplinks, ...setup.host.clientInterfaces])].flatMap((name): readonly Finding[] => {
        const key = `net/ipv4/conf/${name}/rp_filter`;
        const own = sysctls.get(key);
        const all = sysctls.get('net/ipv4/conf/all/rp_filter');
        // The greater of the two counts, and loose is greater than strict.
        if (own === undefined || Math.max(Number(own), Number(all ?? 0)) !== 1) return [];
        const what = `reverse path filtering on ${name} is strict (its own ${own}, all ${all ?? 'none'})`;
        return [{ severity: 'warning', what, mend: sysctlCommand(key, '2'), fix: { do: 'sysctl', key, value: '2' } }];
      }),
  ),
  defineCheck(
    {
      id: 'linkdown-routes',
      title: 'routes of a device without a process are ignored',
      why: 'While nobody reads the TUN device (an upgrade, a crash) its route is "linkdown". With `ignore_routes_with_linkdown` it is passed over, and late packets depend on what stands behind it: without the blackhole route they are answered with resets.',
      remedy: 'Set `ignore_routes_with_linkdown` to 0 for all devices, or for the TUN device.',
      worst: 'warning',
      isFixable: true,
    },
    ['sysctls', 'setup'],
    ({ sysctls, setup }) =>
      [4, 6].flatMap((family) =>
        ['all', setup.host.tun].flatMap((name): readonly Finding[] => {
          const key = `net/ipv${family}/conf/${name}/ignore_routes_with_linkdown`;
          if (sysctls.get(key) !== '1') return [];
          const what = `${sysctlName(key)} is 1`;
          return [{ severity: 'warning', what, mend: sysctlCommand(key, '0'), fix: { do: 'sysctl', key, value: '0' } }];
        }),
      ),
  ),
  defineCheck(
    {
      id: 'accept-ra',
      title: 'forwarding ends the IPv6 default route',
      why: 'A host that forwards IPv6 stops taking router advertisements unless `accept_ra` is 2: a default route that was learned from them runs out after some minutes.',
      remedy: 'Set `accept_ra` to 2 on that uplink, or give it a static default route.',
      worst: 'warning',
      isFixable: true,
    },
    ['sysctls', 'setup', 'advertisedRoutes'],
    ({ sysctls, setup, advertisedRoutes }) =>
      setup.host.uplinks.flatMap((name): readonly Finding[] => {
        const key = `net/ipv6/conf/${name}/accept_ra`;
        const forwards = sysctls.get(`net/ipv6/conf/${name}/forwarding`) === '1';
        if (!forwards || sysctls.get(key) !== '1' || !advertisedRoutes.includes(name)) return [];
        const what = `${name} forwards IPv6, its default route was advertised, and ${sysctlName(key)} is 1`;
        return [{ severity: 'warning', what, mend: sysctlCommand(key, '2'), fix: { do: 'sysctl', key, value: '2' } }];
      }),
  ),
  defineCheck(
    {
      id: 'ipv6-off',
      title: 'IPv6 is off where slices have IPv6 addresses',
      why: 'Leases on these addresses cannot be made true here: they stay pending or are refused.',
      remedy:
        'Assign no IPv6 slices to this machine, or set `net.ipv6.conf.all.disable_ipv6` to 0. That is yours to decide: it is for every device, and the host may have a firewall for IPv4 only.',
      worst: 'error',
    },
    ['sysctls', 'scope'],
    ({ sysctls, scope }) => {
      const key = 'net/ipv6/conf/all/disable_ipv6';
      const now = sysctls.get(key);
      const slices = scope.slices.filter(({ address }) => address.includes(':'));
      if (now === '0' || slices.length === 0) return [];
      const what = `${now === undefined ? 'this kernel has no IPv6' : `${sysctlName(key)} is ${now}`}, and ${slices.length} slices have IPv6 addresses`;
      return now === undefined
        ? [{ severity: 'error', what, mend: 'move these slices to another machine, or boot a kernel with IPv6' }]
        : [
            {
              severity: 'error',
              what,
              mend: `move these slices to another machine; or ${sysctlCommand(key, '0')}, if IPv6 may be on for every device here`,
            },
          ];
    },
  ),
];
