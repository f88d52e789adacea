import { formatPorts, portCount, rangeContains } from '../../net/ports.ts';
import { parseSetName, senderIn } from '../../agent/host/sets.ts';
import { defineCheck, some, type Check, type Finding } from '../check.ts';
import type { Facts, LeaseFact, SliceFact, SocketFact } from '../facts.ts';
import { isObject, isOurs as isOurTable, listOf, type NftFacts } from '../nft-json.ts';

const anyAddress: readonly string[] = ['0.0.0.0', '::'];
const findings_max = 20;

const isIn = (ports: SliceFact['ports'], port: number): boolean => rangeContains(ports, { first: port, last: port });
const tell = (socket: SocketFact): string =>
  `${socket.protocol} ${socket.address}:${socket.port} (${socket.state}${socket.remote === '' ? '' : ` to ${socket.remote}`}) of user ${socket.uid}: ${socket.who}`;

/** Who may use which block by the guard's own sets, as text to look up: `tcp 198.51.100.10 9088 128 1000`. */
function rightsIn(
  nft: NftFacts,
): readonly Readonly<{ protocol: string; address: string; first: number; size: number; uid: number | undefined }>[] {
  return nft.sets.flatMap((set) => {
    const found = isOurTable(set) ? parseSetName(set.name) : undefined;
    // Fish's sockets carry its mark; only of ping sockets the kernel does not tell that.
    const counts = found && (senderIn(found.role) !== null || (found.role === 'fish' && found.protocol === 'icmp'));
    if (!counts) return [];
    return set.elements.flatMap((element) => {
      const inner = isObject(element) && isObject(element['elem']) ? element['elem']['val'] : element;
      const [address, first, uid] = isObject(inner) ? listOf(inner['concat']) : [];
      if (typeof address !== 'string' || typeof first !== 'number') return [];
      return [
        {
          protocol: found.protocol,
          address,
          first,
          size: found.size, // By a cgroup: whether the socket is in it, the guard judges.
          uid: senderIn(found.role) === 'uid' && typeof uid === 'number' ? uid : undefined,
        },
      ];
    });
  });
}

/** Sockets in slices that nobody gave these ports to. */
function strangers({ sockets, nft, scope, setup }: Pick<Facts, 'sockets' | 'nft' | 'scope' | 'setup'>) {
  const rights = rightsIn(nft);
  const { mark, markMask } = setup.host;
  const isFish = (socket: SocketFact) =>
    socket.mark !== undefined && (socket.mark & markMask) === (mark & markMask) && (mark & markMask) !== 0;
  const mayUse = (socket: SocketFact) =>
    rights.some(
      (right) =>
        right.protocol === socket.protocol &&
        right.address === socket.address &&
        (right.uid === undefined || right.uid === socket.uid) &&
        isIn({ first: right.first, last: right.first + right.size - 1 }, socket.port),
    );
  return sockets.filter(
    (socket) =>
      !isFish(socket) &&
      scope.slices.some(
        ({ address, ports }) =>
          isIn(ports, socket.port) &&
          (address === socket.address ? !mayUse(socket) : anyAddress.includes(socket.address)),
      ),
  );
}

/** The shared lease that a socket's port is in. */
const sharedLease = (leases: readonly LeaseFact[], { protocol, address, port }: SocketFact): LeaseFact | undefined =>
  leases.find(
    (lease) =>
      lease.mode === 'shared' &&
      lease.protocol === protocol &&
      lease.address === address &&
      rangeContains(lease.ports, { first: port, last: port }),
  );

