package vm

import (
	"encoding/binary"
	"syscall"

	"taproom/filter/helper"
	"taproom/filter/maps"
	"taproom/stack/packet"
)

// Flags of the checksum helpers (uapi linux/bpf.h).
const (
	csumFieldMask  = 0xf
	csumPseudoHdr  = 1 << 4
	csumMangled0   = 1 << 5
	csumEnforce    = 1 << 6
	csumIPv6       = 1 << 7
	csumLevelQuery = 0
	csumLevelInc   = 1
	csumLevelDec   = 2
	csumLevelReset = 3
)

func init() {
	helpers[helper.CsumDiff] = csumDiff
	helpers[helper.L3CsumReplace] = l3CsumReplace
	helpers[helper.L4CsumReplace] = l4CsumReplace
	helpers[helper.CsumUpdate] = func(*Run, uint64, uint64, uint64, uint64, uint64) uint64 {
		return errno(maps.ENOTSUPP) // packets here never carry a complete checksum
	}
	helpers[helper.CsumLevel] = csumLevel
	helpers[helper.SKBECNSetCE] = ecnSetCE
}

// csumDiff is bpf_csum_diff: seed - from + to, folded to 16 bits as since Linux 6.13.
func csumDiff(r *Run, from, fromSize, to, toSize, seed uint64) uint64 {
	fromSize, toSize = uint64(uint32(fromSize)), uint64(uint32(toSize))
	if (fromSize|toSize)%4 != 0 {
		return eInval
	}
	f, t := empty, empty
	if from != 0 {
		if f = r.mem(from, fromSize, false); f == nil {
			return 0
		}
	}
	if to != 0 {
		if t = r.mem(to, toSize, false); t == nil {
			return 0
		}
	}
	s := uint32(seed)
	switch {
	case from != 0 && to != 0:
		return uint64(csumFold16(csumSub(csumPartial(t, s), csumPartial(f, 0))))
	case to != 0:
		return uint64(csumFold16(csumPartial(t, s)))
	case from != 0:
		return uint64(csumFold16(^csumPartial(f, ^s)))
	}
	return uint64(s)
}

// checksumField returns the 2 bytes at off of the packet, linear and writable, or
// the errno.
func (r *Run) checksumField(off uint64) ([]byte, uint64) {
	if off = uint64(uint32(off)); off > 0xffff || off&1 != 0 {
		return nil, eFault
	}
	if !r.writable(int(off) + 2) {
		return nil, eFault
	}
	return r.skb.Head()[off : off+2], 0
}

// l3CsumReplace is bpf_l3_csum_replace.
func l3CsumReplace(r *Run, _, off, from, to, flags uint64) uint64 {
	if flags&^csumFieldMask != 0 {
		return eInval
	}
	f, e := r.checksumField(off)
	if f == nil {
		return e
	}
	sum := binary.LittleEndian.Uint16(f)
	switch flags & csumFieldMask {
	case 0:
		if from != 0 {
			return eInval
		}
		sum = csumReplaceDiff(sum, uint32(to))
	case 2:
		sum = csumReplace2(sum, uint16(from), uint16(to))
	case 4:
		sum = csumReplace4(sum, uint32(from), uint32(to))
	default:
		return eInval
	}
	binary.LittleEndian.PutUint16(f, sum)
	return 0
}

