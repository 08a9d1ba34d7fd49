package packet

import "net/netip"

// Type tells for whom the link layer meant a packet (uapi linux/if_packet.h).
type Type uint8

// The packet types, with the values of PACKET_HOST and so on.
const (
	Host Type = iota
	Broadcast
	Multicast
	OtherHost
	Outgoing
)

// GSOType says how a super-frame is to be cut into segments.
type GSOType uint8

// The kinds of super-frames.
const (
	GSONone GSOType = iota
	GSOTCPv4
	GSOTCPv6
	GSOUDP // UDP_SEGMENT: every datagram but the last has Size bytes of payload
)

// GSO describes a super-frame. Size is the payload of one segment in bytes
// (TCP: the MSS without options), Segs how many there are (0 if not counted
// yet), and ECN that CWR is to be sent in the first segment only.
type GSO struct {
	Type GSOType
	ECN  bool
	Size uint16
	Segs uint16
}

// VLAN is a tag that is not in the bytes of the frame (skb->vlan_tci).
type VLAN struct {
	Present bool
	Proto   uint16 // 0x8100 or 0x88a8
	TCI     uint16
}

// Meta is what is known about a packet beside its bytes. The names are those
// of struct sk_buff where it has the same.
type Meta struct {
	In, Out  int // interface indices on this node, 0 if none
	Mark     uint32
	Priority uint32
	ClassID  uint32 // major<<16 | minor
	TCIndex  uint16
	Queue    uint16 // receive queue + 1, 0 if not recorded
	Hash     uint32 // flow hash, 0 if not computed
	Time     int64  // receive time in ns since 1970, 0 if sent locally
	Proto    uint16 // EtherType
	Type     Type
	VLAN     VLAN
	GSO      GSO

	CsumPartial bool // an L4 checksum is still to be completed, see PartialChecksum
	CsumValid   bool // the L4 checksum has been verified, or is known to be good
	Local       bool // sent by this node
	NoFragment  bool // never fragment on output, even where the header allows it
	SoftDF      bool // the sender may fragment it although it says DF, which is cleared then
	OnLink      bool // neighbour discovery: no route, and nothing that comes with one, applies to it

	Reason        Reason // why a handler dropped it
	RedirectTo    int    // with hook.Redirect: the interface
	RedirectFlags uint32 // with hook.Redirect: RedirectIngress
	Depth         uint8  // how many times it was redirected on this node

	// NextHop is where a redirect to a neighbour goes, FragMax the largest
	// fragment a packet was reassembled from (0: it was never in parts), Socket
	// the cookie of the socket it was assigned to.
	NextHop netip.Addr
	FragMax uint16
	Socket  uint64
	Private any // of the subsystem whose handler set it

	CB [5]uint32 // scratch of classifiers (__sk_buff cb)
}

// RedirectIngress in RedirectFlags (BPF_F_INGRESS) lets the packet come in at
// the interface instead of going out.
const RedirectIngress = 1

// ResetRedirect forgets a redirect that was carried out.
func (m *Meta) ResetRedirect() { m.RedirectTo, m.RedirectFlags = 0, 0 }

// L3 is the offset of the network header from the start of Head (negative if
// the linear part begins behind it), and whether it is known.
func (p *Packet) L3() (int, bool) { return p.l3 - p.off, p.l3 >= 0 }

// L4 is the offset of the transport header from the start of Head, and
// whether it is known.
func (p *Packet) L4() (int, bool) { return p.l4 - p.off, p.l4 >= 0 }

// MAC is the offset of the link-layer header from the start of Head (zero or
// negative), and whether there is one.
func (p *Packet) MAC() (int, bool) { return p.mac - p.off, p.mac >= 0 }

// SetMAC says that the link-layer header begins off bytes behind the start of
// Head.
func (p *Packet) SetMAC(off int) { p.mac = p.off + off }

// SetL3 says that the network header begins off bytes behind the start of
// Head.
func (p *Packet) SetL3(off int) { p.l3 = p.off + off }

// SetL4 says that the transport header begins off bytes behind the start of
// Head.
func (p *Packet) SetL4(off int) { p.l4 = p.off + off }

// ClearL4 forgets the transport header.
func (p *Packet) ClearL4() { p.l4 = -1 }

// ClearMAC forgets the link-layer header.
func (p *Packet) ClearMAC() { p.mac = -1 }

// SetPartialChecksum says that the checksum at start+offset covers all bytes
// from start on, and that only the pseudo-header has been summed so far.
// Start counts from the start of Head.
func (p *Packet) SetPartialChecksum(start, offset int) {
	p.CsumPartial = true
	p.csumStart, p.csumOffset = p.off+start, uint16(offset)
}

// PartialChecksum returns what SetPartialChecksum was told, with start
// counted from the present start of Head.
func (p *Packet) PartialChecksum() (start, offset int, ok bool) {
	if !p.CsumPartial {
		return 0, 0, false
	}
	return p.csumStart - p.off, int(p.csumOffset), true
}