export const socketChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'strangers',
      title: 'sockets of strangers are on ports of slices',
      why: 'A listener, or any bound socket, keeps its port from every lease (on all addresses when it is bound to none), and what it sends with a leased address is dropped by the guard.',
      remedy: 'Let that program use other ports, or lease the ports to it (`fishery hold`).',
      worst: 'error',
    },
    ['sockets', 'nft', 'scope', 'setup'],
    (facts) => {
      const found = strangers(facts);
      const told = found.slice(0, findings_max).map((socket): Finding => {
        const isWild = anyAddress.includes(socket.address);
        const mend = isWild
          ? 'bind it to an address of its own, or to a port outside of the slices'
          : `have the ports leased to user ${socket.uid} (a program that names only the address, like squid's tcp_outgoing_address or nginx's proxy_bind without a port, takes any automatic port)`;
        return { severity: isWild ? 'error' : 'warning', what: tell(socket), mend };
      });
      const more = found.length - told.length;
      return more <= 0
        ? told
        : [
            ...told,
            { severity: 'warning', what: `and ${more} sockets more`, mend: 'ss --tcp --udp --all --processes' },
          ];
    },
  ),
  defineCheck(
    {
      id: 'binding',
      title: "a program takes its ports in another way than its block's binding says",
      why: "One explicit bind() keeps the whole port from all late binders, and a late-bound socket keeps it from explicit ones: the block is shared no more, and others' connects fail with EADDRNOTAVAIL.",
      remedy:
        'Claim a block with the binding that the program uses: explicit for HAProxy and nginx with a port, late for programs that use IP_LOCAL_PORT_RANGE; or an exclusive block.',
      worst: 'error',
    },
    ['sockets', 'scope'],
    ({ sockets, scope }) => {
      const wrong = sockets.flatMap((socket) => {
        const lease = socket.protocol === 'tcp' ? sharedLease(scope.leases, socket) : undefined;
        if (!lease || socket.bindsLate === undefined || socket.bindsLate === (lease.binding === 'late')) return [];
        return [{ socket, lease }];
      });
      return [...Map.groupBy(wrong, ({ lease }) => lease.id)].slice(0, findings_max).map(([id, members]): Finding => {
        const [{ lease }] = members as [(typeof members)[number]];
        const does = lease.binding === 'late' ? 'explicitly' : 'late';
        const what = `${id} (${lease.address} ${formatPorts(lease.ports)}) of ${lease.holder} is bound ${String(lease.binding)}, and these bind ${does}: ${some(members.map(({ socket }) => tell(socket)))}`;
        return {
          severity: 'error',
          what,
          mend: `let the holder claim with --binding ${lease.binding === 'late' ? 'explicit' : 'late'}, or --mode exclusive`,
        };
      });
    },
  ),
  defineCheck(
    {
      id: 'elsewhere-explicit',
      title: 'explicit binds on other addresses take ports from late binders',
      why: 'A port that is bound explicitly, on whatever address of this host, is refused to every socket that takes its port in connect().',
      remedy: 'Move these programs to ports outside of the slices.',
      worst: 'info',
    },
    ['sockets', 'scope'],
    ({ sockets, scope }) => {
      const addresses = new Set<string>([...scope.slices.map(({ address }) => address), ...anyAddress]);
      const found = sockets.filter(
        (socket) =>
          socket.protocol === 'tcp' &&
          socket.bindsLate === false &&
          !addresses.has(socket.address) &&
          (socket.state === 'listen' || socket.state === 'bound'),
      );
      if (found.length === 0) return [];
      const what = `${found.length} sockets on other addresses hold ports of slices: ${some(found.map(tell))}`;
      return [{ severity: 'info', what, mend: 'nothing, as long as the ports that are left suffice' }];
    },
  ),
  defineCheck(
    {
      id: 'bound-to-device',
      title: 'a socket on a leased port is bound to a device',
      why: 'SO_BINDTODEVICE to anything but the way out ends the exclusion by 5-tuple for IPv4 (the same 5-tuple connects twice), and for IPv6 the connect fails with ENETUNREACH.',
      remedy: 'Do not bind proxies to devices (HAProxy: no `interface` on `source`), or to the uplink only.',
      worst: 'warning',
    },
    ['sockets', 'scope', 'setup'],
    ({ sockets, scope, setup }) => {
      const addresses = new Set<string>(scope.slices.map(({ address }) => address));
      const found = sockets.filter(
        ({ address, device }) => device !== undefined && addresses.has(address) && !setup.host.uplinks.includes(device),
      );
      if (found.length === 0) return [];
      const told = found.map((socket) => `${tell(socket)} on ${socket.device ?? ''}`);
      return [
        {
          severity: 'warning',
          what: some(told),
          mend: 'take the device (interface, SO_BINDTODEVICE) out of its settings',
        },
      ];
    },
  ),
  defineCheck(
    {
      id: 'packet-sockets',
      title: 'programs read or write whole packets',
      why: 'What is written to a packet socket passes no netfilter hook: the guard does not see it. Most only read (tcpdump, DHCP clients).',
      remedy: 'Know them. Take CAP_NET_RAW from programs that do not need it.',
      worst: 'info',
    },
    ['packetSockets'],
    ({ packetSockets }) =>
      packetSockets.length === 0
        ? []
        : [
            {
              severity: 'info',
              what: `packet sockets: ${some(packetSockets.map(({ who }) => who))}`,
              mend: 'nothing, if you know them: the guard cannot see what they write',
            },
          ],
  ),
];

/** How many ports slices have in all: what the facts about sockets are bounded by. */
export const portsOf = (slices: readonly SliceFact[]): number =>
  slices.reduce((sum, { ports }) => sum + portCount(ports), 0);
