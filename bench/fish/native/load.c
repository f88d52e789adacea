/*
 * What the benchmarks of the packet path send and receive: cheap enough to share two cores with what is measured.
 * Compiled by the benchmark only. Every command prints its result as one line of JSON.
 *
 *   load udp-sink ADDRESS PORT                           "ready", then counts until 300 ms pass without a datagram
 *   load udp-send ADDRESS PORT BYTES SEGMENTS WINDOW SECONDS
 *                                                        more than one segment: by UDP_SEGMENT; WINDOW: datagrams
 *   load accept ADDRESS FIRST_PORT PORTS                 "ready", then accepts, and closes after its clients
 *   load connect ADDRESS FIRST_PORT PORTS AT_A_TIME SECONDS END
 *                                                        END: reset, or close (in order)
 *   load answer DEVICE                                   "ready", then an answer to every SYN, FIN, datagram and echo there
 *   load churn ADDRESS FLOWS_PER_SECOND SECONDS AGE_MAX_S
 *                                                        flows of all kinds, which begin and end
 *   load flows ADDRESS FLOWS SECONDS PER_SECOND FLAGS    TCP segments of so many flows; FLAGS: syn (each once) or ack
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { batch = 64, silence_ms = 300, lost_after_ms = 20, told_every = 128, buffer_bytes = 8 << 20, at_a_time_max = 4096, ports_max = 4096 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int need(int result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static struct sockaddr_in to(const char *address, int port)
{
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, address, &name.sin_addr) != 1)
		die(address);
	return name;
}

static void set(int fd, int level, int option, int value)
{
	need(setsockopt(fd, level, option, &value, sizeof value), "setsockopt");
}

/* Datagrams one by one, as most programs take them. Tells the sender now and then how many there have been. */
static void udp_sink(char **argument)
{
	static char space[batch][2048];
	static struct mmsghdr messages[batch];
	static struct iovec parts[batch];
	static struct sockaddr_in senders[batch];
	struct sockaddr_in name = to(argument[0], atoi(argument[1]));
	struct timeval patience = { .tv_usec = silence_ms * 1000 };
	uint64_t bytes = 0, datagrams = 0, told = 0;
	double first = 0, last = 0;
	int fd = need(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes);
	need(bind(fd, (struct sockaddr *)&name, sizeof name), "bind");
	ready();
	for (;;) {
		int count;

		for (int i = 0; i < batch; i++) {
			parts[i] = (struct iovec){ space[i], sizeof space[i] };
			messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1,
				.msg_name = &senders[i], .msg_namelen = sizeof senders[i] };
		}
		count = recvmmsg(fd, messages, batch, MSG_WAITFORONE, NULL);
		if (count < 0 && errno == EAGAIN && datagrams > 0)
			break;
		need(count, "recvmmsg");
		last = now();
		if (datagrams == 0) {
			first = last;
			need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
		}
		for (int i = 0; i < count; i++)
			bytes += messages[i].msg_len;
		datagrams += count;
		if (datagrams - told >= told_every) {
			told = datagrams;
			sendto(fd, &told, sizeof told, MSG_DONTWAIT, (struct sockaddr *)&senders[0], sizeof senders[0]);
		}
	}
	/* What came with the first is in no interval, and one batch is nothing in a second of them. */
	printf("{\"bytes\":%llu,\"datagrams\":%llu,\"seconds\":%.6f}\n", (unsigned long long)bytes,
	       (unsigned long long)datagrams, last - first);
}

/*
 * As fast as it goes, but with no more than a window of datagrams on their way, as transports over UDP do it. What is not
 * heard of for a while is lost, and counts as arrived.
 */
