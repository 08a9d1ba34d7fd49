package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// flow describes the packets of one TCP or UDP flow, for building them by the
// book: an oracle that shares no code with what it tests.
type flow struct {
	tags    int    // VLAN tags in the bytes
	v6      bool   // else IPv4
	ext     []byte // IPv6 extension headers, whole, the last pointing to the transport
	first   uint8  // type of the first of them
	df      bool   // IPv4 don't fragment
	tos     uint8
	udp     bool   // else TCP
	options []byte // of TCP, a multiple of four
	flags   byte   // of TCP, on the whole super-frame
	id      uint16
	seq     uint32
	outer   []byte // versions of the IP headers around, from the inside: 4, 6
}

// naiveSum is the checksum of the parts as RFC 1071 describes it.
func naiveSum(parts ...[]byte) uint16 {
	b := bytes.Join(parts, nil)
	if len(b)&1 != 0 {
		b = append(b, 0)
	}
	sum := 0
	for i := 0; i < len(b); i += 2 {
		sum += int(b[i])<<8 | int(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

var (
	src4, dst4 = []byte{192, 0, 2, 1}, []byte{198, 51, 100, 2}
	src6       = []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	dst6       = []byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}
)

// frame builds one packet of the flow: n-th of its segments, with payload from
// offset at on. A partial one has the sum of the pseudo-header only.
func (f flow) frame(n int, at int, flags byte, payload []byte, partial bool) []byte {
	be := binary.BigEndian
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for i := range f.tags {
		b = append(b, 0x81, 0, 0x20, byte(i))
	}
	var l4 []byte
	proto := byte(ProtoTCP)
	field := 16
	if f.udp {
		proto, field = ProtoUDP, 6
		l4 = be.AppendUint16([]byte{0x12, 0x34, 0x56, 0x78}, uint16(8+len(payload)))
		l4 = append(l4, 0, 0)
	} else {
		l4 = be.AppendUint32([]byte{0x12, 0x34, 0x56, 0x78}, f.seq+uint32(at))
		l4 = append(l4, 1, 2, 3, 4, byte(20+len(f.options))<<2, flags, 0x7f, 0xff, 0, 0, 0, 0)
		l4 = append(l4, f.options...)
	}
	pseudo := be.AppendUint32(bytes.Join([][]byte{src4, dst4}, nil), uint32(len(l4)+len(payload)))
	if f.v6 {
		pseudo = be.AppendUint32(bytes.Join([][]byte{src6, dst6}, nil), uint32(len(l4)+len(payload)))
	}
	pseudo = append(pseudo, 0, 0, 0, proto)
	check := naiveSum(pseudo)
	if !partial {
		check = ^naiveSum(pseudo, l4, payload)
		if f.udp && check == 0 {
			check = 0xffff
		}
	}
	be.PutUint16(l4[field:], check)

	var ip []byte
	if f.v6 {
		ip = []byte{0x60 | f.tos>>4, f.tos<<4 | 1, 0x23, 0x45}
		ip = be.AppendUint16(ip, uint16(len(f.ext)+len(l4)+len(payload)))
		next := proto
		if len(f.ext) > 0 {
			next = f.first
		}
		ip = append(ip, next, 63)
		ip = append(append(append(ip, src6...), dst6...), f.ext...)
	} else {
		ip = be.AppendUint16([]byte{0x45, f.tos}, uint16(20+len(l4)+len(payload)))
		ip = be.AppendUint16(ip, f.id+uint16(n))
		if f.df {
			ip = append(ip, 0x40, 0)
		} else {
			ip = append(ip, 0, 0)
		}
		ip = append(append(append(ip, 63, proto, 0, 0), src4...), dst4...)
		be.PutUint16(ip[10:], ^naiveSum(ip))
	}
	ip = append(append(ip, l4...), payload...)
	for i, version := range f.outer {
		ip = tunnelled(ip, version, uint16(100*i+n))
	}
	if ip[0]>>4 == 6 {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 8, 0)
	}
	return append(b, ip...)
}

// tunnelled puts an IP header of a version around a packet; version 6 with a
// hop-by-hop header, as IOAM has it.
func tunnelled(ip []byte, version byte, id uint16) []byte {
	be := binary.BigEndian
	next := byte(protoIPv4)
	if ip[0]>>4 == 6 {
		next = protoIPv6
	}
	if version == 6 {
		h := be.AppendUint16([]byte{0x60, 0, 0, 9}, uint16(len(ip)+8))
		h = append(append(append(h, 0, 64), dst6...), src6...)
		return append(append(h, next, 0, 1, 4, 5, 6, 7, 8), ip...)
	}
	h := be.AppendUint16([]byte{0x45, 0}, uint16(len(ip)+20))
	h = append(be.AppendUint16(h, id), 0x40, 0, 64, next, 0, 0)
	h = append(append(h, dst4...), src4...)
	be.PutUint16(h[10:], ^naiveSum(h))
	return append(h, ip...)
}

// segments are the frames that a super-frame with this payload stands for.
func (f flow) segments(payload []byte, mss int) (frames [][]byte) {
	for at, n := 0, 0; at < len(payload); at, n = at+mss, n+1 {
		end := min(at+mss, len(payload))
		flags := f.flags
		if at > 0 {
			flags &^= tcpCWR
		}
		if end < len(payload) {
			flags &^= tcpFIN | tcpPSH
		}
		frames = append(frames, f.frame(n, at, flags, payload[at:end], false))
	}
	return frames
}

// super is the super-frame as a device would deliver it.
func (f flow) super(payload []byte, mss int) *Packet {
	b := f.frame(0, 0, f.flags, payload, true)
	p := packetOf(b)
	p.GSO = GSO{Type: GSOTCPv4, Size: uint16(mss), ECN: f.flags&tcpCWR != 0}
	offset := 16
	switch {
	case f.udp:
		p.GSO.Type, offset = GSOUDP, 6
	case f.v6:
		p.GSO.Type = GSOTCPv6
	}
	l4 := 14 + 4*f.tags + 20
	if f.v6 {
		l4 += 20 + len(f.ext)
	}
	for _, version := range f.outer {
		l4 += 20
		if version == 6 {
			l4 += 28
		}
	}
	p.SetPartialChecksum(l4, offset)
	return p
}

// packetOf makes a packet the way readers of devices do: what does not fit
// into the linear part is in a tail.
func packetOf(b []byte) *Packet {
	p := Alloc(min(len(b), SmallSize))
	n := copy(p.Head(), b)
	if n < len(b) {
		t := NewTail()
		copy(t[:], b[n:])
		p.AttachTail(t, len(b)-n)
	}
	p.ParseLink()
	return p
}

// contents copies the bytes of the packets and releases them.
func contents(packets []*Packet) (frames [][]byte) {
	for _, p := range packets {
		b := make([]byte, p.Len())
		p.CopyTo(b, 0)
		frames = append(frames, b)
		p.Release()
	}
	return frames
}

// cut is what p stands for, as bytes; it releases p.
func cut(t testing.TB, p *Packet) [][]byte {
	t.Helper()
	if p.GSO.Type == GSONone {
		if !p.CompleteChecksum() {
			t.Error("checksum cannot be completed")
		}
		return contents([]*Packet{p})
	}
	s, err := p.Segmenter(true)
	if err != nil {
		t.Fatal(err)
	}
	var out []*Packet
	for q := s.Next(); q != nil; q = s.Next() {
		out = append(out, q)
	}
	p.Release()
	return contents(out)
}

// decodeFlow makes a flow of fuzzed bytes.
func decodeFlow(b []byte) (f flow, mss int, payload []byte) {
	next := func() byte {
		if len(b) == 0 {
			return 0
		}
		c := b[0]
		b = b[1:]
		return c
	}
	k := next()
	f = flow{tags: int(k & 3 % 3), v6: k&4 != 0, udp: k&8 != 0, df: k&16 != 0, tos: next(),
		flags: next()&^(tcpSYN|tcpRST|tcpURG) | tcpACK, id: uint16(next())<<8 | uint16(next()), seq: uint32(next()) << 24}
	for range int(next()) % 11 {
		f.options = append(f.options, next(), next(), next(), next())
	}
	if f.v6 && k&32 != 0 {
		proto := byte(ProtoTCP)
		if f.udp {
			proto = ProtoUDP
		}
		f.first, f.ext = ProtoHopByHop, []byte{ProtoDestOpts, 0, 1, 4, next(), next(), 0, 0, proto, 0, 1, 4, 0, 0, next(), 0}
	}
	switch k >> 6 {
	case 1:
		f.outer = []byte{6}
	case 2:
		f.outer = []byte{4, 6}
	}
	mss = 1 + int(next())<<3 | int(next())&7
	n := int(next())<<8 | int(next())
	payload = make([]byte, min(n, 60000, mss*60))
	for i := range payload {
		payload[i] = byte(i*i>>3) ^ byte(i>>8)
	}
	copy(payload, b)
	return f, mss, payload
}

// same compares frames; cmp looks at each byte through reflection.
func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
