package roce

import (
	"encoding/binary"
	"hash/crc32"
)

// ICRCLen is the length of the invariant CRC at the end of every packet.
const ICRCLen = 4

// Sum is an invariant CRC in the making (IBTA 7.8.1, A17.3.2): the CRC-32 of
// Ethernet over eight bytes of ones, the IP and UDP headers and the BTH with
// everything that may change on the way replaced by ones, and the rest of the
// packet up to the ICRC itself. It is a value; a copy of it is a fork.
//
// [NewSum] and [Flow.Sum] start one, Add and Copy continue it with extension
// headers, payload and pad, in any pieces.
type Sum uint32

// Add continues the sum with p.
func (s Sum) Add(p []byte) Sum { return Sum(crc32.Update(uint32(s), crc32.IEEETable, p)) }

// Copy copies src to dst and continues the sum with it. It goes in blocks that
// stay in the first-level cache, so that the bytes come from memory once. What
// is summed is what was written: a src that changes meanwhile cannot make a
// packet whose ICRC is wrong. dst must be at least as long as src.
func (s Sum) Copy(dst, src []byte) Sum {
	const block = 8 << 10
	for len(src) > block {
		copy(dst, src[:block])
		s = s.Add(dst[:block])
		dst, src = dst[block:], src[block:]
	}
	n := copy(dst, src)
	return s.Add(dst[:n])
}

// Put writes the finished ICRC, least significant byte first.
func (s Sum) Put(b []byte) { binary.LittleEndian.PutUint32(b, uint32(s)) }

// Matches tells whether b starts with the finished ICRC.
func (s Sum) Matches(b []byte) bool { return binary.LittleEndian.Uint32(b) == uint32(s) }

// maskedLen is the longest masked prefix: ones for the LRH, IPv6, UDP, BTH.
const maskedLen = 8 + IPv6Len + UDPLen + BTHLen

// NewSum starts the ICRC of a packet with its headers: ip is the IP header
// without options or extension headers (20 or 40 bytes), udp eight bytes, bth
// twelve. Lengths and the IPv4 identification must be final. The three may lie
// in different buffers and are not changed.
func NewSum(ip, udp, bth []byte) Sum {
	var m [maskedLen]byte
	n := mask(&m, ip, udp, bth)
	return Sum(headerCRC(&m, n))
}

// mask writes the string the CRC starts with: eight bytes 0xff in place of the
// InfiniBand local route header, then the headers with their variant fields
// (those a router may change, and the UDP checksum) set to ones.
func mask(m *[maskedLen]byte, ip, udp, bth []byte) int {
	*(*[8]byte)(m[:]) = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b := m[8:]
	n := 8
	if ip[0]>>4 == 6 {
		copy(b[:IPv6Len], ip)
		b[0] |= 0x0f // traffic class, upper half
		b[1], b[2], b[3] = 0xff, 0xff, 0xff
		b[7] = 0xff // hop limit
		n += IPv6Len
	} else {
		copy(b[:IPv4Len], ip)
		b[1] = 0xff               // TOS
		b[8] = 0xff               // TTL
		b[10], b[11] = 0xff, 0xff // checksum
		n += IPv4Len
	}
	copy(m[n:], udp[:UDPLen])
	m[n+6], m[n+7] = 0xff, 0xff // checksum
	n += UDPLen
	copy(m[n:], bth[:BTHLen])
	m[n+bthECN] = 0xff // FECN, BECN
	return n + BTHLen
}

// slicing holds what a byte contributes when it stands k bytes before the end.
var slicing = func() (t [8][256]uint32) {
	t[0] = *crc32.IEEETable
	for v := range 256 {
		for k := 1; k < 8; k++ {
			c := t[k-1][v]
			t[k][v] = t[0][byte(c)] ^ c>>8
		}
	}
	return t
}()

// headerCRC is crc32.ChecksumIEEE(m[:n]), eight bytes a step. It exists because
// hash/crc32 makes its argument escape to the heap, which would be an allocation
// per packet, and is no faster for so few bytes.
func headerCRC(m *[maskedLen]byte, n int) uint32 {
	c := ^uint32(0)
	i := 0
	for ; i+8 <= n; i += 8 {
		a := c ^ binary.LittleEndian.Uint32(m[i:])
		b := binary.LittleEndian.Uint32(m[i+4:])
		c = slicing[7][byte(a)] ^ slicing[6][byte(a>>8)] ^ slicing[5][byte(a>>16)] ^ slicing[4][a>>24] ^
			slicing[3][byte(b)] ^ slicing[2][byte(b>>8)] ^ slicing[1][byte(b>>16)] ^ slicing[0][b>>24]
	}
	for ; i < n; i++ {
		c = slicing[0][byte(c)^m[i]] ^ c>>8
	}
	return ^c
}

// ICRC computes the invariant CRC of a packet that starts with its IP header
// and ends with the four bytes of the ICRC, whatever they hold now. p must have
// passed [Parse], or be made by this package.
func ICRC(p []byte) uint32 {
	l := IPv4Len
	if p[0]>>4 == 6 {
		l = IPv6Len
	}
	ip, udp, bth := p[:l], p[l:l+UDPLen], p[l+UDPLen:]
	return uint32(NewSum(ip, udp, bth).Add(p[l+UDPLen+BTHLen : len(p)-ICRCLen]))
}

// PutICRC computes the ICRC of a packet and writes it to its last four bytes.
func PutICRC(p []byte) { binary.LittleEndian.PutUint32(p[len(p)-ICRCLen:], ICRC(p)) }

// CheckICRC tells whether a packet ends with its ICRC.
func CheckICRC(p []byte) bool {
	return binary.LittleEndian.Uint32(p[len(p)-ICRCLen:]) == ICRC(p)
}
