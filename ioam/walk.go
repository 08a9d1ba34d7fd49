package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/packet"
)

// IPv6 option types that a hop-by-hop header is checked for (IANA).
const (
	optPad1        = 0x00
	optPadN        = 0x01
	optRouterAlert = 0x05
	optCALIPSO     = 0x07
	optJumbo       = 0xc2
)

// outcome is what became of a packet's hop-by-hop header. Its zero value is:
// go on.
type outcome struct {
	drop    bool
	reason  packet.Reason
	counter Counter // DropMalformed or DropOptions
	// An ICMPv6 Parameter Problem to send, if icmp is set.
	icmp    bool
	code    uint8
	pointer uint32
	// seen says that there was an IOAM option of either type.
	seen bool
	// truncated counts as a packet cut short instead of as a header error.
	truncated bool
}

var (
	malformedIOAM = outcome{drop: true, reason: packet.IOAMMalformed, counter: DropMalformed}
	badHeader     = outcome{drop: true, reason: packet.BadHeader, counter: DropOptions}
	unknownOption = outcome{drop: true, reason: packet.OptionUnknown, counter: DropOptions}
)

// walk goes through the hop-by-hop header behind the IPv6 header, option by
// option from left to right, and acts on each at once: when a later option
// makes the packet a drop, earlier ones have been filled and reported. a.b
// holds the packet up to the end of the header at least.
//
// The rules are RFC 8200 section 4.2 with the stricter padding of RFC 4942
// section 2.1.9.5, as Linux has them.
func (a *arrival) walk() (o outcome) {
	b := a.b
	off, end := 42, 40+(int(b[41])+1)*8
	limit, unknownDrops := a.s.maxOptions, false
	if limit < 0 {
		limit, unknownDrops = -limit, true
	}
	options, padding := 0, 0
	for off < end {
		kind := b[off]
		if kind == optPad1 {
			if padding++; padding > 7 {
				return badHeader
			}
			off++
			continue
		}
		if end-off < 2 {
			return badHeader
		}
		n := int(b[off+1]) + 2
		if n > end-off {
			return badHeader
		}
		if kind == optPadN {
			if padding += n; padding > 7 || !allZero(b[off+2:off+n]) {
				return badHeader
			}
			off += n
			continue
		}
		if options++; options > limit {
			return badHeader
		}
		padding = 0
		r := a.option(kind, off, n, unknownDrops)
		o.seen = o.seen || r.seen
		if r.drop {
			return r
		}
		if a.s.extras.Incremental && len(a.b) != len(b) {
			// The option has grown, and the header with it.
			b = a.b
			n = int(b[off+1]) + 2
			end = 40 + (int(b[41])+1)*8
		}
		off += n
	}
	return o
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// option acts on one option of n octets at off.
func (a *arrival) option(kind byte, off, n int, unknownDrops bool) outcome {
	b := a.b
	switch kind {
	case option.OptMutable:
		return a.ioam(off, n)
	case option.OptImmutable:
		if a.s.extras.DirectExport || a.s.extras.EdgeToEdge {
			a.immutable(b[off : off+n])
		}
		o := a.unknown(kind, off, unknownDrops)
		o.seen = n >= option.HeaderLen
		return o
	case optRouterAlert: // RFC 2711: two octets of value
		if n != 4 {
			return badHeader
		}
		return outcome{}
	case optCALIPSO: // RFC 5570; no domain of interpretation is configured
		if n < 8+2 {
			return badHeader
		}
		return outcome{}
	case optJumbo:
		return a.jumbo(off, n)
	}
	return a.unknown(kind, off, unknownDrops)
}

// ioam acts on option type 0x31. The order of the checks is what makes a
// packet dropped, ignored or filled, and Linux's.
func (a *arrival) ioam(off, n int) outcome {
	if off&3 != 0 {
		return malformedIOAM // even where IOAM is disabled
	}
	if !a.in.enabled {
		a.n.counters.add(IgnoredDisabled)
		return outcome{seen: true}
	}
	if n < option.HeaderLen {
		return malformedIOAM
	}
	opt := a.b[off : off+n : off+n]
	switch option.Kind(opt[3]) {
	case option.Preallocated:
		return a.trace(option.Trace(opt))
	case option.Incremental:
		if a.s.extras.Incremental {
			return a.incremental(off)
		}
	case option.DirectExport, option.EdgeToEdge:
		if a.immutable(opt) {
			return outcome{seen: true}
		}
	}
	a.n.counters.add(IgnoredKind)
	return outcome{seen: true}
}

// trace acts on a pre-allocated trace.
func (a *arrival) trace(t option.Trace) outcome {
	if len(t) < option.TraceLen || len(t) < option.TraceLen+4*t.Remaining() {
		return malformedIOAM
	}
	typ := t.Type()
	if a.s.extras.Seed && typ&option.Undefined != 0 {
		a.n.counters.add(IgnoredKind)
		return outcome{seen: true}
	}
	if t.NodeLen() != typ.NodeLen() {
		return malformedIOAM // before the namespace is known, overflow or not
	}
	ns := a.s.namespace(t.Namespace())
	if ns == nil {
		a.n.counters.add(IgnoredNamespace)
		return outcome{seen: true}
	}
	a.record(t, ns)
	a.traceEvent(t)
	if a.s.extras.Loopback && t.Loopback() {
		a.loopBack(t)
	}
	return outcome{seen: true}
}

// unknown acts on an option type nobody knows, by its top bits (RFC 8200
// section 4.2).
func (a *arrival) unknown(kind byte, off int, drops bool) outcome {
	if drops {
		return unknownOption
	}
	o := unknownOption
	switch kind >> 6 {
	case 0:
		return outcome{}
	case 1:
		return o
	case 3:
		if a.b[24] == 0xff {
			return o
		}
	}
	o.icmp, o.code, o.pointer = true, codeUnknownOption, uint32(off)
	return o
}

// jumbo checks a jumbo payload option (RFC 2675 section 3).
func (a *arrival) jumbo(off, n int) outcome {
	if n != 6 || off&3 != 2 {
		return badHeader
	}
	length := binary.BigEndian.Uint32(a.b[off+2:])
	o := badHeader
	switch {
	case length <= 0xffff: // need not be jumbo
		o.icmp, o.code, o.pointer = true, codeHeaderField, uint32(off+2)
	case a.b[4] != 0 || a.b[5] != 0: // two lengths
		o.icmp, o.code, o.pointer = true, codeHeaderField, uint32(off)
	case int64(length) > int64(a.p.Len()-40):
		o.truncated = true
	default:
		return outcome{}
	}
	return o
}
