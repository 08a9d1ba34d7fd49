package vm

import (
	"math"

	"taproom/filter/helper"
	"taproom/filter/vm/code"
	"taproom/stack/packet"
)

// Flags of bpf_skb_store_bytes.
const (
	storeRecomputeCsum  = 1
	storeInvalidateHash = 2
)

// maxSKB is the greatest length that helpers make a packet (SKB_MAX_ALLOC on x86-64).
const maxSKB = 16384 - 320

func init() {
	helpers[helper.SKBLoadBytes] = skbLoadBytes
	helpers[helper.SKBLoadBytesRelative] = skbLoadBytesRelative
	helpers[helper.SKBStoreBytes] = skbStoreBytes
	helpers[helper.SKBPullData] = skbPullData
	helpers[helper.SKBChangeTail] = skbChangeTail
	helpers[helper.SKBChangeHead] = skbChangeHead
	helpers[helper.SKBChangeType] = skbChangeType
	helpers[helper.SKBSetTstamp] = skbSetTstamp
	helpers[helper.GetHashRecalc] = hashRecalc
	helpers[helper.SetHashInvalid] = func(r *Run, _, _, _, _, _ uint64) uint64 { return r.setHash(0) }
	helpers[helper.SetHash] = func(r *Run, _, h, _, _, _ uint64) uint64 { return r.setHash(uint32(h)) }
}

// copyPacket reads n bytes at off into dst, all or nothing: zeros, then.
func (r *Run) copyPacket(dst []byte, off uint64) bool {
	if off <= math.MaxInt32 && r.skb != nil {
		head := r.skb.Head()
		if end := off + uint64(len(dst)); end <= uint64(len(head)) {
			copy(dst, head[off:end])
			return true
		} else if end <= uint64(r.skb.Len()) {
			r.skb.CopyTo(dst, int(off))
			return true
		}
	}
	clear(dst)
	return false
}

func skbLoadBytes(r *Run, _, off, to, n, _ uint64) uint64 {
	dst := r.mem(to, uint64(uint32(n)), true)
	if dst == nil {
		return 0
	}
	if !r.copyPacket(dst, uint64(uint32(off))) {
		return eFault
	}
	return 0
}

// skbLoadBytesRelative is bpf_skb_load_bytes_relative: from the link-layer (0) or the
// network header (1), within the linear part.
func skbLoadBytesRelative(r *Run, _, off, to, n, from uint64) uint64 {
	dst := r.mem(to, uint64(uint32(n)), true)
	if dst == nil {
		return 0
	}
	start, ok := 0, true
	switch {
	case uint32(off) > 0xffff:
		ok = false
	case from == 0:
		start, ok = r.skb.MAC()
	case from == 1:
		start, ok = r.skb.L3()
	default:
		ok = false
	}
	start += int(uint32(off))
	if !ok || start < 0 || start+len(dst) > len(r.skb.Head()) {
		clear(dst)
		return eFault
	}
	copy(dst, r.skb.Head()[start:])
	return 0
}

func skbStoreBytes(r *Run, _, off, from, n, flags uint64) uint64 {
	off, n = uint64(uint32(off)), uint64(uint32(n))
	if flags&^(storeRecomputeCsum|storeInvalidateHash) != 0 {
		return eInval
	}
	src := r.mem(from, n, false)
	if src == nil {
		return 0
	}
	if off > math.MaxInt32 || !r.writable(int(off)+len(src)) {
		return eFault
	}
	copy(r.skb.Head()[off:], src)
	if flags&storeInvalidateHash != 0 {
		r.setHash(0)
	}
	return 0
}

func skbPullData(r *Run, _, n, _, _, _ uint64) uint64 {
	if !r.writable(int(uint32(n))) {
		return eNoMem
	}
	return 0
}

// minLen is the length below which a packet cannot be cut: its headers, as far as
// they are known, and its unfinished checksum.
func minLen(pk *packet.Packet) int {
	n := 0
	if off, ok := pk.L3(); ok && off > 0 {
		n = off
	}
	if off, ok := pk.L4(); ok && off > 0 {
		n = off
	}
	if start, field, ok := pk.PartialChecksum(); ok && start+field+2 > 0 {
		n = start + field + 2
	}
	return n
}

