package vm_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
	"taproom/filter/verifier"
	"taproom/filter/vm"
	"taproom/filter/vm/envtest"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

func ins(op uint8, dst, src uint8, off int16, imm int32) ebpf.Insn {
	return ebpf.Insn{Op: op, Regs: ebpf.Regs(dst, src), Off: off, Imm: imm}
}

func call(id int32) ebpf.Insn { return ins(0x85, 0, 0, 0, id) }

// each runs a classifier interpreted and compiled.
func each(t *testing.T, insns []ebpf.Insn, f func(t *testing.T, run func(pk *packet.Packet, env vm.Env) uint32)) {
	t.Helper()
	src := &ebpf.Program{Name: "net", License: "GPL", Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}}
	proof, err := verifier.Verify(src, verifier.Options{})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	for name, o := range map[string]vm.Options{"interpreted": {}, "compiled": {Proof: proof}} {
		t.Run(name, func(t *testing.T) {
			p, err := vm.New(src, o)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Release()
			f(t, func(pk *packet.Packet, env vm.Env) uint32 {
				v, err := p.RunSKB(pk, env)
				if err != nil {
					t.Fatal(err)
				}
				return v
			})
		})
	}
}

func testFrame() *packet.Packet {
	b := make([]byte, 60)
	b[12] = 8
	b[14] = 0x45
	pk := packet.New(b)
	pk.ParseLink()
	pk.In = 3
	return pk
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		name  string
		insns []ebpf.Insn
		want  uint32
		to    int
		flags uint32
	}{
		{"out", []ebpf.Insn{ins(0xb7, 1, 0, 0, 7), ins(0xb7, 2, 0, 0, 0), call(23), ins(0x95, 0, 0, 0, 0)}, 7, 7, 0},
		{"in", []ebpf.Insn{ins(0xb7, 1, 0, 0, 8), ins(0xb7, 2, 0, 0, 1), call(23), ins(0x95, 0, 0, 0, 0)}, 7, 8, packet.RedirectIngress},
		{"bad flags", []ebpf.Insn{ins(0xb7, 1, 0, 0, 8), ins(0xb7, 2, 0, 0, 2), call(23), ins(0x95, 0, 0, 0, 0)}, 2, 0, 0},
		{"peer", []ebpf.Insn{ins(0xb7, 1, 0, 0, 9), ins(0xb7, 2, 0, 0, 0), call(155), ins(0x95, 0, 0, 0, 0)}, 7, 9, vm.RedirectPeer},
		{"neigh", []ebpf.Insn{ins(0xb7, 1, 0, 0, 9), ins(0xb7, 2, 0, 0, 0), ins(0xb7, 3, 0, 0, 0), ins(0xb7, 4, 0, 0, 0), call(152), ins(0x95, 0, 0, 0, 0)}, 7, 9, vm.RedirectNeigh},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, c.insns, func(t *testing.T, run func(*packet.Packet, vm.Env) uint32) {
				pk := testFrame()
				defer pk.Release()
				if got := run(pk, &envtest.Env{}); got != c.want || pk.RedirectTo != c.to || pk.RedirectFlags != c.flags {
					t.Errorf("%d, to %d flags %#x", got, pk.RedirectTo, pk.RedirectFlags)
				}
			})
		})
	}
}

func TestCloneRedirect(t *testing.T) {
	each(t, []ebpf.Insn{
		ins(0xbf, 6, 1, 0, 0), ins(0x62, 6, 0, 8, 77), // mark
		ins(0xb7, 2, 0, 0, 5), ins(0xb7, 3, 0, 0, 1), call(13), ins(0x95, 0, 0, 0, 0),
	}, func(t *testing.T, run func(*packet.Packet, vm.Env) uint32) {
		env := &envtest.Env{}
		pk := testFrame()
		defer pk.Release()
		if got := run(pk, env); got != 0 || len(env.Clones) != 1 {
			t.Fatalf("%d, %d clones", got, len(env.Clones))
		}
		if c := env.Clones[0]; c.Ifindex != 5 || !c.Ingress || !bytes.Equal(c.Bytes, pk.Head()) {
			t.Errorf("clone %+v", c)
		}
		if pk.Mark != 77 {
			t.Errorf("mark %d", pk.Mark)
		}
	})
}

