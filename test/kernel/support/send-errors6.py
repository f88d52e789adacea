"""Reports errors about IPv6 packets with extension headers: send-errors6.py POOL PORT REMOTE CHAIN ...

One ICMPv6 error (port unreachable) to POOL for each CHAIN, about a datagram that POOL would have sent from PORT to REMOTE.
A CHAIN names what stands before the ports: h (hop-by-hop options) or d (destination options) with their length in words of
eight bytes, f (the first fragment), l (a later one); `-` for nothing.
"""
import re
import socket
import struct
import sys

pool, port, remote, chains = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
NUMBERS = {'h': 0, 'd': 60, 'f': 44, 'l': 44}
UDP = 17

icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
for chain in chains:
    parts = [(kind, int(words or 1)) for kind, words in re.findall(r'([hdfl])(\d?)', chain)]
    numbers = [NUMBERS[kind] for kind, _ in parts] + [UDP]
    headers = b''
    for (kind, words), following in zip(parts, numbers[1:]):
        if kind in 'hd':
            body = 8 * words - 4
            # PadN
            headers += struct.pack('!BBBB', following, words - 1, 1, body) + bytes(body)
        else:
            headers += struct.pack('!BBHI', following, 0, 1 if kind == 'f' else 8 * 100 + 1, 7)
    datagram = headers + struct.pack('!HHHH', port, 53, 8, 0)
    quoted = struct.pack('!IHBB', 6 << 28, len(datagram), numbers[0], 64)
    quoted += socket.inet_pton(socket.AF_INET6, pool) + socket.inet_pton(socket.AF_INET6, remote) + datagram
    # The kernel writes the checksum.
    icmp.sendto(struct.pack('!BBHI', 1, 4, 0, 0) + quoted, (pool, 0))
