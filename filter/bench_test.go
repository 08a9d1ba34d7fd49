package filter_test

import (
	"fmt"
	"testing"

	"taproom/filter"
	"taproom/filter/ebpf"
	"taproom/filter/vm"
	"taproom/stack/packet"
)

// matching is a program as classifiers are: it looks at the Ethernet and IP
// headers through bounds-checked pointers and, for a datagram that is not to
// port 7, has no opinion.
func matching(t testing.TB) *vm.Prog {
	t.Helper()
	const next = -1
	r := ebpf.Regs
	v, err := vm.New(&ebpf.Program{
		Name: "matching", Type: ebpf.SchedCLS, License: "GPL", Funcs: []ebpf.Func{{Name: "matching"}},
		Insns: []ebpf.Insn{
			{Op: 0x61, Regs: r(2, 1), Off: 76},            // r2 = skb->data
			{Op: 0x61, Regs: r(3, 1), Off: 80},            // r3 = skb->data_end
			{Op: 0xbf, Regs: r(4, 2)},                     // r4 = r2
			{Op: 0x07, Regs: r(4, 0), Imm: 42},            // r4 += 42
			{Op: 0x2d, Regs: r(4, 3), Off: 8},             // if r4 > r3 goto next
			{Op: 0x69, Regs: r(5, 2), Off: 12},            // r5 = EtherType
			{Op: 0x55, Regs: r(5, 0), Imm: 0x08, Off: 6},  // if it is not IPv4 goto next
			{Op: 0x71, Regs: r(5, 2), Off: 23},            // r5 = protocol
			{Op: 0x55, Regs: r(5, 0), Imm: 17, Off: 4},    // if it is not UDP goto next
			{Op: 0x69, Regs: r(5, 2), Off: 36},            // r5 = destination port
			{Op: 0x55, Regs: r(5, 0), Imm: 0x700, Off: 2}, // if it is not 7 goto next
			{Op: 0xb4, Imm: filter.ActShot}, {Op: 0x95},
			{Op: 0xb4, Imm: next}, {Op: 0x95},
		},
	}, vm.Options{})
	must(t, err)
	return v
}

// BenchmarkChain forwards a packet from port to port with a chain at its
// ingress; "program" is one run of the program with nothing around it.
func BenchmarkChain(b *testing.B) {
	f := ether(datagram("10.9.0.1", "10.9.1.3", make([]byte, 18)))
	prog := matching(b)
	b.Run("program", func(b *testing.B) {
		p := packet.New(f)
		r := vm.Acquire()
		defer r.Release()
		for b.Loop() {
			if v, err := r.SKB(prog, p, nil); int32(v) != -1 || err != nil {
				b.Fatal(v, err)
			}
		}
	})
	forward := func(b *testing.B, r *rig) {
		b.ReportAllocs()
		r.y1.discard = true
		for b.Loop() {
			p := packet.Alloc(len(f))
			copy(p.Head(), f)
			r.y0.recv(0, p.Batch())
		}
	}
	for _, n := range []int{0, 1, 8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, "")
			defer r.close()
			d, err := r.fs.DeviceByName("y0")
			must(b, err)
			must(b, d.AddQdisc(filter.Clsact))
			for range n {
				_, err := d.AddFilter(filter.Ingress, filter.Add, filter.Config{DirectAction: true, Program: filter.NewProgram(prog, "")})
				must(b, err)
			}
			forward(b, r)
		})
	}
	b.Run("tcx/63", func(b *testing.B) {
		r := newRig(b, "")
		defer r.close()
		d, err := r.fs.DeviceByName("y0")
		must(b, err)
		for range 63 {
			_, err := d.AttachTCX(filter.Ingress, filter.NewProgram(prog, ""), filter.TCXOptions{})
			must(b, err)
		}
		forward(b, r)
	})
}
