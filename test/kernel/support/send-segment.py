"""Sends one TCP segment as no stack would: send-segment.py SOURCE PORT DESTINATION PORT BYTES [options]

More BYTES than fit into a packet make fragments. "options": IPv4 options, or an IPv6 header of hop-by-hop options.
"""
import socket
import struct
import sys

source, source_port, destination, destination_port, size = sys.argv[1:6]
options = 'options' in sys.argv[6:]
family = socket.AF_INET6 if ':' in source else socket.AF_INET
raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((source, 0))
if family == socket.AF_INET:
    # IP_MTU_DISCOVER, never: without it a raw socket refuses what does not fit.
    raw.setsockopt(socket.IPPROTO_IP, 10, 0)
    if options:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1]))
elif options:
    # One PadN that fills the header.
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
flags = 0x18  # PSH and ACK
header = struct.pack('!HHIIBBHHH', int(source_port), int(destination_port), 1000, 2000, 5 << 4, flags, 64240, 0, 0)
raw.sendto(header + bytes(int(size)), (destination, 0))
