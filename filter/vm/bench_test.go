package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"taproom/stack/packet"

	cebpf "github.com/cilium/ebpf"
)

// benchCase is a program and a packet, measured here and in the kernel.
type benchCase struct {
	name    string
	object  string // in the corpus, or in testdata
	program string
	spec    string // corpus spec with the initial maps, if it needs them
	packet  string // name in the corpus's packets
	length  int    // or a made-up IPv4 TCP packet of so many bytes
}

var benchCases = []benchCase{
	{name: "empty", object: "bench.o", program: "empty", packet: "tcp_syn_a"},
	{name: "policy", object: "tuple_policy.o", program: "tuple_policy", spec: "tuple_policy", packet: "tcp_syn_a"},
	{name: "lpm4", object: "lpm_acl.o", program: "lpm_acl", spec: "lpm_acl", packet: "tcp_syn_a"},
	{name: "lpm6", object: "lpm_acl.o", program: "lpm_acl", spec: "lpm_acl", packet: "udp6_a"},
	{name: "nat", object: "bench.o", program: "nat", packet: "tcp_syn_a"},
	{name: "checksum1514", object: "aluloop.o", program: "aluloop", length: 1514},
	{name: "filter", object: "filt.o", program: "filt", packet: "tcp_syn_a"},
	{name: "classic", object: "ldabs.o", program: "ldabs", packet: "udp_53_q"},
	{name: "siphash", object: "bench.o", program: "siphash", packet: "tcp_syn_a"},
	{name: "tailcall", object: "tailcall.o", program: "tailcall", packet: "tcp_syn_a"},
	{name: "subprograms", object: "subprogs.o", program: "subprogs", packet: "tcp_syn_a"},
	{name: "ringbuf", object: "ringbuf.o", program: "ringbuf", packet: "tcp_syn_a"},
	{name: "atomics", object: "atomics.o", program: "atomics", packet: "tcp_syn_a"},
	{name: "loops", object: "loops.o", program: "loops", packet: "tcp_syn_a"},
}

func (c benchCase) file() string {
	f := filepath.Join("testdata", c.object)
	if _, err := os.Stat(f); err == nil {
		return f
	}
	return filepath.Join(vectors("bpf"), "corpus", "obj", c.object)
}

func (c benchCase) frame(t testing.TB) []byte {
	if c.length > 0 {
		b := make([]byte, c.length)
		for i := range b {
			b[i] = byte(i * 7)
		}
		copy(b[12:], []byte{8, 0, 0x45})
		return b
	}
	dir := filepath.Join(vectors("bpf"), "packets")
	var names []string
	readJSON(t, filepath.Join(dir, "packets.json"), &names)
	for i, f := range readPcap(t, filepath.Join(dir, "packets.pcap")) {
		if names[i] == c.packet {
			return f
		}
	}
	t.Fatalf("no packet %s", c.packet)
	return nil
}

func (c benchCase) initial(t testing.TB) map[string][]corpusKV {
	if c.spec == "" {
		return nil
	}
	var s corpusSpec
	readJSON(t, filepath.Join(vectors("bpf"), "corpus", "specs", c.spec+".json"), &s)
	return s.Maps
}

// rounds and span: the best of so many measurements of so long each, taken in turns. They
// are short so that some are not disturbed on a busy machine.
const (
	rounds = 60
	span   = 500 * time.Microsecond
)

// kernelRun loads the case into the kernel and returns a function that runs it n times.
func (c benchCase) kernelRun(b *testing.B) func(n int) time.Duration {
	raw, err := os.ReadFile(c.file())
	if err != nil {
		b.Fatal(err)
	}
	spec, err := cebpf.LoadCollectionSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		b.Fatal(err)
	}
	coll, err := cebpf.NewCollection(spec)
	if err != nil {
		return nil
	}
	b.Cleanup(coll.Close)
	for name, kvs := range c.initial(b) {
		for _, kv := range kvs {
			if err := coll.Maps[name].Put(unhex(b, kv.K), unhex(b, kv.V)); err != nil {
				vs := [][]byte{unhex(b, kv.V), unhex(b, kv.V)}
				if err := coll.Maps[name].Put(unhex(b, kv.K), vs); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	p, in := coll.Programs[c.program], c.frame(b)
	return func(n int) time.Duration {
		_, d, err := p.Benchmark(in, n, nil)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
}

// ownRun is the same here.
func (c benchCase) ownRun(b *testing.B, o Options) func(n int) time.Duration {
	ob := loadObject(b, c.file(), o)
	b.Cleanup(ob.close)
	for name, kvs := range c.initial(b) {
		for _, kv := range kvs {
			v := unhex(b, kv.V)
			for len(v) < ob.Maps[name].UserValueSize() {
				v = append(v, unhex(b, kv.V)...)
			}
			if err := ob.Maps[name].Update(unhex(b, kv.K), v, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	p := ob.progs[c.program]
	if !o.NoJIT && !p.Compiled() {
		return nil
	}
	pk := packet.New(c.frame(b))
	pk.ParseLink()
	pk.Out = 1
	r := Acquire()
	b.Cleanup(r.Release)
	return func(n int) time.Duration {
		begin := time.Now()
		for range n {
			if _, err := r.SKB(p, pk, nil); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begin) / time.Duration(n)
	}
}

// nanos measures once, with enough repetitions to fill a span.
func nanos(run func(n int) time.Duration, guess float64) float64 {
	n := 100
	if guess > 0 {
		n = max(n, int(float64(span)/guess))
	}
	return float64(run(n))
}

// BenchmarkKernel compares compiled and interpreted programs with the kernel's JIT:
// "net" is without the 'empty' program's time, which is TEST_RUN's floor there and what
// entering a program costs here. Needs root for the kernel's side.
func BenchmarkKernel(b *testing.B) {
	floor := 0.0
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			jit, interp := c.ownRun(b, Options{}), c.ownRun(b, Options{NoJIT: true})
			var kernel func(int) time.Duration
			if os.Getuid() == 0 {
				kernel = c.kernelRun(b)
			}
			best := map[string]float64{}
			measure := func(name string, run func(int) time.Duration) {
				if run == nil {
					return
				}
				v := nanos(run, best[name])
				if have, ok := best[name]; !ok || v < have {
					best[name] = v
				}
			}
			for range rounds {
				measure("kernel", kernel)
				measure("jit", jit)
				measure("interp", interp)
			}
			if c.name == "empty" {
				floor = best["kernel"]
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(best["jit"], "jit-ns")
			b.ReportMetric(best["interp"], "interp-ns")
			if kernel != nil {
				net := best["kernel"] - floor
				b.ReportMetric(net, "kernel-net-ns")
				if net > 0 {
					b.ReportMetric(best["jit"]/net, "jit/kernel")
				}
			}
		})
	}
}

// BenchmarkEnter is what entering and leaving a compiled program costs.
func BenchmarkEnter(b *testing.B) {
	c := benchCases[0]
	run := c.ownRun(b, Options{})
	b.ResetTimer()
	run(b.N)
}

// BenchmarkInterpret is the policy of the corpus in the interpreter.
func BenchmarkInterpret(b *testing.B) {
	run := benchCases[1].ownRun(b, Options{NoJIT: true})
	b.ResetTimer()
	run(b.N)
}
