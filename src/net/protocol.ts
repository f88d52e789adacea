/**
 * The transport of a lease. `icmp` means echo, and its "port" is the echo identifier; on an IPv6 address it is ICMPv6.
 */
export const protocols = ['tcp', 'udp', 'icmp'] as const;
export type Protocol = (typeof protocols)[number];

/** IP protocol numbers (IANA): ICMPv6 is a number of its own. */
export function protocolNumber(protocol: Protocol, family: 4 | 6): number {
  if (protocol === 'tcp') return 6;
  if (protocol === 'udp') return 17;
  return family === 4 ? 1 : 58;
}
