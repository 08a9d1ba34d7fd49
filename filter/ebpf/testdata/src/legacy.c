// Objects from before BTF, as iproute2's loader knows them.
#include <linux/bpf.h>
#define SEC(n) __attribute__((section(n), used))
struct elf_map { __u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };
static void *(*lookup)(void *map, const void *key) = (void *)1;
static int (*tail)(void *ctx, void *map, __u32 i) = (void *)12;

struct elf_map SEC("maps") counts = { .type = BPF_MAP_TYPE_HASH, .size_key = 4, .size_value = 8, .max_elem = 16, .pinning = 2, .id = 1 };
struct elf_map SEC("maps") calls = { .type = BPF_MAP_TYPE_PROG_ARRAY, .size_key = 4, .size_value = 4, .max_elem = 2, .id = 2 };
struct elf_map SEC("maps") in = { .type = BPF_MAP_TYPE_ARRAY, .size_key = 4, .size_value = 4, .max_elem = 1, .id = 3 };
struct elf_map SEC("maps") out = { .type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .size_key = 4, .size_value = 4, .max_elem = 2, .id = 4, .inner_id = 3, .inner_idx = 1 };

SEC("classifier/x") int cls(struct __sk_buff *skb)
{
	__u32 k = 0;
	__u64 *v = lookup(&counts, &k);
	if (v)
		*v += 1;
	lookup(&out, &k);
	tail(skb, &calls, 1);
	return 0;
}
SEC("2/1") int called(struct __sk_buff *skb) { return 3; }
SEC("ingress") int in_section(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
