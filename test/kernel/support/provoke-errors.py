"""Sends what an origin refuses: provoke-errors.py REFUSING PORT NARROW

Twelve connections to a port that is refused by ICMP, without and then with IP options, and to an address behind a narrow
link a datagram that must not be fragmented, without and with options.
"""
import socket
import sys

refusing, port, narrow = sys.argv[1], int(sys.argv[2]), sys.argv[3]
NOPS = bytes([1, 1, 1, 1, 1, 1, 1, 1])
for options in (b'', NOPS):
    for _ in range(12):
        tcp = socket.socket()
        if options:
            tcp.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        # One SYN, and not the wait for a second one.
        tcp.settimeout(0.05)
        try:
            tcp.connect((refusing, port))
        except OSError:
            pass
        tcp.close()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if options:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
    # IP_MTU_DISCOVER, probe: "don't fragment", whatever has been heard of the way there.
    udp.setsockopt(socket.IPPROTO_IP, 10, 3)
    udp.sendto(bytes(1400), (narrow, 9))
