package vm

import (
	"math/bits"
	"syscall"

	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/stack/packet"
)

// Flags and modes of bpf_skb_adjust_room (uapi linux/bpf.h).
const (
	roomNet = 0 // behind the network header
	roomMAC = 1 // behind the link-layer header

	roomFixedGSO   = 1 << 0
	roomEncapIPv4  = 1 << 1
	roomEncapIPv6  = 1 << 2
	roomEncapGRE   = 1 << 3
	roomEncapUDP   = 1 << 4
	roomNoCsum     = 1 << 5
	roomEncapEth   = 1 << 6
	roomDecapIPv4  = 1 << 7
	roomDecapIPv6  = 1 << 8
	roomEncapL3    = roomEncapIPv4 | roomEncapIPv6
	roomDecapL3    = roomDecapIPv4 | roomDecapIPv6
	roomL2Shift    = 56
	roomFlags      = 1<<9 - 1 | 0xff<<roomL2Shift
	roomMaxDiff    = 0xfff
	ipv4HeaderLen  = 20
	ipv6HeaderLen  = 40
	xlatHeaderDiff = ipv6HeaderLen - ipv4HeaderLen
)

var eNotSupp = errno(maps.ENOTSUPP)

func init() {
	helpers[helper.SKBAdjustRoom] = adjustRoom
	helpers[helper.SKBChangeProto] = changeProto
	helpers[helper.SKBVLANPush] = vlanPush
	helpers[helper.SKBVLANPop] = vlanPop
}

// layers are the offsets of a frame's headers before a helper moves them.
type layers struct {
	l3, l4   int
	okL3, ok bool // the network header, the transport header are known
}

func layersOf(pk *packet.Packet) (l layers) {
	l.l3, l.okL3 = pk.L3()
	l.l4, l.ok = pk.L4()
	return l
}

// insert makes n zero bytes at off. Headers before off keep their distance from the
// start of the frame, the rest moves along.
func insert(pk *packet.Packet, off, n int) {
	l := layersOf(pk)
	b := pk.Push(n)
	copy(b, b[n:n+off])
	clear(b[off : off+n])
	pk.SetMAC(0)
	if l.okL3 {
		pk.SetL3(l.l3) // Linux keeps it at the place of the outermost header
		if l.ok && l.l4 == l.l3 {
			pk.SetL4(l.l3)
		}
	}
}

// remove takes n bytes at off out; the bytes before it must be linear.
func remove(pk *packet.Packet, off, n int) {
	l := layersOf(pk)
	b := pk.Head()
	copy(b[n:], b[:off])
	pk.Trim(n)
	pk.SetMAC(0)
	if l.okL3 {
		pk.SetL3(l.l3)
		if l.ok && l.l4 == l.l3 {
			pk.SetL4(l.l3)
		}
	}
}

// adjustRoom is bpf_skb_adjust_room.
func adjustRoom(r *Run, _, diff, mode, flags, _ uint64) uint64 {
	pk := r.skb
	n, shrink := int(int32(diff)), int32(diff) < 0
	if shrink {
		n = -n
	}
	l3, ok := pk.L3()
	switch {
	case flags&^roomFlags != 0:
		return eInval
	case n > roomMaxDiff:
		return eFault
	case pk.Proto != packet.EtherIPv4 && pk.Proto != packet.EtherIPv6, !ok || l3 < 0:
		return eNotSupp
	}
	off := l3
	switch uint32(mode) {
	case roomNet:
		off += headerLen(pk.Proto)
	case roomMAC:
	default:
		return eNotSupp
	}
	least := headerLen(pk.Proto)
	if flags&roomDecapL3 != 0 {
		switch {
		case !shrink, flags&roomDecapL3 == roomDecapL3:
			return eInval
		case flags&roomDecapIPv6 != 0:
			least = ipv6HeaderLen
		default:
			least = ipv4HeaderLen
		}
	}
	left := pk.Len() - l3
	if shrink && (n >= left || left-n < least) ||
		!shrink && pk.Len()+n > maxSKB && pk.GSO.Type == packet.GSONone {
		return eNotSupp
	}
	if g := pk.GSO.Type; g == packet.GSOUDP && flags&roomFixedGSO == 0 {
		return eNotSupp
	}
	var e uint64
	if shrink {
		e = r.shrinkRoom(off, n, flags)
	} else {
		e = r.growRoom(off, n, flags)
	}
	r.moved()
	return e
}

func headerLen(proto uint16) int {
	if proto == packet.EtherIPv6 {
		return ipv6HeaderLen
	}
	return ipv4HeaderLen
}

func (r *Run) growRoom(off, n int, flags uint64) uint64 {
	pk := r.skb
	encap := flags&roomEncapL3 != 0
	if encap {
		innerMAC := int(flags >> roomL2Shift)
		switch {
		case flags&roomEncapL3 == roomEncapL3, flags&(roomEncapGRE|roomEncapUDP) == roomEncapGRE|roomEncapUDP,
			flags&roomEncapEth != 0 && innerMAC < packet.EthernetLen:
			return eInval
		case r.encap:
			return errno(syscall.EALREADY)
		case innerMAC > n:
			return eInval
		}
	}
	if !pk.Pull(off) {
		return eNoMem
	}
	insert(pk, off, n)
	if encap {
		switch {
		case flags&roomEncapIPv6 != 0:
			pk.Proto = packet.EtherIPv6
		default:
			pk.Proto = packet.EtherIPv4
		}
		if flags&(roomEncapGRE|roomEncapUDP) != 0 {
			l3, _ := pk.L3()
			pk.SetL4(l3 + headerLen(pk.Proto))
		}
		r.encap = true
	}
	if pk.GSO.Type != packet.GSONone {
		if flags&roomFixedGSO == 0 {
			pk.GSO.Size -= min(uint16(n), pk.GSO.Size-1)
		}
		pk.GSO.Segs = 0
	}
	return 0
}

