/*
 * The keeper: holds descriptors for an agent that may be killed at any moment, so that nobody else can take the ports that
 * they stand for. Protocol and bounds are those of ../protocol.ts; ../keeper.ts is the same in TypeScript, and both pass
 * the same tests. One thread, one poll loop, no memory but what is set aside at the start; it never waits for a client.
 *
 *     cc -O2 -static -o keeper keeper.c
 *     ./keeper PATH        says "ready" on standard output once it listens
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the protocol is little-endian, and so must be the machine"
#endif

enum {
	VERSION = 1,
	KINDS = 4,
	HEADER = 8,
	OPAQUE = 28,
	RECORD = 4 + OPAQUE,
	RECORDS_MAX = 253,
	DROPS_MAX = 2000,
	MESSAGE_MAX = HEADER + RECORDS_MAX * RECORD,
	CONNECTIONS_MAX = 16,
	KEPT_MAX = 1 << 20,
	RESERVED = 64 + RECORDS_MAX,
	TRIES_MAX = 10,
};
#define NO_SLOT 0xffffffffu

/* What comes of a message: below 0 it is done, or over; others are reasons of a refusal. */
enum { DONE = -1, OVER = -2, END = -3, UNGREETED = 1, SENSELESS = 2, LOST = 3, FULL = 4, CROWDED = 5, STRANGER = 6 };

struct kept {
	int fd; /* 0: the slot is empty; standard input is never kept */
	unsigned char opaque[OPAQUE];
};

static struct kept *table[KINDS];
/* Slots from here on were never used. */
static uint32_t top[KINDS];
static uint32_t kept_by_kind[KINDS], kept_now, descriptors_max, puts_done, drops_done;

static struct pollfd polled[1 + CONNECTIONS_MAX + 1];
static unsigned char greeted[1 + CONNECTIONS_MAX + 1];
static int connections;

static unsigned char message[MESSAGE_MAX];
static int passed[RECORDS_MAX];
static union {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * RECORDS_MAX)];
} control;

static uint32_t word(size_t at)
{
	uint32_t value;
	memcpy(&value, message + at, sizeof value);
	return value;
}

static void set_word(size_t at, uint32_t value)
{
	memcpy(message + at, &value, sizeof value);
}

static unsigned count_of(void)
{
	return message[2] | (unsigned)message[3] << 8;
}

static void set_header(int op, int kind, unsigned count, uint32_t value)
{
	message[0] = op;
	message[1] = kind;
	message[2] = count & 0xff;
	message[3] = count >> 8;
	set_word(4, value);
}

/* Whoever asks without reading the answers is hung up on: the others must not wait for it. */
static int answer(int connection, size_t bytes, int descriptors)
{
	struct iovec part = { message, bytes };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
	if (descriptors > 0) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors);
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * descriptors);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.header), passed, sizeof(int) * descriptors);
	}
	return sendmsg(connection, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? OVER : DONE;
}

static void drop(int kind, uint32_t slot)
{
	struct kept *place = &table[kind][slot];
	if (place->fd == 0)
		return;
	close(place->fd);
	place->fd = 0;
	kept_by_kind[kind]--;
	kept_now--;
}

static int put_all(size_t bytes, int descriptors)
{
	unsigned count = count_of(), kind = message[1];
	if (count == 0 || count > RECORDS_MAX || bytes != HEADER + count * RECORD || descriptors != (int)count ||
	    kind >= KINDS)
		return SENSELESS;
	for (unsigned i = 0; i < count; i++)
		if (word(HEADER + i * RECORD) >= descriptors_max)
			return SENSELESS;
	if (kept_now + count > descriptors_max)
		return FULL;
	for (unsigned i = 0; i < count; i++) {
		size_t at = HEADER + i * RECORD;
		uint32_t slot = word(at);
		drop(kind, slot);
		table[kind][slot].fd = passed[i];
		memcpy(table[kind][slot].opaque, message + at + 4, OPAQUE);
		kept_by_kind[kind]++;
		kept_now++;
		if (slot >= top[kind])
			top[kind] = slot + 1;
	}
	puts_done += count;
	return DONE;
}

