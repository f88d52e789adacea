"""Datagrams that one call sends, cut by segmentation offload (UDP_SEGMENT), both ways.

  ask ADDRESS PORT COUNT BYTES    sends COUNT datagrams in one call; says how many came back, of which sizes, all of them right
  serve ADDRESS PORT COUNT BYTES  says "ready"; answers every COUNT datagrams by as many, in one call
"""
import socket
import struct
import sys

UDP_SEGMENT = 103


def body(count, size):
    return b''.join(bytes([number]) * size for number in range(count))


def burst(sender, data, size, *to):
    sender.sendmsg([data], [(socket.SOL_UDP, UDP_SEGMENT, struct.pack('H', size))], 0, *to)


def ask(family, address, port, count, size):
    asking = socket.socket(family, socket.SOCK_DGRAM)
    asking.settimeout(20)
    asking.connect((address, port))
    burst(asking, body(count, size), size)
    answers = [asking.recv(65536) for _ in range(count)]
    print(len(answers), sorted({len(each) for each in answers}), b''.join(sorted(answers)) == body(count, size))


def serve(family, address, port, count, size):
    serving = socket.socket(family, socket.SOCK_DGRAM)
    serving.bind((address, port))
    print('ready', flush=True)
    while True:
        got = [serving.recvfrom(65536) for _ in range(count)]
        burst(serving, b''.join(sorted(data for data, _ in got)), size, got[0][1])


family = socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET
{'ask': ask, 'serve': serve}[sys.argv[1]](family, sys.argv[2], *map(int, sys.argv[3:]))
