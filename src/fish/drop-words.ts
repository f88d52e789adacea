import type { DropReason } from './verdicts.ts';

/** What each reason means, for people; `DROP` says more. */
export const dropWords: Readonly<Record<DropReason, string>> = {
  truncated: 'the buffer ends before the headers, or before the length they state',
  bad_version: 'neither version 4 nor version 6',
  bad_extension_headers: 'extension headers of IPv6 that are too many, out of their order, or there twice',
  bad_length: "an IHL below 5, a total length below the header's, a TCP data offset or a UDP length that cannot be",
  bad_header_checksum:
    "the IPv4 header's own checksum. Transport checksums are not verified: a wrong one leaves as wrong as it came",
  bad_vnet_header: 'the virtio header wants a checksum completed somewhere else than where this packet has its own',
  fragment_overlap:
    "its bytes, or the length that it gives the whole, contradict another fragment's: nothing of the whole passes any more",
  protocol_unsupported: 'not TCP, UDP or ICMP',
  icmp_error_unusable:
    'an ICMP error that means nothing beyond a router (redirect, source quench), or that quotes no TCP, UDP or echo',
  icmp_type_unsupported: 'ICMP other than an echo request going out or an echo reply coming in',
  bad_tcp_flags: 'no flag at all, or SYN together with FIN or RST',
  port_zero: 'TCP or UDP port 0',
  spoofed_source: 'A client whose source is a leased address',
  source_not_allowed: 'A client that no allowed prefix contains, or no routable unicast address',
  bad_destination: "A client's packet to an address that is no routable unicast one",
  hairpin_nowhere:
    "A client's packet to a leased address, and to a port that is not fish's: whoever has it is not behind this fish",
  no_flow: 'unsolicited: to a leased address and to a port that nobody uses toward this remote. Never answered',
  resting: 'to a flow that ended, by somebody who could only want a new one',
  filtered:
    'UDP from whom the client never sent to, or a TCP connection from whom it never called (udp_filtering, tcp_filtering)',
  not_syn: 'TCP from a client that begins no connection and belongs to none: without its SYN, it is not ours to map',
  no_lease: 'no block of this protocol is leased',
  no_port: 'blocks there are, but no port was free toward this remote within the bounds of the search',
  table_full: 'as many flows as the table holds',
  placeholder_budget: 'as many placeholders as the budget allows, and no exclusive port left',
  placeholder_failed: 'the kernel refused a placeholder for another reason than that the tuple is taken',
  peers_full: 'to a UDP peer more, when there are as many as the table holds (udp_filtering)',
  fragment_bad_length:
    'of a fragment: no data, a length that is no multiple of eight and has more behind it, or an end beyond 65,535 bytes',
  fragment_too_small: 'A first fragment without all of its TCP, UDP or ICMP header (RFC 1858)',
  fragment_duplicate: 'all its bytes were there before',
  fragment_too_many: 'more fragments of one packet than anybody has a reason to make of it',
  fragment_refused: 'the first fragment of its packet was dropped, for a reason that is counted there',
  fragment_timeout: 'it waited for the first fragment in vain',
  fragment_evicted:
    'it waited for the first fragment, and had to make room for others: fragmentBytesMax, fragmentedPacketsMax',
  fenced:
    "A new flow while it is not known whether the leases are still this machine's: the server has been silent for too long",
  clients_full: 'from one client more, when as many have flows as there may be',
  client_rate: 'the client begins flows faster than one client may',
  client_flows: 'the client has as many flows of this protocol as one client may have',
  table_share: 'the client has its share of the flow table, of what others have left of it',
  port_share: 'the client has its share of the leased ports toward this remote',
  placeholder_share: 'the client has its share of the placeholders, and no exclusive port is left',
  bad_ip_option: 'an IPv4 option whose length or pointer cannot be',
  source_route: "an IPv4 option that has the packet go by hosts of the sender's choice (RFC 7126)",
  bad_source: 'from outside, and from no routable unicast address: nobody could have sent it',
  routing_header: 'an IPv6 routing header of type 0 (RFC 5095), or one that leads on from the destination',
  udp_without_checksum: 'UDP over IPv6 without a checksum, which nothing else protects (RFC 8200 8.1)',
  addresses_full: 'as many IPv6 addresses as the address book holds',
  call_limit:
    "a TCP connection from outside to a mapped port: as many wait for the client's answer as may, or came within a second",
  peer_share: 'to a UDP peer more, when the client has its share of those that can be remembered (udp_filtering)',
};
