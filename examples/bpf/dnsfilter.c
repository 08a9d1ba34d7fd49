/* Answers questions for one domain and all below it itself: no such name.
 * Other questions pass. Belongs at the ingress towards the clients.
 */
#include "packet.h"

/* ads.example in the form of RFC 1035, section 3.1. */
const __u8 blocked[] = "\3ads\7example";

#define LONGEST 128 /* bytes of name that are looked at */
#define HEADER 12
#define NXDOMAIN 3

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2); /* questions that passed, and that were answered */
	__type(key, __u32);
	__type(value, __u64);
} questions SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&questions, &what);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* The walk through a name. Of the blocked one, have bytes are matched so far; a
 * match begins with a label, whose first byte is its length.
 */
struct walk {
	struct __sk_buff *skb;
	__u32 off;
	__u32 have;
	__u32 left; /* bytes of the present label */
	__u32 found;
};

/* step is a function of its own for bpf_loop, since the verifier would follow
 * a plain loop into every state that it might be in.
 */
static long step(__u32 i, struct walk *w)
{
	int starts = w->left == 0;
	__u32 have = w->have;
	__u8 c;

	if (bpf_skb_load_bytes(w->skb, w->off + i, &c, 1))
		return 1;
	if (starts) {
		if (c > 63)
			return 1; /* compressed, or nonsense */
		w->left = c;
	} else {
		w->left--;
		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
	}
	if (have < sizeof(blocked) && c == blocked[have])
		w->have = have + 1;
	else
		w->have = starts && c == blocked[0];
	if (!starts || c != 0)
		return 0;
	w->found = w->have == sizeof(blocked);
	return 1;
}

static __always_inline int is_blocked(struct __sk_buff *skb, __u32 off)
{
	struct walk w = {.skb = skb, .off = off};

	bpf_loop(LONGEST, step, &w, 0);
	return w.found;
}

/* turn makes the question its own answer and sends it back. */
static __always_inline int turn(struct __sk_buff *skb, struct flow *f, struct layout *at)
{
	__u8 mac[12], back[12];
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, 0, mac, 12) || bpf_skb_load_bytes(skb, at->l4 + 8 + 2, &old, 2))
		return TC_ACT_SHOT;
	__builtin_memcpy(back, mac + 6, 6);
	__builtin_memcpy(back + 6, mac, 6);
	/* An answer (RFC 1035, section 4.1.1) with recursion available. */
	new = (old & bpf_htons(0x7900)) | bpf_htons(0x8080 | NXDOMAIN);
	if (bpf_skb_store_bytes(skb, 0, back, 12, 0) || bpf_l4_csum_replace(skb, at->csum, old, new, udp_flag(f) | 2) ||
	    bpf_skb_store_bytes(skb, at->l4 + 8 + 2, &new, 2, 0))
		return TC_ACT_SHOT;
	/* Swapping addresses and ports changes no checksum. */
	if (f->family == ETH_P_IP) {
		if (bpf_skb_store_bytes(skb, at->l3 + 12, &f->dst.w[3], 4, 0) || bpf_skb_store_bytes(skb, at->l3 + 16, &f->src.w[3], 4, 0))
			return TC_ACT_SHOT;
	} else if (bpf_skb_store_bytes(skb, at->l3 + 8, &f->dst, 16, 0) || bpf_skb_store_bytes(skb, at->l3 + 24, &f->src, 16, 0))
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, at->sport, &f->dport, 2, 0) || bpf_skb_store_bytes(skb, at->dport, &f->sport, 2, 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

SEC("tc")
int filter_dns(struct __sk_buff *skb)
{
	struct layout at;
	struct flow f;

	if (parse(skb, &f, &at) || f.proto != IPPROTO_UDP || f.dport != bpf_htons(53))
		return TC_ACT_OK;
	if (!is_blocked(skb, at.l4 + 8 + HEADER)) {
		count(0);
		return TC_ACT_OK;
	}
	count(1);
	return turn(skb, &f, &at);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
