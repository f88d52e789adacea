"""Sends IP packets as they are: send-packets.py HEX ...; each is a whole packet, of IPv4 or IPv6."""
import socket
import sys

RAW = 255
v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, RAW)
v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, RAW)
for text in sys.argv[1:]:
    packet = bytes.fromhex(text)
    if packet[0] >> 4 == 4:
        v4.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
    else:
        v6.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0, 0, 0))