func skbChangeTail(r *Run, _, n, flags, _, _ uint64) uint64 {
	pk, length := r.skb, int(uint32(n))
	if flags != 0 || length > maxSKB || length < minLen(pk) {
		return eInval
	}
	if r.encap {
		return eNotSupp
	}
	switch have := pk.Len(); {
	case length > have:
		pk.Extend(length - have)
	case length < have:
		pk.Truncate(length)
	}
	pk.GSO = packet.GSO{}
	r.moved()
	return 0
}

func skbChangeHead(r *Run, _, room, flags, _, _ uint64) uint64 {
	pk, n := r.skb, int(int32(room))
	if flags != 0 || n < 0 || pk.GSO.Type == packet.GSONone && pk.Len()+n > maxSKB {
		return eInval
	}
	clear(pk.Push(n)[:n])
	pk.SetMAC(0)
	r.moved()
	return 0
}

func skbChangeType(r *Run, _, t, _, _, _ uint64) uint64 {
	if uint32(t) > uint32(packet.OtherHost) || r.skb.Type > packet.OtherHost {
		return eInval
	}
	r.skb.Type = packet.Type(t)
	r.skbCtx().PktType = uint32(t)
	return 0
}

// skbSetTstamp is bpf_skb_set_tstamp: a receive time, or a monotonic or TAI delivery time.
func skbSetTstamp(r *Run, _, t, kind, _, _ uint64) uint64 {
	if p := r.skb.Proto; p != packet.EtherIPv4 && p != packet.EtherIPv6 {
		return eNotSup
	}
	c := r.skbCtx()
	switch uint32(kind) {
	case 0:
	case 1, 2:
		if t == 0 {
			return eInval
		}
	default:
		return eInval
	}
	c.Tstamp, c.TstampType = t, uint32(kind)
	r.dirty = true
	r.skb.Time = int64(t)
	return 0
}

func (r *Run) setHash(h uint32) uint64 {
	r.skb.Hash = h
	r.skbCtx().Hash = h
	return 0
}

// hashRecalc is bpf_get_hash_recalc: the flow's hash, computed if there is none. The
// kernel's is keyed with a secret; only that it is stable and not 0 is promised.
func hashRecalc(r *Run, _, _, _, _, _ uint64) uint64 {
	if r.skb.Hash == 0 {
		r.setHash(flowHash(r.skb))
	}
	return uint64(r.skb.Hash)
}

func flowHash(pk *packet.Packet) uint32 {
	const prime = 16777619
	h := uint32(2166136261)
	mix := func(b []byte) {
		for _, c := range b {
			h = (h ^ uint32(c)) * prime
		}
	}
	off, ok := pk.L3()
	if head := pk.Head(); ok && off >= 0 && off < len(head) {
		b := head[off:]
		if t, ok := packet.ParseTransport(b); ok {
			if b[0]>>4 == 4 {
				mix(b[12:20])
			} else {
				mix(b[8:40])
			}
			mix([]byte{t.Proto})
			if t.First && !t.Fragment && len(b) >= t.Offset+4 {
				mix(b[t.Offset : t.Offset+4])
			}
		}
	}
	return max(h, 1)
}

// Bases of the negative offsets of packet loads (SKF_NET_OFF, SKF_LL_OFF of uapi
// linux/filter.h).
const (
	skfNetOff = -0x100000
	skfLLOff  = -0x200000
)

// packetLoad is the legacy packet load of RFC 9669 section 5.5: big-endian, from the
// packet's start or, for negative offsets, from a header. It reports false if the
// bytes are not there.
func (r *Run) packetLoad(in *code.Insn, index uint64) (uint64, bool) {
	off := int64(int32(in.Imm))
	if in.Op >= code.Ind8 {
		off = int64(int32(in.Imm) + int32(index))
	}
	return r.packetWord(off, in.Op.Width())
}

func (r *Run) packetWord(off int64, n int) (uint64, bool) {
	if r.skb == nil {
		return 0, false
	}
	if off < 0 {
		base, ok := 0, false
		switch {
		case off >= skfNetOff:
			base, ok = r.skb.L3()
			off -= skfNetOff
		case off >= skfLLOff:
			base, ok = r.skb.MAC()
			off -= skfLLOff
		}
		if off += int64(base); !ok || off < 0 {
			return 0, false
		}
	}
	var b [4]byte
	if !r.copyPacket(b[:n], uint64(off)) {
		return 0, false
	}
	switch n {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(b[0])<<8 | uint64(b[1]), true
	}
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), true
}
