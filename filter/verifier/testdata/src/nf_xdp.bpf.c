// Netfilter and XDP programs for the verifier's tests; see rules.bpf.c.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

struct nf_hook_state { unsigned char hook; unsigned char pf; struct net_device *in, *out; } __attribute__((preserve_access_index));
struct net_device { int ifindex; unsigned int mtu; } __attribute__((preserve_access_index));
struct sk_buff { unsigned int len, mark; struct net_device *dev; } __attribute__((preserve_access_index));
struct bpf_nf_ctx { const struct nf_hook_state *state; struct sk_buff *skb; };

struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } devs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } hits SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 4); __uint(map_flags, 1); __type(key, __u64); __type(value, __u32); } lpm SEC(".maps");

extern int bpf_dynptr_from_skb(struct __sk_buff *s, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *x, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 off, void *buf, __u32 sz) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 off, void *buf, __u32 sz) __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *p, __u32 start, __u32 end) __ksym;
extern _Bool bpf_dynptr_is_null(const struct bpf_dynptr *p) __ksym;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym;

#define NF(name) SEC("netfilter") int name(struct bpf_nf_ctx *ctx)
#define XDP(name) SEC("xdp") int name(struct xdp_md *ctx)

NF(nf_fields) { return ctx->skb->len > 100 && ctx->state->hook == 1 && ctx->state->pf == 2; }
NF(nf_dev) { const struct net_device *d = ctx->state->in; if (!d) return 1; return d->ifindex != 3; }
NF(nf_dev_unchecked) { return ctx->state->in->ifindex != 3; }
NF(bad_nf_return) { return ctx->skb->len; }
NF(bad_nf_return_2) { return ctx->skb->mark ? 2 : 0; }
NF(bad_nf_write) { ctx->skb->mark = 1; return 1; }
NF(nf_dynptr) {
	struct bpf_dynptr d; struct iphdr buf, *ip;
	if (bpf_dynptr_from_skb((void *)ctx->skb, 0, &d)) return 1;
	ip = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	if (!ip) return 1;
	if (ip->protocol != 6) return 1;
	__u64 key = ip->saddr;
	__u32 *v = bpf_map_lookup_elem(&lpm, &key);
	return !v;
}
NF(nf_dynptr_null_buf) {
	struct bpf_dynptr d; struct iphdr *ip;
	if (bpf_dynptr_from_skb((void *)ctx->skb, 0, &d)) return 1;
	ip = bpf_dynptr_slice(&d, 0, 0, sizeof(*ip));
	return ip ? ip->ttl != 1 : 1;
}
NF(bad_nf_dynptr_rdwr) {
	struct bpf_dynptr d; struct iphdr buf, *ip;
	if (bpf_dynptr_from_skb((void *)ctx->skb, 0, &d)) return 1;
	ip = bpf_dynptr_slice_rdwr(&d, 0, &buf, sizeof(buf));
	if (!ip) return 1;
	ip->ttl = 1;
	return 1;
}
NF(bad_nf_dynptr_ctx) { struct bpf_dynptr d; bpf_dynptr_from_skb((void *)ctx, 0, &d); return 1; }
NF(bad_nf_dynptr_beyond) {
	struct bpf_dynptr d; struct iphdr buf; char *p;
	bpf_dynptr_from_skb((void *)ctx->skb, 0, &d);
	p = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	return p ? p[20] & 1 : 0;
}
NF(bad_nf_slice_size) {
	struct bpf_dynptr d; char buf[64], *p;
	bpf_dynptr_from_skb((void *)ctx->skb, 0, &d);
	p = bpf_dynptr_slice(&d, 0, buf, ctx->skb->len & 63);
	return p ? p[0] & 1 : 0;
}
NF(bad_nf_slice_small_buf) {
	struct bpf_dynptr d; char buf[8], *p;
	bpf_dynptr_from_skb((void *)ctx->skb, 0, &d);
	p = bpf_dynptr_slice(&d, 0, buf, 600);
	return p ? p[0] & 1 : 0;
}
NF(nf_dynptr_kfuncs) {
	struct bpf_dynptr d;
	bpf_dynptr_from_skb((void *)ctx->skb, 0, &d);
	bpf_dynptr_adjust(&d, 4, 20);
	if (bpf_dynptr_is_null(&d)) return 1;
	return bpf_dynptr_size(&d) > 8;
}
NF(nf_dynptr_read) { struct bpf_dynptr d; __u32 x = 0; bpf_dynptr_from_skb((void *)ctx->skb, 0, &d); bpf_dynptr_read(&x, 4, &d, 12, 0); return x != 5; }
NF(nf_dynptr_write) { struct bpf_dynptr d; __u32 x = 0; bpf_dynptr_from_skb((void *)ctx->skb, 0, &d); bpf_dynptr_write(&d, 12, &x, 4, 0); return 1; }
NF(bad_nf_overwrite) { struct bpf_dynptr d; bpf_dynptr_from_skb((void *)ctx->skb, 0, &d); *(volatile __u64 *)&d = 0; return bpf_dynptr_size(&d) > 8; }
NF(nf_map) { __u32 k = 2; __u64 *v = bpf_map_lookup_elem(&hits, &k); if (v) *v += 1; return 1; }

