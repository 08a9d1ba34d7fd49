/* A netfilter program: counts what it sees by version of IP, lets no datagram
 * pass. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct sk_buff {
	unsigned int len;
} __attribute__((preserve_access_index));

struct nf_hook_state {
	__u8 hook, pf;
} __attribute__((preserve_access_index));

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __attribute__((section(".ksyms")));
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) __attribute__((section(".ksyms")));

SEC("netfilter")
int no_udp(struct bpf_nf_ctx *ctx)
{
	__u32 pf = ctx->state->pf;
	struct bpf_dynptr ptr;
	__u8 buf[10], *b;
	__u64 *n;

	n = bpf_map_lookup_elem(&seen, &pf);
	if (n)
		*n += ctx->skb->len;
	if (bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &ptr))
		return 0;
	b = bpf_dynptr_slice(&ptr, 0, buf, sizeof(buf));
	if (!b)
		return 0;
	if (b[0] >> 4 == 4)
		return b[9] != 17;
	return b[6] != 17;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