// l4CsumReplace is bpf_l4_csum_replace. While a checksum is still to be completed,
// the field only holds the pseudo-header's sum, not complemented.
func l4CsumReplace(r *Run, _, off, from, to, flags uint64) uint64 {
	if flags&^(csumFieldMask|csumPseudoHdr|csumMangled0|csumEnforce|csumIPv6) != 0 {
		return eInval
	}
	f, e := r.checksumField(off)
	if f == nil {
		return e
	}
	sum := binary.LittleEndian.Uint16(f)
	mangled0 := flags&csumMangled0 != 0
	if mangled0 && flags&csumEnforce == 0 && sum == 0 {
		return 0
	}
	partial, pseudo := r.skb.CsumPartial, flags&csumPseudoHdr != 0
	switch size := flags & csumFieldMask; {
	case size == 0 && from != 0:
		return eInval
	case size != 0 && size != 2 && size != 4:
		return eInval
	case partial && !pseudo:
	case size == 2:
		from, to = uint64(uint16(from)), uint64(uint16(to))
		fallthrough
	case size == 4:
		if partial {
			sum = ^csumFold(csumAdd(csumSub(uint32(sum), uint32(from)), uint32(to)))
		} else {
			sum = csumReplace4(sum, uint32(from), uint32(to))
		}
	case partial:
		sum = ^csumFold(csumAdd(uint32(to), uint32(sum)))
	default:
		sum = csumReplaceDiff(sum, uint32(to))
	}
	if mangled0 && sum == 0 {
		sum = 0xffff
	}
	binary.LittleEndian.PutUint16(f, sum)
	return 0
}

// maxLevels is how many checksums beyond the first can be known to be good.
const maxLevels = 3

// csumLevel is bpf_csum_level: how many of the packet's checksums have been verified.
func csumLevel(r *Run, _, level, _, _, _ uint64) uint64 {
	pk := r.skb
	switch level {
	case csumLevelQuery:
		if !pk.CsumValid {
			return errno(syscall.EACCES)
		}
		return uint64(r.levels)
	case csumLevelInc:
		if !pk.CsumValid {
			pk.CsumValid = !pk.CsumPartial
		} else if r.levels < maxLevels {
			r.levels++
		}
	case csumLevelDec:
		if r.levels > 0 {
			r.levels--
		} else {
			pk.CsumValid = false
		}
	case csumLevelReset:
		pk.CsumValid = false
	default:
		return eInval
	}
	return 0
}

// ecnSetCE is bpf_skb_ecn_set_ce: 1 if the packet carries CE now, 0 if its sender
// does not do ECN (RFC 3168).
func ecnSetCE(r *Run, _, _, _, _, _ uint64) uint64 {
	pk := r.skb
	off, ok := pk.L3()
	if !ok || off < 0 {
		return 0
	}
	switch behindTags(pk) {
	case packet.EtherIPv4:
		if !r.writable(off + 20) {
			return 0
		}
		h := pk.Head()[off:]
		switch h[1] & 3 {
		case 0:
			return 0
		case 3:
			return 1
		}
		from := binary.LittleEndian.Uint16(h)
		h[1] |= 3
		sum := csumReplace2(binary.LittleEndian.Uint16(h[10:]), from, binary.LittleEndian.Uint16(h))
		binary.LittleEndian.PutUint16(h[10:], sum)
		return 1
	case packet.EtherIPv6:
		if !r.writable(off + 40) {
			return 0
		}
		h := pk.Head()[off:]
		if h[1]&0x30 == 0 {
			return 0
		}
		h[1] |= 0x30
		return 1
	}
	return 0
}

// writable makes the first n bytes of the packet linear, as every helper that writes
// does first; it reports false if the packet is shorter.
func (r *Run) writable(n int) bool {
	pk := r.skb
	if n <= len(pk.Head()) {
		return true
	}
	if n > pk.Len() || !pk.Pull(n) {
		return false
	}
	r.moved()
	return true
}

// moved tells the run that the packet's bytes or metadata are not what they were.
func (r *Run) moved() {
	switch r.kind {
	case ctxSKB:
		r.refreshSKB(r.skb)
	case ctxXDP:
		r.refreshXDP()
	default:
		r.setPacket(r.skb.Head())
	}
}

// behindTags is the protocol inside any tags of the frame.
func behindTags(pk *packet.Packet) uint16 {
	proto := pk.Proto
	var b [2]byte
	for at := 16; isVLAN(proto) && pk.CopyTo(b[:], at) == 2; at += vlanHeaderLen {
		proto = uint16(b[0])<<8 | uint16(b[1])
	}
	return proto
}