XDP(xdp_pass_ok) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *e = data;
	if ((void *)(e + 1) > end) return XDP_DROP;
	e->h_proto = 0;
	return XDP_PASS;
}
XDP(xdp_adjust) {
	if (bpf_xdp_adjust_head(ctx, -14)) return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 14 > end) return XDP_DROP;
	__builtin_memset(data, 0, 14);
	return XDP_TX;
}
XDP(bad_xdp_stale) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 14 > end) return XDP_DROP;
	bpf_xdp_adjust_head(ctx, -14);
	return *(__u8 *)data;
}
XDP(xdp_meta) {
	if (bpf_xdp_adjust_meta(ctx, -8)) return XDP_PASS;
	void *data = (void *)(long)ctx->data, *meta = (void *)(long)ctx->data_meta;
	if (meta + 8 > data) return XDP_PASS;
	*(__u64 *)meta = 1;
	return XDP_PASS;
}
XDP(bad_xdp_meta) {
	void *data = (void *)(long)ctx->data_end, *meta = (void *)(long)ctx->data_meta;
	if (meta + 8 > data) return XDP_PASS;
	*(__u64 *)meta = 1;
	return XDP_PASS;
}
XDP(xdp_redirect) { return bpf_redirect_map(&devs, ctx->rx_queue_index, 0); }
XDP(bad_xdp_ctx_write) { ctx->rx_queue_index = 1; return 0; }
XDP(bad_xdp_egress) { return ctx->egress_ifindex; }
XDP(bad_devmap_write) { __u32 k = 1, *v = bpf_map_lookup_elem(&devs, &k); if (v) *v = 1; return 0; }
XDP(devmap_read) { __u32 k = 1, *v = bpf_map_lookup_elem(&devs, &k); return v ? *v : 0; }
XDP(xdp_dynptr) {
	struct bpf_dynptr d; char b[14], *p;
	bpf_dynptr_from_xdp(ctx, 0, &d);
	p = bpf_dynptr_slice_rdwr(&d, 0, b, 14);
	if (p) p[0] = 1;
	return XDP_PASS;
}
XDP(bad_xdp_skb_dynptr) { struct bpf_dynptr d; return bpf_dynptr_from_skb((void *)ctx, 0, &d); }
XDP(xdp_checksum) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 sum = 0;
	__u16 *p = data;
	for (int i = 0; i < 100; i++) {
		if ((void *)(p + 1) > end) break;
		sum += *p++;
	}
	return sum & 3;
}
XDP(xdp_variable) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 off = ctx->ingress_ifindex & 0xff;
	__u8 *p = data + off;
	if ((void *)(p + 4) > end) return 0;
	return p[3];
}
XDP(bad_xdp_variable) {
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 off = ctx->ingress_ifindex & 0xff;
	__u8 *p = data + off;
	if ((void *)(p + 4) > end) return 0;
	return p[4];
}