static int drop_all(size_t bytes)
{
	unsigned count = count_of(), kind = message[1];
	if (count == 0 || count > DROPS_MAX || bytes != HEADER + count * 4 || kind >= KINDS)
		return SENSELESS;
	for (unsigned i = 0; i < count; i++) {
		uint32_t slot = word(HEADER + i * 4);
		if (slot >= descriptors_max)
			return SENSELESS;
		drop(kind, slot);
	}
	drops_done += count;
	return DONE;
}

static int tell_records(int connection, int with_descriptors)
{
	unsigned most = count_of(), kind = message[1], found = 0;
	uint32_t slot = word(4), next = NO_SLOT;
	if (kind >= KINDS || most == 0 || most > RECORDS_MAX)
		return SENSELESS;
	for (; slot < top[kind]; slot++) {
		struct kept *place = &table[kind][slot];
		if (place->fd == 0)
			continue;
		if (found == most) {
			next = slot;
			break;
		}
		passed[found] = place->fd;
		set_word(HEADER + found * RECORD, slot);
		memcpy(message + HEADER + found * RECORD + 4, place->opaque, OPAQUE);
		found++;
	}
	set_header('R', kind, found, next);
	return answer(connection, HEADER + found * RECORD, with_descriptors ? found : 0);
}

static int tell_status(int connection)
{
	uint32_t words[] = { VERSION, 0, getpid(), descriptors_max, descriptors_max, connections, puts_done, drops_done };
	set_header('S', 0, 0, 0);
	memcpy(message + HEADER, words, sizeof words);
	memcpy(message + HEADER + sizeof words, kept_by_kind, sizeof kept_by_kind);
	return answer(connection, HEADER + sizeof words + sizeof kept_by_kind, 0);
}

static int carry_out(int index, size_t bytes, int descriptors)
{
	int connection = polled[index].fd, op = message[0];
	if (bytes < HEADER || (op != 'P' && descriptors > 0))
		return SENSELESS;
	if (op == 'H') {
		int understood = word(4) == VERSION;
		if (greeted[index] || bytes != HEADER)
			return SENSELESS;
		greeted[index] = 1;
		/* Told even so: whoever speaks another version learns which one this is. */
		int told = tell_status(connection);
		return understood ? told : OVER;
	}
	if (!greeted[index])
		return UNGREETED;
	if (op == 'P')
		return put_all(bytes, descriptors);
	if (op == 'D')
		return drop_all(bytes);
	if (bytes != HEADER)
		return SENSELESS;
	if (op == 'T' || op == 'L')
		return tell_records(connection, op == 'T');
	if (op == 'S')
		return tell_status(connection);
	return op == 'E' ? END : SENSELESS;
}

