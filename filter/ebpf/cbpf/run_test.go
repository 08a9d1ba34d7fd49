package cbpf

import (
	"bytes"
	"testing"
	"time"

	"taproom/stack/packet"

	cebpf "github.com/cilium/ebpf"
)

// ports is "tcp port 80 or udp port 4791", as tcpdump compiles it.
const ports = `33
40 0 0 12
21 0 11 34525
48 0 0 20
21 0 4 6
40 0 0 54
21 25 0 80
40 0 0 56
21 23 24 80
21 0 23 17
40 0 0 54
21 20 0 4791
40 0 0 56
21 18 19 4791
21 0 18 2048
48 0 0 23
21 0 7 6
40 0 0 20
69 14 0 8191
177 0 0 14
72 0 0 14
21 10 0 80
72 0 0 16
21 8 9 80
21 0 8 17
40 0 0 20
69 6 0 8191
177 0 0 14
72 0 0 14
21 2 0 4791
72 0 0 16
21 0 1 4791
6 0 0 262144
6 0 0 0
`

func filter(t testing.TB, text string) *Filter {
	t.Helper()
	insns, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(insns)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func BenchmarkPorts(b *testing.B) {
	f := filter(b, ports)
	for n, name := range []string{"tcp_syn", "tcp_443", "udp_4791", "icmp"} {
		frame := frames(b)[n]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Run(frame, nil)
			}
		})
	}
}

