// Programs for the verifier's tests, by what they exercise. Those that begin
// with bad_ must be refused. Each is loaded into the kernel too, where possible.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

struct locked { struct bpf_spin_lock lock; __u32 pad; __u64 n; };
struct timed { __u64 n; struct bpf_timer t; };

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, struct locked); __uint(max_entries, 4); } locks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, struct locked); __uint(max_entries, 4); } hlocks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, struct timed); __uint(max_entries, 4); } timers SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, __u64); __uint(max_entries, 16); } arr SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); __uint(max_entries, 16); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 4); __type(value, __u64); } queue SEC(".maps");
struct inner_map { __uint(type, BPF_MAP_TYPE_ARRAY); __type(key, __u32); __type(value, __u64); __uint(max_entries, 4); } inner0 SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32); __array(values, struct inner_map); } outer SEC(".maps") = { .values = { &inner0 } };

const volatile __u32 limit = 7;
__u64 counter;

#define PROG(name) SEC("tc") int name(struct __sk_buff *skb)

PROG(lock_ok) {
	__u32 k = 1;
	struct locked *v = bpf_map_lookup_elem(&locks, &k);
	if (!v) return 0;
	bpf_spin_lock(&v->lock); v->n++; bpf_spin_unlock(&v->lock);
	return 0;
}
PROG(bad_lock_no_unlock) {
	__u32 k = 1;
	struct locked *v = bpf_map_lookup_elem(&locks, &k);
	if (!v) return 0;
	bpf_spin_lock(&v->lock); v->n++;
	return 0;
}
PROG(bad_lock_other) {
	__u32 k = skb->mark, l = skb->len;
	struct locked *v = bpf_map_lookup_elem(&hlocks, &k), *w = bpf_map_lookup_elem(&hlocks, &l);
	if (!v || !w) return 0;
	bpf_spin_lock(&v->lock); v->n++; bpf_spin_unlock(&w->lock);
	return 0;
}
PROG(bad_lock_call) {
	__u32 k = 1;
	struct locked *v = bpf_map_lookup_elem(&locks, &k);
	if (!v) return 0;
	bpf_spin_lock(&v->lock); v->n = bpf_ktime_get_ns(); bpf_spin_unlock(&v->lock);
	return 0;
}
PROG(bad_lock_write) {
	__u32 k = 1;
	struct locked *v = bpf_map_lookup_elem(&locks, &k);
	if (!v) return 0;
	*(volatile __u32 *)&v->lock = 1;
	return 0;
}
PROG(bad_lock_twice) {
	__u32 k = skb->mark, l = skb->len;
	struct locked *v = bpf_map_lookup_elem(&hlocks, &k), *w = bpf_map_lookup_elem(&hlocks, &l);
	if (!v || !w) return 0;
	bpf_spin_lock(&v->lock); bpf_spin_lock(&w->lock); w->n++; bpf_spin_unlock(&w->lock); bpf_spin_unlock(&v->lock);
	return 0;
}

static int on_timer(void *map, __u32 *key, struct timed *v) { v->n += *key; bpf_timer_start(&v->t, 1000, 0); return 0; }
static int bad_timer_ret(void *map, __u32 *key, struct timed *v) { return 1; }
PROG(timer_ok) {
	__u32 k = 0;
	struct timed *v = bpf_map_lookup_elem(&timers, &k);
	if (!v) return 0;
	bpf_timer_init(&v->t, &timers, 0);
	bpf_timer_set_callback(&v->t, on_timer);
	bpf_timer_start(&v->t, 1000, 0);
	bpf_timer_cancel(&v->t);
	return 0;
}
PROG(bad_timer_return) {
	__u32 k = 0;
	struct timed *v = bpf_map_lookup_elem(&timers, &k);
	if (!v) return 0;
	bpf_timer_init(&v->t, &timers, 0);
	bpf_timer_set_callback(&v->t, bad_timer_ret);
	return 0;
}
PROG(bad_timer_map) {
	__u32 k = 0;
	struct timed *v = bpf_map_lookup_elem(&timers, &k);
	if (!v) return 0;
	bpf_timer_init(&v->t, &arr, 0);
	return 0;
}

