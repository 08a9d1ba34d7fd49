package roce

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHeaders encodes each header and decodes it again; the bytes are written
// out by hand from the figures of the specification.
func TestHeaders(t *testing.T) {
	check := func(name, want string, got []byte, back, fields any) {
		t.Helper()
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: encoded %x, want %s", name, got, want)
		}
		if d := cmp.Diff(fields, back); d != "" {
			t.Errorf("%s: decoded (-want +got):\n%s", name, d)
		}
	}
	bths := []struct {
		want string
		f    BTHFields
	}{
		{"0400ffff" + "00000011" + "80001000", BTHFields{Opcode: RCSendOnly, PKey: 0xffff, DestQP: 0x11, AckReq: true, PSN: 0x1000}},
		{"0be08001" + "c0abcdef" + "00fedcba", BTHFields{Opcode: RCWriteOnlyImm, Solicited: true, MigReq: true, Pad: 2, PKey: 0x8001, FECN: true, BECN: true, DestQP: 0xabcdef, PSN: 0xfedcba}},
		{"813f0000" + "40000002" + "00000000", BTHFields{Opcode: CongestionNotified, Pad: 3, TVer: 15, BECN: true, DestQP: 2}},
	}
	for _, c := range bths {
		b := BTH(bytes.Repeat([]byte{0x55}, BTHLen))
		b.Encode(&c.f)
		check("BTH", c.want, b, b.Fields(), c.f)
	}
	deth, df := DETH(make([]byte, DETHLen)), DETHFields{0x80010000, 1}
	deth.Encode(&df)
	check("DETH", "8001000000000001", deth, deth.Fields(), df)
	reth, rf := RETH(make([]byte, RETHLen)), RETHFields{0x7f8d0a3f3040, 0x4a2, 3001}
	reth.Encode(&rf)
	check("RETH", "00007f8d0a3f3040"+"000004a2"+"00000bb9", reth, reth.Fields(), rf)
	feth, ff := FETH(make([]byte, FETHLen)), FETHFields{PlaceVisible | PlacePersistent, SelectRegion}
	feth.Encode(&ff)
	check("FETH", "00000013", feth, feth.Fields(), ff)
	atom, af := AtomicETH(make([]byte, AtomicETHLen)), AtomicETHFields{8, 9, 0x1122334455667788, 42}
	atom.Encode(&af)
	check("AtomicETH", "0000000000000008"+"00000009"+"1122334455667788"+"000000000000002a", atom, atom.Fields(), af)
	aeth, ef := AETH(make([]byte, AETHLen)), AETHFields{NakRemoteAccess, 0x123456}
	aeth.Encode(&ef)
	check("AETH", "62123456", aeth, aeth.Fields(), ef)
	ack := AtomicAckETH(make([]byte, AtomicAckETHLen))
	ack.Encode(42)
	check("AtomicAckETH", "000000000000002a", ack, ack.Original(), uint64(42))
	imm := ImmDt(make([]byte, ImmLen))
	imm.Encode(0xcafe0005)
	check("ImmDt", "cafe0005", imm, imm.Value(), uint32(0xcafe0005))
	ieth := IETH(make([]byte, IETHLen))
	ieth.Encode(0x8000260)
	check("IETH", "08000260", ieth, ieth.RKey(), uint32(0x8000260))
}

// TestSetters: a setter changes its field and nothing else.
func TestSetters(t *testing.T) {
	for _, fill := range []byte{0, 0xff} {
		b := BTH(bytes.Repeat([]byte{fill}, BTHLen))
		want := b.Fields()
		step := func(name string, set func(), change func(*BTHFields)) {
			t.Helper()
			set()
			change(&want)
			if d := cmp.Diff(want, b.Fields()); d != "" {
				t.Errorf("fill %#x, %s (-want +got):\n%s", fill, name, d)
			}
		}
		v := fill == 0
		step("opcode", func() { b.SetOpcode(RCAck) }, func(f *BTHFields) { f.Opcode = RCAck })
		step("solicited", func() { b.SetSolicited(v) }, func(f *BTHFields) { f.Solicited = v })
		step("migreq", func() { b.SetMigReq(v) }, func(f *BTHFields) { f.MigReq = v })
		step("pad", func() { b.SetPad(2) }, func(f *BTHFields) { f.Pad = 2 })
		step("pkey", func() { b.SetPKey(0x1234) }, func(f *BTHFields) { f.PKey = 0x1234 })
		step("fecn", func() { b.SetFECN(v) }, func(f *BTHFields) { f.FECN = v })
		step("becn", func() { b.SetBECN(v) }, func(f *BTHFields) { f.BECN = v })
		step("destqp", func() { b.SetDestQP(0x123456) }, func(f *BTHFields) { f.DestQP = 0x123456 })
		step("ackreq", func() { b.SetAckReq(v) }, func(f *BTHFields) { f.AckReq = v })
		step("psn", func() { b.SetPSN(0x654321) }, func(f *BTHFields) { f.PSN = 0x654321 })
	}
}

