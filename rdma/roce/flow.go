package roce

import "hash/crc32"

// Flow is the part of an ICRC that the packets of one flow share: addresses,
// ports, protocol, flags. From it the [Sum] over IP, UDP and BTH of each packet
// is a handful of table look-ups instead of a CRC over 48 or 68 bytes.
//
// That works because a CRC is linear: for strings of one length,
// crc(a ^ b ^ 0) = crc(a) ^ crc(b) ^ crc(0). So each byte of the headers that
// differs between packets contributes a value that depends only on the byte and
// on its distance from the end, the same for all flows and for both versions of
// IP; the tables hold those. A Flow is a value of two words, computed once per
// queue pair (or per received super-frame), and safe to share.
//
//	f := roce.NewFlow(ip, udp).Dest(pkey, qpn)      // once
//	run := f.Length(len(bth) + ... + roce.ICRCLen)  // once per packet size
//	sum := run.Sum(bth, id).Add(payload)            // per packet
type Flow struct {
	seed uint32
	v6   bool
}

// The bytes that vary, each with its own table; distances are in flowDist.
const (
	tOpcode = iota
	tFlags
	tPKeyHi
	tPKeyLo
	tQPHi
	tQPMid
	tQPLo
	tAckReq
	tPSNHi
	tPSNMid
	tPSNLo
	tUDPLenHi
	tUDPLenLo
	tIDHi
	tIDLo
	tV4LenHi
	tV4LenLo
	tV6LenHi
	tV6LenLo
	tCount
)

// flowDist is how far before the end of the BTH each varying byte starts.
var flowDist = [tCount]int{
	tOpcode: BTHLen, tFlags: BTHLen - 1, tPKeyHi: BTHLen - 2, tPKeyLo: BTHLen - 3,
	tQPHi: BTHLen - 5, tQPMid: BTHLen - 6, tQPLo: BTHLen - 7,
	tAckReq: BTHLen - 8, tPSNHi: BTHLen - 9, tPSNMid: BTHLen - 10, tPSNLo: BTHLen - 11,
	tUDPLenHi: BTHLen + UDPLen - 4, tUDPLenLo: BTHLen + UDPLen - 5,
	tIDHi: BTHLen + UDPLen + IPv4Len - 4, tIDLo: BTHLen + UDPLen + IPv4Len - 5,
	tV4LenHi: BTHLen + UDPLen + IPv4Len - 2, tV4LenLo: BTHLen + UDPLen + IPv4Len - 3,
	tV6LenHi: BTHLen + UDPLen + IPv6Len - 4, tV6LenLo: BTHLen + UDPLen + IPv6Len - 5,
}

var flowTab = buildFlowTables()

func buildFlowTables() (t [tCount][256]uint32) {
	for k, dist := range flowDist {
		var s [maskedLen]byte
		zero := crc32.ChecksumIEEE(s[:dist])
		for v := range 256 {
			s[0] = byte(v)
			t[k][v] = crc32.ChecksumIEEE(s[:dist]) ^ zero
		}
	}
	return t
}

// NewFlow returns the flow of packets with these headers. Their lengths and the
// IPv4 identification are taken as zero, whatever they are; the BTH as zero too.
// ip is 20 or 40 bytes, udp eight; they are not kept.
func NewFlow(ip, udp []byte) Flow {
	var m [maskedLen]byte
	var bth [BTHLen]byte
	n := mask(&m, ip, udp, bth[:])
	f := Flow{v6: ip[0]>>4 == 6}
	m[n-BTHLen-4], m[n-BTHLen-3] = 0, 0
	if f.v6 {
		m[8+4], m[8+5] = 0, 0
	} else {
		*(*[4]byte)(m[8+2:]) = [4]byte{} // total length, identification
	}
	f.seed = headerCRC(&m, n)
	return f
}

// V6 tells whether the flow is of IPv6 packets.
func (f Flow) V6() bool { return f.v6 }

// Length returns the flow of packets whose UDP payload (BTH to ICRC) is n
// bytes long.
func (f Flow) Length(n int) Flow {
	n += UDPLen
	f.seed ^= flowTab[tUDPLenHi][byte(n>>8)] ^ flowTab[tUDPLenLo][byte(n)]
	if f.v6 {
		f.seed ^= flowTab[tV6LenHi][byte(n>>8)] ^ flowTab[tV6LenLo][byte(n)]
	} else {
		n += IPv4Len
		f.seed ^= flowTab[tV4LenHi][byte(n>>8)] ^ flowTab[tV4LenLo][byte(n)]
	}
	return f
}

// Dest returns the flow of packets to a queue pair. Sum then must not be used,
// only SumTo: the key and the number are in the flow already.
func (f Flow) Dest(pkey uint16, qpn uint32) Flow {
	f.seed ^= flowTab[tPKeyHi][byte(pkey>>8)] ^ flowTab[tPKeyLo][byte(pkey)] ^
		flowTab[tQPHi][byte(qpn>>16)] ^ flowTab[tQPMid][byte(qpn>>8)] ^ flowTab[tQPLo][byte(qpn)]
	return f
}

// Sum starts the ICRC of a packet of this flow and length. id is the IPv4
// identification, ignored for IPv6. bth is twelve bytes; only FECN, BECN and
// the six bits beside them do not matter.
func (f Flow) Sum(bth BTH, id uint16) Sum {
	_ = bth[BTHLen-1]
	return f.Dest(uint16(bth[2])<<8|uint16(bth[3]), uint32(bth[5])<<16|uint32(bth[6])<<8|uint32(bth[7])).SumTo(bth, id)
}

// SumTo is Sum for a flow that [Flow.Dest] has made: it looks at the opcode,
// the flags, the byte with AckReq and the PSN only.
func (f Flow) SumTo(bth BTH, id uint16) Sum {
	_ = bth[BTHLen-1]
	s := f.seed ^ flowTab[tOpcode][bth[0]] ^ flowTab[tFlags][bth[1]] ^ flowTab[tAckReq][bth[8]] ^
		flowTab[tPSNHi][bth[9]] ^ flowTab[tPSNMid][bth[10]] ^ flowTab[tPSNLo][bth[11]]
	if !f.v6 {
		s ^= flowTab[tIDHi][byte(id>>8)] ^ flowTab[tIDLo][byte(id)]
	}
	return Sum(s)
}