struct sum { __u64 total; __u32 max; };
static int add_turn(__u32 i, void *ctx) { struct sum *s = ctx; s->total += i; return s->total > 1000; }
static int add_elem(void *map, __u32 *key, __u64 *val, void *ctx) { struct sum *s = ctx; s->total += *val; return 0; }
static int bad_ret(__u32 i, void *ctx) { return 2; }
static int bad_write(__u32 i, void *ctx) { __u64 *p = ctx; p[8] = i; return 0; }
static int writes_key(void *map, __u32 *key, __u64 *val, void *ctx) { *key = 1; return 0; }
static int idx_turn(__u32 i, void *ctx) { __u32 *x = ctx; *x = i; return 0; }
PROG(loop_ok) { struct sum s = {}; bpf_loop(100, add_turn, &s, 0); return s.total & 1; }
PROG(loop_big) { struct sum s = {}; bpf_loop(skb->len, add_turn, &s, 0); return s.total > 5; }
PROG(bad_loop_null_ctx) { bpf_loop(3, bad_write, 0, 0); return 0; }
PROG(bad_loop_ret) { struct sum s = {}; bpf_loop(100, bad_ret, &s, 0); return 0; }
PROG(bad_loop_oob) { struct sum s = {}; bpf_loop(100, bad_write, &s, 0); return s.total; }
PROG(bad_loop_index) { __u32 x = 0; char b[16] = {}; bpf_loop(10, idx_turn, &x, 0); return b[x]; }
PROG(loop_index_checked) { __u32 x = 0; char b[16] = {}; bpf_loop(10, idx_turn, &x, 0); if (x < 16) return b[x]; return 0; }
PROG(foreach_ok) { struct sum s = {}; bpf_for_each_map_elem(&hash, add_elem, &s, 0); return s.total & 1; }
PROG(foreach_array) { struct sum s = {}; bpf_for_each_map_elem(&arr, add_elem, &s, 0); return s.total & 1; }
PROG(bad_foreach_key) { struct sum s = {}; bpf_for_each_map_elem(&hash, writes_key, &s, 0); return 0; }
PROG(bad_foreach_queue) { struct sum s = {}; bpf_for_each_map_elem(&queue, add_elem, &s, 0); return 0; }

PROG(ring_ok) { __u64 *p = bpf_ringbuf_reserve(&rb, 16, 0); if (!p) return 0; p[0] = 1; p[1] = skb->len; bpf_ringbuf_submit(p, 0); return 0; }
PROG(bad_ring_size) { __u64 *p = bpf_ringbuf_reserve(&rb, skb->len, 0); if (!p) return 0; p[0] = 1; bpf_ringbuf_submit(p, 0); return 0; }
PROG(bad_ring_oob) { __u64 *p = bpf_ringbuf_reserve(&rb, 16, 0); if (!p) return 0; p[2] = 1; bpf_ringbuf_submit(p, 0); return 0; }
PROG(bad_ring_after) { __u64 *p = bpf_ringbuf_reserve(&rb, 16, 0); if (!p) return 0; bpf_ringbuf_submit(p, 0); p[0] = 1; return 0; }
PROG(ring_dynptr) {
	struct bpf_dynptr d; __u64 x = 5;
	bpf_ringbuf_reserve_dynptr(&rb, skb->len, 0, &d);
	bpf_dynptr_write(&d, 0, &x, sizeof(x), 0);
	__u64 *p = bpf_dynptr_data(&d, 8, 8);
	if (p) *p = 7;
	bpf_ringbuf_submit_dynptr(&d, 0);
	return 0;
}
PROG(bad_dynptr_leak) { struct bpf_dynptr d; bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &d); return 0; }
PROG(bad_dynptr_after) {
	struct bpf_dynptr d;
	bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &d);
	__u64 *p = bpf_dynptr_data(&d, 0, 8);
	bpf_ringbuf_discard_dynptr(&d, 0);
	if (p) *p = 7;
	return 0;
}
PROG(bad_dynptr_oob) {
	struct bpf_dynptr d;
	bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &d);
	__u64 *p = bpf_dynptr_data(&d, 0, 8);
	if (p) p[1] = 7;
	bpf_ringbuf_discard_dynptr(&d, 0);
	return 0;
}
PROG(bad_dynptr_uninit) { struct bpf_dynptr d; __u64 x; bpf_dynptr_read(&x, 8, &d, 0, 0); return 0; }
PROG(dynptr_mem) {
	__u32 k = 0; __u64 x = 0; struct bpf_dynptr d;
	__u64 *v = bpf_map_lookup_elem(&arr, &k);
	if (!v) return 0;
	bpf_dynptr_from_mem(v, 8, 0, &d);
	bpf_dynptr_read(&x, 8, &d, 0, 0);
	return x & 1;
}

