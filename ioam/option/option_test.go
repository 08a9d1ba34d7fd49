package option

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTypeNodeLen(t *testing.T) {
	for typ, want := range map[Type]int{
		0: 0, HopNode: 1, HopNode | Interfaces: 2, HopNodeWide: 2, 0x00e000: 6, 0xf00000: 4, Opaque: 0, Reserved: 0,
		Undefined: 10, 0xfffffe: 25, All: 25,
	} {
		if got := typ.NodeLen(); got != want {
			t.Errorf("%v: node length %d, want %d", typ, got, want)
		}
	}
}

func TestParseType(t *testing.T) {
	for s, want := range map[string]Type{
		"0xc00000": 0xc00000, "hop-node,interfaces": 0xc00000, "opaque": Opaque, "buffer": BufferOccupancy, "12582912": 0xc00000,
	} {
		if got, err := ParseType(s); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"0x1000000", "hops", ""} {
		if got, err := ParseType(s); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
	if got := (HopNode | Opaque | 1<<5).Fields(); got != "hop-node,bit18,opaque" {
		t.Errorf("fields %q", got)
	}
}

// TestTrace reads what Linux wrote: two nodes, R2 the newer.
func TestTrace(t *testing.T) {
	b, _ := hex.DecodeString("31220000007b1002c00000000000000000000000" + "3e0a0b0200c900cb" + "3f0a0b0100650066")
	tr := Trace(b)
	if !tr.Valid() || tr.Namespace() != 123 || tr.NodeLen() != 2 || tr.Type() != 0xc00000 || tr.Remaining() != 2 || tr.Overflow() {
		t.Fatalf("read %+v", tr)
	}
	var got []Hop
	for h, err := range tr.Hops() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *h)
	}
	want := []Hop{
		{Type: 0xc00000, HopLimit: 62, NodeID: 0xa0b02, Ingress: 201, Egress: 203},
		{Type: 0xc00000, HopLimit: 63, NodeID: 0xa0b01, Ingress: 101, Egress: 102},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("hops (-want +got):\n%s", d)
	}
}

func TestTraceMalformed(t *testing.T) {
	for name, s := range map[string]string{
		"empty":             "",
		"header cut":        "31220000007b1002c000",
		"length beyond end": "31220000007b1002c0000000",
		"length too short":  "31090000007b1000c0000000",
		"room beyond end":   "310a0000007b1001c0000000",
	} {
		b, _ := hex.DecodeString(s)
		if Trace(b).Valid() {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestE2ERoundTrip(t *testing.T) {
	for _, e := range []E2E{
		{Namespace: 1, Type: Sequence64, Sequence: 1<<40 + 5},
		{Namespace: 2, Type: Sequence32 | E2ESeconds | E2EFraction, Sequence: 7, Seconds: 9, Fraction: 11},
		{Namespace: 3, Type: E2EFraction, Fraction: 1},
	} {
		b := make([]byte, e.OptionLen())
		e.Encode(b)
		var got E2E
		if !got.Decode(b) || got != e {
			t.Errorf("%+v came back as %+v", e, got)
		}
		if got.Decode(b[:len(b)-1]) {
			t.Errorf("%+v: a cut option was read", e)
		}
	}
	if (Sequence64 | Sequence32).Valid() || E2EType(1).Valid() {
		t.Error("impossible types are valid")
	}
}

func TestDEXRoundTrip(t *testing.T) {
	for _, d := range []DEX{
		{Namespace: 1, Type: 0xf00000},
		{Namespace: 2, Type: 0x800000, Extension: DEXFlowID | DEXSequence, FlowID: 5, Sequence: 6},
		{Namespace: 2, Type: 0x800000, Extension: DEXSequence, Sequence: 6},
	} {
		b := make([]byte, d.OptionLen())
		d.Encode(b)
		var got DEX
		if !got.Decode(b) || got != d {
			t.Errorf("%+v came back as %+v", d, got)
		}
		if got.Decode(b[:len(b)-1]) {
			t.Errorf("%+v: a cut option was read", d)
		}
	}
}

func TestWithoutIOAM(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"only a trace":       {"1102" + "0100" + "310a0000007b1000c0000000" + "01060000" + "00000000", ""},
		"an option behind":   {"1102" + "0100" + "310a0000007b1000c0000000" + "05020000" + "01020000", "1100" + "05020000" + "0100"},
		"an option before":   {"1102" + "05020000" + "0100" + "310a0000007b1000c0000000" + "01020000", "1100" + "05020000" + "0100"},
		"nothing of the two": {"1100" + "05020000" + "0100", "1100" + "05020000" + "0100"},
	} {
		in, err := hex.DecodeString(c.in)
		if err != nil || len(in)%8 != 0 {
			t.Fatalf("%s: bad input: %d octets, %v", name, len(in), err)
		}
		dst := make([]byte, len(in))
		got := dst[:Header(in).WithoutIOAM(dst)]
		want, _ := hex.DecodeString(c.want)
		if name == "an option behind" {
			// It began at 16, a multiple of 8: it must again.
			want, _ = hex.DecodeString("1101" + "010400000000" + "05020000" + "01020000")
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
}
