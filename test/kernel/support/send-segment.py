"""Sends TCP segments as no stack would; one for each argument SOURCE,PORT,DESTINATION,PORT,BYTES[,options].

More BYTES than fit into a packet make fragments. "options": IPv4 options, or an IPv6 header of hop-by-hop options.
"""
import socket
import struct
import sys

PSH_ACK = 0x18


def send(source, source_port, destination, destination_port, size, *more):
    family = socket.AF_INET6 if ':' in source else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw.bind((source, 0))
    if family == socket.AF_INET:
        # IP_MTU_DISCOVER, never: without it a raw socket refuses what does not fit.
        raw.setsockopt(socket.IPPROTO_IP, 10, 0)
        if 'options' in more:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1]))
    elif 'options' in more:
        # One PadN that fills the header.
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
    ports = (int(source_port), int(destination_port))
    header = struct.pack('!HHIIBBHHH', *ports, 1000, 2000, 5 << 4, PSH_ACK, 64240, 0, 0)
    raw.sendto(header + bytes(int(size)), (destination, 0))


for argument in sys.argv[1:]:
    send(*argument.split(','))