extern int bpf_dynptr_from_skb(struct __sk_buff *s, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 off, void *buf, __u32 sz) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 off, void *buf, __u32 sz) __ksym;
PROG(skb_dynptr) {
	struct bpf_dynptr d; struct ethhdr buf, *e;
	bpf_dynptr_from_skb(skb, 0, &d);
	e = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	if (!e) return 0;
	return e->h_proto == bpf_htons(ETH_P_IP);
}
PROG(skb_dynptr_rdwr) {
	struct bpf_dynptr d; struct ethhdr buf, *e;
	bpf_dynptr_from_skb(skb, 0, &d);
	e = bpf_dynptr_slice_rdwr(&d, 0, &buf, sizeof(buf));
	if (!e) return 0;
	e->h_proto = 0;
	return 0;
}
PROG(bad_skb_dynptr_write) {
	struct bpf_dynptr d; struct ethhdr buf, *e;
	bpf_dynptr_from_skb(skb, 0, &d);
	e = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	if (!e) return 0;
	e->h_proto = 0;
	return 0;
}
PROG(bad_skb_dynptr_null) {
	struct bpf_dynptr d; struct ethhdr buf, *e;
	bpf_dynptr_from_skb(skb, 0, &d);
	e = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	return e->h_proto;
}
PROG(bad_skb_dynptr_stale) {
	struct bpf_dynptr d; struct ethhdr buf, *e;
	bpf_dynptr_from_skb(skb, 0, &d);
	e = bpf_dynptr_slice(&d, 0, &buf, sizeof(buf));
	if (!e) return 0;
	bpf_skb_pull_data(skb, 0);
	return e->h_proto;
}

struct bpf_iter_num;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
struct my_iter { __u64 x; } __attribute__((aligned(8)));
PROG(iter_ok) {
	struct my_iter it; int *v; __u64 sum = 0;
	bpf_iter_num_new((void *)&it, 0, skb->len);
	while ((v = bpf_iter_num_next((void *)&it))) sum += *v;
	bpf_iter_num_destroy((void *)&it);
	return sum & 1;
}
PROG(iter_index) {
	struct my_iter it; int *v; __u64 sum = 0;
	bpf_iter_num_new((void *)&it, 0, 100);
	while ((v = bpf_iter_num_next((void *)&it))) {
		__u32 i = *v;
		if (i >= 16) break;
		__u64 *e = bpf_map_lookup_elem(&arr, &i);
		if (e) sum += *e;
	}
	bpf_iter_num_destroy((void *)&it);
	return sum & 1;
}
PROG(bad_iter_leak) {
	struct my_iter it; int *v; __u64 sum = 0;
	bpf_iter_num_new((void *)&it, 0, 10);
	while ((v = bpf_iter_num_next((void *)&it))) sum += *v;
	return sum & 1;
}
PROG(bad_iter_null) {
	struct my_iter it; int v;
	bpf_iter_num_new((void *)&it, 0, 10);
	v = *bpf_iter_num_next((void *)&it);
	bpf_iter_num_destroy((void *)&it);
	return v;
}

struct arg { __u32 a, b; };
__attribute__((noinline)) int glob_num(int a, int b) { return a * b; }
__attribute__((noinline)) int glob_ctx(struct __sk_buff *skb) { return skb->len; }
__attribute__((noinline)) int glob_mem(struct arg *a) { if (!a) return 0; return a->a + a->b; }
__attribute__((noinline)) int glob_mem_nocheck(struct arg *a) { return a->a + a->b; }
__attribute__((noinline)) int glob_pull(struct __sk_buff *skb) { return bpf_skb_pull_data(skb, 10); }
PROG(global_ok) { struct arg a = {1, 2}; return glob_num(skb->len, 3) + glob_ctx(skb) + glob_mem(&a); }
PROG(bad_global_null) { struct arg a = {1, 2}; return glob_mem_nocheck(&a); }
PROG(bad_global_small) { __u32 x = 1; return glob_mem((void *)&x); }
PROG(bad_global_stale) {
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + 14 > end) return 0;
	glob_pull(skb);
	return *(__u8 *)data;
}
PROG(global_result_unknown) { char b[8] = {}; __u32 i = glob_num(1, 2); if (i < 8) return b[i]; return 0; }

