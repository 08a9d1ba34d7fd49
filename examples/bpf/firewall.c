/* A stateful firewall: what the inside has begun may come back from the
 * outside, and one service inside is open to all.
 *
 * inside belongs at the ingress of the inner interface, outside at
 * that of the outer one. They share the table of flows.
 */
#include "packet.h"

#define OPEN_PORT 8080 /* TCP, to whatever is inside */
#define IDLE_NS (300 * 1000000000ull)

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow); /* as seen from the inside */
	__type(value, __u64);     /* when it was last used */
} flows SEC(".maps");

/* Packets by what became of them. */
enum { OUTWARD, KNOWN, OPEN, REFUSED, VERDICTS };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&packets, &what);

	if (n)
		++*n;
}

SEC("tc")
int inside(struct __sk_buff *skb)
{
	struct layout at;
	struct flow f;
	__u64 now = bpf_ktime_get_ns();

	if (parse(skb, &f, &at) == 0) {
		bpf_map_update_elem(&flows, &f, &now, BPF_ANY);
		count(OUTWARD);
	}
	return TC_ACT_OK;
}

/* Neighbours must be found in either direction. */
static __always_inline int is_neighbour(struct __sk_buff *skb)
{
	__u8 next, type;

	if (skb->protocol == bpf_htons(0x0806))
		return 1;
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, ETH_HLEN + 6, &next, 1) || next != IPPROTO_ICMPV6 ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 40, &type, 1))
		return 0;
	return type >= 133 && type <= 136;
}

SEC("tc")
int outside(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns(), *seen;
	struct flow f, back;
	struct layout at;

	if (is_neighbour(skb))
		return TC_ACT_OK;
	if (parse(skb, &f, &at))
		goto refuse;
	reverse(&f, &back);
	seen = bpf_map_lookup_elem(&flows, &back);
	if (seen && now - *seen < IDLE_NS) {
		*seen = now;
		count(KNOWN);
		return TC_ACT_OK;
	}
	if (f.proto == IPPROTO_TCP && f.dport == bpf_htons(OPEN_PORT)) {
		count(OPEN);
		return TC_ACT_OK;
	}
refuse:
	count(REFUSED);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
