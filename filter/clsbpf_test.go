package filter_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"testing"

	"taproom/filter"
	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"
	"taproom/filter/vm"
	"taproom/stack"
)

// counting is a program that counts its runs, may write tc_classid, and
// returns a constant.
func counting(t *testing.T, name string, classid *uint32, ret int32) (*filter.Program, *bpfmaps.Map) {
	t.Helper()
	m, err := bpfmaps.New(bpfmaps.Spec{Name: "runs", Type: bpfmaps.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	insns := []ebpf.Insn{
		{Op: 0xbf, Regs: ebpf.Regs(6, 1)},                       // r6 = r1
		{Op: 0x18, Regs: ebpf.Regs(1, ebpf.PseudoMapValue)}, {}, // r1 = &runs[0]
		{Op: 0xb7, Regs: ebpf.Regs(2, 0), Imm: 1}, // r2 = 1
		{Op: 0xdb, Regs: ebpf.Regs(1, 2)},         // lock *(u64 *)r1 += r2
	}
	if classid != nil {
		insns = append(insns,
			ebpf.Insn{Op: 0xb4, Regs: ebpf.Regs(2, 0), Imm: int32(*classid)}, // w2 = classid
			ebpf.Insn{Op: 0x63, Regs: ebpf.Regs(6, 2), Off: 72})              // skb->tc_classid = w2
	}
	insns = append(insns, ebpf.Insn{Op: 0xb4, Imm: ret}, ebpf.Insn{Op: 0x95})
	v, err := vm.New(&ebpf.Program{
		Name: name, Type: ebpf.SchedCLS, License: "GPL", Insns: insns, Maps: []*bpfmaps.Map{m}, Funcs: []ebpf.Func{{Name: name}},
	}, vm.Options{})
	must(t, err)
	return filter.NewProgram(v, name), m
}

func runs(t *testing.T, m *bpfmaps.Map) int {
	v, err := m.Lookup(make([]byte, 4), 0)
	must(t, err)
	return int(binary.LittleEndian.Uint64(v))
}

func TestVectorsClsBPF(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "clsbpf-*.json"))
	must(t, err)
	passed, total := 0, 0
	for _, file := range files {
		var set struct {
			Cases []clsCase
		}
		readJSON(t, file, &set)
		for k, c := range set.Cases {
			total++
			if t.Run(fmt.Sprintf("%s/%d/%s_%d", filepath.Base(file), k, c.Case, c.Ret), c.run) {
				passed++
			}
		}
	}
	if total == 0 {
		t.Errorf("no cases in %s", vectorRoot())
	}
	t.Logf("clsbpf: %d of %d", passed, total)
}

// clsCase is one recorded case of cls_bpf on a link from A to B.
type clsCase struct {
	Case, Hook, FlowID string
	DirectAction       bool `json:"direct_action"`
	Ret                int32
	Classid            *uint32 `json:"tc_classid_written"`
	Sent, Delivered    int
	Ran                [2]int
	HTBPackets         map[string]int `json:"htb_packets"`
}

