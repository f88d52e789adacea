import type { Address } from '../net/address.ts';
import { familyOf } from '../net/address.ts';
import { prefixFamily, prefixBounds, type Prefix } from '../net/prefix.ts';
import { err, ok, type Result } from '../net/result.ts';
import type { ClientLimits } from './ports/clients.ts';
import { isStricter, type Dependence } from './flows/mapping.ts';
import { anyMss, mssLeast, type MssMax } from './packet/mss-clamp.ts';
import type { VnetHeaderBytes } from './packet/vnet-header.ts';

/** How long a flow lasts without traffic that refreshes it, and how long its tuple rests afterwards; in seconds. */
export type FlowTimers = Readonly<{
  /** RFC 5382 REQ-5: not less than 2 hours 4 minutes. Half-closed connections have it too. */
  tcpEstablishedS: number;
  /** RFC 5382 REQ-5, RFC 7857 section 2.1: 4 minutes recommended; during the handshake. */
  tcpOpeningS: number;
  /** RFC 5382 REQ-5: not less than 4 minutes; when both sides have sent their FIN, or when a RST is doubtful. */
  tcpTransitoryS: number;
  /** After the end: as long as the remote's TIME_WAIT, in which it would refuse the tuple to somebody new. */
  tcpRestS: number;
  /** The same after a reset: RFC 7857 section 2.2, 4 minutes. What is beyond the other rest yields to whoever has no port else. */
  tcpResetRestS: number;
  /** RFC 4787 REQ-5: 5 minutes recommended, since the last packet outwards (REQ-6). */
  udpS: number;
  /** So that what the remote still sends does not reach the next client on that port: RFC 6888 REQ-8, 2 minutes. */
  udpRestS: number;
  /** RFC 5508 REQ-2: not less than 60 seconds. */
  icmpS: number;
  icmpRestS: number;
}>;

/**
 * Which leased address a client's new flow gets (RFC 4787 REQ-2). `paired`: the one that it uses already, as long as that has
 * a port ("soft" in the words of RFC 7857 section 4). `paired_strict`: that one and no other. `arbitrary`: any.
 */
export const addressPoolings = ['paired', 'paired_strict', 'arbitrary'] as const;
export type AddressPooling = (typeof addressPoolings)[number];

/** How a client hears that its TCP connection cannot be: by ICMP administratively prohibited, or by a reset. */
export const tcpRefusals = ['icmp', 'rst'] as const;
export type TcpRefusal = (typeof tcpRefusals)[number];

/** What becomes of a SYN from outside that nobody waits for: nothing, or after six seconds "port unreachable" (RFC 5382 REQ-4). */
export const unsolicitedSyns = ['drop', 'unreachable'] as const;
export type UnsolicitedSyn = (typeof unsolicitedSyns)[number];

/** `mssMax`, `mssMax6`: what SYNs announce is lowered to that. */
export type FishConfig = ClientLimits & MssMax & FishBounds;

