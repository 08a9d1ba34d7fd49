/* What the examples share: a packet's addresses and ports, of either version
 * of IP, and how to change them with the checksums that cover them.
 *
 * Everything goes through helpers instead of pointers, since a super-frame
 * need not be linear. IPv6 extension headers and fragments other than the
 * first are not looked into: parse() refuses them.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_ICMPV6 58

#define ECHO_REQUEST4 8
#define ECHO_REPLY4 0
#define ECHO_REQUEST6 128
#define ECHO_REPLY6 129

/* An address of either kind; IPv4 is in the last word, the others 0. */
union addr {
	__u8 b[16];
	__be32 w[4];
	__u64 d[2];
};

/* What names a flow. An echo's identifier stands for both its ports. */
struct flow {
	union addr src, dst;
	__be16 sport, dport;
	__u16 family; /* EtherType */
	__u16 proto;
};

/* Where things are, counted from the MAC header. */
struct layout {
	__u32 l3, l4;
	__u32 csum;  /* of layer 4 */
	__u32 sport, dport;
	__u8 icmp;   /* its type, if it is one */
};

static __always_inline int parse_ports(struct __sk_buff *skb, struct flow *f, struct layout *at)
{
	__u8 type;

	switch (f->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		at->csum = at->l4 + (f->proto == IPPROTO_TCP ? 16 : 6);
		at->sport = at->l4;
		at->dport = at->l4 + 2;
		return bpf_skb_load_bytes(skb, at->sport, &f->sport, 4); /* both */
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_skb_load_bytes(skb, at->l4, &type, 1))
			return -1;
		if (type != ECHO_REQUEST4 && type != ECHO_REPLY4 && type != ECHO_REQUEST6 && type != ECHO_REPLY6)
			return -1;
		at->icmp = type;
		at->csum = at->l4 + 2;
		at->sport = at->dport = at->l4 + 4;
		if (bpf_skb_load_bytes(skb, at->sport, &f->sport, 2))
			return -1;
		f->dport = f->sport;
		return 0;
	}
	return -1;
}

/* parse fills in f and at; not 0 means a packet that has no flow. */
static __always_inline int parse(struct __sk_buff *skb, struct flow *f, struct layout *at)
{
	__u8 ihl, proto;
	__be16 frag;

	__builtin_memset(f, 0, sizeof(*f));
	__builtin_memset(at, 0, sizeof(*at));
	at->l3 = ETH_HLEN;
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_IP:
		f->family = ETH_P_IP;
		if (bpf_skb_load_bytes(skb, at->l3, &ihl, 1) || bpf_skb_load_bytes(skb, at->l3 + 6, &frag, 2) ||
		    bpf_skb_load_bytes(skb, at->l3 + 9, &proto, 1) || bpf_skb_load_bytes(skb, at->l3 + 12, &f->src.w[3], 4) ||
		    bpf_skb_load_bytes(skb, at->l3 + 16, &f->dst.w[3], 4))
			return -1;
		if (frag & bpf_htons(0x1fff))
			return -1;
		at->l4 = at->l3 + (ihl & 15) * 4;
		break;
	case ETH_P_IPV6:
		f->family = ETH_P_IPV6;
		if (bpf_skb_load_bytes(skb, at->l3 + 6, &proto, 1) || bpf_skb_load_bytes(skb, at->l3 + 8, &f->src, 32)) /* both */
			return -1;
		at->l4 = at->l3 + 40;
		break;
	default:
		return -1;
	}
	f->proto = proto;
	return parse_ports(skb, f, at);
}

static __always_inline void reverse(const struct flow *f, struct flow *r)
{
	r->src = f->dst;
	r->dst = f->src;
	r->sport = f->dport;
	r->dport = f->sport;
	r->family = f->family;
	r->proto = f->proto;
}

/* The checksum of UDP: 0 on the wire means that there is none. */
static __always_inline __u64 udp_flag(const struct flow *f)
{
	return f->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

/* set_addr puts another address at the source (which 0) or destination (1). */
static __always_inline int set_addr(struct __sk_buff *skb, const struct flow *f, const struct layout *at, int which,
				    union addr *old, union addr *new)
{
	__u32 off;
	__s64 diff;

	if (f->family == ETH_P_IP) {
		off = at->l3 + 12 + 4 * which;
		if (f->proto != IPPROTO_ICMP && /* which has no pseudo-header */
		    bpf_l4_csum_replace(skb, at->csum, old->w[3], new->w[3], BPF_F_PSEUDO_HDR | udp_flag(f) | 4))
			return -1;
		if (bpf_l3_csum_replace(skb, at->l3 + 10, old->w[3], new->w[3], 4))
			return -1;
		return bpf_skb_store_bytes(skb, off, &new->w[3], 4, 0);
	}
	off = at->l3 + 8 + 16 * which;
	diff = bpf_csum_diff(old->w, 16, new->w, 16, 0);
	if (diff < 0 || bpf_l4_csum_replace(skb, at->csum, 0, diff, BPF_F_PSEUDO_HDR | udp_flag(f)))
		return -1;
	return bpf_skb_store_bytes(skb, off, new, 16, 0);
}

/* set_port puts another port at off, at->sport or at->dport. */
static __always_inline int set_port(struct __sk_buff *skb, const struct flow *f, const struct layout *at, __u32 off,
				    __be16 old, __be16 new)
{
	if (old == new)
		return 0;
	if (bpf_l4_csum_replace(skb, at->csum, old, new, udp_flag(f) | 2))
		return -1;
	return bpf_skb_store_bytes(skb, off, &new, 2, 0);
}