// BenchmarkPortsKernel is the same in the kernel, compiled, as far as BPF_PROG_TEST_RUN
// tells: "net" is without what it needs for a filter that does nothing.
func BenchmarkPortsKernel(b *testing.B) {
	kernel := func(text string) *cebpf.Program {
		p, err := filter(b, text).Translate()
		if err != nil {
			b.Fatal(err)
		}
		k := loadKernel(b, p)
		b.Cleanup(func() { k.Close() })
		return k
	}
	whole, nothing := kernel(ports), kernel("1\n6 0 0 0\n")
	for n, name := range []string{"tcp_syn", "tcp_443", "udp_4791", "icmp"} {
		// TEST_RUN takes an Ethernet header off.
		frame := append(make([]byte, 14), frames(b)[n]...)
		b.Run(name, func(b *testing.B) {
			best := map[*cebpf.Program]time.Duration{}
			for range 40 { // short, so that some are not disturbed
				for _, k := range []*cebpf.Program{whole, nothing} {
					_, d, err := k.Benchmark(frame, 20000, nil)
					if err != nil {
						b.Fatal(err)
					}
					if have, ok := best[k]; !ok || d < have {
						best[k] = d
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(best[whole]), "kernel-ns")
			b.ReportMetric(float64(best[whole]-best[nothing]), "net-ns")
		})
	}
}

func TestParse(t *testing.T) {
	f := filter(t, ports)
	if Format(f.Insns()) != ports {
		t.Error("Format is not the inverse of Parse")
	}
	if back, err := Decode(Encode(f.Insns())); err != nil || Format(back) != ports {
		t.Error("Decode is not the inverse of Encode")
	}
	tc := filter(t, "4,40 0 0 12,21 0 1 2048,6 0 0 262144,6 0 0 0,")
	if len(tc.Insns()) != 4 {
		t.Errorf("tc bytecode: %v", tc.Insns())
	}
	for _, bad := range []string{"", "x", "2\n6 0 0 0", "1\n6 0 0", "1\n6 256 0 0", "1\n65536 0 0 0", "1\n6 0 0 4294967296", "-1"} {
		if insns, err := Parse(bad); err == nil {
			t.Errorf("%q parsed as %v", bad, insns)
		}
	}
}

// TestAncillary runs a filter that returns a piece of ancillary data.
func TestAncillary(t *testing.T) {
	m := &Meta{
		NetHeader: 14, Protocol: 0x86dd, PktType: 3, Ifindex: 7, HWType: 1, Mark: 0xabcd, Queue: 2, Hash: 99,
		CPU: 5, VLAN: true, VLANTag: 0x2064, VLANTPID: 0x8100, Rand: func() uint32 { return 4 },
	}
	want := map[uint32]uint32{
		ADProtocol: 0x86dd, ADPktType: 3, ADIfindex: 7, ADMark: 0xabcd, ADQueue: 2, ADHatype: 1, ADRXHash: 99,
		ADCPU: 5, ADVLANTag: 0x2064, ADVLANTagPresent: 1, ADVLANTPID: 0x8100, ADRandom: 4,
	}
	for what, value := range want {
		f, err := New([]Insn{{Code: ClassLD | SizeW | ModeAbs, K: ADOffset + what}, {Code: ClassRET | RetA}})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Run(make([]byte, 60), m); got != value {
			t.Errorf("ancillary %d: %#x, want %#x", what, got, value)
		}
	}
}

func TestNetlinkAttributes(t *testing.T) {
	data := []byte{
		0xff, 0xff, // before the attributes
		5, 0, 1, 0, 'x', 0, 0, 0, // type 1, one byte, padded
		12, 0, 2, 0x80, // type 2, nested
		8, 0, 3, 0, 1, 2, 3, 4, // type 3 inside
	}
	ask := func(what, a, x uint32) uint32 {
		f, err := New([]Insn{
			{Code: ClassLDX | ModeImm, K: x}, {Code: ClassLD | ModeImm, K: a},
			{Code: ClassLD | SizeW | ModeAbs, K: ADOffset + what}, {Code: ClassRET | RetA},
		})
		if err != nil {
			t.Fatal(err)
		}
		return f.Run(data, nil)
	}
	for _, c := range []struct{ what, a, x, want uint32 }{
		{ADNlattr, 2, 1, 2}, {ADNlattr, 2, 2, 10}, {ADNlattr, 2, 3, 0}, {ADNlattrNest, 10, 3, 14},
		{ADNlattrNest, 10, 1, 0}, {ADNlattr, 100, 1, 0}, {ADNlattrNest, 20, 3, 0},
	} {
		if got := ask(c.what, c.a, c.x); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func TestPayloadOffset(t *testing.T) {
	want := map[string]uint32{"tcp_syn_a": 54, "udp_4791_a": 42, "icmp_echo_a": 42, "ip_opts": 0, "ip_ihl4": 0, "udp6_a": 62, "ip6_hbh": 0}
	var names []string
	readJSON(t, vectorRoot()+"/bpf/packets/packets.json", &names)
	f, err := New([]Insn{{Code: ClassLD | SizeW | ModeAbs, K: ADOffset + ADPayOffset}, {Code: ClassRET | RetA}})
	if err != nil {
		t.Fatal(err)
	}
	for n, frame := range frames(t) {
		got := f.Run(frame, nil)
		if w := want[names[n]]; w != 0 && got != w {
			t.Errorf("%s: payload at %d, want %d", names[n], got, w)
		}
	}
}

// TestFragments loads from beyond the linear bytes.
func TestFragments(t *testing.T) {
	whole := frames(t)[0]
	f := filter(t, ports)
	want := f.Run(whole, nil)
	for cut := range len(whole) {
		p := packet.New(bytes.Clone(whole[:cut]))
		p.AppendShared(whole[cut:], nil)
		m := MetaOf(p)
		if got := f.Run(p.Head(), &m); got != want {
			t.Errorf("%d linear bytes: %d, want %d", cut, got, want)
		}
		if n := testing.AllocsPerRun(10, func() { f.Run(p.Head(), &m) }); n != 0 {
			t.Errorf("%d linear bytes: %v allocations", cut, n)
		}
		p.Release()
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ports, []byte("abc"))
	f.Add("1,6 0 0 1", []byte{})
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		insns, err := Parse(text)
		if err != nil {
			if insns, err = Decode(data[:len(data)&^7]); err != nil {
				return
			}
		}
		if flt, err := New(insns); err == nil {
			flt.Run(data, nil)
			flt.Keep(data, &Meta{NetHeader: -3})
			_, _ = flt.Translate()
		}
	})
}
