package packet

import (
	"encoding/binary"
	"iter"
)

// Segmenter cuts a super-frame into the frames it stands for, byte for byte
// as Linux does without help from a device (tcp_gso_segment,
// __udp_gso_segment, inet_gso_segment, ipv6_gso_segment):
//
//   - all headers are repeated, tags, IP options and extension headers
//     included; lengths are the segment's own;
//   - the IPv4 identification counts up by one, in all headers if IP is in IP;
//   - TCP: the sequence number advances by the payload; FIN and PSH are in
//     the last segment only, CWR in the first only; options are repeated.
//
// It hands out one segment at a time, so that a super-frame with absurdly
// small segments cannot take more memory than its user holds on to. The
// super-frame must stay unchanged meanwhile and remains its owner's.
type Segmenter struct {
	p        *Packet
	h        headers
	mss      int
	payload  int // of the whole super-frame
	next     int // payload handed out
	front    int // bytes in front of Head that segments get too
	complete bool

	ids     [1 + maxTunnels]uint16 // of the IPv4 headers in the first segment
	ipSums  [1 + maxTunnels]uint32 // of the IPv4 headers without length, identification, checksum
	n       uint16                 // segments handed out
	seq     uint32
	flags   byte
	pseudo  uint32 // of the pseudo-header without the length
	hasCsum bool

	frag, fragOff int // read position in the fragments
}

// Segmenter returns a Segmenter for p, a super-frame. With complete the
// checksums of the segments are final, else partial. It fails with
// ErrNotSegmentable if the bytes are not what p.GSO says.
func (p *Packet) Segmenter(complete bool) (Segmenter, error) {
	h, ok := p.parseHeaders()
	if !ok || !h.matches(p.GSO.Type) || p.GSO.Size == 0 || !p.sizesPlausible(p.Len()-h.payload) {
		return Segmenter{}, ErrNotSegmentable
	}
	b := p.Head()
	s := Segmenter{p: p, h: h, mss: int(p.GSO.Size), payload: p.Len() - h.payload, complete: complete}
	if mac, known := p.MAC(); known && mac < 0 && -mac <= Headroom {
		s.front = -mac
	}
	for i, off := range h.nets[:h.tunnels+1] {
		if ip := b[off:]; ip[0]>>4 == 4 {
			s.ids[i] = binary.BigEndian.Uint16(ip[4:])
			s.ipSums[i] = Sum(Sum(Sum(0, ip[:2]), ip[6:10]), ip[12:int(ip[0]&15)*4])
		}
	}
	check := binary.BigEndian.Uint16(b[h.l4+h.checkOffset():])
	start, offset, partial := p.PartialChecksum()
	switch {
	case partial && start == h.l4 && offset == h.checkOffset():
		// Start from the sum that is there: unlike the addresses in the IP
		// header it is right in the presence of a routing header, too.
		total := uint32(p.Len() - h.l4)
		s.pseudo = uint32(check) + uint32(^Fold(total))
		s.hasCsum = true
	case partial:
		return Segmenter{}, ErrNotSegmentable
	case h.proto == ProtoTCP || check != 0:
		s.pseudo = PseudoSum(b[h.ip:], h.proto, 0)
		s.hasCsum = true
	}
	if h.proto == ProtoTCP {
		s.seq = binary.BigEndian.Uint32(b[h.l4+4:])
		s.flags = b[h.l4+13]
	}
	return s, nil
}

// Segments yields the segments of p with final checksums; each is the loop
// body's to release or pass on. For a packet that is no super-frame, or whose
// bytes are not what p.GSO says, it yields one clone. p stays the caller's.
func (p *Packet) Segments() iter.Seq[*Packet] {
	return func(yield func(*Packet) bool) {
		s, err := p.Segmenter(true)
		if err != nil {
			yield(p.Clone())
			return
		}
		for q := s.Next(); q != nil; q = s.Next() {
			if !yield(q) {
				return
			}
		}
	}
}

// Next returns the next segment, which is the caller's, or nil after the last.
func (s *Segmenter) Next() *Packet {
	first := s.next == 0
	if s.next >= s.payload && (!first || s.mss == 0) {
		return nil
	}
	n := min(s.mss, s.payload-s.next)
	last := s.next+n >= s.payload
	q := Alloc(s.h.payload + n)
	q.copyMeta(s.p)
	b := q.Head()
	copy(q.buf[q.off-s.front:q.off], s.p.buf[s.p.off-s.front:])
	copy(b, s.p.Head()[:s.h.payload])
	s.copyPayload(b[s.h.payload:], s.next)

	s.fixNetwork(b)
	s.fixTransport(b, first, last)
	q.CsumPartial = false
	if s.hasCsum {
		s.checksum(q, b)
	}
	s.next += n
	s.n++
	if s.payload == 0 {
		s.mss = 0 // a bare header was one segment; no more
	}
	return q
}

// copyMeta makes the metadata of a segment: the super-frame's without GSO.
func (q *Packet) copyMeta(p *Packet) {
	q.Meta = p.Meta
	q.GSO = GSO{}
	shift := q.off - p.off
	for _, m := range [...]struct{ dst, src *int }{{&q.mac, &p.mac}, {&q.l3, &p.l3}, {&q.l4, &p.l4}} {
		if *m.src >= 0 && *m.src+shift >= 0 {
			*m.dst = *m.src + shift
		}
	}
}

// copyPayload fills dst with the payload from offset at on; at only grows.
func (s *Segmenter) copyPayload(dst []byte, at int) {
	if linear := s.p.Head()[s.h.payload:]; at < len(linear) {
		dst = dst[copy(dst, linear[at:]):]
	}
	for len(dst) > 0 {
		f := s.p.frags[s.frag]
		n := copy(dst, f[s.fragOff:])
		dst = dst[n:]
		if s.fragOff += n; s.fragOff == len(f) {
			s.frag, s.fragOff = s.frag+1, 0
		}
	}
}

func (s *Segmenter) fixNetwork(b []byte) {
	for i, off := range s.h.nets[:s.h.tunnels+1] {
		ip := b[off:]
		if ip[0]>>4 == 6 {
			binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
			continue
		}
		id := s.ids[i] + s.n
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], id)
		binary.BigEndian.PutUint16(ip[10:], ^Fold(s.ipSums[i]+uint32(uint16(len(ip)))+uint32(id)))
	}
}

func (s *Segmenter) fixTransport(b []byte, first, last bool) {
	l4 := b[s.h.l4:]
	if s.h.proto == ProtoUDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		return
	}
	binary.BigEndian.PutUint32(l4[4:], s.seq+uint32(s.next))
	flags := s.flags
	if !first {
		flags &^= tcpCWR
	}
	if !last {
		flags &^= tcpFIN | tcpPSH
	}
	l4[13] = flags
}

// checksum writes the final or partial transport checksum. Only UDP writes
// zero as ffff: TCP's stays zero here in Linux too (gso_make_checksum), other
// than when a single packet's checksum is completed.
func (s *Segmenter) checksum(q *Packet, b []byte) {
	l4 := b[s.h.l4:]
	field := l4[s.h.checkOffset():]
	pseudo := s.pseudo + uint32(len(l4))
	binary.BigEndian.PutUint16(field, Fold(pseudo))
	if !s.complete {
		q.SetPartialChecksum(s.h.l4, s.h.checkOffset())
		return
	}
	check := ^Fold(Sum(0, l4))
	if check == 0 && s.h.proto == ProtoUDP {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(field, check)
	q.CsumValid = true
}
