package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

const (
	delayOverflow = 1 << 31 // the delay does not fit 31 bits (RFC 9197 section 4.4.2.5)
	beforeDelay   = option.HopNode | option.Interfaces | option.Seconds | option.Fraction
	beforeSum     = beforeDelay | option.TransitDelay | option.Data | option.QueueDepth
)

// stampDelay completes the transit delay that fill left open, when the packet
// is about to leave the node or has reached its own receiver.
func (n *Node) stampDelay(_ hook.Point, p *hook.Packet) hook.Verdict {
	if p.In == 0 || p.Time == 0 || p.Proto != packet.EtherIPv6 {
		return hook.Continue
	}
	off, ok := p.L3()
	b := p.Head()
	if !ok || off < 0 || len(b) < off+48 || b[off]>>4 != 6 || b[off+6] != packet.ProtoHopByHop {
		return hook.Continue
	}
	h := option.Header(b[off+40:])
	if !h.Whole() {
		return hook.Continue
	}
	for _, o := range h.Options() {
		t := option.Trace(o)
		if o[0] == option.OptMutable && t.Valid() && t.Kind() <= option.Incremental && t.Type()&option.TransitDelay != 0 {
			n.stamp(t, p.Time)
		}
	}
	return hook.Continue
}

func (n *Node) stamp(t option.Trace, received int64) {
	d, typ := t.Recorded(), t.Type()
	at := 4 * (typ & beforeDelay).NodeLen()
	if len(d) < 4*typ.NodeLen() || binary.BigEndian.Uint32(d[at:]) != delayPending {
		return // overflow: this node wrote nothing
	}
	delay := uint32(delayOverflow)
	if v := n.host.Now().UnixNano() - received; v < delayOverflow {
		delay = uint32(max(v, 0))
	}
	if typ&option.Checksum != 0 && n.state.Load().extras.Checksum {
		// Move the difference to the complement, which hides it.
		c := d[4*(typ&beforeSum).NodeLen():]
		sum := uint32(binary.BigEndian.Uint16(c)) + delayPending>>16 + delayPending&0xffff
		sum += 2*0xffff - delay>>16 - delay&0xffff
		binary.BigEndian.PutUint16(c, packet.Fold(sum))
	}
	binary.BigEndian.PutUint32(d[at:], delay)
}
