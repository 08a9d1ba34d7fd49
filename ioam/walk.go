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

// outcome says why a packet is to be dropped, and what its sender is to be
// told. It means something only when walk has failed.
type outcome struct {
	reason  packet.Reason
	counter Counter // DropMalformed or DropOptions
	// An ICMPv6 Parameter Problem to send, if icmp is set.
	icmp    bool
	code    uint8
	pointer uint32
	// truncated counts as a packet cut short instead of as a header error.
	truncated bool
}

// The ways to fail; all return false.

func (a *arrival) malformed() bool {
	a.o = outcome{reason: packet.IOAMMalformed, counter: DropMalformed}
	return false
}

func (a *arrival) badHeader() bool {
	a.o = outcome{reason: packet.BadHeader, counter: DropOptions}
	return false
}

func (a *arrival) problem(reason packet.Reason, code uint8, pointer int) bool {
	a.o = outcome{reason: reason, counter: DropOptions, icmp: true, code: code, pointer: uint32(pointer)}
	return false
}

// walk goes through the hop-by-hop header behind the IPv6 header, option by
// option from left to right, and acts on each at once: when a later option
// makes the packet a drop, earlier ones have been filled and reported. a.b
// holds the packet up to the end of the header at least.
//
// The rules are RFC 8200 section 4.2 with the stricter padding of RFC 4942
// section 2.1.9.5, as Linux has them. It reports false, with a.o filled in, if
// the packet is to be dropped.
func (a *arrival) walk() bool {
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
				return a.badHeader()
			}
			off++
			continue
		}
		if end-off < 2 {
			return a.badHeader()
		}
		n := int(b[off+1]) + 2
		if n > end-off {
			return a.badHeader()
		}
		if kind == optPadN {
			if padding += n; padding > 7 || !allZero(b[off+2:off+n]) {
				return a.badHeader()
			}
			off += n
			continue
		}
		if options++; options > limit {
			return a.badHeader()
		}
		padding = 0
		if kind == option.OptMutable {
			if !a.ioam(off, n) {
				return false
			}
		} else if !a.option(kind, off, n, unknownDrops) {
			return false
		}
		if a.s.extras.Incremental {
			// The option may have grown, and the header with it.
			b = a.b
			n = int(b[off+1]) + 2
			end = 40 + (int(b[41])+1)*8
		}
		off += n
	}
	return true
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// option acts on one option of n octets at off that is not of type 0x31.
func (a *arrival) option(kind byte, off, n int, unknownDrops bool) bool {
	b := a.b
	switch kind {
	case option.OptImmutable:
		if a.s.extras.DirectExport || a.s.extras.EdgeToEdge {
			a.immutable(b[off : off+n])
		}
		a.seen = a.seen || n >= option.HeaderLen
		return a.unknown(kind, off, unknownDrops)
	case optRouterAlert: // RFC 2711: two octets of value
		if n != 4 {
			return a.badHeader()
		}
		return true
	case optCALIPSO: // RFC 5570 section 5.1: the compartment bitmap is within the option
		if n < 8+2 || int(b[off+6])*4+8 > n-2 {
			return a.badHeader()
		}
		return true
	case optJumbo:
		return a.jumbo(off, n)
	}
	return a.unknown(kind, off, unknownDrops)
}

// ioam acts on option type 0x31. The order of the checks is what makes a
// packet dropped, ignored or filled, and Linux's.
func (a *arrival) ioam(off, n int) bool {
	a.seen = true
	if off&3 != 0 {
		return a.malformed() // even where IOAM is disabled
	}
	if !a.in.enabled {
		a.n.counters.add(IgnoredDisabled)
		return true
	}
	if n < option.HeaderLen {
		return a.malformed()
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
			return true
		}
	}
	a.n.counters.add(IgnoredKind)
	return true
}

// trace acts on a pre-allocated trace.
func (a *arrival) trace(t option.Trace) bool {
	if len(t) < option.TraceLen || len(t) < option.TraceLen+4*t.Remaining() {
		return a.malformed()
	}
	typ := t.Type()
	if a.s.extras.Seed && typ&option.Undefined != 0 {
		a.n.counters.add(IgnoredKind)
		return true
	}
	if t.NodeLen() != typ.NodeLen() {
		return a.malformed() // before the namespace is known, overflow or not
	}
	ns := a.s.namespace(t.Namespace())
	if ns == nil {
		a.n.counters.add(IgnoredNamespace)
		return true
	}
	a.record(t, ns)
	if a.n.watched() {
		a.traceEvent(t)
	}
	if a.s.extras.Loopback && t.Loopback() {
		a.loopBack(t)
	}
	return true
}

// unknown acts on an option type nobody knows, by its top bits (RFC 8200
// section 4.2).
func (a *arrival) unknown(kind byte, off int, drops bool) bool {
	if class := kind >> 6; class == 0 && !drops {
		return true
	} else if drops || class == 1 || class == 3 && a.b[24] == 0xff {
		a.o = outcome{reason: packet.OptionUnknown, counter: DropOptions}
		return false
	}
	return a.problem(packet.OptionUnknown, codeUnknownOption, off)
}

// jumbo checks a jumbo payload option (RFC 2675 section 3).
func (a *arrival) jumbo(off, n int) bool {
	if n != 6 || off&3 != 2 {
		return a.badHeader()
	}
	length := binary.BigEndian.Uint32(a.b[off+2:])
	switch {
	case length <= 0xffff: // need not be jumbo
		return a.problem(packet.BadHeader, codeHeaderField, off+2)
	case a.b[4] != 0 || a.b[5] != 0: // two lengths
		return a.problem(packet.BadHeader, codeHeaderField, off)
	case int64(length) > int64(a.p.Len()-40):
		a.badHeader()
		a.o.truncated = true
		return false
	}
	return true
}