PROG(inner_ok) {
	__u32 k = 0;
	void *m = bpf_map_lookup_elem(&outer, &k);
	if (!m) return 0;
	__u64 *v = bpf_map_lookup_elem(m, &k);
	if (!v) return 0;
	return *v;
}
PROG(bad_inner_null) { __u32 k = 0; void *m = bpf_map_lookup_elem(&outer, &k); __u64 *v = bpf_map_lookup_elem(m, &k); return v ? *v : 0; }
PROG(bad_inner_deref) { __u32 k = 0; __u64 *m = bpf_map_lookup_elem(&outer, &k); if (!m) return 0; *m = 0; return 0; }
PROG(queue_ok) { __u64 x = 1; bpf_map_push_elem(&queue, &x, 0); bpf_map_pop_elem(&queue, &x); return bpf_map_peek_elem(&queue, &x); }
PROG(bad_queue_lookup) { __u32 k = 0; return bpf_map_lookup_elem(&queue, &k) != 0; }

PROG(sk_ok) {
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv4), -1, 0);
	if (!sk) return 0;
	int r = sk->state;
	bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return r;
}
PROG(bad_sk_leak) { struct bpf_sock_tuple t = {}; return bpf_sk_lookup_udp(skb, &t, sizeof(t.ipv4), -1, 0) != 0; }
PROG(bad_sk_after) {
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv4), -1, 0);
	if (!sk) return 0;
	bpf_sk_release(sk);
	return sk->state;
}
PROG(bad_sk_release_skb) { struct bpf_sock *sk = skb->sk; if (!sk) return 0; sk = bpf_sk_fullsock(sk); if (!sk) return 0; bpf_sk_release(sk); return 0; }
PROG(sk_fullsock) { struct bpf_sock *sk = skb->sk; if (!sk) return 0; sk = bpf_sk_fullsock(sk); if (!sk) return 0; return sk->mark; }
PROG(bad_sk_common_mark) { struct bpf_sock *sk = skb->sk; if (!sk) return 0; return sk->mark; }
PROG(tcp_sock) {
	struct bpf_sock *sk = skb->sk;
	if (!sk) return 0;
	struct bpf_tcp_sock *tp = bpf_tcp_sock(sk);
	return tp ? tp->snd_cwnd : 0;
}
PROG(bad_tcp_sock_after) {
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv4), -1, 0);
	if (!sk) return 0;
	struct bpf_tcp_sock *tp = bpf_tcp_sock(sk);
	bpf_sk_release(sk);
	return tp ? tp->snd_cwnd : 0;
}

PROG(const_limit) { char b[8] = {1}; return b[limit]; }
PROG(loop_const) { __u32 s = 0; for (__u32 i = 0; i < limit; i++) s += bpf_get_prandom_u32(); counter += s; return 0; }
PROG(bad_ctx_index) { __u32 s = 0; for (__u32 i = 0; i < limit; i++) s += skb->cb[i % 5]; counter += s; return 0; }
PROG(big_loop) { __u64 s = 0; for (int i = 0; i < 5000; i++) { s += bpf_get_prandom_u32() & 1; } return s & 1; }
PROG(options) {
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *e = data; struct iphdr *ip = data + sizeof(*e);
	if ((void *)(ip + 1) > end) return 0;
	__u32 hl = ip->ihl * 4;
	if (hl < 20) return 0;
	struct tcphdr *t = (void *)ip + hl;
	if ((void *)(t + 1) > end) return 0;
	__u32 n = t->doff * 4;
	__u8 *o = (void *)(t + 1), *oe = (void *)t + n;
	int found = 0;
	for (int i = 0; i < 8; i++) {
		if (o + 1 > oe || (void *)(o + 1) > end) break;
		if (*o == 0) break;
		if (*o == 1) { o++; continue; }
		if (o + 2 > oe || (void *)(o + 2) > end) break;
		__u8 l = o[1];
		if (l < 2) break;
		if (*o == 2) found = 1;
		o += l;
	}
	return found;
}
PROG(snprintf_ok) {
	static const char fmt[] = "%d %s";
	char b[32]; __u64 a[2] = {1, (__u64)(long)fmt};
	return bpf_snprintf(b, sizeof(b), fmt, a, sizeof(a));
}
PROG(strncmp_ok) { char b[8] = {}; return bpf_strncmp(b, 8, "abc"); }