static int serve(int index)
{
	struct iovec part = { message, sizeof message };
	struct msghdr header = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	ssize_t bytes = recvmsg(polled[index].fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int descriptors = 0, outcome;
	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return DONE;
	if (bytes <= 0)
		return OVER;
	if (header.msg_controllen >= sizeof control.header && control.header.cmsg_level == SOL_SOCKET &&
	    control.header.cmsg_type == SCM_RIGHTS) {
		descriptors = (control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(passed, CMSG_DATA(&control.header), descriptors * sizeof(int));
	}
	outcome = header.msg_flags & MSG_CTRUNC ? LOST
		: header.msg_flags & MSG_TRUNC  ? SENSELESS
						: carry_out(index, bytes, descriptors);
	/* What was not taken in must not stay open. */
	if (outcome != DONE)
		for (int i = 0; i < descriptors; i++)
			close(passed[i]);
	return outcome;
}

static void hang_up(int index, int reason)
{
	if (reason > 0) {
		set_header('X', 0, 0, reason);
		answer(polled[index].fd, HEADER, 0);
	}
	close(polled[index].fd);
	polled[index] = polled[connections];
	greeted[index] = greeted[connections];
	connections--;
}

static void accept_one(void)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	int connection = accept4(polled[0].fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (connection < 0)
		return;
	connections++;
	polled[connections] = (struct pollfd){ .fd = connection, .events = POLLIN };
	greeted[connections] = 0;
	if (connections > CONNECTIONS_MAX)
		hang_up(connections, CROWDED);
	else if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
		 (peer.uid != 0 && peer.uid != geteuid()))
		hang_up(connections, STRANGER);
}

static int fail(const char *what, const char *path)
{
	fprintf(stderr, "keeper: %s: %s (%s)\n", what, strerror(errno), path);
	return 1;
}

/* Whoever leaves takes the lock file away; who opened it just before starts again with a new one. */
static int lock_place(const char *path)
{
	for (int attempt = 0; attempt < TRIES_MAX; attempt++) {
		struct stat opened, found;
		int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			errno = EADDRINUSE;
			return -1;
		}
		if (fstat(fd, &opened) == 0 && stat(path, &found) == 0 && opened.st_ino == found.st_ino)
			return fd;
		close(fd);
	}
	errno = EADDRINUSE;
	return -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct rlimit limit;
	char lock[sizeof address.sun_path + 8];
	int null;
	if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
		fputs("keeper: the path of its socket is missing, or too long\n", stderr);
		return 2;
	}
	/* A descriptor that arrives must not become standard input, nor what is printed go to a socket. */
	while ((null = open("/dev/null", O_RDWR)) >= 0 && null <= 2)
		;
	close(null);
	signal(SIGPIPE, SIG_IGN);
	umask(0177);
	strcpy(address.sun_path, argv[1]);
	snprintf(lock, sizeof lock, "%s.lock", argv[1]);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return fail("getrlimit", argv[1]);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return fail("setrlimit", argv[1]);
	if (limit.rlim_max <= RESERVED) {
		errno = EMFILE;
		return fail("the limit of open descriptors is too low", argv[1]);
	}
	descriptors_max = limit.rlim_max - RESERVED > KEPT_MAX ? KEPT_MAX : limit.rlim_max - RESERVED;
	/* Pages that are never written to take no memory. */
	for (int kind = 0; kind < KINDS; kind++)
		if (!(table[kind] = calloc(descriptors_max, sizeof **table)))
			return fail("calloc", argv[1]);
	if (lock_place(lock) < 0)
		return fail("a keeper is at work there already, or its lock cannot be taken", argv[1]);
	unlink(argv[1]);
	polled[0] = (struct pollfd){ .fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .events = POLLIN };
	if (polled[0].fd < 0 || bind(polled[0].fd, (void *)&address, sizeof address) < 0 || listen(polled[0].fd, CONNECTIONS_MAX) < 0)
		return fail("bind", argv[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (poll(polled, 1 + connections, -1) < 0) {
			if (errno == EINTR)
				continue;
			return fail("poll", argv[1]);
		}
		int may_accept = polled[0].revents != 0;
		/* From the last on, because hanging up puts the last in the place of the one that goes. */
		for (int index = connections; index > 0; index--) {
			if (polled[index].revents == 0)
				continue;
			int outcome = serve(index);
			if (outcome == END)
				goto end;
			if (outcome != DONE)
				hang_up(index, outcome);
		}
		if (may_accept)
			accept_one();
	}
end:
	/* Whatever is kept is closed before anybody sees the end of a connection. */
	for (int kind = 0; kind < KINDS; kind++)
		for (uint32_t slot = 0; slot < top[kind]; slot++)
			drop(kind, slot);
	unlink(argv[1]);
	unlink(lock);
	return 0;
}