// TestOpcodes checks the table's shape against the rules of IBTA 9.2.1.
func TestOpcodes(t *testing.T) {
	known := 0
	for o := range 256 {
		op := Opcode(o)
		i := op.Info()
		if !i.Known {
			continue
		}
		known++
		if op.Service().String() == "" || i.Service != op.Service() {
			t.Errorf("%v: service", op)
		}
		if i.Request != (i.Op != OpReadResponse && i.Op != OpAck && i.Op != OpAtomicAck && i.Op != OpCNP) {
			t.Errorf("%v: request %v", op, i.Request)
		}
		if (i.Answer != NoAnswer) != (i.Request && i.Service == ServiceRC) {
			t.Errorf("%v: answer %v", op, i.Answer)
		}
		if i.Imm && i.Part&Last == 0 {
			t.Errorf("%v: immediate data before the end", op)
		}
	}
	if known != 25+12+2+1 {
		t.Errorf("%d opcodes", known)
	}
	for op, want := range map[Opcode]int{
		RCSendMiddle: 12, RCWriteOnlyImm: 32, RCReadRequest: 28, RCReadRespMiddle: 12, RCReadRespOnly: 16,
		RCAtomicAck: 24, RCCompareSwap: 40, RCFlush: 32, RCAtomicWrite: 28, UDSendOnlyImm: 24, CongestionNotified: 28,
	} {
		if got := op.HeaderLen(); got != want {
			t.Errorf("%v: %d bytes of headers, want %d", op, got, want)
		}
	}
}

func TestPSN(t *testing.T) {
	for _, c := range []struct {
		p, q PSN
		d    int
	}{
		{0, 0, 0}, {1, 0, 1}, {0, 1, -1}, {0, 0xffffff, 1}, {0xffffff, 0, -1},
		{0x800000, 0, -1 << 23}, {0x7fffff, 0, 1<<23 - 1}, {5, 0xfffff0, 21},
	} {
		if d := c.p.Sub(c.q); d != c.d {
			t.Errorf("%v - %v = %d, want %d", c.p, c.q, d, c.d)
		}
		if c.q.Add(c.d) != c.p {
			t.Errorf("%v + %d = %v, want %v", c.q, c.d, c.q.Add(c.d), c.p)
		}
		if c.p.Before(c.q) != (c.d < 0) || c.p.After(c.q) != (c.d > 0) {
			t.Errorf("order of %v and %v", c.p, c.q)
		}
	}
	if !PSN(2).In(0xfffffe, 5) || PSN(3).In(0xfffffe, 5) || PSN(0xfffffd).In(0xfffffe, 5) {
		t.Error("In does not wrap")
	}
	if PSN(0xffffff).Next() != 0 {
		t.Error("Next does not wrap")
	}
}

func TestCodes(t *testing.T) {
	for code, want := range map[uint8]time.Duration{0: 655360 * time.Microsecond, 1: 10 * time.Microsecond, 12: 640 * time.Microsecond, 20: 10240 * time.Microsecond, 31: 491520 * time.Microsecond} {
		if got := RNRDelay(code); got != want {
			t.Errorf("RNR timer %d: %v, want %v", code, got, want)
		}
		if got := RNRCode(want); got != code {
			t.Errorf("RNR code of %v: %d, want %d", want, got, code)
		}
	}
	want := []int{0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, -1}
	for c, n := range want {
		if got := Credits(uint8(c)); got != n {
			t.Errorf("credits code %d: %d, want %d", c, got, n)
		}
	}
	if got := AckTimeout(14); got != 67108864*time.Nanosecond {
		t.Errorf("timeout 14: %v", got)
	}
	if AckTimeout(0) != 0 {
		t.Error("timeout 0 is none")
	}
	for link, want := range map[int]MTU{1500: MTU1024, 4176: MTU4096, 4175: MTU2048, 9000: MTU4096, 300: MTU256, 0: MTU256, 65520: MTU4096} {
		if got := MTUFor(link); got != want {
			t.Errorf("interface MTU %d: %v, want %v", link, got, want)
		}
	}
	if _, err := MTUOf(1500); err == nil {
		t.Error("1500 is no path MTU")
	}
	for s, want := range map[Syndrome]string{
		AckNoCredits: "ACK", AckCredits(5): "ACK credits 6", RNR(12): "RNR 640µs", NakSequence: "NAK PSN sequence error",
		NakInvalidRequest: "NAK invalid request", NakRemoteAccess: "NAK remote access error", NakRemoteOperation: "NAK remote operational error",
		0x65: "syndrome-0x65", 0x80: "syndrome-0x80",
	} {
		if s.String() != want {
			t.Errorf("syndrome %#x: %q, want %q", uint8(s), s.String(), want)
		}
	}
}

func TestPorts(t *testing.T) {
	if p := UDPort(1); p != 55410 {
		t.Errorf("QP 1's port: %d, want 55410", p)
	}
	if RCPort(17, 18) != RCPort(18, 17) {
		t.Error("a connection's port depends on the direction")
	}
	if got := CMFlowLabel(0x8001, 7174); got != (0x8001*31+7174)&0xfffff {
		t.Errorf("label %#x", got)
	}
}

func TestGRH(t *testing.T) {
	v4 := unhex(t, "450000400a1b40004011"+"0000"+"0a0900020a090001")
	var a [GRHLen]byte
	for i := range a {
		a[i] = 0xaa
	}
	PutGRH(a[:], v4)
	if !bytes.Equal(a[:20], make([]byte, 20)) || !bytes.Equal(GRHIP(a[:]), v4) {
		t.Errorf("v4 area %x", a)
	}
	var v6 [IPv6Len + UDPLen]byte
	p := Path{Src: netip.MustParseAddr("fd09::2"), Dst: netip.MustParseAddr("fd09::1")}
	p.Put(v6[:], 100, 0)
	PutGRH(a[:], v6[:])
	if !bytes.Equal(a[:], v6[:40]) || !bytes.Equal(GRHIP(a[:]), v6[:40]) {
		t.Errorf("v6 area %x", a)
	}
}
