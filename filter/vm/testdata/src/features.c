// Programs that use what the corpus does not: each returns a number that says whether
// everything went as it should. features_test.go runs them interpreted, compiled and in
// the kernel.
//   clang -O2 -g -target bpf -mcpu=v3 -c features.c -o ../features.o
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(s) __attribute__((section(s), used))
#define NOINLINE __attribute__((noinline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]

struct __sk_buff { u32 len, pkt_type, mark, queue, protocol, vlan[3], priority, ingress, ifindex, tc_index, cb[5], hash, classid, data, data_end; };

static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
static long (*delete_)(void *, const void *) = (void *)3;
static u32 (*prandom)(void) = (void *)7;
static u32 (*cpu)(void) = (void *)8;
static long (*tail_call)(void *, void *, u32) = (void *)12;
static long (*push)(void *, const void *, u64) = (void *)87;
static long (*pop)(void *, void *) = (void *)88;
static long (*peek)(void *, void *) = (void *)89;
static long (*spin_lock)(void *) = (void *)93;
static long (*spin_unlock)(void *) = (void *)94;
static long (*ring_discard)(void *, u64) = (void *)133;
static long (*strtol_)(const char *, u64, u64, long *) = (void *)105;
static long (*strtoul_)(const char *, u64, u64, unsigned long *) = (void *)106;
static long (*for_each)(void *, void *, void *, u64) = (void *)164;
static long (*snprintf_)(char *, u32, const char *, u64 *, u32) = (void *)165;
static long (*loop)(u32, void *, void *, u64) = (void *)181;
static long (*strncmp_)(const char *, u32, const char *) = (void *)182;
static void *(*lookup_cpu)(void *, const void *, u32) = (void *)195;
static long (*dyn_from_mem)(void *, u32, u64, void *) = (void *)197;
static long (*dyn_read)(void *, u32, const void *, u32, u64) = (void *)201;
static long (*dyn_write)(const void *, u32, void *, u32, u64) = (void *)202;
static void *(*dyn_data)(const void *, u32, u32) = (void *)203;
static long (*ring_reserve_dyn)(void *, u32, u64, void *) = (void *)198;
static void (*ring_submit_dyn)(void *, u64) = (void *)199;
static long (*csum_diff)(u32 *, u32, u32 *, u32, u32) = (void *)28;

struct bpf_spin_lock { u32 val; };
struct bpf_dynptr { u64 a[2]; } __attribute__((aligned(8)));
struct locked { struct bpf_spin_lock lock; u32 n; };

struct { __uint(type, 2); __type(key, u32); __type(value, u64); __uint(max_entries, 8); } arr SEC(".maps");
struct { __uint(type, 1); __type(key, u32); __type(value, u64); __uint(max_entries, 16); } hash SEC(".maps");
struct { __uint(type, 9); __uint(key_size, 13); __uint(value_size, 8); __uint(max_entries, 16); } lru SEC(".maps");
struct { __uint(type, 6); __type(key, u32); __type(value, u64); __uint(max_entries, 4); } pcpu SEC(".maps");
struct { __uint(type, 5); __type(key, u64); __type(value, u64); __uint(max_entries, 4); } pcpuhash SEC(".maps");
struct { __uint(type, 22); __type(value, u32); __uint(max_entries, 4); } queue SEC(".maps");
struct { __uint(type, 23); __type(value, u32); __uint(max_entries, 4); } stack SEC(".maps");
struct { __uint(type, 2); __type(key, u32); __type(value, struct locked); __uint(max_entries, 1); } locks SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } ring SEC(".maps");

struct inner { __uint(type, 2); __type(key, u32); __type(value, u32); __uint(max_entries, 2); } in1 SEC(".maps"), in2 SEC(".maps");
struct { __uint(type, 12); __uint(key_size, 4); __uint(max_entries, 3); __array(values, struct inner); }
	outer SEC(".maps") = { .values = { [0] = &in1, [2] = &in2 } };

