package roce

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var cmpSpec = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// randomSpec makes a packet of an opcode whose every field is random.
func randomSpec(r *rand.Rand, op Opcode, v6 bool, n int) Spec {
	s := Spec{
		Path: Path{Src: netip.MustParseAddr("10.9.0.2"), Dst: netip.MustParseAddr("10.9.0.1"), SrcPort: uint16(r.Uint32()), TOS: uint8(r.Uint32()), TTL: uint8(r.Uint32() | 1)},
		BTH: BTHFields{
			Opcode: op, Solicited: r.IntN(2) == 0, MigReq: r.IntN(2) == 0, PKey: uint16(r.Uint32()), FECN: r.IntN(2) == 0,
			BECN: r.IntN(2) == 0, DestQP: r.Uint32() & 0xffffff, AckReq: r.IntN(2) == 0, PSN: PSN(r.Uint32() & PSNMask),
		},
	}
	if v6 {
		s.Src, s.Dst, s.FlowLabel = netip.MustParseAddr("fd09::2"), netip.MustParseAddr("fd09::1"), r.Uint32()&0xfffff
	} else {
		s.ID = uint16(r.Uint32())
	}
	h := op.Info().Headers
	if h&HasDETH != 0 {
		s.DETH = DETHFields{r.Uint32(), r.Uint32() & 0xffffff}
	}
	if h&HasFETH != 0 {
		s.FETH = FETHFields{Placement(r.IntN(16)), Selectivity(r.IntN(4))}
	}
	if h&HasRETH != 0 {
		s.RETH = RETHFields{r.Uint64(), r.Uint32(), r.Uint32()}
	}
	if h&HasAtomicETH != 0 {
		s.AtomicETH = AtomicETHFields{r.Uint64(), r.Uint32(), r.Uint64(), r.Uint64()}
	}
	if h&HasAETH != 0 {
		s.AETH = AETHFields{Syndrome(r.Uint32()), r.Uint32() & 0xffffff}
	}
	if h&HasAtomicAckETH != 0 {
		s.Original = r.Uint64()
	}
	if h&HasImm != 0 {
		s.Imm = r.Uint32()
	}
	if h&HasIETH != 0 {
		s.InvRKey = r.Uint32()
	}
	if op.Info().Payload {
		s.Payload = make([]byte, n)
		for i := range s.Payload {
			s.Payload[i] = byte(r.Uint32())
		}
		s.BTH.Pad = uint8(PadFor(n))
	}
	return s
}

// TestRoundTrip builds packets of every opcode and length, and reads them back.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for o := range 256 {
		op := Opcode(o)
		if !op.Known() {
			continue
		}
		for _, n := range []int{0, 1, 2, 3, 4, 5, 1023, 4096} {
			for _, v6 := range []bool{false, true} {
				s := randomSpec(r, op, v6, n)
				b, err := s.Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				p, err := Parse(append(b, 0, 0, 0)) // Ethernet padding is not part of it
				if err != nil {
					t.Fatalf("%v: %v", op, err)
				}
				if d := cmp.Diff(s, p.Spec(), cmpSpec); d != "" {
					t.Fatalf("%v (-want +got):\n%s", op, d)
				}
				if !p.CheckICRC() {
					t.Fatalf("%v: ICRC", op)
				}
				sum := s.Path.Flow().Length(len(b)-s.HeaderLen()).Sum(p.BTH, s.ID).Add(b[s.HeaderLen()+BTHLen : len(b)-ICRCLen])
				if uint32(sum) != p.ICRC() {
					t.Fatalf("%v v6=%v length %d: the flow's ICRC is %#x, want %#x", op, v6, n, uint32(sum), p.ICRC())
				}
			}
		}
	}
}

