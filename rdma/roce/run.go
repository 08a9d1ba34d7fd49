package roce

import (
	"encoding/binary"
	"fmt"
)

// MaxRunPackets is the most packets one UDP super-frame may hold: what Linux
// 6.12 and later accept. Older kernels take 64.
const MaxRunPackets = 128

// A run is a UDP super-frame (UDP segmentation offload): one IP and UDP header,
// then the UDP payloads of several packets, BTH to ICRC each, back to back. All
// are of one size but the last, which may be shorter. Whoever splits it repeats
// the headers and touches only lengths, checksums and the IPv4 identification:
// packet i has the first one's plus i, modulo 65536, with DF or without. The
// ICRC covers lengths and identification, so each is made as if split already.

// MaxRun returns how many packets with a UDP payload of size bytes fit into one
// super-frame of an IP version.
func MaxRun(size int, v6 bool) int {
	room := 0xffff - UDPLen // an IPv6 payload length counts no IP header
	if !v6 {
		room -= IPv4Len
	}
	return min(room/size, MaxRunPackets)
}

// PutRun writes the IP and UDP headers of a super-frame with n bytes of UDP
// payload in all, and returns their length. Unlike Put it leaves the
// pseudo-header sum in the UDP checksum field: the kernel insists on completing
// the checksum of a super-frame (CHECKSUM_PARTIAL), and a receiver that it
// reaches in one piece does not look at it.
func (p *Path) PutRun(b []byte, n int, id uint16) int {
	l := p.Put(b, n, id)
	partialSum(b[:l-UDPLen], b[l-UDPLen:l], n)
	return l
}

// partialSum puts the folded pseudo-header sum into the UDP checksum field.
func partialSum(ip, udp []byte, n int) {
	addrs := ip[12:]
	if len(ip) == IPv6Len {
		addrs = ip[8:]
	}
	binary.BigEndian.PutUint16(udp[6:], fold(sum16(uint32(protoUDP+UDPLen+n), addrs)))
}

// setLengths makes the lengths of IP (l bytes) and UDP header those of a UDP
// payload of n bytes, and the IPv4 header checksum right.
func setLengths(h []byte, l, n int) {
	binary.BigEndian.PutUint16(h[l+4:], uint16(UDPLen+n))
	if l == IPv6Len {
		binary.BigEndian.PutUint16(h[4:], uint16(UDPLen+n))
		return
	}
	binary.BigEndian.PutUint16(h[2:], uint16(IPv4Len+UDPLen+n))
	FixIPv4(h)
}

// Run is a checked view of a received super-frame. A single packet is a run of
// one.
type Run struct {
	IP   []byte // the first packet's, but for the lengths
	UDP  []byte
	body []byte
	size int
	flow Flow // at the full size
	last Flow // at the last packet's size
	id   uint16
}

// ParseRun checks the headers of a super-frame that starts with its IP header.
// size is the UDP payload of each packet but the last (GSO size); 0 means that p
// is a single packet. The packets themselves are not looked at.
func ParseRun(p []byte, size int) (Run, error) {
	l, err := ipLen(p)
	if err != nil {
		return Run{}, err
	}
	udp := p[l : l+UDPLen]
	if binary.BigEndian.Uint16(udp[2:]) != Port {
		return Run{}, ErrNotRoCE
	}
	n := int(binary.BigEndian.Uint16(udp[4:])) + l
	total := int(binary.BigEndian.Uint16(p[2:]))
	if l == IPv6Len {
		total = IPv6Len + int(binary.BigEndian.Uint16(p[4:]))
	}
	if n != total || n > len(p) || n <= l+UDPLen || size < 0 {
		return Run{}, fmt.Errorf("%w: super-frame of %d bytes, IP length %d, UDP length %d, packets of %d", ErrMalformed, len(p), total, n-l, size)
	}
	body := p[l+UDPLen : n]
	if size == 0 || size > len(body) {
		size = len(body)
	}
	r := Run{IP: p[:l:l], UDP: udp, body: body, size: size, flow: NewFlow(p[:l], udp)}
	r.last = r.flow.Length(len(body) - (r.Len()-1)*size)
	r.flow = r.flow.Length(size)
	if l == IPv4Len {
		r.id = binary.BigEndian.Uint16(p[4:])
	}
	return r, nil
}

// Len returns the number of packets.
func (r *Run) Len() int { return (len(r.body) + r.size - 1) / r.size }

// Body returns the UDP payload of packet i, for [ParseBody].
func (r *Run) Body(i int) []byte {
	b := r.body[i*r.size:]
	n := min(r.size, len(b))
	return b[:n:n]
}

// ID returns the IPv4 identification packet i would have alone.
func (r *Run) ID(i int) uint16 { return r.id + uint16(i) }

// CheckICRC tells whether packet i ends with its ICRC. It costs a CRC over what
// follows the BTH and some table look-ups.
func (r *Run) CheckICRC(i int) bool {
	b := r.Body(i)
	if len(b) < BTHLen+ICRCLen {
		return false
	}
	f := r.flow
	if i == r.Len()-1 {
		f = r.last
	}
	end := len(b) - ICRCLen
	return f.Sum(BTH(b), r.ID(i)).Add(b[BTHLen:end]).Matches(b[end:])
}

// AppendPacket appends packet i as it is when it travels alone: own lengths,
// identification and header checksum, UDP checksum zero.
func (r *Run) AppendPacket(dst []byte, i int) []byte {
	start := len(dst)
	b := r.Body(i)
	dst = append(append(append(dst, r.IP...), r.UDP...), b...)
	ip := dst[start:]
	udp := ip[len(r.IP):]
	if len(r.IP) == IPv4Len {
		binary.BigEndian.PutUint16(ip[4:], r.ID(i))
	}
	setLengths(ip, len(r.IP), len(b))
	udp[6], udp[7] = 0, 0
	return dst
}

// Joins tells whether next may follow the packets of a run: prev is the last of
// them, first the first. Headers must agree in all that the split repeats, the
// identification must count up, and prev must be of full size, next not larger.
// The caller counts packets and bytes (see [MaxRun]).
func Joins(first, prev, next *Packet) bool {
	if len(first.IP) != len(next.IP) || len(prev.raw) != len(first.raw) || len(next.raw) > len(first.raw) {
		return false
	}
	if string(first.UDP[:4]) != string(next.UDP[:4]) {
		return false
	}
	a, b := first.IP, next.IP
	if len(a) == IPv6Len {
		return string(a[:4]) == string(b[:4]) && string(a[6:]) == string(b[6:])
	}
	return a[1] == b[1] && string(a[6:10]) == string(b[6:10]) && string(a[12:]) == string(b[12:]) &&
		next.ID() == prev.ID()+1
}

// AppendRun appends the super-frame of packets that join, headers as PutRun
// makes them, and returns its GSO size with it.
func AppendRun(dst []byte, packets []Packet) (run []byte, size int) {
	first := &packets[0]
	l := len(first.IP) + UDPLen
	start := len(dst)
	dst = append(dst, first.raw[:l]...)
	for i := range packets {
		dst = append(dst, packets[i].raw[l:]...)
	}
	h := dst[start:]
	setLengths(h, l-UDPLen, len(h)-l)
	partialSum(h[:l-UDPLen], h[l-UDPLen:l], len(h)-l)
	return dst, len(first.raw) - l
}