type FishBounds = Readonly<{
  /** Whose packets are translated: networks of either family, one at least. Everything else from inside is dropped. */
  clientPrefixes: readonly Prefix[];
  /** The source of ICMP errors to clients, an address of this host; null: no errors are sent. */
  icmpSource: Address | null;
  /** The same over IPv6. */
  icmpSource6: Address | null;
  /** At most so many answers a second to clients that get no source, resets among them. */
  icmpErrorsPerSMax: number;
  refuseTcpWith: TcpRefusal;
  unsolicitedSyn: UnsolicitedSyn;
  addressPooling: AddressPooling;
  /**
   * Whether replies to flows with a placeholder come from the device on which they arrived, by the steering program, without a
   * hop into the TUN.
   */
  placeholderRepliesSkipHop: boolean;
  /** What openTun() of the descriptor said: 0 without IFF_VNET_HDR. */
  vnetHeaderBytes: VnetHeaderBytes;
  flowsMax: number;
  blocksMax: number;
  /** Placeholders open at once, those of resting flows included: each is a descriptor. */
  placeholdersMax: number;
  /** How many (address, port) are looked at for one new flow, */
  portProbesMax: number;
  /** and for how many of those the kernel is asked. */
  placeholderAttemptsMax: number;
  /**
   * Toward which remotes a client's TCP port keeps its leased one. `address_and_port_dependent`: each connection has a port of
   * its own, which serves as many other connections as there are other remotes. `endpoint_independent`, as RFC 5382 REQ-1
   * has it: a port for each port of a client, so that others can call it there.
   */
  tcpMapping: Dependence;
  /** Who may begin a TCP connection to a mapped port: see `udpFiltering`, and RFC 5382 REQ-3. */
  tcpFiltering: Dependence;
  /**
   * Toward which remotes a client's UDP port keeps its leased one. `endpoint_independent`, which RFC 4787 REQ-1 requires: toward
   * everybody. The other two need fewer ports, and break what finds its peers by a third party (STUN, games, calls).
   */
  udpMapping: Dependence;
  /**
   * Which packets from outside a UDP mapping lets in. `endpoint_independent`: from anybody, which RFC 4787 REQ-8 recommends
   * where applications matter most. `address_dependent`: from addresses that the client has sent to, its recommendation
   * where a stricter filter matters most. `address_and_port_dependent`: from addresses and ports that it has sent to.
   */
  udpFiltering: Dependence;
  /** Whether what comes in keeps a mapping, too, of which RFC 4787 REQ-6 warns: then outsiders can keep it for ever. */
  udpInboundRefresh: boolean;
  /** Whether an even port gets an even leased one, and an odd an odd one (RFC 4787 REQ-4), as long as there are both. */
  udpPortParity: boolean;
  /** Peers (remotes of a client) remembered for a filter that is stricter than the mapping. */
  udpPeersMax: number;
  /** IPv6 addresses of clients, leases and remotes known at once; without an IPv6 client there is room for none. */
  ipv6AddressesMax: number;
  /** Ended flows that can still be attributed. */
  flowLogMax: number;
  /** Packets of which some, but not all fragments have come; half of them for each direction. */
  fragmentedPacketsMax: number;
  /** For fragments that wait for the first of theirs, which has the ports; half of it for each direction. */
  fragmentBytesMax: number;
  /** After the first fragment that came; RFC 791 recommends 15 seconds, RFC 8200 60. */
  fragmentTimeoutS: number;
  timers: FlowTimers;
}>;

export const defaultTimers: FlowTimers = {
  tcpEstablishedS: 7_440,
  tcpOpeningS: 240,
  tcpTransitoryS: 240,
  tcpRestS: 60,
  tcpResetRestS: 240,
  udpS: 300,
  udpRestS: 120,
  icmpS: 60,
  icmpRestS: 0,
};

/** Everything but who the clients are, which no default could know. */
export const defaultFishConfig: Omit<FishConfig, 'clientPrefixes'> = {
  icmpSource: null,
  icmpSource6: null,
  icmpErrorsPerSMax: 100,
  refuseTcpWith: 'icmp',
  // RFC 5382 REQ-4a: who answers tells scanners what is leased, and whoever forges a source what to answer.
  unsolicitedSyn: 'drop',
  addressPooling: 'paired',
  placeholderRepliesSkipHop: false,
  mssMax: anyMss,
  mssMax6: anyMss,
  vnetHeaderBytes: 10,
  flowsMax: 131_072,
  blocksMax: 4_096,
  placeholdersMax: 16_384,
  portProbesMax: 256,
  placeholderAttemptsMax: 16,
  // Few ports serve many connections: RFC 7857 section 3.
  tcpMapping: 'address_and_port_dependent',
  tcpFiltering: 'address_and_port_dependent',
  udpMapping: 'endpoint_independent',
  udpFiltering: 'endpoint_independent',
  udpInboundRefresh: false,
  udpPortParity: true,
  udpPeersMax: 262_144,
  ipv6AddressesMax: 262_144,
  flowLogMax: 262_144,
  fragmentedPacketsMax: 2_048,
  fragmentBytesMax: 4_194_304,
  fragmentTimeoutS: 30,
  clientsMax: 65_536,
  clientPrefix6Bits: 64,
  // No more than the table holds: by itself the share keeps one client from having all.
  tcpFlowsPerClientMax: 2 ** 24,
  udpFlowsPerClientMax: 2 ** 24,
  icmpFlowsPerClientMax: 2 ** 24,
  flowsPerSPerClientMax: 20_000,
  clientShare: 0.9,
  timers: defaultTimers,
};