// TestRejects lists packets that must not pass, by what is wrong with them.
func TestRejects(t *testing.T) {
	s := randomSpec(rand.New(rand.NewPCG(3, 4)), RCCompareSwap, false, 0)
	good, _ := s.Append(nil)
	s6 := randomSpec(rand.New(rand.NewPCG(3, 4)), RCSendOnly, true, 9)
	good6, _ := s6.Append(nil)
	for _, c := range []struct {
		name string
		base []byte
		edit func(b []byte) []byte
		want error
	}{
		{"empty", good, func(b []byte) []byte { return nil }, ErrNotRoCE},
		{"IP version 5", good, func(b []byte) []byte { b[0] = 0x55; return b }, ErrNotRoCE},
		{"IPv4 options", good, func(b []byte) []byte { b[0] = 0x46; return b }, ErrNotRoCE},
		{"fragment", good, func(b []byte) []byte { b[6] = 0x20; return b }, ErrNotRoCE},
		{"fragment offset", good, func(b []byte) []byte { b[7] = 1; return b }, ErrNotRoCE},
		{"TCP", good, func(b []byte) []byte { b[9] = 6; return b }, ErrNotRoCE},
		{"other port", good, func(b []byte) []byte { b[23]++; return b }, ErrNotRoCE},
		{"cut short", good, func(b []byte) []byte { return b[:len(b)-1] }, ErrMalformed},
		{"UDP length", good, func(b []byte) []byte { b[25]--; return b }, ErrMalformed},
		{"IP length under headers", good, func(b []byte) []byte { b[2], b[3] = 0, 27; return b }, ErrMalformed},
		{"no room for BTH", good, func(b []byte) []byte { b[2], b[3], b[24], b[25] = 0, 40, 0, 20; return b }, ErrMalformed},
		{"no room for AtomicETH", good, func(b []byte) []byte { b[2], b[3], b[24], b[25] = 0, 60, 0, 40; return b }, ErrMalformed},
		{"pad beyond headers", good, func(b []byte) []byte { b[29] |= 0x30; return b }, ErrMalformed},
		{"transport version", good, func(b []byte) []byte { b[29] |= 1; return b }, ErrMalformed},
		{"opcode", good, func(b []byte) []byte { b[28] = 0x15; return b }, ErrOpcode},
		{"v6 extension header", good6, func(b []byte) []byte { b[6] = 0; return b }, ErrNotRoCE},
		{"v6 length", good6, func(b []byte) []byte { b[4] = 0xff; return b }, ErrMalformed},
		{"v6 cut short", good6, func(b []byte) []byte { return b[:47] }, ErrNotRoCE},
	} {
		if _, err := Parse(c.edit(bytes.Clone(c.base))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, s := range []Spec{
		{BTH: BTHFields{Opcode: 0xff}},
		{BTH: BTHFields{Opcode: RCSendOnly}},
		{Path: Path{Src: s.Src, Dst: s6.Dst}, BTH: BTHFields{Opcode: RCSendOnly}},
		{Path: s.Path, BTH: BTHFields{Opcode: RCAck}, Payload: []byte{1}},
		{Path: s.Path, BTH: BTHFields{Opcode: RCSendOnly}, Payload: make([]byte, 65535)},
	} {
		if _, err := s.Append(nil); err == nil {
			t.Errorf("%+v was built", s.BTH)
		}
	}
}

// TestRun joins packets to super-frames and splits them again.
func TestRun(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, v6 := range []bool{false, true} {
		base := randomSpec(r, RCSendMiddle, v6, 1024)
		base.ID = 65530
		if v6 {
			base.ID = 0
		}
		var packets []Packet
		var want [][]byte
		for i := range 12 {
			s := base
			s.BTH.PSN = s.BTH.PSN.Add(i)
			s.BTH.DestQP += uint32(i)
			if !v6 {
				s.ID += uint16(i)
			}
			if i == 11 {
				s.BTH.Opcode, s.Payload = RCSendLast, s.Payload[:501]
			}
			b, err := s.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			p, _ := Parse(b)
			if i > 0 && !Joins(&packets[0], &packets[i-1], &p) {
				t.Fatalf("packet %d does not join", i)
			}
			packets, want = append(packets, p), append(want, b)
		}
		if Joins(&packets[0], &packets[11], &packets[1]) {
			t.Error("a packet joins behind a short one")
		}
		if !v6 && Joins(&packets[0], &packets[1], &packets[3]) {
			t.Error("a packet joins whose identification does not follow")
		}
		frame, size := AppendRun(nil, packets)
		run, err := ParseRun(frame, size)
		if err != nil {
			t.Fatal(err)
		}
		if run.Len() != len(want) {
			t.Fatalf("%d packets, want %d", run.Len(), len(want))
		}
		for i := range want {
			if got := run.AppendPacket(nil, i); !bytes.Equal(got, want[i]) {
				t.Errorf("v6=%v packet %d:\n%x want\n%x", v6, i, got[:60], want[i][:60])
			}
			if !run.CheckICRC(i) {
				t.Errorf("v6=%v packet %d: ICRC", v6, i)
			}
			run.Body(i)[BTHLen] ^= 1
			if run.CheckICRC(i) {
				t.Errorf("v6=%v packet %d: wrong ICRC passes", v6, i)
			}
		}
	}
	for _, c := range []struct {
		size, want int
		v6         bool
	}{{1040, 62, false}, {4112, 15, false}, {4112, 15, true}, {80, 128, true}, {65507, 1, false}, {65527, 1, true}} {
		if got := MaxRun(c.size, c.v6); got != c.want {
			t.Errorf("MaxRun(%d, %v) = %d, want %d", c.size, c.v6, got, c.want)
		}
	}
}

// TestPartialSum: completing the checksum that PutRun starts gives a valid one.
func TestPartialSum(t *testing.T) {
	for _, p := range []Path{
		{Src: netip.MustParseAddr("10.9.0.2"), Dst: netip.MustParseAddr("10.9.0.1"), SrcPort: 55410},
		{Src: netip.MustParseAddr("fd09::2"), Dst: netip.MustParseAddr("fd09::ffff:1"), SrcPort: 55410},
	} {
		b := make([]byte, p.HeaderLen()+37)
		b[len(b)-1] = 0x77
		l := p.PutRun(b, 37, 9)
		ip, udp := b[:l-UDPLen], b[l-UDPLen:]
		c := ^fold(sum16(0, udp)) // what the device stores
		udp[6], udp[7] = byte(c>>8), byte(c)
		addrs := ip[12:]
		if p.V6() {
			addrs = ip[8:]
		}
		if got := fold(sum16(sum16(uint32(protoUDP+UDPLen+37), addrs), udp)); got != 0xffff {
			t.Errorf("%v: sum %#x", p.Dst, got)
		}
		if !p.V6() && fold(sum16(0, ip)) != 0xffff {
			t.Errorf("IPv4 header checksum")
		}
	}
}

// TestSumPieces: an ICRC over scattered buffers, and one made while copying, is
// the same as one over the whole.
func TestSumPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := randomSpec(r, RCSendMiddle, false, 40000)
	b, err := s.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Parse(b)
	rest := b[len(p.IP)+UDPLen+BTHLen : len(b)-ICRCLen]
	dst := make([]byte, len(rest))
	for range 50 {
		sum, out, in := NewSum(p.IP, p.UDP, p.BTH), dst, rest
		for len(in) > 0 {
			n := min(1+r.IntN(20000), len(in))
			sum = sum.Copy(out, in[:n])
			out, in = out[n:], in[n:]
		}
		if !sum.Matches(b[len(b)-ICRCLen:]) || !bytes.Equal(dst, rest) {
			t.Fatal("pieces differ from the whole")
		}
	}
}

func TestAllocs(t *testing.T) {
	s := randomSpec(rand.New(rand.NewPCG(1, 1)), RCWriteOnly, false, 1024)
	b, _ := s.Append(nil)
	flow := s.Path.Flow()
	buf := make([]byte, 0, 512)
	for name, f := range map[string]func(){
		"Parse":    func() { p, _ := Parse(b); _ = p.CheckICRC() },
		"ParseRun": func() { r, _ := ParseRun(b, 0); _ = r.CheckICRC(0) },
		"Flow":     func() { flow.Length(1040).Sum(BTH(b[28:]), 7).Add(b[40:]).Put(b[len(b)-4:]) },
		"Put":      func() { s.PutRun(b, len(b)-28, 7) },
		"Format":   func() { r, _ := ParseBody(b[28:]); buf = r.AppendFormat(buf[:0]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestFormat(t *testing.T) {
	v4 := Path{Src: netip.MustParseAddr("10.9.0.2"), Dst: netip.MustParseAddr("10.9.0.1"), SrcPort: 50000}
	b := func(f BTHFields) BTHFields { f.DestQP, f.PSN, f.PKey = 0x13, 0x1003, DefaultPKey; return f }
	for _, c := range []struct {
		want string
		s    Spec
	}{
		{"10.9.0.2 > 10.9.0.1 RC WRITE_FIRST qp=0x13 psn=0x001003 va=0x7f8d0a3f3040 rkey=0x4a2 dmalen=3001 len=4", Spec{BTH: b(BTHFields{Opcode: RCWriteFirst}), RETH: RETHFields{0x7f8d0a3f3040, 0x4a2, 3001}, Payload: make([]byte, 4)}},
		{"10.9.0.2 > 10.9.0.1 RC ACK qp=0x13 psn=0x001003 msn=3", Spec{BTH: b(BTHFields{Opcode: RCAck}), AETH: AETHFields{AckNoCredits, 3}}},
		{"10.9.0.2 > 10.9.0.1 RC NAK PSN sequence error qp=0x13 psn=0x001003 msn=3", Spec{BTH: b(BTHFields{Opcode: RCAck}), AETH: AETHFields{NakSequence, 3}}},
		{"10.9.0.2 > 10.9.0.1 RC RNR 640µs qp=0x13 psn=0x001003 msn=0", Spec{BTH: b(BTHFields{Opcode: RCAck}), AETH: AETHFields{RNR(12), 0}}},
		{"10.9.0.2 > 10.9.0.1 RC CMP_SWAP qp=0x13 psn=0x001003 va=0x8 rkey=0x1 swap=0x7 compare=0x2a ackreq", Spec{BTH: b(BTHFields{Opcode: RCCompareSwap, AckReq: true}), AtomicETH: AtomicETHFields{8, 1, 7, 42}}},
		{"10.9.0.2 > 10.9.0.1 UD SEND_ONLY_IMM qp=0x13 psn=0x001003 src=0x1 qkey=0x80010000 imm=0xcafe len=1 solicited", Spec{BTH: b(BTHFields{Opcode: UDSendOnlyImm, Solicited: true}), DETH: DETHFields{0x80010000, 1}, Imm: 0xcafe, Payload: make([]byte, 1)}},
		{"10.9.0.2 > 10.9.0.1 CNP qp=0x13 psn=0x001003 becn", Spec{BTH: b(BTHFields{Opcode: CongestionNotified, BECN: true})}},
		{"10.9.0.2 > 10.9.0.1 RC FLUSH qp=0x13 psn=0x001003 placement=1 selectivity=0 va=0x10 rkey=0x2 dmalen=3", Spec{BTH: b(BTHFields{Opcode: RCFlush}), FETH: FETHFields{PlaceVisible, SelectRange}, RETH: RETHFields{16, 2, 3}}},
	} {
		c.s.Path = v4
		raw, err := c.s.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := Format(raw); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got := Format([]byte{1, 2}); got != "(2 bytes: roce: not a RoCEv2 packet)" {
		t.Error(got)
	}
}
