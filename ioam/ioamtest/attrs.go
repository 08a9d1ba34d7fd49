package ioamtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"taproom/ioam"
	"taproom/ioam/option"
)

// attrs are the netlink attributes of the case's route. Cases about refusals
// are told by their description only: the usual route with one thing wrong.
func (v *encapVector) attrs() (ioam.EncapAttrs, error) {
	r := v.Route
	if r.Type == "" {
		return describedAttrs(v.Desc)
	}
	var a ioam.EncapAttrs
	if m, ok := map[string]uint8{"inline": 1, "encap": 2, "auto": 3}[r.Mode]; ok {
		a.Mode = &m
	}
	typ, err := strconv.ParseUint(r.Type, 16, 24)
	if err != nil {
		return a, err
	}
	a.Trace = traceAttr(option.Type(typ), r.Remlen, r.NS)
	a.FreqK, a.FreqN = r.K, r.N
	if r.Dst != "" {
		a.Dst = new(netip.MustParseAddr(r.Dst))
	}
	if r.Src != "" {
		a.Src = new(netip.MustParseAddr(r.Src))
	}
	return a, nil
}

func traceAttr(t option.Type, words int, ns uint16) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, ns)
	b[2] = byte(t.NodeLen() << 3)
	b[3] = byte(words)
	binary.BigEndian.PutUint32(b[4:], uint32(t)<<8)
	return b
}

func describedAttrs(desc string) (ioam.EncapAttrs, error) {
	inline, encap, auto := uint8(1), uint8(2), uint8(3)
	dst, src, none := netip.MustParseAddr("2001:db8:c::1"), netip.MustParseAddr("2001:db8:a::2"), netip.IPv6Unspecified()
	a := ioam.EncapAttrs{Mode: &inline, Trace: traceAttr(0xc00000, 8, 123)}
	u32 := func(v uint32) *uint32 { return &v }
	w := strings.Fields(desc)
	num := func() int {
		n, _ := strconv.Atoi(w[len(w)-1])
		return n
	}
	switch {
	case desc == "no trace":
		a.Trace = nil
	case desc == "type 0":
		a.Trace = traceAttr(0, 8, 123)
	case w[0] == "remlen":
		a.Trace = traceAttr(0xc00000, num(), 123)
	case w[0] == "bit":
		a.Trace = traceAttr(0xc00000|1<<(23-num()), 8, 123)
	case strings.HasPrefix(desc, "nodelen given wrong"):
		a.Trace[2] = 0x38
	case desc == "overflow preset":
		a.Trace[2] |= 0x04
	case desc == "trace reserved octet":
		a.Trace[7] = 0x7e
	case w[0] == "mode":
		m := uint8(num())
		a.Mode = &m
	case desc == "encap without dst":
		a.Mode = &encap
	case desc == "auto without dst":
		a.Mode = &auto
	case desc == "inline with dst":
		a.Dst = &dst
	case desc == "inline with src":
		a.Src = &src
	case desc == "encap dst ::":
		a.Mode, a.Dst = &encap, &none
	case desc == "encap src ::":
		a.Mode, a.Dst, a.Src = &encap, &dst, &none
	case desc == "freq k without n":
		a.FreqK = u32(1)
	case desc == "freq n without k":
		a.FreqN = u32(1)
	case desc == "freq k>n":
		a.FreqK, a.FreqN = u32(3), u32(2)
	case strings.HasPrefix(desc, "freq k="):
		k, _ := strconv.Atoi(desc[len("freq k="):])
		a.FreqK, a.FreqN = u32(uint32(k)), u32(1)
	case strings.HasPrefix(desc, "freq n="):
		n, _ := strconv.Atoi(desc[len("freq n="):])
		a.FreqK, a.FreqN = u32(1), u32(uint32(n))
	case w[0] == "trace" && w[2] == "octets":
		n, _ := strconv.Atoi(w[1])
		a.Trace = make([]byte, n)
	default:
		return a, fmt.Errorf("no route is known for the description %q", desc)
	}
	return a, nil
}
