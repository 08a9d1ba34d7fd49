/* Many hosts behind one address: source NAT for IPv4 and IPv6, of TCP, UDP and
 * echoes.
 *
 * out belongs at the egress of the outer interface, in at its
 * ingress. Ports are kept where they are free. ICMP errors are not translated.
 */
#include "packet.h"

/* The inside's prefixes, and the addresses of the outer interface. */
#define INSIDE4 bpf_htonl(0x0a000100) /* 10.0.1.0/24 */
#define MASK4 bpf_htonl(0xffffff00)
#define PUBLIC4 bpf_htonl(0xc0000201) /* 192.0.2.1 */
#define INSIDE6 bpf_htonl(0xfd000001) /* fd00:1::/32 */
#define PUBLIC6 {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}} /* 2001:db8::1 */

#define TRIES 16

struct translation {
	union addr addr;
	__be16 port;
	__u16 pad[3];
};

struct table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct translation);
};

struct table outward SEC(".maps"); /* flow as it leaves the inside -> its source outside */
struct table inward SEC(".maps");  /* reply as it comes back -> its destination inside */

static __always_inline int from_inside(const struct flow *f)
{
	if (f->family == ETH_P_IP)
		return (f->src.w[3] & MASK4) == INSIDE4;
	return f->src.w[0] == INSIDE6;
}

/* begin chooses a port for a new flow, such that replies can be told apart. */
static __always_inline int begin(const struct flow *f, struct translation *to)
{
	union addr public6 = PUBLIC6;
	struct translation back = {.addr = f->src, .port = f->sport};
	struct flow reply;
	__u16 port = bpf_ntohs(f->sport);

	__builtin_memset(to, 0, sizeof(*to));
	if (f->family == ETH_P_IP)
		to->addr.w[3] = PUBLIC4;
	else
		to->addr = public6;
	reverse(f, &reply);
	reply.dst = to->addr;
	for (int i = 0; i < TRIES; i++) {
		to->port = bpf_htons(port);
		reply.dport = to->port;
		if (f->proto == IPPROTO_ICMP || f->proto == IPPROTO_ICMPV6)
			reply.sport = to->port; /* one identifier */
		if (bpf_map_update_elem(&inward, &reply, &back, BPF_NOEXIST) == 0)
			return bpf_map_update_elem(&outward, f, to, BPF_ANY);
		port = 0x8000 | (bpf_get_prandom_u32() & 0x7fff);
	}
	return -1;
}

SEC("tc")
int out(struct __sk_buff *skb)
{
	struct translation *known, to;
	struct layout at;
	struct flow f;

	if (parse(skb, &f, &at) || !from_inside(&f))
		return TC_ACT_OK;
	known = bpf_map_lookup_elem(&outward, &f);
	if (known)
		to = *known;
	else if (begin(&f, &to))
		return TC_ACT_SHOT;
	if (set_addr(skb, &f, &at, 0, &f.src, &to.addr) || set_port(skb, &f, &at, at.sport, f.sport, to.port))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

SEC("tc")
int in(struct __sk_buff *skb)
{
	struct translation *known, to;
	struct layout at;
	struct flow f;

	if (parse(skb, &f, &at))
		return TC_ACT_OK;
	known = bpf_map_lookup_elem(&inward, &f);
	if (!known)
		return TC_ACT_OK; /* for the router itself */
	to = *known;
	if (set_addr(skb, &f, &at, 1, &f.dst, &to.addr) || set_port(skb, &f, &at, at.dport, f.dport, to.port))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