/** Fills in the defaults and checks what no type can; the error names the setting. */
export function fishConfig(
  given: Partial<FishConfig> & Pick<FishConfig, 'clientPrefixes'>,
): Result<FishConfig, string> {
  // Without a word about filtering, it is as strict as the mapping is by itself.
  const udpFiltering = given.udpFiltering ?? given.udpMapping ?? defaultFishConfig.udpFiltering;
  const tcpFiltering = given.tcpFiltering ?? given.tcpMapping ?? defaultFishConfig.tcpFiltering;
  const config: FishConfig = { ...defaultFishConfig, ...given, udpFiltering, tcpFiltering };
  const { clientPrefixes, icmpSource, icmpSource6, udpMapping, tcpMapping } = config;
  if (clientPrefixes.length === 0) return err('clientPrefixes: name the networks that clients come from');
  for (const prefix of clientPrefixes) {
    // With the whole Internet as client, a reply from outside could not be told from a client's own packet.
    if (prefixBounds(prefix).count === 2n ** (prefixFamily(prefix) === 4 ? 32n : 128n))
      return err(`clientPrefixes: ${prefix} leaves nothing to be outside`);
  }
  if (icmpSource !== null && familyOf(icmpSource) !== 4) return err(`icmpSource: ${icmpSource} is not an IPv4 address`);
  if (icmpSource6 !== null && familyOf(icmpSource6) !== 6)
    return err(`icmpSource6: ${icmpSource6} is not an IPv6 address`);
  // A port that several clients have, each toward another remote, has nobody to whom a stranger could be let in.
  if (isStricter(udpMapping, udpFiltering))
    return err(
      `udpFiltering: ${udpFiltering} cannot be had with udpMapping ${udpMapping}: choose one at least as strict`,
    );
  if (isStricter(tcpMapping, tcpFiltering))
    return err(
      `tcpFiltering: ${tcpFiltering} cannot be had with tcpMapping ${tcpMapping}: choose one at least as strict`,
    );
  return firstProblem(config) ?? ok(config);
}

function firstProblem(config: FishConfig): Result<never, string> | undefined {
  const counts = {
    icmpErrorsPerSMax: [0, 1_000_000],
    mssMax: [mssLeast, anyMss],
    mssMax6: [mssLeast, anyMss],
    flowsMax: [1, 2 ** 24],
    // A flow's block is kept in 16 bits.
    blocksMax: [1, 65_536],
    placeholdersMax: [0, 2 ** 24],
    portProbesMax: [1, 65_536],
    placeholderAttemptsMax: [1, 65_536],
    udpPeersMax: [1, 2 ** 24],
    // Below every IPv4 address that a packet may have.
    ipv6AddressesMax: [1, 2 ** 24 - 1],
    flowLogMax: [1, 2 ** 26],
    fragmentedPacketsMax: [2, 65_536],
    fragmentBytesMax: [1_048_576, 2 ** 30],
    fragmentTimeoutS: [1, 120],
    clientsMax: [1, 2 ** 22],
    clientPrefix6Bits: [1, 128],
    tcpFlowsPerClientMax: [1, 2 ** 24],
    udpFlowsPerClientMax: [1, 2 ** 24],
    icmpFlowsPerClientMax: [1, 2 ** 24],
    flowsPerSPerClientMax: [1, 10_000_000],
  } as const;
  for (const [name, [least, most]] of Object.entries(counts)) {
    const value = config[name as keyof typeof counts];
    if (!Number.isInteger(value) || value < least || value > most)
      return err(`${name}: a whole number, ${least} to ${most}`);
  }
  const { clientShare } = config;
  if (!(clientShare >= 0.001 && clientShare <= 1)) return err('clientShare: 0.001 to 1');
  for (const [name, seconds] of Object.entries(config.timers)) {
    const least = name.endsWith('RestS') ? 0 : 1;
    if (!(seconds >= least && seconds <= 86_400)) return err(`timers.${name}: ${least} to 86400 seconds`);
  }
  return undefined;
}