static void udp_send(char **argument)
{
	static char data[65536];
	static struct mmsghdr messages[batch];
	struct sockaddr_in name = to(argument[0], atoi(argument[1]));
	int bytes = atoi(argument[2]), segments = atoi(argument[3]), many;
	uint64_t window = strtoul(argument[4], NULL, 10), sent = 0, arrived = 0, lost = 0;
	double end = now() + atof(argument[5]);
	struct iovec part = { data, (size_t)bytes * segments };
	struct timeval patience = { .tv_usec = lost_after_ms * 1000 };
	int fd = need(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	if (part.iov_len > 65507 || window < (uint64_t)segments)
		die("segments");
	set(fd, SOL_SOCKET, SO_SNDBUFFORCE, buffer_bytes);
	if (segments > 1)
		set(fd, SOL_UDP, UDP_SEGMENT, bytes);
	need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
	need(connect(fd, (struct sockaddr *)&name, sizeof name), "connect");
	for (int i = 0; i < batch; i++)
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1 };
	many = segments > 1 ? 1 : 16;
	while (now() < end) {
		uint64_t told;
		int is_full = sent - arrived - lost + (uint64_t)many * segments > window;
		ssize_t got = recv(fd, &told, sizeof told, is_full ? 0 : MSG_DONTWAIT);

		if (got == sizeof told && told > arrived)
			arrived = told;
		else if (got < 0 && is_full && errno == EAGAIN)
			lost = sent - arrived;
		if (sent - arrived - lost + (uint64_t)many * segments <= window) {
			int count = sendmmsg(fd, messages, many, 0);

			/* A rejected datagram (ICMP) is told once; the next one may pass. */
			if (count > 0)
				sent += (uint64_t)count * segments;
		}
	}
	printf("{\"datagrams\":%llu,\"lost\":%llu}\n", (unsigned long long)sent, (unsigned long long)lost);
}