func (c clsCase) run(t *testing.T) {
	n, err := stack.New(stack.Options{Name: "n"})
	must(t, err)
	defer n.Close()
	p := &port{name: "eth0"}
	_, err = n.AddInterface(p, stack.InterfaceConfig{Addr: macY0, Addresses: []netip.Prefix{netip.MustParsePrefix("198.18.7.2/24")}})
	must(t, err)
	must(t, n.AddNeighbor("eth0", netip.MustParseAddr("198.18.7.1"), macX0))
	s, err := n.ListenUDP(netip.MustParseAddrPort("198.18.7.2:9999"))
	must(t, err)
	defer s.Close()
	fs := filter.New(n, filter.Options{})
	defer fs.Close()
	d, err := fs.DeviceByName("eth0")
	must(t, err)
	prog, count := counting(t, "test", c.Classid, c.Ret)
	other, otherCount := counting(t, "other", nil, 0)
	conf := filter.Config{Priority: 1, Handle: 2, DirectAction: c.DirectAction, Program: prog, FlowID: flowID(c.FlowID)}
	delivered := 0
	switch c.Hook {
	case "ingress":
		must(t, d.AddQdisc(filter.Clsact))
		_, err = d.AddFilter(filter.Ingress, filter.Add, filter.Config{Priority: 1, Handle: 1, DirectAction: true, Program: other})
		must(t, err)
		_, err = d.AddFilter(filter.Ingress, filter.Add, conf)
		must(t, err)
		r := &rig{t: t}
		r.udp[0], r.udp[1] = s, s
		for range c.Sent {
			p.recvFrame(ether(datagram("198.18.7.1", "198.18.7.2", []byte("x"))))
		}
		lens, _ := r.received()
		delivered = len(lens)
	case "htb":
		q, err := d.AddHTB(1, 5)
		must(t, err)
		for id := uint32(1); id <= 5; id++ {
			must(t, q.AddClass(filter.ClassConfig{ID: 1<<16 | id, Parent: 1 << 16, Rate: 125_000_000}))
		}
		_, err = q.AddFilter(filter.Add, conf)
		must(t, err)
		p.out()
		for range c.Sent {
			_, _ = s.WriteTo([]byte("x"), udpAddr("198.18.7.1:4791"))
		}
		delivered = len(p.out())
		got := map[string]int{}
		for _, k := range q.Classes() {
			if k.Packets > 0 {
				got[fmt.Sprintf("1:%x", k.ID&0xffff)] = int(k.Packets)
			}
		}
		if !maps.Equal(got, c.HTBPackets) {
			t.Errorf("classes %v, want %v", got, c.HTBPackets)
		}
	default:
		t.Fatalf("unknown hook %q", c.Hook)
	}
	if got := [2]int{runs(t, count), runs(t, otherCount)}; got != c.Ran || delivered != c.Delivered {
		t.Errorf("ran %v delivered %d, want %v %d", got, delivered, c.Ran, c.Delivered)
	}
}

func flowID(s string) uint32 {
	var major, minor uint32
	_, _ = fmt.Sscanf(s, "%x:%x", &major, &minor)
	return major<<16 | minor
}

func TestVectorsNetfilterLinks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorRoot(), "bpf", "objmodel-*.json"))
	must(t, err)
	passed, total := 0, 0
	for _, file := range files {
		var set struct {
			Links []struct {
				PF, Hook uint32
				Prio     int32
				Flags    uint32
				Twice    bool
				Errno    string
			} `json:"netfilter_links"`
		}
		readJSON(t, file, &set)
		v, err := vm.New(&ebpf.Program{
			Name: "accept", Type: ebpf.Netfilter, License: "GPL", Funcs: []ebpf.Func{{Name: "accept"}},
			Insns: []ebpf.Insn{{Op: 0xb4, Imm: 1}, {Op: 0x95}},
		}, vm.Options{})
		must(t, err)
		prog := filter.NewProgram(v, "accept")
		for k, c := range set.Links {
			total++
			if t.Run(fmt.Sprintf("%s/%d", filepath.Base(file), k), func(t *testing.T) {
				n, err := stack.New(stack.Options{})
				must(t, err)
				defer n.Close()
				fs := filter.New(n, filter.Options{})
				defer fs.Close()
				conf := filter.NFConfig{PF: uint8(c.PF), Hook: c.Hook, Priority: c.Prio, Flags: c.Flags}
				if c.PF > 255 {
					conf.PF = 255 // as unknown as the number itself
				}
				if c.Twice {
					_, err := fs.AttachNetfilter(prog, conf)
					must(t, err)
				}
				_, err = fs.AttachNetfilter(prog, conf)
				want := c.Errno
				if want == "" {
					want = "OK"
				}
				if want == "EOPNOTSUPP" {
					want = "ENOTSUP"
				}
				if got := errno(err); got != want {
					t.Errorf("%+v: %s", c, got)
				}
			}) {
				passed++
			}
		}
	}
	t.Logf("netfilter links: %d of %d", passed, total)
}