// TestFIBLookup asks for 10.9.0.1 on interface 3 and copies what came back over the
// packet.
func TestFIBLookup(t *testing.T) {
	var insns []ebpf.Insn
	insns = append(insns, ins(0xbf, 6, 1, 0, 0))
	for off := int16(-64); off < 0; off += 8 {
		insns = append(insns, ins(0x7a, 10, 0, off, 0))
	}
	insns = append(insns,
		ins(0x72, 10, 0, -64, 2),             // family
		ins(0x6a, 10, 0, -64+6, 1000),        // tot_len
		ins(0x62, 10, 0, -64+8, 3),           // ifindex
		ins(0x62, 10, 0, -64+32, 0x0100090a), // ipv4_dst
		ins(0xbf, 2, 10, 0, 0), ins(0x07, 2, 0, 0, -64), ins(0xbf, 1, 6, 0, 0),
		ins(0xb7, 3, 0, 0, 64), ins(0xb7, 4, 0, 0, 0), call(69), ins(0xbf, 7, 0, 0, 0),
		ins(0xbf, 1, 6, 0, 0), ins(0xb7, 2, 0, 0, 0), ins(0xbf, 3, 10, 0, 0), ins(0x07, 3, 0, 0, -64),
		ins(0xb7, 4, 0, 0, 60), ins(0xb7, 5, 0, 0, 0), call(9), ins(0xbf, 0, 7, 0, 0), ins(0x95, 0, 0, 0, 0))
	via, mac := netip.MustParseAddr("10.1.0.1"), [6]byte{2, 0, 0, 0, 0, 9}
	for _, c := range []struct {
		name  string
		route hook.Route
		want  uint32
	}{
		{"unicast", hook.Route{Kind: hook.Unicast, Out: 4, NextHop: via, MTU: 1400, MAC: mac, HasMAC: true}, 0},
		{"no neighbour", hook.Route{Kind: hook.Unicast, Out: 4, NextHop: via, MTU: 1400}, 7},
		{"too big", hook.Route{Kind: hook.Unicast, Out: 4, NextHop: via, MTU: 900, MAC: mac, HasMAC: true}, 8},
		{"blackhole", hook.Route{Kind: hook.Blackhole}, 1},
		{"unreachable", hook.Route{Kind: hook.Unreachable}, 2},
		{"prohibit", hook.Route{Kind: hook.Prohibit}, 3},
		{"local", hook.Route{Kind: hook.LocalRoute, Out: 1}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, insns, func(t *testing.T, run func(*packet.Packet, vm.Env) uint32) {
				env := &envtest.Env{
					Interfaces: []hook.Interface{{Index: 3, MTU: 1500}, {Index: 4, MTU: 1400, HardwareAddr: []byte{2, 0, 0, 0, 0, 4}}},
					Routes:     func(hook.RouteQuery) hook.Route { return c.route },
				}
				pk := testFrame()
				defer pk.Release()
				if got := run(pk, env); got != c.want {
					t.Fatalf("%d, want %d", got, c.want)
				}
				if q := env.Asked[0]; q.Dst != netip.MustParseAddr("10.9.0.1") || q.In != 3 {
					t.Errorf("asked %+v", q)
				}
				if h := pk.Head(); c.want == 0 {
					le := binary.LittleEndian
					if le.Uint32(h[8:]) != 4 || le.Uint16(h[6:]) != 1400 || netip.AddrFrom4([4]byte(h[32:36])) != via ||
						!bytes.Equal(h[52:58], []byte{2, 0, 0, 0, 0, 4}) || h[58] != 2 {
						t.Errorf("answer % x", h)
					}
				}
			})
		})
	}
}