static void accept_all(char **argument)
{
	int first = atoi(argument[1]), ports = atoi(argument[2]);
	int poller = need(epoll_create1(0), "epoll_create1");
	struct epoll_event events[256];

	if (ports > ports_max)
		die("too many ports");
	for (int i = 0; i < ports; i++) {
		struct sockaddr_in name = to(argument[0], first + i);
		int fd = need(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
		struct epoll_event event = { EPOLLIN, { .u64 = (uint64_t)fd << 1 | 1 } };

		set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		need(bind(fd, (struct sockaddr *)&name, sizeof name), "bind");
		need(listen(fd, 4096), "listen");
		need(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
	}
	ready();
	for (;;) {
		int count = epoll_wait(poller, events, 256, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.u64 >> 1;

			if (!(events[i].data.u64 & 1)) {
				close(fd);
				continue;
			}
			for (int client; (client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
				struct epoll_event event = { EPOLLIN | EPOLLRDHUP, { .u64 = (uint64_t)client << 1 } };

				if (epoll_ctl(poller, EPOLL_CTL_ADD, client, &event) < 0)
					close(client);
			}
		}
	}
}

static int begin(const char *address, int port, int poller)
{
	struct sockaddr_in name = to(address, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct epoll_event event = { EPOLLOUT, { .fd = fd } };

	if (fd < 0)
		return -1;
	if ((connect(fd, (struct sockaddr *)&name, sizeof name) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A connection is made, ended by this side, and counted; so many are on their way at a time. */
static void connect_all(char **argument)
{
	int first = atoi(argument[1]), ports = atoi(argument[2]), at_a_time = atoi(argument[3]);
	int poller = need(epoll_create1(0), "epoll_create1");
	struct epoll_event events[256];
	unsigned long long made = 0, failed = 0;
	int is_reset = strcmp(argument[5], "reset") == 0;
	struct linger at_once = { .l_onoff = 1 };
	unsigned next = 0;
	int under_way = 0;
	double start = now(), end = start + atof(argument[4]), patience = end + 5;

	while (now() < end || under_way > 0) {
		int count;

		/* A failure in a row of them waits for its turn, instead of spinning. */
		for (int tries = 0; tries < at_a_time && under_way < at_a_time && now() < end; tries++) {
			if (begin(argument[0], first + next++ % ports, poller) < 0) {
				failed++;
				break;
			}
			under_way++;
		}
		count = epoll_wait(poller, events, 256, 100);
		for (int i = 0; i < count; i++) {
			int problem = 0;
			socklen_t bytes = sizeof problem;

			getsockopt(events[i].data.fd, SOL_SOCKET, SO_ERROR, &problem, &bytes);
			if (is_reset)
				setsockopt(events[i].data.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
			close(events[i].data.fd);
			under_way--;
			if (problem)
				failed++;
			else if (now() <= end)
				made++;
		}
		if (now() > patience)
			break;
	}
	printf("{\"connections\":%llu,\"failed\":%llu,\"stuck\":%d,\"seconds\":%.6f}\n", made, failed, under_way, end - start);
}

static uint16_t sum(const void *data, size_t bytes, uint32_t start)
{
	const uint8_t *at = data;

	for (size_t i = 0; i + 1 < bytes; i += 2)
		start += at[i] << 8 | at[i + 1];
	while (start >> 16)
		start = (start & 0xffff) + (start >> 16);
	return start;
}

/* What acknowledges a SYN begins with this sequence number. */
enum { first_number = 1000, answer_number = 5000, clients = 64 };

/* Turns a request into its answer, in place; 0 when there is none. Addresses and ports change places, so sums stay. */
static int turn(struct iphdr *ip, size_t bytes)
{
	uint8_t *transport = (uint8_t *)ip + ip->ihl * 4;
	struct tcphdr *tcp = (void *)transport;
	uint32_t address = ip->saddr;
	uint16_t port;

	if (bytes < ip->ihl * 4 + 8u)
		return 0;
	ip->saddr = ip->daddr, ip->daddr = address;
	if (ip->protocol == IPPROTO_ICMP && transport[0] == 8) {
		transport[0] = 0;
		port = htons(sum(transport + 2, 2, 8 << 8));
		memcpy(transport + 2, &port, 2);
		return 1;
	}
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return 0;
	port = tcp->source, tcp->source = tcp->dest, tcp->dest = port;
	if (ip->protocol == IPPROTO_UDP)
		return 1;
	if (bytes < ip->ihl * 4 + sizeof *tcp || tcp->rst || !(tcp->syn || tcp->fin))
		return 0;
	tcp->ack = 1;
	tcp->ack_seq = htonl(ntohl(tcp->seq) + 1);
	tcp->seq = htonl(tcp->syn ? answer_number : answer_number + 1);
	tcp->check = 0;
	tcp->check = htons(~sum(tcp, sizeof *tcp, sum(&ip->saddr, 8, IPPROTO_TCP + sizeof *tcp)));
	return 1;
}

/* For remotes that have no sockets: the kernel there drops what comes, and this answers in its place. */
static void answer(char **argument)
{
	int fd = need(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)), "socket");
	struct sockaddr_ll name = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = if_nametoindex(argument[0]) };
	static uint8_t frame[65536];

	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20);
	need(bind(fd, (struct sockaddr *)&name, sizeof name), "bind");
	ready();
	for (;;) {
		struct sockaddr_ll from;
		socklen_t name_bytes = sizeof from;
		ssize_t bytes = recvfrom(fd, frame, sizeof frame, 0, (struct sockaddr *)&from, &name_bytes);
		struct ether_header *ethernet = (void *)frame;
		struct iphdr *ip = (void *)(frame + sizeof *ethernet);
		uint8_t mac[6];

		if (bytes < (ssize_t)(sizeof *ethernet + sizeof *ip) || from.sll_pkttype == PACKET_OUTGOING || ip->ihl != 5)
			continue;
		if (!turn(ip, bytes - sizeof *ethernet))
			continue;
		memcpy(mac, ethernet->ether_dhost, 6);
		memcpy(ethernet->ether_dhost, ethernet->ether_shost, 6);
		memcpy(ethernet->ether_shost, mac, 6);
		if (send(fd, frame, sizeof *ethernet + ntohs(ip->tot_len), 0) < 0 && errno != ENOBUFS)
			die("send");
	}
}

/* Flow n: one of 64 clients and a port of its, toward one of 64 ports of one of 128 remotes. Numbers repeat after 3.9 million. */
static void fill(uint8_t *packet, uint32_t remote, uint32_t flow, int is_syn)
{
	struct iphdr *ip = (void *)packet;
	struct tcphdr *tcp = (void *)(ip + 1);

	memset(packet, 0, sizeof *ip + sizeof *tcp);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(sizeof *ip + sizeof *tcp);
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = htonl(0x64400100 + flow % clients);
	ip->daddr = htonl(remote + flow % 128);
	tcp->source = htons(1024 + flow / clients % 61440);
	tcp->dest = htons(1024 + flow / 128 % 64);
	tcp->doff = 5;
	tcp->window = htons(65535);
	tcp->seq = htonl(is_syn ? first_number : first_number + 1);
	if (is_syn) {
		tcp->syn = 1;
	} else {
		tcp->ack = 1;
		tcp->ack_seq = htonl(answer_number + 1);
	}
	tcp->check = htons(~sum(tcp, sizeof *tcp, sum(&ip->saddr, 8, IPPROTO_TCP + sizeof *tcp)));
}

static void flows(char **argument)
{
	static uint8_t packets[batch][sizeof(struct iphdr) + sizeof(struct tcphdr)];
	static struct iovec parts[batch];
	static struct mmsghdr messages[batch];
	struct sockaddr_in remote = to(argument[0], 0);
	uint32_t count = strtoul(argument[1], NULL, 10), pick = 12345;
	double start = now(), end = start + atof(argument[2]), per_second = atof(argument[3]);
	int is_syn = strcmp(argument[4], "syn") == 0;
	unsigned long long sent = 0, wanted = is_syn ? count : ~0ull;
	int fd = need(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "socket");

	set(fd, SOL_SOCKET, SO_SNDBUFFORCE, buffer_bytes);
	need(connect(fd, (struct sockaddr *)&remote, sizeof remote), "connect");
	for (int i = 0; i < batch; i++) {
		parts[i] = (struct iovec){ packets[i], sizeof packets[i] };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1,
			.msg_name = &remote, .msg_namelen = sizeof remote };
	}
	while (sent < wanted && now() < end) {
		int many = wanted - sent < batch ? wanted - sent : batch, done;

		/* 0: as fast as it goes. */
		if (per_second > 0 && sent > (now() - start) * per_second) {
			usleep(200);
			continue;
		}
		for (int i = 0; i < many; i++) {
			pick = pick * 1664525 + 1013904223;
			fill(packets[i], ntohl(remote.sin_addr.s_addr),
			     is_syn ? sent + i : (uint32_t)((uint64_t)pick * count >> 32), is_syn);
		}
		done = sendmmsg(fd, messages, many, 0);
		if (done > 0)
			sent += done;
		else if (done < 0 && errno != ENOBUFS && errno != EPERM)
			die("sendmmsg");
	}
	printf("{\"packets\":%llu,\"seconds\":%.6f}\n", sent, now() - start);
}

/*
 * Flows of all kinds and ages that come and go. Of twenty, fifteen are TCP (of four, two end by FIN, one by RST, one just falls
 * silent), three UDP, two echo. One event of each flow is due at a time: a ring of ticks has them as lists.
 */
enum { ticks = 4096, tick_ms = 50, events_max = 1 << 20 };
enum step { begin_flow, go_on, go_on_again, end_flow, last_ack };
static struct event {
	uint32_t flow, next;
	enum step step;
} events[events_max];
static uint32_t due[ticks], unused = 1;

static void plan(uint32_t flow, enum step step, uint32_t tick)
{
	uint32_t event = unused;

	if (event == 0)
		die("too many flows at a time");
	unused = events[event].next;
	events[event] = (struct event){ flow, due[tick % ticks], step };
	due[tick % ticks] = event;
}

static uint32_t age_ticks(uint32_t flow, uint32_t age_max_s)
{
	/* Any scrambling will do; from one second on. */
	uint32_t mixed = (flow * 2654435761u) >> 8;

	return 1000 / tick_ms + mixed % (age_max_s * 1000 / tick_ms);
}

/* The packet of a step, its length, and when the next step is: 0 for none. */
static size_t packet_of(uint8_t *packet, uint32_t remote, uint32_t flow, enum step step, uint32_t age, uint32_t *next)
{
	struct iphdr *ip = (void *)packet;
	struct tcphdr *tcp = (void *)(ip + 1);
	uint32_t kind = flow % 20, ending = flow / 20 % 4, second = 1000 / tick_ms;
	uint16_t ports[2];

	fill(packet, remote, flow, step == begin_flow);
	*next = step == begin_flow ? second : 0;
	if (kind >= 15) {
		uint8_t *transport = (uint8_t *)tcp;
		int is_udp = kind < 18;
		uint16_t words[4] = { 0 };

		memcpy(ports, &tcp->source, sizeof ports);
		ip->protocol = is_udp ? IPPROTO_UDP : IPPROTO_ICMP;
		ip->tot_len = htons(sizeof *ip + 8);
		if (is_udp)
			words[0] = ports[0], words[1] = ports[1], words[2] = htons(8);
		else
			words[0] = htons(8 << 8), words[2] = ports[0], words[3] = htons(step);
		if (!is_udp)
			words[1] = htons(~sum(words, 8, 0));
		memcpy(transport, words, 8);
		return sizeof *ip + 8;
	}
	if (step == go_on || step == go_on_again)
		*next = step == go_on ? age / 3 : age / 3 + 1;
	if (step == end_flow) {
		if (ending == 3)
			return 0;
		tcp->rst = ending == 2;
		tcp->fin = ending < 2;
		*next = ending < 2 ? second : 0;
	} else if (step == last_ack) {
		tcp->seq = htonl(first_number + 2);
		tcp->ack_seq = htonl(answer_number + 2);
	}
	tcp->check = 0;
	tcp->check = htons(~sum(tcp, sizeof *tcp, sum(&ip->saddr, 8, IPPROTO_TCP + sizeof *tcp)));
	return sizeof *ip + sizeof *tcp;
}

static void churn(char **argument)
{
	struct sockaddr_in remote = to(argument[0], 0);
	double per_second = atof(argument[1]), start = now(), seconds = atof(argument[2]);
	uint32_t age_max_s = atoi(argument[3]), flow = 0, tick = 0;
	unsigned long long sent = 0, failed = 0;
	int fd = need(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "socket");

	set(fd, SOL_SOCKET, SO_SNDBUFFORCE, buffer_bytes);
	if (age_max_s * 1000 / tick_ms >= ticks - 4000 / tick_ms)
		die("too old");
	for (uint32_t event = 1; event < events_max; event++)
		events[event].next = event + 1 < events_max ? event + 1 : 0;
	for (; now() - start < seconds; tick++) {
		double wait = start + tick * tick_ms / 1000.0 - now();

		if (wait > 0)
			usleep(wait * 1e6);
		while (flow < (tick + 1) * per_second * tick_ms / 1000)
			plan(flow++, begin_flow, tick);
		for (uint32_t event = due[tick % ticks], after; event; event = after) {
			struct event each = events[event];
			uint8_t packet[64];
			uint32_t next;
			size_t bytes = packet_of(packet, ntohl(remote.sin_addr.s_addr), each.flow, each.step,
						 age_ticks(each.flow, age_max_s), &next);

			after = each.next;
			events[event].next = unused;
			unused = event;
			if (bytes > 0 && sendto(fd, packet, bytes, 0, (struct sockaddr *)&remote, sizeof remote) < 0)
				failed++;
			sent += bytes > 0;
			if (next > 0)
				plan(each.flow, each.step + 1, tick + next);
		}
		due[tick % ticks] = 0;
	}
	printf("{\"flows\":%u,\"packets\":%llu,\"failed\":%llu}\n", flow, sent, failed);
}

static const struct {
	const char *name;
	int arguments;
	void (*run)(char **argument);
} commands[] = {
	{ "udp-sink", 2, udp_sink },     { "udp-send", 6, udp_send }, { "accept", 3, accept_all },
	{ "connect", 6, connect_all },   { "answer", 1, answer },     { "flows", 5, flows },
	{ "churn", 4, churn },
};

int main(int count, char **argument)
{
	for (size_t i = 0; count > 1 && i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(argument[1], commands[i].name) == 0 && count == commands[i].arguments + 2) {
			commands[i].run(argument + 2);
			return 0;
		}
	}
	fputs("load: see the first lines of load.c\n", stderr);
	return 2;
}
