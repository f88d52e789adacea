/*
 * Steering of replies to fish, at tc ingress (tcx) of every device on which they arrive.
 *
 * A flow of fish's in a shared block holds its 5-tuple by a socket, its placeholder, which carries the mark. The kernel
 * finds that socket for a reply; here it is looked up before the stack sees the packet, and the packet is handed to the
 * TUN device. So `net.ipv4.tcp_early_demux` can stay as it is for everybody else. There is no map: the sockets are the
 * only table, so nothing can drift from them.
 *
 * What is no reply to a placeholder goes on as if this program were not there: other programs on the device, the stack,
 * and the rules in table `inet fishery`, which also steer what arrives here in fragments.
 *
 * No relocations and no data sections: the loader replaces the three constants below in the bare instructions. After a
 * change run `node scripts/steer-program.ts`, which compiles this into src/agent/steering/steer-program.ts.
 */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

/* The beginnings of the kernel's structures of these names (linux/bpf.h): no header, so no difference between headers. */
struct __sk_buff {
	__u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present;
};
struct bpf_sock {
	__u32 bound_dev_if, family, type, protocol, mark;
};
struct bpf_sock_tuple {
	union {
		struct {
			__u32 saddr, daddr;
			__u16 sport, dport;
		} ipv4;
		struct {
			__u32 saddr[4], daddr[4];
			__u16 sport, dport;
		} ipv6;
	};
};
struct bpf_tunnel_key {
	__u32 tunnel_id, remote_ipv4;
};

#define TCX_NEXT -1
#define HEADER_START_NET 1
#define CURRENT_NETNS (-1L)

/* Replaced by the loader: the TUN's interface index, which bits of a socket's mark are ours, and what they are. */
#define TUN_INTERFACE 0x7f15f001
#define MARK_MASK 0x7f15f002
#define MARK 0x7f15f003
/* Hidden from the optimiser, which would else compute with the value that it sees. */
#define PATCHED(name, constant) \
	__u64 name;             \
	asm volatile("%0 = %1" : "=r"(name) : "i"(constant))

#define BIG16(x) ((__u16)__builtin_bswap16(x))
#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86dd
#define TCP 6
#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define AUTHENTICATION 51
#define DESTINATION_OPTIONS 60
#define PACKET_HOST 0
/* RFC 8200 lets a packet have more; who sends more gets the slow way. */
#define EXTENSIONS_MAX 6

static long (*const load_bytes)(const void *skb, __u32 offset, void *to, __u32 bytes, __u32 start) = (void *)68;
static struct bpf_sock *(*const sk_lookup_tcp)(void *ctx, struct bpf_sock_tuple *tuple, __u32 bytes, __u64 netns,
					       __u64 flags) = (void *)84;
static long (*const sk_release)(struct bpf_sock *sk) = (void *)86;
static long (*const redirect)(__u32 interface, __u64 flags) = (void *)23;
static long (*const set_tunnel_key)(struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 bytes, __u64 flags) =
	(void *)21;

#define always_inline static inline __attribute__((always_inline))

/* Bytes from the start of the IP header, whatever the device's link layer is; 0 when they are there. */
always_inline long read(struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes)
{
	return load_bytes(skb, offset, to, bytes, HEADER_START_NET);
}

/*
 * A fragment has no ports, or not the whole segment. The stack puts it together in prerouting, and table `inet fishery`
 * marks the whole. But with the mark alone early demux would take it for the placeholder, and forwarding would drop it:
 * a packet that carries tunnel metadata is let alone by early demux, and otherwise treated as any other.
 */
always_inline int reassembled_later(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};

	set_tunnel_key(skb, &key, sizeof key, 0);
	return TCX_NEXT;
}

