import { isAbsolute, join, normalize } from 'node:path';
import { z } from 'zod';
import { addressPoolings, tcpRefusals, unsolicitedSyns } from '../../fish/config.ts';
import { dependences, isStricter } from '../../fish/flows/mapping.ts';
import { anyMss, mssLeast } from '../../fish/packet/mss-clamp.ts';
import { familyOf, type Address } from '../../net/address.ts';
import { prefixFamily, prefixHolds, type Prefix } from '../../net/prefix.ts';
import { implementations } from '../../keeper/program.ts';
import { certificateSettings } from '../../ops/certificate-settings.ts';
import { logSettings } from '../../ops/logger.ts';
import { AddressText, Name, PrefixText } from '../../wire/primitives.ts';
import { FishClaim } from '../fish/fish-claims.ts';
import type { HostSettings } from '../host/desired-host.ts';
import { flowLogSetting, Mark, seconds, socketName } from './setting-values.ts';
import { pathsOf, Terminate } from './settings-terminate.ts';
import { steeringModes, type SteeringMode } from '../steering/choose.ts';

/** The kernel's rule for names of network devices. */
const DeviceName = z
  .string()
  .refine((name) => /^(?!\.{1,2}$)[^\s/:%"{}]{1,15}$/.test(name), 'must be the name of a network device')
  .refine(
    (name) => !['lo', 'all', 'default'].includes(name),
    'must be a device that packets come in by: lo has what this host sends itself, and all and default are words of sysctl for every device',
  );

const AbsolutePath = z.string().refine(isAbsolute, 'must be an absolute path: it begins with /');

/** A claim that says neither family nor place gets the family of the clients: IPv4, unless they have none of that. */
function withFamily<
  Claim extends Readonly<{ family?: 4 | 6 | undefined; at?: Readonly<{ address: Address }> | undefined }>,
>(claim: Claim, prefixes: readonly Prefix[]): Claim {
  if (claim.family !== undefined) return claim;
  if (claim.at !== undefined) return { ...claim, family: familyOf(claim.at.address) };
  return { ...claim, family: prefixes.some((prefix) => prefixFamily(prefix) === 4) ? 4 : 6 };
}

const Fish = z
  .strictObject({
    enabled: z.boolean().default(true),
    holder: Name.default('fish').meta({ description: 'Name of the holder of kind fish on this machine' }),
    session_ttl_s: z.int().min(2).max(86_400).default(30),
    client_prefixes: z
      .array(PrefixText)
      .min(1)
      .meta({ description: 'Whose packets are translated; with those of IPv6, this host forwards IPv6' }),
    local_clients: z
      .array(PrefixText)
      .max(64)
      .default([])
      .meta({ description: "This host's own addresses inside client_prefixes, from which programs here use fish" }),
    claims: z.array(FishClaim).min(1).max(256).meta({ description: 'The leases that fish holds as long as it runs' }),
    icmp_source: AddressText.optional().meta({
      description: 'An address of this host: source of ICMP errors to clients',
    }),
    icmp_source6: AddressText.optional().meta({ description: 'The same over IPv6' }),
    ipv6_addresses_max: z.int().min(1).max(16_777_215).optional().meta({
      description: 'IPv6 addresses of clients, leases and remotes that fish knows at once',
    }),
    tcp_mapping: z.enum(dependences).optional().meta({
      description:
        "Toward which remotes a client's TCP port keeps its leased port; default address_and_port_dependent, by which a port serves many remotes; endpoint_independent as RFC 5382 has it",
    }),
    tcp_filtering: z.enum(dependences).optional().meta({
      description:
        'Who may begin a connection to a mapped TCP port: anybody, or whom the client has called; default: as tcp_mapping',
    }),
    udp_mapping: z.enum(dependences).optional().meta({
      description:
        "Toward which remotes a client's UDP port keeps its leased port; default endpoint_independent (RFC 4787)",
    }),
    udp_filtering: z.enum(dependences).optional().meta({
      description: 'Who may send to a UDP mapping: anybody, or whom the client has sent to; default: as udp_mapping',
    }),
    udp_inbound_refresh: z.boolean().optional().meta({
      description: 'Whether what comes in keeps a UDP mapping, too; default false',
    }),
    udp_port_parity: z.boolean().optional().meta({
      description: 'Even UDP ports get even leased ports, odd ones odd, as long as there are both; default true',
    }),
    refuse_tcp_with: z.enum(tcpRefusals).optional().meta({
      description: 'How a client hears that there is no port for its connection: by icmp (default) or a reset (rst)',
    }),
    mss_clamp: z
      .union([z.enum(['off', 'mtu']), z.int().min(mssLeast).max(anyMss)])
      .default('mtu')
      .meta({
        description:
          "The largest TCP segment that either end may be told to send: what fits through the narrowest of this host's links " +
          'that fish uses (mtu), so many bytes of data, or whatever the ends say (off)',
      }),
    unsolicited_syn: z.enum(unsolicitedSyns).optional().meta({
      description:
        'What becomes of a SYN from outside that nobody waits for: drop (default), or after six seconds unreachable (ICMP)',
    }),
    refusals_per_s_max: z.int().min(0).max(1_000_000).optional().meta({
      description: 'At most so many such answers a second; default 100',
    }),
    address_pooling: z
      .enum(addressPoolings)
      .optional()
      .meta({
        description:
          'A client keeps to one leased address as long as that has a port (paired, default), come what may ' +
          '(paired_strict), or not (arbitrary)',
      }),
    clients_max: z.int().min(1).max(4_194_304).optional().meta({
      description: 'Clients with flows at the same time; default 65536',
    }),
    client_prefix6_bits: z.int().min(1).max(128).optional().meta({
      description: 'IPv6 addresses that are alike in so many bits are one client; default 64',
    }),
    client_limits: z
      .strictObject({
        tcp_flows_max: z.int().min(1).max(16_777_216).optional(),
        udp_flows_max: z.int().min(1).max(16_777_216).optional(),
        icmp_flows_max: z.int().min(1).max(16_777_216).optional(),
        flows_per_s_max: z.int().min(1).max(10_000_000).optional().meta({
          description: 'New flows a second, in bursts of as many; default 20000',
        }),
        share: z
          .number()
          .min(0.001)
          .max(1)
          .optional()
          .meta({
            description:
              'How much of the flow table, of the placeholders and of the ports toward one destination a client may have when ' +
              'it is alone; less, the more others have. Default 0.9; 1: all, whoever comes first',
          }),
      })
      .optional()
      .meta({ description: 'What one client may have; flows that rest count' }),
    flows_max: z.int().min(1).max(16_777_216).optional(),
    placeholders_max: z.int().min(0).max(16_777_216).optional().meta({
      description: 'Sockets for flows in shared blocks; each is a descriptor',
    }),
    flow_log_max: z.int().min(1).max(67_108_864).optional().meta({
      description: 'Flows that have ended, the latest so many, that are in memory',
    }),
    flow_log: flowLogSetting("The flows that have ended, in state_dir/flows: what answers the server's flow queries"),
    fragmented_packets_max: z.int().min(2).max(65_536).optional().meta({
      description: 'Packets of which some, but not all fragments have come; half of them for each direction',
    }),
    fragment_bytes_max: z.int().min(1_048_576).max(1_073_741_824).optional().meta({
      description: 'For fragments that come before the first of their packet; half of it for each direction',
    }),
    fragment_timeout_s: z.int().min(1).max(120).optional().meta({
      description: 'How long the fragments of a packet may be on their way',
    }),
    timers: z
      .strictObject({
        tcp_established_s: seconds(1, 86_400).optional(),
        tcp_opening_s: seconds(1, 86_400).optional(),
        tcp_transitory_s: seconds(1, 86_400).optional(),
        tcp_rest_s: seconds(0, 86_400).optional(),
        tcp_reset_rest_s: seconds(0, 86_400).optional(),
        udp_s: seconds(1, 86_400).optional(),
        udp_rest_s: seconds(0, 86_400).optional(),
        icmp_s: seconds(1, 86_400).optional(),
        icmp_rest_s: seconds(0, 86_400).optional(),
      })
      .optional(),
  })
  .refine(
    ({ tcp_mapping: mapping = 'address_and_port_dependent', tcp_filtering: filtering = mapping }) =>
      !isStricter(mapping, filtering),
    'tcp_filtering must be at least as strict as tcp_mapping',
  )
  .refine(
    ({ udp_mapping: mapping = 'endpoint_independent', udp_filtering: filtering = mapping }) =>
      !isStricter(mapping, filtering),
    'udp_filtering must be at least as strict as udp_mapping',
  )
  // A family that no client speaks has no use for a lease; one that is not said is that of the clients, IPv4 if they speak both.
  .superRefine(({ claims, client_prefixes: prefixes }, context) => {
    for (const { family } of claims.map((claim) => withFamily(claim, prefixes)))
      if (family !== undefined && !prefixes.some((prefix) => prefixFamily(prefix) === family))
        context.addIssue({
          code: 'custom',
          path: ['claims'],
          message: `a claim of family ${family}, and no client prefix is one of IPv${family}`,
        });
  })
  .transform((fish) => ({
    ...fish,
    claims: fish.claims.map((claim) => withFamily(claim, fish.client_prefixes)),
  }))
  .meta({ description: 'The packet path of this host; absent: none' });

const Broker = z
  .strictObject({
    enabled: z.boolean().default(true),
    socket: AbsolutePath.max(100)
      .default('/run/fishery/broker.sock')
      .meta({ description: 'Path of the Unix socket on which programs of this host are served' }),
  })
  .meta({ description: 'Grants on this host, in slices that the server lets this machine allocate' });

/** Settings of `fishery agent`. */
export const agentSettings = z
  .strictObject({
    machine: Name.optional().meta({
      description: 'Name of this machine on the server; default: the name of this host',
    }),
    server: z
      .url({ protocol: /^https?$/ })
      .default('http://127.0.0.1:7480')
      .meta({ description: 'Address of the server' }),
    token_file: z
      .string()
      .default('/etc/fishery/agent.token')
      .meta({ description: 'File with the token of role agent for this machine' }),
    ...certificateSettings,
    state_dir: AbsolutePath.default('/var/lib/fishery').meta({
      description: 'Where the agent writes down how the host was before it came, and where its status socket is',
    }),
    uplinks: z.array(DeviceName).max(64).default([]).meta({
      description: 'Interfaces toward the remotes; needed for fish. None: packets for the pools may arrive anywhere',
    }),
    client_interfaces: z
      .array(DeviceName)
      .max(64)
      .default([])
      .meta({ description: 'Interfaces from which packets go to fish' }),
    tun: DeviceName.default('fishtun').meta({ description: "Name of fish's TUN device" }),
    tun_queue_packets: z.int().min(64).max(65_536).default(4_096).meta({
      description: 'Packets that the TUN device holds while nobody reads it: what comes while the agent is restarted',
    }),
    mark: Mark.default(0x2a).meta({ description: "Packet mark that leads to fish's routing table" }),
    mark_mask: Mark.default(0xff).meta({ description: 'Which bits of the packet mark are used; the others are kept' }),
    route_table: z
      .int()
      .min(1)
      .max(0xffff_ffff)
      .default(100)
      .meta({ description: "Number of fish's routing table, which nobody else may use" }),
    rule_priority: z
      .int()
      .min(1)
      .max(32_000)
      .default(10)
      .meta({ description: "Priority of the rule on fish's mark; the next two are used as well" }),
    manage_port_range: z
      .boolean()
      .default(true)
      .meta({ description: 'Widen net.ipv4.ip_local_port_range, without which late binding misses ports silently' }),
    keep_source: z.boolean().default(true).meta({
      description:
        "While others have source NAT on this host, see to it that it leaves the pools' addresses as they are",
    }),
    steering: z
      .enum(['auto', ...steeringModes])
      .default('auto')
      .meta({
        description:
          'How replies find fish: ebpf (early demux stays on), nftables (off), auto: ebpf where this host can',
      }),
    keeper: z
      .enum(implementations)
      .default('auto')
      .meta({
        description:
          'The program that keeps descriptors while the agent is away: native (built with the package, or by this ' +
          "machine's C compiler), typescript (a hundred times the memory), or auto (native where it can be had)",
      }),
    keep: z
      .boolean()
      .default(true)
      .meta({
        description:
          'On a planned stop keep every lease and flow, and leave the guard open until its timeout, for a successor; false: ' +
          'every stop gives back what fish has, ends its flows and shuts the guard',
      }),
    fish: Fish.optional(),
    terminate: Terminate.optional(),
    broker: Broker.prefault({}),
    ...logSettings,
  })
  .superRefine((settings, context) => {
    const { fish, uplinks, mark, mark_mask: mask, route_table: table } = settings;
    const complain = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
    if (fish?.enabled && uplinks.length === 0) complain('uplinks', 'fish needs to know where its packets leave');
    for (const prefix of fish?.local_clients ?? [])
      if (!fish?.client_prefixes.some((clients) => prefixHolds(clients, prefix)))
        complain('fish', `local_clients: ${prefix} is not inside client_prefixes`);
    if (mask === 0) complain('mark_mask', 'must have a bit');
    else if ((mark & mask) === 0)
      complain('mark', 'must have a bit inside mark_mask: 0 is the mark of every other packet');
    else if ((mark & ~mask) !== 0) complain('mark', 'must not have bits outside mark_mask');
    const kernels = 'is a table of the kernel (default, main, local)';
    if (isKernels(table)) complain('route_table', kernels);
    const { terminate, client_interfaces: clients, tun, broker } = settings;
    if (fish?.enabled) {
      const both = clients.filter((name) => uplinks.includes(name));
      if (both.length > 0)
        complain(
          'client_interfaces',
          `${both.join(', ')} is an uplink as well: whatever arrived there for others than this host would go to fish`,
        );
    }
    for (const key of ['uplinks', 'client_interfaces'] as const)
      if (settings[key].includes(tun))
        complain(key, `${tun} is fish's own device (tun): packets would go round in a circle`);
    const kept = [join(settings.state_dir, socketName), settings.token_file].map(normalize);
    if (broker.enabled && kept.includes(normalize(broker.socket)))
      complain('broker', `socket: ${broker.socket} is another file of the agent: the broker needs a path of its own`);
    if (!terminate?.enabled) return;
    const complainOf = (message: string) => complain('terminate', message);
    if (clients.length === 0) complainOf('client_interfaces says where the connections come from, and names none');
    if ((terminate.mark & ~mask) !== 0) complainOf('mark: must not have bits outside mark_mask');
    if ((terminate.mark & mask) === 0 || terminate.mark === mark)
      complainOf("mark: must be neither 0 nor fish's, as far as mark_mask goes");
    if (isKernels(terminate.route_table)) complainOf(`route_table: ${kernels}`);
    if (terminate.route_table === table) complainOf("route_table: is fish's");
    if (fish?.enabled && terminate.holder === fish.holder) complainOf("holder: is fish's");
  });
const isKernels = (table: number): boolean => [253, 254, 255].includes(table);
export type AgentSettings = z.infer<typeof agentSettings>;
export type FishSettings = z.infer<typeof Fish>;

/** `steering` as it was chosen for this host: see `chooseSteering`. */
export const hostSettings = (settings: AgentSettings, steering: SteeringMode = 'nftables'): HostSettings => ({
  fish: settings.fish?.enabled ?? false,
  tun: settings.tun,
  mark: settings.mark,
  markMask: settings.mark_mask,
  routeTable: settings.route_table,
  rulePriority: settings.rule_priority,
  uplinks: settings.uplinks,
  clientInterfaces: settings.client_interfaces,
  managePortRange: settings.manage_port_range,
  keepSource: settings.keep_source,
  steering,
  localClients: settings.fish?.local_clients ?? [],
  terminate: settings.terminate?.enabled
    ? {
        port: settings.terminate.port,
        mark: settings.terminate.mark,
        routeTable: settings.terminate.route_table,
        paths: pathsOf(settings.terminate),
      }
    : null,
  forwardsIpv6: settings.fish?.client_prefixes.some((prefix) => prefixFamily(prefix) === 6) ?? false,
});
