package filter_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"taproom/filter"
	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/vm"
	"taproom/stack/hook"
)

// assigning is a program that looks a UDP socket up at 10.9.0.2 and a port,
// from 10.9.0.1:5000, gives it the packet, and leaves what sk_assign said in
// the mark: 1 for success, 2 for no such socket.
func assigning(t *testing.T, port uint16) *filter.Program {
	t.Helper()
	r := ebpf.Regs
	ports := int32(uint32(bswap(port))<<16 | uint32(bswap(5000)))
	v, err := vm.New(&ebpf.Program{
		Name: "assigning", Type: ebpf.SchedCLS, License: "GPL", Funcs: []ebpf.Func{{Name: "assigning"}},
		Insns: []ebpf.Insn{
			{Op: 0xbf, Regs: r(6, 1)},                                       // r6 = skb
			{Op: 0x62, Regs: r(10, 0), Off: -12, Imm: le("10.9.0.1")},       // tuple: source,
			{Op: 0x62, Regs: r(10, 0), Off: -8, Imm: le("10.9.0.2")},        // destination,
			{Op: 0x62, Regs: r(10, 0), Off: -4, Imm: ports},                 // ports
			{Op: 0xbf, Regs: r(2, 10)}, {Op: 0x07, Regs: r(2, 0), Imm: -12}, //
			{Op: 0xb7, Regs: r(3, 0), Imm: 12},                                    //
			{Op: 0xb7, Regs: r(4, 0), Imm: -1},                                    // this namespace
			{Op: 0xb7, Regs: r(5, 0)}, {Op: 0x85, Imm: int32(helper.SkLookupUDP)}, // r0 = socket
			{Op: 0xb7, Regs: r(8, 0), Imm: 2},                    //
			{Op: 0x15, Regs: r(0, 0), Off: 10},                   // if it is 0 goto out
			{Op: 0xbf, Regs: r(7, 0)},                            //
			{Op: 0xbf, Regs: r(1, 6)}, {Op: 0xbf, Regs: r(2, 7)}, //
			{Op: 0xb7, Regs: r(3, 0)}, {Op: 0x85, Imm: int32(helper.SkAssign)}, // r0 = sk_assign(skb, socket, 0)
			{Op: 0xbf, Regs: r(8, 0)},         //
			{Op: 0x55, Regs: r(8, 0), Off: 1}, //
			{Op: 0xb7, Regs: r(8, 0), Imm: 1}, // r8 = 1 or the error
			{Op: 0xbf, Regs: r(1, 7)}, {Op: 0x85, Imm: int32(helper.SkRelease)},
			{Op: 0x63, Regs: r(6, 8), Off: 8}, // out: skb->mark = w8
			{Op: 0xb4, Imm: -1}, {Op: 0x95},
		},
	}, vm.Options{})
	must(t, err)
	return filter.NewProgram(v, "assigning")
}

func bswap(v uint16) uint16 { return v<<8 | v>>8 }

func le(addr string) int32 {
	b := netip.MustParseAddr(addr).As4()
	return int32(binary.LittleEndian.Uint32(b[:]))
}

// The rig's node has a UDP socket at port 9999, another is made here.
func TestSocketHelpers(t *testing.T) {
	for _, c := range []struct {
		name         string
		lookup, sent uint16
		want         int32
	}{
		{"its own socket", 9999, 9999, 1},
		{"another socket", 8888, 9999, -95},
		{"no socket", 7777, 9999, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "")
			defer r.close()
			other, err := r.y.ListenUDP(netip.MustParseAddrPort("10.9.0.2:8888"))
			must(t, err)
			defer other.Close()
			d, err := r.fs.DeviceByName("y0")
			must(t, err)
			_, err = d.AttachTCX(filter.Ingress, assigning(t, c.lookup), filter.TCXOptions{})
			must(t, err)
			got := int32(0)
			_, err = r.y.Attach(hook.Prerouting, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
				got = int32(p.Mark)
				return hook.Continue
			}), hook.Options{})
			must(t, err)
			b := datagram("10.9.0.1", "10.9.0.2", []byte("hello"))
			binary.BigEndian.PutUint16(b[20:], 5000)
			binary.BigEndian.PutUint16(b[22:], c.sent)
			binary.BigEndian.PutUint16(b[26:], 0)
			r.y0.recvFrame(ether(b))
			if got != c.want {
				t.Errorf("mark %d, want %d", got, c.want)
			}
		})
	}
}
