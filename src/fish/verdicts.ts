/** The verdict on a packet that goes back out through the TUN; every other verdict but HELD is a number of `DROP`. */
export const FORWARD = 0;

/** It waits for the first fragment of its packet, and will leave behind it, or be dropped: no verdict yet. */
export const HELD = 255;

/**
 * Why a packet is dropped: its verdict, the index of its counter, and (the key) its name in metrics. One cause each, so
 * that a rising counter says what to look at.
 */
export const DROP = {
  /** The buffer ends before the headers, or before the length they state. */
  truncated: 1,
  /** Neither version 4 nor version 6. */
  bad_version: 2,
  /** Extension headers of IPv6 that are too many, out of their order, or there twice. */
  bad_extension_headers: 3,
  /** An IHL below 5, a total length below the header's, a TCP data offset or a UDP length that cannot be. */
  bad_length: 4,
  /** The IPv4 header's own checksum. Transport checksums are not verified: a wrong one leaves as wrong as it came. */
  bad_header_checksum: 5,
  /** The virtio header wants a checksum completed somewhere else than where this packet has its own. */
  bad_vnet_header: 6,
  /** Its bytes, or the length that it gives the whole, contradict another fragment's: nothing of the whole passes any more. */
  fragment_overlap: 7,
  /** Not TCP, UDP or ICMP. */
  protocol_unsupported: 8,
  /** An ICMP error that means nothing beyond a router (redirect, source quench), or that quotes no TCP, UDP or echo. */
  icmp_error_unusable: 9,
  /** ICMP other than an echo request going out or an echo reply coming in. */
  icmp_type_unsupported: 10,
  /** No flag at all, or SYN together with FIN or RST. */
  bad_tcp_flags: 11,
  /** TCP or UDP port 0. */
  port_zero: 12,
  /** A client whose source is a leased address. */
  spoofed_source: 13,
  /** A client that no allowed prefix contains, or no routable unicast address. */
  source_not_allowed: 14,
  /** A client's packet to an address that is no routable unicast one. */
  bad_destination: 15,
  /** A client's packet to a leased address, and to a port that is not fish's: whoever has it is not behind this fish. */
  hairpin_nowhere: 16,
  /** Unsolicited: to a leased address and to a port that nobody uses toward this remote. Never answered. */
  no_flow: 17,
  /** To a flow that ended, by somebody who could only want a new one. */
  resting: 18,
  /** UDP from whom the client never sent to, or a TCP connection from whom it never called: its filter does not let them in. */
  filtered: 19,
  /** TCP from a client that begins no connection and belongs to none: without its SYN, it is not ours to map. */
  not_syn: 20,
  /** No block of this protocol is leased. */
  no_lease: 21,
  /** Blocks there are, but no port was free toward this remote within the bounds of the search. */
  no_port: 22,
  /** As many flows as the table holds. */
  table_full: 23,
  /** As many placeholders as the budget allows, and no exclusive port left. */
  placeholder_budget: 24,
  /** The kernel refused a placeholder for another reason than that the tuple is taken. */
  placeholder_failed: 25,
  /** From a client to a UDP peer more, when there are as many as the table holds (a filter that is stricter than the mapping). */
  peers_full: 26,
  /** Of a fragment: no data, a length that is no multiple of eight and has more behind it, or an end beyond 65,535 bytes. */
  fragment_bad_length: 27,
  /** A first fragment without all of its TCP, UDP or ICMP header (RFC 1858). */
  fragment_too_small: 28,
  /** All its bytes were there before. */
  fragment_duplicate: 29,
  /** More fragments of one packet than anybody has a reason to make of it. */
  fragment_too_many: 30,
  /** The first fragment of its packet was dropped, for a reason that is counted there. */
  fragment_refused: 31,
  /** It waited for the first fragment in vain. */
  fragment_timeout: 32,
  /** It waited for the first fragment, and had to make room for others: `fragmentBytesMax`, `fragmentedPacketsMax`. */
  fragment_evicted: 33,
  /** A new flow while it is not known whether the leases are still this machine's: the server has been silent for too long. */
  fenced: 34,
  /** From one client more, when as many have flows as there may be. */
  clients_full: 35,
  /** The client begins flows faster than one client may. */
  client_rate: 36,
  /** The client has as many flows of this protocol as one client may have. */
  client_flows: 37,
  /** The client has its share of the flow table, of what others have left of it. */
  table_share: 38,
  /** The client has its share of the leased ports toward this remote. */
  port_share: 39,
  /** The client has its share of the placeholders, and no exclusive port is left. */
  placeholder_share: 40,
  /** An IPv4 option whose length or pointer cannot be. */
  bad_ip_option: 41,
  /** An IPv4 option that has the packet go by hosts of the sender's choice (RFC 7126). */
  source_route: 42,
  /** From outside, and from no routable unicast address: nobody could have sent it. */
  bad_source: 43,
  /** An IPv6 routing header of type 0 (RFC 5095), or one that leads on from the destination. */
  routing_header: 44,
  /** UDP over IPv6 without a checksum, which nothing else protects (RFC 8200 8.1). */
  udp_without_checksum: 45,
  /** As many IPv6 addresses as the address book holds. */
  addresses_full: 46,
  /** From outside, a TCP connection to a mapped port: as many wait for the client's answer as may, or came within a second. */
  call_limit: 47,
  /** From a client to a UDP peer more, when it has its share of those that can be remembered. */
  peer_share: 48,
} as const;

export type DropReason = keyof typeof DROP;

/** The names of `DROP` in the order of their numbers, beginning with 1. */
export const dropReasons = Object.keys(DROP) as readonly DropReason[];

/** `forward`, `held`, or the name of the reason. */
export const verdictName = (verdict: number): string =>
  verdict === FORWARD ? 'forward' : verdict === HELD ? 'held' : (dropReasons[verdict - 1] ?? `unknown_${verdict}`);
