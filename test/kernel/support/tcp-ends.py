"""Ends of TCP connections.

  meet FROM PORT TO PORT      connects from that port, says what the other side has said, having said its own name
  many TO PORT COUNT [FROM]   connects so often at once, and says how each attempt ended
  listen ADDRESS PORT         says "ready", and leaves the rest to the kernel
"""
import errno
import socket
import sys
import time


def meet(own, own_port, address, port):
    end = socket.socket()
    end.settimeout(20)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind((own, int(own_port)))
    print('ready', flush=True)
    end.connect((address, int(port)))
    end.sendall(own.encode())
    print(end.recv(100).decode(), flush=True)


def many(address, port, count, own=''):
    ends, said = [], []
    for _ in range(int(count)):
        end = socket.socket()
        end.settimeout(20)
        end.bind((own, 0))
        ends.append(end)
        try:
            end.connect((address, int(port)))
            said.append('connected')
        except OSError as error:
            said.append(errno.errorcode.get(error.errno or 0, str(error)))
    print(*said)


def listen(address, port):
    server = socket.create_server((address, int(port)), backlog=100)
    print('ready', flush=True)
    while True:
        time.sleep(60)


{'meet': meet, 'many': many, 'listen': listen}[sys.argv[1]](*sys.argv[2:])
