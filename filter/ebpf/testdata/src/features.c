// What object files can hold, in one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
};
struct inner in1 SEC(".maps"), in2 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [1] = &in1, [3] = &in2 } };

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} houter SEC(".maps");

struct locked {
	__u64 count;
	struct bpf_spin_lock lock;
	struct { struct bpf_timer t; } nested;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct locked);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} locks SEC(".maps");

int target1(struct __sk_buff *skb);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [2] = (void *)&target1 } };

struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");

const volatile __u32 limit = 7;
__u64 counter;
__u64 custom SEC(".data.custom") = 0x1122334455667788;
static volatile __u32 hidden = 5;

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HZ __kconfig __weak;
extern void bpf_no_such_kfunc(void) __ksym __weak;

static __attribute__((noinline)) int twice(int x) { asm volatile("" : "+r"(x)); return x * 2; }
__attribute__((noinline)) int global_add(int a, int b) { asm volatile("" : "+r"(a)); return a + b; }
static long each(void *map, __u32 *key, __u64 *value, void *ctx) { *(__u64 *)ctx += *value; return 0; }

struct iphdr { __u8 protocol; } __attribute__((preserve_access_index));

SEC("tc") int main_prog(struct __sk_buff *skb)
{
	__u64 sum = 0;
	__u32 one = 1;
	struct iphdr *ip = (void *)(long)skb->data;
	counter++;
	bpf_for_each_map_elem(&in1, each, &sum, 0);
	if (bpf_core_field_exists(ip->protocol))
		sum += bpf_core_field_offset(ip->protocol);
	if (bpf_no_such_kfunc)
		bpf_no_such_kfunc();
	void *m = bpf_map_lookup_elem(&outer, &one);
	if (m && LINUX_KERNEL_VERSION > 5)
		bpf_map_lookup_elem(m, &one);
	bpf_tail_call(skb, &jumps, 2);
	return twice(global_add(limit, hidden)) + custom + sum + CONFIG_HZ;
}

SEC("tc") int target1(struct __sk_buff *skb) { return 42; }
SEC("xdp") int x(struct xdp_md *c) { return XDP_PASS; }
SEC("socket") int s(struct __sk_buff *skb) { return skb->len; }
SEC("tcx/ingress") int ti(struct __sk_buff *skb) { return -1; }
SEC("action") int a(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "Dual MIT/GPL";
