package probe

import (
	"encoding/binary"
	"net/netip"

	"taproom/ioam/option"
	"taproom/stack/packet"
)

// The probe's place among the ports: traceroute's, where nobody listens.
const firstPort = 33434

const (
	udpLen     = 8
	payloadLen = 16 // run, sequence number, time of sending
)

// build makes a probe. The run id tells one Run's answers from another's.
func build(src, dst netip.Addr, run, seq uint32, sent int64, o *Options) *packet.Packet {
	f := option.TraceFields{
		Namespace: o.Namespace, Type: o.Type, Words: o.Size / 4, Active: true, Loopback: o.Loopback,
	}
	hbh := option.HeaderFor(f.OptionLen())
	p := packet.Alloc(40 + hbh + udpLen + payloadLen)
	b := p.Head()
	clear(b)
	b[0], b[6], b[7] = 6<<4, packet.ProtoHopByHop, o.HopLimit
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	option.EncodeHeader(b[40:], packet.ProtoUDP, f.OptionLen())
	f.Encode(b[44:])
	u := b[40+hbh:]
	binary.BigEndian.PutUint16(u, sourcePort(run))
	binary.BigEndian.PutUint16(u[2:], uint16(firstPort+seq%512))
	binary.BigEndian.PutUint16(u[4:], udpLen+payloadLen)
	binary.BigEndian.PutUint32(u[8:], run)
	binary.BigEndian.PutUint32(u[12:], seq)
	binary.BigEndian.PutUint64(u[16:], uint64(sent))
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(b, packet.ProtoUDP, len(u)), u))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	p.Proto, p.Local = packet.EtherIPv6, true
	p.SetL3(0)
	p.SetL4(40 + hbh)
	return p
}

// sourcePort keeps the runs of one node apart.
func sourcePort(run uint32) uint16 { return uint16(49152 + run%16384) }

// record is what came back of a probe.
type record struct {
	run, seq uint32
	sent     int64
	hops     []option.Hop
	overflow bool
	from     netip.Addr
	end      bool  // from the destination, or as good as
	code     uint8 // ICMP code and type of a quote
	typ      uint8
	at       int64
}

// parse reads a packet that may bring a record home: an ICMPv6 error that
// quotes a probe, or a probe's looped copy.
func parse(b []byte) (r record, ok bool) {
	if len(b) < 48 || b[0]>>4 != 6 {
		return r, false
	}
	r.from = netip.AddrFrom16([16]byte(b[8:24]))
	if b[6] == packet.ProtoHopByHop {
		return r, r.probe(b)
	}
	if b[6] != packet.ProtoICMPv6 || b[40] >= 128 {
		return r, false
	}
	r.typ, r.code = b[40], b[41]
	quote := b[48:]
	if len(quote) < 48 || quote[6] != packet.ProtoHopByHop || !r.probe(quote) {
		return r, false
	}
	r.end = r.from == netip.AddrFrom16([16]byte(quote[24:40]))
	return r, true
}

// probe reads a probe as it was when it was quoted or copied.
func (r *record) probe(b []byte) bool {
	h := option.Header(b[40:])
	if !h.Whole() || h.Next() != packet.ProtoUDP || len(h) < h.Len()+udpLen+payloadLen {
		return false
	}
	u := h[h.Len():]
	r.run, r.seq = binary.BigEndian.Uint32(u[8:]), binary.BigEndian.Uint32(u[12:])
	r.sent = int64(binary.BigEndian.Uint64(u[16:]))
	if binary.BigEndian.Uint16(u) != sourcePort(r.run) {
		return false
	}
	t := option.Trace(h.Find(option.Preallocated))
	if t == nil || !t.Valid() {
		return false
	}
	r.overflow = t.Overflow()
	for hop, err := range t.Hops() {
		if err != nil {
			return false
		}
		hop.Opaque = append([]byte(nil), hop.Opaque...)
		r.hops = append(r.hops, *hop)
	}
	return true
}
