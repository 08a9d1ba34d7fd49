package vm

import (
	"errors"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
)

// FuzzInterpret runs arbitrary bytes as programs of every type: they may fail in any
// way but must not bring the process down, and what goes wrong says where.
func FuzzInterpret(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(uint8(0), ebpf.Encode(generate(seed, false)), []byte("a packet that is long enough for everything here to be read, and more"))
	}
	for _, m := range []uint8{0, 1, 2, 3} {
		f.Add(m, []byte{0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 60))
	}
	specs := []maps.Spec{
		{Type: maps.Array, KeySize: 4, ValueSize: 16, MaxEntries: 4},
		{Type: maps.Hash, KeySize: 4, ValueSize: 16, MaxEntries: 4},
		{Type: maps.RingBuf, MaxEntries: 4096},
		{Type: maps.ProgArray, KeySize: 4, ValueSize: 4, MaxEntries: 2},
		{Type: maps.LPMTrie, KeySize: 8, ValueSize: 4, MaxEntries: 4, Flags: maps.NoPrealloc},
		{Type: maps.Queue, ValueSize: 8, MaxEntries: 4},
	}
	var live []*maps.Map
	for _, s := range specs {
		m, err := maps.New(s)
		if err != nil {
			f.Fatal(err)
		}
		live = append(live, m)
	}
	types := []ebpf.ProgType{ebpf.SchedCLS, ebpf.SocketFilter, ebpf.XDP, ebpf.Netfilter}
	f.Fuzz(func(t *testing.T, kind uint8, prog, pkt []byte) {
		insns, err := ebpf.Decode(prog[:len(prog)&^7])
		if err != nil || len(insns) == 0 {
			return
		}
		src := &ebpf.Program{
			Name: "fuzz", License: "GPL", Type: types[int(kind)%len(types)], Insns: insns,
			Funcs: []ebpf.Func{{}}, Maps: live,
			Kfuncs: []ebpf.Kfunc{{Name: "bpf_dynptr_from_skb"}, {Name: "bpf_dynptr_slice"}, {Name: "bpf_iter_num_new"}, {Name: "none"}},
		}
		p, err := New(src, Options{Budget: 10000})
		if err != nil {
			return
		}
		defer p.Release()
		_, err = p.TestRun(TestOptions{Data: pkt, At: NFHook{PF: NFProtoIPv4}})
		var fault *Fault
		if err != nil && !errors.Is(err, ErrTestInput) && !errors.As(err, &fault) {
			t.Errorf("not a fault: %v", err)
		}
	})
}