// TestTimer arms a timer whose callback adds one to the element beside it.
func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := maps.New(maps.Spec{Type: maps.Array, KeySize: 4, ValueSize: 24, MaxEntries: 2, Timer: 1})
		if err != nil {
			t.Fatal(err)
		}
		insns := []ebpf.Insn{
			ins(0x62, 10, 0, -4, 1), ins(0xbf, 2, 10, 0, 0), ins(0x07, 2, 0, 0, -4),
			ins(0x18, 1, 1, 0, 0), {}, call(1), ins(0x55, 0, 0, 1, 0), ins(0x95, 0, 0, 0, 0),
			ins(0xbf, 6, 0, 0, 0),
			ins(0xbf, 1, 6, 0, 0), ins(0x18, 2, 1, 0, 0), {}, ins(0xb7, 3, 0, 0, 1), call(169), ins(0xbf, 7, 0, 0, 0),
			ins(0xbf, 1, 6, 0, 0), ins(0x18, 2, 4, 0, 10), {}, call(170), ins(0x0f, 7, 0, 0, 0),
			ins(0xbf, 1, 6, 0, 0), ins(0xb7, 2, 0, 0, 1000000), ins(0xb7, 3, 0, 0, 0), call(171), ins(0x0f, 7, 0, 0, 0),
			ins(0xbf, 0, 7, 0, 0), ins(0x95, 0, 0, 0, 0),
			// static int fn(map, key, value): *(u64 *)(value + 16) += 1 + key
			ins(0x61, 2, 2, 0, 0), ins(0x07, 2, 0, 0, 1), ins(0x79, 1, 3, 16, 0), ins(0x0f, 1, 2, 0, 0), ins(0x7b, 3, 1, 16, 0),
			ins(0xb7, 0, 0, 0, 0), ins(0x95, 0, 0, 0, 0),
		}
		src := &ebpf.Program{Name: "timer", License: "GPL", Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}, Maps: []*maps.Map{m}}
		p, err := vm.New(src, vm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		pk := testFrame()
		defer pk.Release()
		if v, err := p.RunSKB(pk, nil); v != 0 || err != nil {
			t.Fatalf("%d, %v", int32(v), err)
		}
		time.Sleep(2 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		v, _ := m.Elem([]byte{1, 0, 0, 0}, 0)
		if got := binary.LittleEndian.Uint64(v[16:]); got != 2 {
			t.Errorf("the callback left %d", got)
		}
	})
}

// TestNoAllocation: running a program costs no memory.
func TestNoAllocation(t *testing.T) {
	each(t, []ebpf.Insn{
		ins(0xbf, 6, 1, 0, 0), ins(0x61, 2, 1, 8, 0), ins(0x63, 1, 2, 32, 0), ins(0xb7, 2, 0, 0, 0), call(39), call(5), call(7), ins(0xb7, 0, 0, 0, 0), ins(0x95, 0, 0, 0, 0),
	}, func(t *testing.T, run func(*packet.Packet, vm.Env) uint32) {
		env := &envtest.Env{}
		pk := testFrame()
		defer pk.Release()
		if n := testing.AllocsPerRun(100, func() { run(pk, env) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestConcurrent runs one program on more goroutines than there are CPU slots; each
// slot's counter is one program's at a time.
func TestConcurrent(t *testing.T) {
	m, err := maps.New(maps.Spec{Type: maps.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	insns := []ebpf.Insn{
		ins(0x62, 10, 0, -4, 0), ins(0xbf, 2, 10, 0, 0), ins(0x07, 2, 0, 0, -4),
		ins(0x18, 1, 1, 0, 0), {}, call(1), ins(0x55, 0, 0, 1, 0), ins(0x95, 0, 0, 0, 0),
		ins(0x79, 1, 0, 0, 0), ins(0x07, 1, 0, 0, 1), ins(0x7b, 0, 1, 0, 0), ins(0xb7, 0, 0, 0, 0), ins(0x95, 0, 0, 0, 0),
	}
	src := &ebpf.Program{Name: "count", License: "GPL", Type: ebpf.SchedCLS, Insns: insns, Funcs: []ebpf.Func{{}}, Maps: []*maps.Map{m}}
	proof, err := verifier.Verify(src, verifier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := vm.New(src, vm.Options{Proof: proof})
	if err != nil {
		t.Fatal(err)
	}
	const workers, runs = 4, 2000
	done := make(chan error, workers)
	for range workers {
		go func() {
			pk := testFrame()
			defer pk.Release()
			var err error
			for range runs {
				if _, e := p.RunSKB(pk, nil); e != nil {
					err = e
				}
			}
			done <- err
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	p.Release()
	var sum uint64
	for cpu := range m.CPUs() {
		v, _ := m.Elem(make([]byte, 4), cpu)
		sum += binary.LittleEndian.Uint64(v)
	}
	if sum != workers*runs {
		t.Errorf("counted %d of %d", sum, workers*runs)
	}
}
