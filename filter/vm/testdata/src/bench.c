// Programs that bench_test.go measures beside those of the corpus.
//   clang -O2 -g -target bpf -mcpu=v3 -c bench.c -o ../bench.o
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(s) __attribute__((section(s), used))
#define INLINE static inline __attribute__((always_inline))

struct skb { u32 len, pkt_type, mark, queue, protocol, vlan[3], priority, ingress, ifindex, tc_index, cb[5], hash, classid, data, data_end; };

static long (*store_bytes)(void *, u32, const void *, u32, u64) = (void *)9;
static long (*l3_csum)(void *, u32, u64, u64, u64) = (void *)10;
static long (*l4_csum)(void *, u32, u64, u64, u64) = (void *)11;

// empty is the floor: what a run costs without a program.
SEC("tc") int empty(struct skb *s) { return 0; }

// nat rewrites source address and port of an IPv4 TCP packet.
SEC("tc") int nat(struct skb *s)
{
	u8 *d = (u8 *)(long)s->data, *end = (u8 *)(long)s->data_end;
	if (d + 54 > end || d[12] != 8 || d[13] != 0 || d[23] != 6)
		return 2;
	u32 old = *(u32 *)(d + 26), new = 0x0100a8c0;
	u16 oldp = *(u16 *)(d + 34), newp = 0x3930;
	l4_csum(s, 50, old, new, 0x10 | 4);
	l4_csum(s, 50, oldp, newp, 2);
	l3_csum(s, 24, old, new, 4);
	store_bytes(s, 26, &new, 4, 0);
	store_bytes(s, 34, &newp, 2, 0);
	return 0;
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROUND                                                              \
	v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);          \
	v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                             \
	v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                             \
	v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);

// siphash hashes the addresses and ports (SipHash-2-4, 12 bytes).
SEC("tc") int siphash(struct skb *s)
{
	u8 *d = (u8 *)(long)s->data, *end = (u8 *)(long)s->data_end;
	if (d + 54 > end)
		return 2;
	u64 k0 = 0x0706050403020100ULL, k1 = 0x0f0e0d0c0b0a0908ULL;
	u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
	u64 v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
	u64 m = *(u32 *)(d + 26) | (u64)*(u32 *)(d + 30) << 32;
	v3 ^= m; ROUND ROUND v0 ^= m;
	m = *(u32 *)(d + 34) | 12ULL << 56;
	v3 ^= m; ROUND ROUND v0 ^= m;
	v2 ^= 0xff; ROUND ROUND ROUND ROUND
	s->mark = (u32)(v0 ^ v1 ^ v2 ^ v3);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