func (r *Run) shrinkRoom(off, n int, flags uint64) uint64 {
	pk := r.skb
	if flags&^(roomFixedGSO|roomDecapL3|roomNoCsum) != 0 {
		return eInval
	}
	if !pk.Pull(off + n) {
		return eNoMem
	}
	remove(pk, off, n)
	switch {
	case flags&roomDecapIPv6 != 0:
		pk.Proto = packet.EtherIPv6
	case flags&roomDecapIPv4 != 0:
		pk.Proto = packet.EtherIPv4
	}
	if pk.GSO.Type != packet.GSONone {
		if flags&roomFixedGSO == 0 {
			pk.GSO.Size += uint16(n)
		}
		pk.GSO.Segs = 0
	}
	return 0
}

// changeProto is bpf_skb_change_proto: IPv4 to IPv6 or back. It makes or takes away
// the 20 bytes; the program writes the header.
func changeProto(r *Run, _, proto, flags, _, _ uint64) uint64 {
	pk := r.skb
	if flags != 0 {
		return eInval
	}
	to := bits.ReverseBytes16(uint16(proto))
	off, ok := pk.L3()
	if !ok || off < 0 {
		return eNotSupp
	}
	switch {
	case pk.Proto == packet.EtherIPv4 && to == packet.EtherIPv6:
		if !pk.Pull(off) {
			return eNoMem
		}
		insert(pk, off, xlatHeaderDiff)
		if pk.GSO.Type == packet.GSOTCPv4 {
			pk.GSO.Type, pk.GSO.Segs = packet.GSOTCPv6, 0
		}
	case pk.Proto == packet.EtherIPv6 && to == packet.EtherIPv4:
		if !pk.Pull(off + xlatHeaderDiff) {
			return eNoMem
		}
		remove(pk, off, xlatHeaderDiff)
		if pk.GSO.Type == packet.GSOTCPv6 {
			pk.GSO.Type, pk.GSO.Segs = packet.GSOTCPv4, 0
		}
	default:
		return eNotSupp
	}
	pk.Proto = to
	r.setHash(0)
	r.moved()
	return 0
}

const (
	vlanHeaderLen = 4
	macsLen       = 12 // the two addresses in front of a tag
)

// vlanPush is bpf_skb_vlan_push: the tag goes into the metadata; one that is there
// already goes into the frame first.
func vlanPush(r *Run, _, proto, tci, _, _ uint64) uint64 {
	pk := r.skb
	p := bits.ReverseBytes16(uint16(proto))
	if p != packet.EtherVLAN && p != packet.EtherQinQ {
		p = packet.EtherVLAN
	}
	if pk.VLAN.Present {
		if !pk.Pull(macsLen) {
			return eNoMem
		}
		l := layersOf(pk)
		b := pk.Push(vlanHeaderLen)
		copy(b, b[vlanHeaderLen:vlanHeaderLen+macsLen])
		b[12], b[13] = byte(pk.VLAN.Proto>>8), byte(pk.VLAN.Proto)
		b[14], b[15] = byte(pk.VLAN.TCI>>8), byte(pk.VLAN.TCI)
		pk.SetMAC(0)
		if l.okL3 {
			pk.SetL3(l.l3) // Linux lets it point at the tag
		}
		pk.Proto = pk.VLAN.Proto
	}
	pk.VLAN = packet.VLAN{Present: true, Proto: p, TCI: uint16(tci)}
	r.moved()
	return 0
}

// vlanPop is bpf_skb_vlan_pop: drops the outermost tag, and lifts the next one out of
// the frame into the metadata.
func vlanPop(r *Run, _, _, _, _, _ uint64) uint64 {
	pk := r.skb
	if pk.VLAN.Present {
		pk.VLAN = packet.VLAN{}
	} else {
		if !isVLAN(pk.Proto) {
			return 0
		}
		if _, ok := takeTag(pk); !ok {
			return eNoMem
		}
	}
	if isVLAN(pk.Proto) {
		proto := pk.Proto
		tci, ok := takeTag(pk)
		if !ok {
			r.moved()
			return eNoMem
		}
		pk.VLAN = packet.VLAN{Present: true, Proto: proto, TCI: tci}
	}
	r.moved()
	return 0
}

func isVLAN(proto uint16) bool { return proto == packet.EtherVLAN || proto == packet.EtherQinQ }

// takeTag removes the tag behind the addresses. The protocol becomes the one inside.
func takeTag(pk *packet.Packet) (tci uint16, ok bool) {
	if !pk.Pull(packet.EthernetLen + vlanHeaderLen) {
		return 0, false
	}
	b := pk.Head()
	tci = uint16(b[14])<<8 | uint16(b[15])
	pk.Proto = innerProto(b[16:])
	copy(b[vlanHeaderLen:], b[:macsLen])
	l := layersOf(pk)
	pk.Trim(vlanHeaderLen)
	pk.SetMAC(0)
	if l.okL3 {
		pk.SetL3(max(l.l3-vlanHeaderLen, packet.EthernetLen))
	}
	return tci, true
}

// Protocol numbers for frames whose type field is a length (vlan_set_encap_proto).
const (
	ether802_3   = 0x0001
	ether802_2   = 0x0004
	minEtherType = 0x0600
)

func innerProto(b []byte) uint16 {
	p := uint16(b[0])<<8 | uint16(b[1])
	switch {
	case p >= minEtherType:
		return p
	case len(b) >= 4 && b[2] == 0xff && b[3] == 0xff:
		return ether802_3
	}
	return ether802_2
}
