import { defineCheck, some, type Check, type Finding } from '../check.ts';

/** The kernel gives TUN devices 500. */
const queue_least = 500;

export const deviceChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'missing-device',
      title: 'an uplink or client interface is missing or down',
      why: 'Packets that should come or go there do not; steering looks at these names.',
      remedy: 'Correct `uplinks` and `client_interfaces`, or bring the device up.',
      worst: 'error',
    },
    ['links', 'setup'],
    ({ links, setup }) =>
      [
        ...setup.host.uplinks.map((name) => ['uplinks', name] as const),
        ...setup.host.clientInterfaces.map((name) => ['client_interfaces', name] as const),
      ].flatMap(([setting, name]): readonly Finding[] => {
        const link = links.find((each) => each.name === name);
        if (link?.isUp) return [];
        if (link)
          return [{ severity: 'error', what: `${name} (${setting}) is down`, mend: `ip link set dev ${name} up` }];
        const known = links.map((each) => each.name).join(', ');
        const what = `${setting} names ${name}, which this host does not have (it has ${known})`;
        return [{ severity: 'error', what, mend: `correct ${setting}` }];
      }),
  ),
  defineCheck(
    {
      id: 'tun-name',
      title: 'the name of the TUN device is taken by another device',
      why: 'The agent would attach to what is not its own, or cannot make its device at all.',
      remedy: 'Rename or delete that device, or choose another `tun`.',
      worst: 'error',
    },
    ['links', 'setup'],
    ({ links, setup }) =>
      links.flatMap((link): readonly Finding[] => {
        if (link.name !== setup.host.tun || link.kind === 'tun') return [];
        const what = `${link.name} is a device of kind ${link.kind ?? 'hardware'}`;
        return [
          { severity: 'error', what, mend: `ip link delete ${link.name}, or choose another tun in the settings` },
        ];
      }),
  ),
  defineCheck(
    {
      id: 'tun-mtu',
      title: "the TUN device's MTU is another than that of the narrowest link",
      why: 'A client, or a remote, is told what fits before its packets are in the TUN device; of what is found too large for a link behind it, a client hears by way of fish, and only with `icmp_source`; a remote is told of a packet that it never sent. With a smaller MTU than the links have, packets are cut, or refused, that would have fitted.',
      remedy: 'Give the TUN device the smallest MTU of uplinks and client interfaces.',
      worst: 'warning',
      isFixable: true,
    },
    ['links', 'setup'],
    ({ links, setup }) => {
      const tun = links.find(({ name, kind }) => name === setup.host.tun && kind === 'tun');
      const beside = links.filter(({ name }) => [...setup.host.clientInterfaces, ...setup.host.uplinks].includes(name));
      const narrowest = beside.toSorted((a, b) => a.mtu - b.mtu)[0];
      if (!tun || !narrowest || tun.mtu === narrowest.mtu) return [];
      const { name, mtu } = narrowest;
      const what = `${tun.name} has an MTU of ${tun.mtu}, and ${name}, the narrowest link, one of ${mtu}`;
      const mend = `ip link set dev ${tun.name} mtu ${mtu}`;
      return [{ severity: 'warning', what, mend, fix: { do: 'link', device: tun.name, property: 'mtu', value: mtu } }];
    },
  ),
  defineCheck(
    {
      id: 'tun-queue',
      title: 'the queue of the TUN device is short',
      why: 'Bursts toward fish are dropped in the device before fish can read them.',
      remedy: 'Set `txqueuelen` to 1000 or more.',
      worst: 'warning',
      isFixable: true,
    },
    ['links', 'setup'],
    ({ links, setup }) => {
      const tun = links.find(({ name, kind }) => name === setup.host.tun && kind === 'tun');
      if (!tun || tun.queue >= queue_least) return [];
      const mend = `ip link set dev ${tun.name} txqueuelen 1000`;
      const what = `${tun.name} has a queue of ${tun.queue} packets`;
      return [
        {
          severity: 'warning',
          what,
          mend,
          fix: { do: 'link', device: tun.name, property: 'txqueuelen', value: 1_000 },
        },
      ];
    },
  ),
  defineCheck(
    {
      id: 'address-on-link',
      title: 'an address of a slice is on a link instead of `lo`',
      why: "On the TUN device, sockets' packets would be marked like fish's; on an uplink the host answers ARP for an address that other machines have as well.",
      remedy: 'Take it away: the agent puts the addresses of slices on `lo`.',
      worst: 'error',
    },
    ['links', 'scope'],
    ({ links, scope }) =>
      links.flatMap((link): readonly Finding[] => {
        const wrong = link.addresses.filter((each) => scope.slices.some(({ address }) => address === each));
        if (link.name === 'lo' || wrong.length === 0) return [];
        const mend = wrong.map((address) => `ip address del ${address} dev ${link.name}`).join('; ');
        return [
          { severity: 'error', what: `${some(wrong)} on ${link.name}`, mend: `${mend} (with its prefix length)` },
        ];
      }),
  ),
  defineCheck(
    {
      id: 'ingress-programs',
      title: 'somebody else’s programs see arriving packets first',
      why: 'XDP and tc ingress come before nftables and before steering: they may redirect or drop what is meant for fish.',
      remedy: 'Know them: `tc filter show dev … ingress`, `ip -details link show`.',
      worst: 'info',
    },
    ['links', 'ingressFilters', 'setup'],
    ({ links, ingressFilters, setup }) =>
      [...new Set([...setup.host.uplinks, ...setup.host.clientInterfaces])].flatMap((name): readonly Finding[] => {
        const kinds = [
          ...(links.some((link) => link.name === name && link.hasXdp) ? ['an XDP program'] : []),
          ...(ingressFilters.includes(name) ? ['filters at tc ingress'] : []),
        ];
        if (kinds.length === 0) return [];
        const mend = `tc filter show dev ${name} ingress; ip -details link show dev ${name}`;
        return [{ severity: 'info', what: `${name} has ${kinds.join(' and ')}`, mend }];
      }),
  ),
];