int target(struct __sk_buff *s);
int target2(struct __sk_buff *s);
struct { __uint(type, 3); __uint(key_size, 4); __uint(max_entries, 4); __array(values, int(void *)); }
	jumps SEC(".maps") = { .values = { [1] = (void *)&target, [2] = (void *)&target2 } };

struct sums { u64 keys, values, n; };

static long add(void *map, u32 *key, u64 *value, struct sums *s)
{
	s->keys += *key;
	s->values += *value;
	s->n++;
	return *key == 5;
}

static long one(u32 i, struct sums *s) { s->keys += i; s->n++; return i == 20; }
static long two(u32 i, struct sums *s) { loop(3, one, s, 0); s->values += i; return 0; }

SEC("tc") int each(struct __sk_buff *s)
{
	struct sums sum = {};
	for (int i = 0; i < 8; i++) {
		u64 v = i * i + s->mark;
		u32 j = i, k = i * 3;
		update(&arr, &j, &v, 0);
		if (i < 4)
			update(&hash, &k, &v, 0);
	}
	long a = for_each(&arr, add, &sum, 0);
	sum.n = 10;
	long b = for_each(&hash, add, &sum, 0);
	return a * 1000000 + b * 100000 + sum.keys * 1000 + sum.values;
}

SEC("tc") int loops(struct __sk_buff *s)
{
	struct sums sum = {};
	long a = loop(100, one, &sum, 0);
	long b = loop(10, two, &sum, 0);
	long c = loop(1, one, &sum, 1), d = loop(9000000, one, &sum, 0);
	return a + b * 100 + sum.keys * 10000 + sum.values * 3 + sum.n + c + d;
}

static NOINLINE int middle(struct __sk_buff *s, int i)
{
	tail_call(s, &jumps, i);
	return 7;
}

// A tail call out of a subprogram returns to its caller.
SEC("tc") int subtail(struct __sk_buff *s)
{
	int a = middle(s, 1), b = middle(s, 0), c = middle(s, 9);
	return a * 100 + b * 10 + c;
}

SEC("tc") int chain(struct __sk_buff *s)
{
	s->cb[0] = 5;
	tail_call(s, &jumps, 2);
	return 1;
}

SEC("tc") int target(struct __sk_buff *s) { return 3; }
SEC("tc") int target2(struct __sk_buff *s) { s->cb[0]++; tail_call(s, &jumps, 2); return s->cb[0]; }

SEC("tc") int nested(struct __sk_buff *s)
{
	u32 r = 0;
	for (int i = 0; i < 4; i++) {
		u32 j = i;
		void *in = lookup(&outer, &j);
		if (!in)
			continue;
		u32 k = 1, v = i + 10;
		update(in, &k, &v, 0);
		u32 *p = lookup(in, &k);
		if (p)
			r = r * 100 + *p;
	}
	return r;
}

SEC("tc") int maps(struct __sk_buff *s)
{
	u8 key[13] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 };
	u64 v = 99, *p, r = 0;
	for (int i = 0; i < 5; i++) {
		key[12] = i;
		update(&lru, key, &v, 0);
		v++;
	}
	key[12] = 3;
	p = lookup(&lru, key);
	if (p)
		r += *p;
	key[12] = 77;
	if (lookup(&lru, key))
		r += 1000000;
	u32 k = 2;
	if ((p = lookup(&pcpu, &k)))
		*p += 5;
	if ((p = lookup_cpu(&pcpu, &k, cpu())))
		r += *p * 1000;
	k = 9;
	if (lookup(&pcpu, &k))
		r += 5000000;
	u64 k64 = 0x1234567890ULL;
	v = 4;
	update(&pcpuhash, &k64, &v, 0);
	if ((p = lookup(&pcpuhash, &k64)))
		r += *p * 100000;
	r += delete_(&pcpuhash, &k64) * 7 + delete_(&pcpuhash, &k64) * 3;
	return r;
}

