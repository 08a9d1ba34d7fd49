/* A token bucket for each source address: what comes faster than its rate is
 * dropped. Belongs at an ingress.
 */
#include "packet.h"

#define RATE 20 /* packets a second */
#define BURST 5

#define SECOND 1000000000ull

struct bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 until; /* when the bucket is full again */
	__u64 passed, dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, union addr);
	__type(value, struct bucket);
} buckets SEC(".maps");

SEC("tc")
int limit(struct __sk_buff *skb)
{
	struct bucket fresh = {}, *b;
	int verdict = TC_ACT_OK;
	struct layout at;
	struct flow f;
	__u64 now;

	if (parse(skb, &f, &at))
		return TC_ACT_OK;
	b = bpf_map_lookup_elem(&buckets, &f.src);
	if (!b) {
		bpf_map_update_elem(&buckets, &f.src, &fresh, BPF_NOEXIST);
		b = bpf_map_lookup_elem(&buckets, &f.src);
		if (!b)
			return TC_ACT_SHOT; /* too many sources */
	}
	now = bpf_ktime_get_ns();
	bpf_spin_lock(&b->lock);
	if (b->until < now)
		b->until = now;
	if (b->until - now > (BURST - 1) * (SECOND / RATE)) {
		b->dropped++;
		verdict = TC_ACT_SHOT;
	} else {
		b->until += SECOND / RATE;
		b->passed++;
	}
	bpf_spin_unlock(&b->lock);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
