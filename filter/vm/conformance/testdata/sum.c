// clang -O2 -target bpf -c sum.c -o text.o; with -DSECT: -o section.o
#ifdef SECT
__attribute__((section("socket"), used))
#endif
unsigned long sum(unsigned char *m, unsigned long n) { return m[0] + m[1]; }
