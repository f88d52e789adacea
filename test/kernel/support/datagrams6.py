"""What the sockets of an IPv6 client hear of their datagrams.

  refused ADDRESS PORT HOPS   how a datagram ended that left with this hop limit: "refused", "silence", or an errno's name
  hairpin ADDRESS PORT        whether two sockets hear each other by the sources that this echo server tells them: "both", or what fails
  mtu ADDRESS PORT BYTES      what the kernel holds the path to carry, after a datagram of so many bytes that may not be cut
"""

import errno
import socket
import sys

IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_PMTUDISC_DO = 23, 24, 2


def connected(address, port):
    asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    asking.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO)
    asking.connect((address, int(port)))
    asking.settimeout(3)
    return asking


def refused(address, port, hops):
    asking = connected(address, port)
    asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, int(hops))
    asking.send(b'anybody there?')
    try:
        asking.recv(100)
    except TimeoutError:
        return 'silence'
    except ConnectionRefusedError:
        return 'refused'
    except OSError as error:
        return errno.errorcode[error.errno]


def mtu(address, port, size):
    asking = connected(address, port)
    asking.settimeout(0.1)
    for _ in range(30):
        try:
            asking.send(bytes(int(size)))
            asking.recv(100)
        except OSError:
            pass
        known = asking.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        if known < int(size):
            break
    return known


def hairpin(address, port):
    ends = []
    for _ in range(2):
        asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        asking.settimeout(5)
        asking.sendto(b'who am I?', (address, int(port)))
        seen = asking.recv(200).decode().split()[-1]
        leased, _, leased_port = seen.rpartition(':')
        ends.append((asking, (leased, int(leased_port))))
    for (mine, own), (other, to) in [ends, ends[::-1]]:
        mine.sendto(b'hello', to)
        said, source = other.recvfrom(200)
        if (said, source[:2]) != (b'hello', own):
            return f'{said} from {source}, not {own}'
    return 'both'


print({'hairpin': hairpin, 'refused': refused, 'mtu': mtu}[sys.argv[1]](*sys.argv[2:]))
