/** Lengths of headers and offsets into them, in bytes (RFC 791, 9293, 768, 792), and ICMP's types of echoes (RFC 792, 4443). */

/** Without options. */
export const IPV4_HEADER = 20;
export const SOURCE4 = 12;
export const DESTINATION4 = 16;

/** Without options, which begin there. */
export const TCP_HEADER = 20;
export const TCP_CHECKSUM = 16;

export const UDP_HEADER = 8;
export const UDP_CHECKSUM = 6;

/** Also of ICMPv6. An echo's data follows, or what an error quotes. */
export const ICMP_HEADER = 8;
export const ICMP_CHECKSUM = 2;
export const ECHO_IDENTIFIER = 4;

export const ECHO_REPLY = 0;
export const ECHO_REQUEST = 8;
export const ECHO6_REQUEST = 128;
export const ECHO6_REPLY = 129;
