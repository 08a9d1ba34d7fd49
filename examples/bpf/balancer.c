/* Spreads the TCP connections to one address over several servers. A
 * connection stays with its server, and the choice needs no table: it is a
 * hash of the connection.
 *
 * request belongs at the ingress towards the clients, reply at the
 * egress there. IPv4.
 */
#include "packet.h"

#define VIRTUAL bpf_htonl(0x0a090909) /* 10.9.9.9 */
#define PORT bpf_htons(80)

static const __be32 servers[] = {
	bpf_htonl(0x0a000202), /* 10.0.2.2 */
	bpf_htonl(0x0a000302), /* 10.0.3.2 */
};
#define SERVERS (sizeof(servers) / sizeof(servers[0]))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVERS);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

/* spread is a multiplicative hash (Fibonacci's) of the client. */
static __always_inline __u32 spread(const struct flow *f)
{
	__u64 h = ((__u64)f->src.w[3] << 16 | f->sport) * 0x9e3779b97f4a7c15ull;

	return (h >> 32) % SERVERS;
}

SEC("tc")
int request(struct __sk_buff *skb)
{
	union addr to = {};
	struct layout at;
	struct flow f;
	__u64 *n;
	__u32 k;

	if (parse(skb, &f, &at) || f.family != ETH_P_IP || f.proto != IPPROTO_TCP || f.dst.w[3] != VIRTUAL || f.dport != PORT)
		return TC_ACT_OK;
	k = spread(&f);
	n = bpf_map_lookup_elem(&packets, &k);
	if (n)
		__sync_fetch_and_add(n, 1);
	for (__u32 i = 0; i < SERVERS; i++)
		if (i == k)
			to.w[3] = servers[i];
	return set_addr(skb, &f, &at, 1, &f.dst, &to) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int reply(struct __sk_buff *skb)
{
	union addr from = {.w = {0, 0, 0, VIRTUAL}};
	struct layout at;
	struct flow f;

	if (parse(skb, &f, &at) || f.family != ETH_P_IP || f.proto != IPPROTO_TCP || f.sport != PORT)
		return TC_ACT_OK;
	for (__u32 i = 0; i < SERVERS; i++)
		if (f.src.w[3] == servers[i])
			return set_addr(skb, &f, &at, 0, &f.src, &from) ? TC_ACT_SHOT : TC_ACT_OK;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