SEC("tc") int queues(struct __sk_buff *s)
{
	u32 v, r = 0;
	for (int i = 1; i < 7; i++) {
		v = i;
		r += push(&queue, &v, i == 6 ? 2 : 0) + push(&stack, &v, 0) * 10;
	}
	peek(&queue, &v);
	r = r * 3 + v;
	pop(&queue, &v);
	pop(&stack, &v);
	r = r * 3 + v;
	for (int i = 0; i < 5; i++)
		if (pop(&queue, &v) == 0)
			r = r * 3 + v;
	for (int i = 0; i < 5; i++)
		if (pop(&stack, &v) == 0)
			r = r * 3 + v;
	return r;
}

SEC("tc") int locked(struct __sk_buff *s)
{
	u32 k = 0;
	struct locked *l = lookup(&locks, &k);
	if (!l)
		return 1;
	spin_lock(&l->lock);
	l->n += 2;
	spin_unlock(&l->lock);
	return l->n;
}

SEC("tc") int text(struct __sk_buff *s)
{
	static const char fmt[] = "%d|%5u|%-4x|%llx|%s|%%|%c|%08d|%+d";
	static const char abc[] = "abc";
	char out[96] = {};
	u64 args[] = { (u32)-5, 42, 0xbeef, 0x123456789abcdefULL, (u64)abc, 'z', (u32)-77, 8 };
	long n = snprintf_(out, sizeof(out), fmt, args, sizeof(args));
	u32 h = n;
	for (int i = 0; i < sizeof(out); i++)
		h = h * 31 + (u8)out[i];
	long v = 0;
	unsigned long u = 0;
	char num[] = "  -0x1fZ";
	h = h * 31 + strtol_(num, 8, 0, &v) + v;
	h = h * 31 + strtoul_("777 ", 4, 8, &u) + u;
	h = h * 31 + strtol_("junk", 4, 10, &v);
	h = h * 31 + strncmp_("abd", 4, abc) + strncmp_("abc", 4, abc) * 5;
	return h;
}

SEC("tc") int dynptrs(struct __sk_buff *s)
{
	u32 k = 1, r = 0;
	u64 *v = lookup(&arr, &k);
	struct bpf_dynptr d, q;
	u8 b[4] = { 1, 2, 3, 4 };
	if (!v)
		return 1;
	r += dyn_from_mem(v, 8, 0, &d);
	r = r * 31 + dyn_write(&d, 2, b, 4, 0);
	r = r * 31 + dyn_write(&d, 6, b, 4, 0);
	b[0] = 0;
	r = r * 31 + dyn_read(b, 2, &d, 3, 0) + b[0] + b[1];
	u8 *p = dyn_data(&d, 4, 2);
	if (p)
		r = r * 31 + p[0] + p[1] * 3;
	if (!ring_reserve_dyn(&ring, 24, 0, &q))
		r = r * 31 + dyn_write(&q, 0, b, 4, 0);
	ring_submit_dyn(&q, 0);
	r = r * 31 + (ring_reserve_dyn(&ring, 8000, 0, &q) != 0);
	ring_submit_dyn(&q, 0);
	*v = 0;
	return r;
}

SEC("tc") int sums(struct __sk_buff *s)
{
	u32 a[4] = { 0x12345678, 0xffffffff, 7, s->mark }, b[4] = { 1, 2, 3, 0x80000000 };
	u32 r = csum_diff(a, 16, b, 16, 0);
	r = r * 31 + csum_diff(0, 0, b, 16, 0xffff);
	r = r * 31 + csum_diff(a, 8, 0, 0, 5);
	r = r * 31 + csum_diff(a, 8, b, 4, 0x10000);
	r = r * 31 + csum_diff(a, 12, a, 12, 0);
	return r;
}

char LICENSE[] SEC("license") = "GPL";
