package filter_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"taproom/filter"
	"taproom/filter/ebpf"
	"taproom/filter/vm"
	"taproom/stack/hook"
)

// adding is a program that adds to the packet's mark and has no opinion.
func adding(t testing.TB, n int32) *vm.Prog {
	t.Helper()
	v, err := vm.New(&ebpf.Program{
		Name: "adding", Type: ebpf.SchedCLS, License: "GPL", Funcs: []ebpf.Func{{Name: "adding"}},
		Insns: []ebpf.Insn{
			{Op: 0x61, Regs: ebpf.Regs(2, 1), Off: 8}, // w2 = skb->mark
			{Op: 0x04, Regs: ebpf.Regs(2, 0), Imm: n}, // w2 += n
			{Op: 0x63, Regs: ebpf.Regs(1, 2), Off: 8}, // skb->mark = w2
			{Op: 0xb4, Imm: -1}, {Op: 0x95},
		},
	}, vm.Options{})
	must(t, err)
	return v
}

// stream sends packets through the rig until it is stopped. What it finds
// wrong with the marks that they have behind Ingress, check says.
type stream struct {
	r         *rig
	stop      atomic.Bool
	over      sync.WaitGroup
	sent, got int
	wrong     atomic.Pointer[string]
}

func startStream(t *testing.T, r *rig, check func(mark uint32) string) *stream {
	s := &stream{r: r}
	_, err := r.y.Attach(hook.Prerouting, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
		if why := check(p.Mark); why != "" {
			s.wrong.CompareAndSwap(nil, &why)
		}
		return hook.Continue
	}), hook.Options{})
	must(t, err)
	f := ether(datagram("10.9.0.1", "10.9.1.3", []byte("through")))
	started := make(chan struct{})
	var once sync.Once
	s.over.Go(func() {
		for !s.stop.Load() {
			for range 100 {
				r.y0.recvFrame(f)
			}
			once.Do(func() { close(started) })
			s.sent += 100
			for _, b := range r.y1.out() {
				if len(b) == len(f) && b[12] == 8 { // not what the node says on its own
					s.got++
				}
			}
		}
	})
	<-started
	return s
}

func (s *stream) end(t *testing.T) {
	t.Helper()
	s.stop.Store(true)
	s.over.Wait()
	if why := s.wrong.Load(); why != nil {
		t.Error(*why)
	}
	if s.sent != s.got || s.sent == 0 {
		t.Errorf("%d packets of %d came through", s.got, s.sent)
	}
}

// heap is the memory in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Filters are replaced, each by a program loaded for it, under traffic: every
// packet meets as many programs as the chain has, none is lost, and what was
// replaced is freed.
func TestReplaceUnderTraffic(t *testing.T) {
	for _, n := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t, "")
			defer r.close()
			d, err := r.fs.DeviceByName("y0")
			must(t, err)
			must(t, d.AddQdisc(filter.Clsact))
			held := make([]*vm.Prog, n)
			replace := func(k, version int) {
				v := adding(t, int32(1<<(16*version)))
				_, err := d.AddFilter(filter.Ingress, filter.Replace, filter.Config{
					Priority: uint16(k + 1), Handle: 1, DirectAction: true, Program: filter.NewProgram(v, "adding"),
				})
				must(t, err)
				if held[k] != nil {
					held[k].Release()
				}
				held[k] = v
			}
			for k := range n {
				replace(k, 0)
			}
			s := startStream(t, r, func(mark uint32) string {
				if old, new := mark&0xffff, mark>>16; int(old+new) != n {
					return fmt.Sprintf("a packet met %d old and %d new programs of %d", old, new, n)
				}
				return ""
			})
			const rounds = 2000
			for round := range rounds {
				replace(round%n, round/n&1)
			}
			s.end(t)
			t.Logf("%d packets during %d replacements", s.sent, rounds)
			before := heap()
			for round := range rounds {
				replace(round%n, round/n&1)
			}
			if grown := heap() - before; grown > 512<<10 {
				t.Errorf("%d replacements have left %d KiB", rounds, grown>>10)
			}
		})
	}
}

// A whole chain is exchanged by building another and going there: every packet
// meets the one or the other.
func TestExchangeUnderTraffic(t *testing.T) {
	for _, n := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t, "")
			defer r.close()
			d, err := r.fs.DeviceByName("y0")
			must(t, err)
			must(t, d.AddQdisc(filter.Clsact))
			all, err := r.Classic("1,6 0 0 4294967295")
			must(t, err)
			programs := [2]*filter.Program{filter.NewProgram(adding(t, 1), ""), filter.NewProgram(adding(t, 1<<16), "")}
			build := func(version int) {
				chain := uint32(version + 1)
				for k := range n {
					_, err := d.AddFilter(filter.Ingress, filter.Add, filter.Config{
						Chain: chain, Priority: uint16(k + 1), DirectAction: true, Program: programs[version],
					})
					must(t, err)
				}
				_, err = d.AddFilter(filter.Ingress, filter.Replace, filter.Config{
					Priority: 1, Handle: 1, Program: all, Actions: []filter.Action{&filter.Gact{Goto: true, Chain: chain}},
				})
				must(t, err)
			}
			build(0)
			s := startStream(t, r, func(mark uint32) string {
				if mark != uint32(n) && mark != uint32(n)<<16 {
					return fmt.Sprintf("a packet met %d of the one chain and %d of the other", mark&0xffff, mark>>16)
				}
				return ""
			})
			for round := range 1000 {
				version := (round + 1) & 1
				build(version)
				must(t, d.DelFilters(filter.Ingress, filter.Select{Chain: uint32(2 - version)}))
			}
			s.end(t)
		})
	}
}

// The same for the tcx list and a netfilter link, which programs leave while
// packets are in them.
func TestDetachUnderTraffic(t *testing.T) {
	r := newRig(t, "")
	defer r.close()
	d, err := r.fs.DeviceByName("y0")
	must(t, err)
	s := startStream(t, r, func(mark uint32) string {
		if mark > 1 {
			return fmt.Sprintf("mark %d", mark)
		}
		return ""
	})
	for range 1000 {
		v := adding(t, 1)
		k, err := d.AttachTCX(filter.Ingress, filter.NewProgram(v, ""), filter.TCXOptions{})
		must(t, err)
		nf := accepting(t)
		l, err := r.fs.AttachNetfilter(filter.NewProgram(nf, ""), filter.NFConfig{PF: vm.NFProtoIPv4, Hook: vm.NFForward})
		must(t, err)
		must(t, k.Close())
		v.Release()
		must(t, l.Close())
		nf.Release()
	}
	s.end(t)
}

func accepting(t testing.TB) *vm.Prog {
	t.Helper()
	v, err := vm.New(&ebpf.Program{
		Name: "accepting", Type: ebpf.Netfilter, License: "GPL", Funcs: []ebpf.Func{{Name: "accepting"}},
		Insns: []ebpf.Insn{{Op: 0xb4, Imm: 1}, {Op: 0x95}},
	}, vm.Options{})
	must(t, err)
	return v
}
