"""Speaks of neighbours from a pool's address: send-neighbours6.py SOURCE TARGET DEVICE TYPE,HOPS ...

One ICMPv6 message about TARGET to all nodes on the link, for each TYPE of it and each hop limit.
"""
import socket
import struct
import sys

source, target, device = sys.argv[1:4]
for kind, hops in (map(int, each.split(',')) for each in sys.argv[4:]):
    icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    icmp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    icmp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
    icmp.bind((source, 0))
    message = struct.pack('!BBHI', kind, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, target)
    try:
        icmp.sendto(message, ('ff02::1', 0))
    except PermissionError:
        # The guard's drop, as the sender sees it.
        pass
