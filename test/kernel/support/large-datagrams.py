"""Large datagrams between real sockets. With "shuffled", the sender cuts them himself and sends the pieces in any order.

  ask ADDRESS PORT BYTES COUNT SECONDS [shuffled | UID:ADDRESS:PORT]
      how many came back whole, each within SECONDS, and in how many sources they were seen; as this user, from there
  serve ADDRESS PORT
      says "ready", then answers each datagram with itself and its source, shuffled
"""

import os
import random
import socket
import struct
import sys
import time

PIECE_BYTES = 1_400


def summed(data):
    total = sum(struct.unpack(f'!{(len(data) + 1) // 2}H', data + b'\0' * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_shuffled(raw, source, destination, data, number):
    ends = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    header = struct.pack('!HHHH', source[1], destination[1], 8 + len(data), 0)
    checksum = summed(ends + struct.pack('!BBH', 0, 17, 8 + len(data)) + header + data) or 0xFFFF
    whole = header[:6] + struct.pack('!H', checksum) + data
    pieces = []
    for at in range(0, len(whole), PIECE_BYTES):
        more = 0x2000 if at + PIECE_BYTES < len(whole) else 0
        piece = whole[at : at + PIECE_BYTES]
        head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(piece), number, more | at // 8, 64, 17, 0)
        pieces.append(head + ends + piece)
    random.shuffle(pieces)
    for piece in pieces:
        raw.sendto(piece, destination)


def ask(address, port, size, count, seconds, how=''):
    if ':' in how:
        uid, own, own_port = how.split(':')
        # Before: a socket is of the user who has made it.
        os.setuid(int(uid))
    asking = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    if ':' in how:
        asking.bind((own, int(own_port)))
    asking.connect((address, int(port)))
    raw = how == 'shuffled' and socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    whole, sources = 0, set()
    for number in range(int(count)):
        body = b'%06d' % number + bytes(97 + (number + at) % 26 for at in range(int(size) - 6))
        if raw:
            # The kernel would number them itself if there were a zero.
            send_shuffled(raw, asking.getsockname(), (address, int(port)), body, number + 1)
        else:
            asking.send(body)
        # One after the other: the buffer of a busy receiver holds hardly more.
        deadline = time.monotonic() + float(seconds)
        answer, source = b'', b''
        while answer != body and (left := deadline - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                answer, _, source = asking.recv(1 << 16).rpartition(b' ')
            except TimeoutError:
                break
        if answer == body:
            whole += 1
            sources.add(source)
    print(whole, len(sources))


def serve(address, port):
    served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    served.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    served.bind((address, int(port)))
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    print('ready', flush=True)
    number = 0
    while True:
        body, source = served.recvfrom(1 << 16)
        number += 1
        send_shuffled(raw, (address, int(port)), source, body + b' %s:%d' % (source[0].encode(), source[1]), number)


{'ask': ask, 'serve': serve}[sys.argv[1]](*sys.argv[2:])
