"""A proxy's connection from a shared block: proxy-socket.py UID BINDING ADDRESS FIRST LAST REMOTE

Takes a port as every user of such a block does, asks the remote by HTTP who it is, closes first, and prints port and answer.
"""
import os
import socket
import sys

uid, binding, address, first, last, remote = sys.argv[1:7]
first, last = int(first), int(last)
os.setgid(int(uid))
os.setuid(int(uid))
tcp = socket.socket()
tcp.settimeout(10)
if binding == 'late':
    # IP_BIND_ADDRESS_NO_PORT, and IP_LOCAL_PORT_RANGE.
    tcp.setsockopt(socket.IPPROTO_IP, 24, 1)
    tcp.setsockopt(socket.IPPROTO_IP, 51, last << 16 | first)
    tcp.bind((address, 0))
else:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, first + 100))
tcp.connect((remote, 80))
port = tcp.getsockname()[1]
tcp.sendall(b'GET / HTTP/1.1\r\nHost: origin\r\n\r\n')
answer = tcp.recv(4096)
tcp.shutdown(socket.SHUT_WR)
while tcp.recv(4096):
    pass
tcp.close()
print(port, answer.split(b'\r\n\r\n')[1].decode())
