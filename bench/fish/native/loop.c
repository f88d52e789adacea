/*
 * The yardstick of `fish.vs_c`: the plainest translator in C with the same offloads as fish. It reads a packet from a TUN,
 * finds its flow in a hash table or makes one, moves addresses, ports and checksums, and writes it back. No timers, no
 * connection tracking, no placeholders, no logs; IPv4, TCP and UDP only.
 *
 *   loop DEVICE ADDRESS FIRST_PORT PORTS       "ready", then forever
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { flows_max = 1 << 20, places = 1 << 21, tcp = 6, udp = 17 };

/* Addresses and ports as they are in the packet. */
struct flow {
	uint32_t client, remote;
	uint16_t client_port, remote_port, leased_port;
	uint8_t protocol;
};
static struct flow table[flows_max];
static uint32_t flow_count = 1;
/* By client and by leased port: numbers of flows, 0 for none. */
static uint32_t by_client[places], by_leased[places];
static uint32_t leased;
static uint16_t first_port, ports, next_port;

static uint32_t hash(uint32_t a, uint32_t b, uint16_t port, uint16_t other, uint8_t protocol)
{
	uint32_t h = (a * 0x9e3779b1u) ^ b;

	h = (h ^ h >> 15) * 0x85ebca6bu ^ ((uint32_t)port << 16 | other);
	h = (h ^ h >> 13) * 0xc2b2ae35u ^ protocol;
	return (h ^ h >> 16) & (places - 1);
}

static uint32_t find_client(uint8_t protocol, uint32_t client, uint16_t port, uint32_t remote, uint16_t remote_port, uint32_t *place)
{
	uint32_t at = hash(client, remote, port, remote_port, protocol);

	for (; by_client[at]; at = (at + 1) & (places - 1)) {
		struct flow *f = &table[by_client[at]];

		if (f->client == client && f->client_port == port && f->remote == remote && f->remote_port == remote_port &&
		    f->protocol == protocol)
			return by_client[at];
	}
	*place = at;
	return 0;
}

static uint32_t find_leased(uint8_t protocol, uint16_t port, uint32_t remote, uint16_t remote_port, uint32_t *place)
{
	uint32_t at = hash(leased, remote, port, remote_port, protocol);

	for (; by_leased[at]; at = (at + 1) & (places - 1)) {
		struct flow *f = &table[by_leased[at]];

		if (f->leased_port == port && f->remote == remote && f->remote_port == remote_port && f->protocol == protocol)
			return by_leased[at];
	}
	*place = at;
	return 0;
}

static uint32_t open_flow(struct flow made, uint32_t place)
{
	uint32_t other = 0;

	if (flow_count == flows_max)
		return 0;
	for (int tries = 0; tries < ports; tries++) {
		made.leased_port = htons(first_port + next_port++ % ports);
		if (!find_leased(made.protocol, made.leased_port, made.remote, made.remote_port, &other)) {
			table[flow_count] = made;
			by_client[place] = flow_count;
			by_leased[other] = flow_count;
			return flow_count++;
		}
	}
	return 0;
}

static uint32_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static uint32_t delta32(uint32_t from, uint32_t into)
{
	return fold((~from & 0xffff) + (~from >> 16 & 0xffff) + (into & 0xffff) + (into >> 16));
}

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, 2);
	return value;
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

static void add(uint8_t *at, uint32_t delta, int is_partial)
{
	uint16_t sum = get16(at);

	sum = is_partial ? fold(sum + delta) : ~fold((uint16_t)~sum + delta);
	memcpy(at, &sum, 2);
}

/* Whether the packet, now translated, is to be written back. */
static int translate(uint8_t *frame, ssize_t bytes)
{
	struct virtio_net_hdr *head = (void *)frame;
	uint8_t *ip = frame + sizeof *head, *transport, *address, *port;
	uint32_t place, flow, into, change;
	uint16_t into_port;
	uint8_t protocol = ip[9];
	int is_partial = head->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	if (bytes < (ssize_t)sizeof *head + 28 || ip[0] >> 4 != 4 || (protocol != tcp && protocol != udp) || get16(ip + 6) & htons(0x3fff))
		return 0;
	transport = ip + (ip[0] & 15) * 4;
	if (get32(ip + 16) == leased) {
		flow = find_leased(protocol, get16(transport + 2), get32(ip + 12), get16(transport), &place);
		if (!flow)
			return 0;
		address = ip + 16, port = transport + 2;
		into = table[flow].client, into_port = table[flow].client_port;
	} else {
		struct flow made = { .client = get32(ip + 12), .remote = get32(ip + 16), .client_port = get16(transport),
			.remote_port = get16(transport + 2), .protocol = protocol };

		flow = find_client(protocol, made.client, made.client_port, made.remote, made.remote_port, &place);
		if (!flow)
			flow = open_flow(made, place);
		if (!flow)
			return 0;
		address = ip + 12, port = transport;
		into = leased, into_port = table[flow].leased_port;
	}
	change = delta32(get32(address), into);
	add(ip + 10, change, 0);
	if (!is_partial)
		change = fold(change + (uint16_t)~get16(port) + into_port);
	memcpy(address, &into, 4);
	memcpy(port, &into_port, 2);
	if (protocol == tcp || is_partial || get16(transport + 6) != 0)
		add(transport + (protocol == tcp ? 16 : 6), change, is_partial);
	return 1;
}

static void need(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "loop: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int count, char **argument)
{
	static uint8_t frame[sizeof(struct virtio_net_hdr) + 65536];
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	int header_bytes = sizeof(struct virtio_net_hdr);
	unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	struct pollfd readable = { .events = POLLIN };
	int fd;

	if (count != 5) {
		fputs("loop: see the first lines of loop.c\n", stderr);
		return 2;
	}
	leased = inet_addr(argument[2]);
	first_port = atoi(argument[3]);
	ports = atoi(argument[4]);
	strncpy(request.ifr_name, argument[1], sizeof request.ifr_name - 1);
	need(fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), "/dev/net/tun");
	need(ioctl(fd, TUNSETIFF, &request), "TUNSETIFF");
	need(ioctl(fd, TUNSETVNETHDRSZ, &header_bytes), "TUNSETVNETHDRSZ");
	if (ioctl(fd, TUNSETOFFLOAD, offloads | TUN_F_USO4 | TUN_F_USO6) < 0)
		need(ioctl(fd, TUNSETOFFLOAD, offloads), "TUNSETOFFLOAD");
	puts("ready");
	fflush(stdout);
	readable.fd = fd;
	for (;;) {
		ssize_t bytes = read(fd, frame, sizeof frame);

		if (bytes < 0 && errno == EAGAIN)
			poll(&readable, 1, -1);
		else if (bytes < 0)
			need(-1, "read");
		else if (translate(frame, bytes) && write(fd, frame, bytes) < 0 && errno != EINVAL && errno != EIO)
			need(-1, "write");
	}
}