/* To the TUN, if the socket that this segment is for carries the mark. */
always_inline int to_placeholder(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 bytes)
{
	struct bpf_sock *sk = sk_lookup_tcp(skb, tuple, bytes, CURRENT_NETNS, 0);
	__u32 bits;

	if (!sk)
		return TCX_NEXT;
	bits = sk->mark;
	sk_release(sk);
	PATCHED(mask, MARK_MASK);
	PATCHED(mark, MARK);
	if ((bits & (__u32)mask) != (__u32)mark)
		return TCX_NEXT;
	PATCHED(tun, TUN_INTERFACE);
	return redirect(tun, 0);
}

always_inline int steer4(struct __sk_buff *skb)
{
	/* RFC 791: version and length, service, total length, identifier, fragment, time to live, protocol, checksum, two addresses. */
	struct {
		__u8 version_length, service;
		__u16 total, identifier, fragment;
		__u8 ttl, protocol;
		__u16 checksum;
		__u32 source, destination;
	} ip;
	struct bpf_sock_tuple tuple = {};
	__u32 header;

	if (read(skb, 0, &ip, sizeof ip))
		return TCX_NEXT;
	header = (ip.version_length & 15) * 4;
	if (ip.version_length >> 4 != 4 || header < 20)
		return TCX_NEXT;
	if (ip.fragment & BIG16(0x3fff))
		return reassembled_later(skb);
	if (ip.protocol != TCP || read(skb, header, &tuple.ipv4.sport, 4))
		return TCX_NEXT;
	tuple.ipv4.saddr = ip.source;
	tuple.ipv4.daddr = ip.destination;
	return to_placeholder(skb, &tuple, sizeof tuple.ipv4);
}

always_inline int steer6(struct __sk_buff *skb)
{
	/* RFC 8200: version, class and label, payload length, next header, hop limit, two addresses. */
	struct {
		__u8 version, label[3];
		__u16 payload;
		__u8 next, hops;
		__u32 source[4], destination[4];
	} ip;
	struct bpf_sock_tuple tuple = {};
	__u32 offset = sizeof ip;
	__u8 next;

	if (read(skb, 0, &ip, sizeof ip) || ip.version >> 4 != 6)
		return TCX_NEXT;
	next = ip.next;
#pragma nounroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		/* All of these begin alike; the third byte is the reserved one of a fragment header, the fourth of it the offset. */
		struct {
			__u8 next, length, third, fourth;
		} extension;

		if (next == TCP)
			break;
		if (next != HOP_BY_HOP && next != ROUTING && next != FRAGMENT && next != AUTHENTICATION &&
		    next != DESTINATION_OPTIONS)
			return TCX_NEXT;
		if (read(skb, offset, &extension, sizeof extension))
			return TCX_NEXT;
		/* The packet is not at its destination yet. */
		if (next == ROUTING && extension.fourth != 0)
			return TCX_NEXT;
		/* A fragment that is the whole packet (RFC 6946) is none: offset and "more" are zero. */
		if (next == FRAGMENT && (extension.third != 0 || (extension.fourth & 0xf9) != 0))
			return reassembled_later(skb);
		offset += next == FRAGMENT	 ? 8
			  : next == AUTHENTICATION ? (extension.length + 2) * 4
						 : (extension.length + 1) * 8;
		next = extension.next;
	}
	if (next != TCP || read(skb, offset, &tuple.ipv6.sport, 4))
		return TCX_NEXT;
	__builtin_memcpy(tuple.ipv6.saddr, ip.source, 16);
	__builtin_memcpy(tuple.ipv6.daddr, ip.destination, 16);
	return to_placeholder(skb, &tuple, sizeof tuple.ipv6);
}

__attribute__((section("steer"), used)) int fishery_steer(struct __sk_buff *skb)
{
	/* What is for another host, and what is for a VLAN on this device, is for somebody else to look at. */
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TCX_NEXT;
	if (skb->protocol == BIG16(ETH_IPV4))
		return steer4(skb);
	if (skb->protocol == BIG16(ETH_IPV6))
		return steer6(skb);
	return TCX_NEXT;
}
