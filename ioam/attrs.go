package ioam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"taproom/ioam/option"
)

// EncapAttrs are the netlink attributes of an encapsulating route
// (IOAM6_IPTUNNEL_*), nil where one is not given.
type EncapAttrs struct {
	Mode     *uint8
	FreqK    *uint32
	FreqN    *uint32
	Src, Dst *netip.Addr
	Trace    []byte // struct ioam6_trace_hdr, 8 octets: the trace header as on the wire
}

// traceAttrLen is the size of struct ioam6_trace_hdr.
const traceAttrLen = option.TraceLen - option.HeaderLen

// ParseEncap makes the Tunnel that attributes ask for, or refuses them as
// Linux does: ranges first, then what is missing or does not fit together.
func ParseEncap(prefix netip.Prefix, a EncapAttrs) (Tunnel, error) {
	t := Tunnel{Prefix: prefix, Mode: Inline, K: 1, N: 1}
	op := fmt.Sprintf("tunnel to %v", prefix)
	if a.Mode != nil {
		t.Mode = Mode(*a.Mode)
		if t.Mode < Inline || t.Mode > Auto {
			return t, refuse(op, syscall.ERANGE, "integer out of range")
		}
	}
	for _, f := range []*uint32{a.FreqK, a.FreqN} {
		if f != nil && (*f < 1 || *f > MaxFrequency) {
			return t, refuse(op, syscall.ERANGE, "integer out of range")
		}
	}
	if a.Trace != nil && len(a.Trace) != traceAttrLen {
		return t, refuse(op, syscall.ERANGE, "binary attribute size out of range")
	}
	if (a.FreqK == nil) != (a.FreqN == nil) {
		return t, refuse(op, syscall.EINVAL, "freq: missing parameter")
	}
	if a.FreqK != nil {
		t.K, t.N = *a.FreqK, *a.FreqN
	}
	switch {
	case t.K > t.N:
		return t, refuse(op, syscall.EINVAL, "freq: k > n is forbidden")
	case t.Mode != Inline && a.Dst == nil:
		return t, refuse(op, syscall.EINVAL, "this mode needs a tunnel destination")
	case t.Mode == Inline && a.Src != nil:
		return t, refuse(op, syscall.EINVAL, "no tunnel src expected with this mode")
	case a.Trace == nil:
		return t, refuse(op, syscall.EINVAL, "missing trace")
	}
	if a.Dst != nil && t.Mode != Inline {
		t.Dst = *a.Dst
	}
	if a.Src != nil {
		t.Src = *a.Src
	}
	// A trace attribute is a trace option without its first four octets.
	var h [option.TraceLen]byte
	copy(h[option.HeaderLen:], a.Trace)
	trace := option.Trace(h[:])
	t.Namespace, t.Type, t.Size = trace.Namespace(), trace.Type(), 4*trace.Remaining()
	t.Overflow, t.Loopback, t.Active = trace.Overflow(), trace.Loopback(), trace.Active()
	t.Reserved = h[11]
	return t.normal()
}

// Attrs is the reverse of ParseEncap.
func (t Tunnel) Attrs() EncapAttrs {
	mode := uint8(t.Mode)
	a := EncapAttrs{Mode: &mode, FreqK: &t.K, FreqN: &t.N}
	if t.Dst.IsValid() {
		a.Dst = &t.Dst
	}
	if t.Src.IsValid() {
		a.Src = &t.Src
	}
	f := option.TraceFields{
		Namespace: t.Namespace, Type: t.Type, Words: t.Size / 4,
		Overflow: t.Overflow, Loopback: t.Loopback, Active: t.Active, Reserved: t.Reserved,
	}
	var h [option.TraceLen + 4*option.MaxWords]byte
	f.Encode(h[:])
	a.Trace = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(h[option.HeaderLen:]))
	return a
}
