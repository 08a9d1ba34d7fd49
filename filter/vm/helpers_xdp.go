package vm

import (
	"math"
	"syscall"

	"taproom/filter/helper"
	"taproom/stack/packet"
)

func init() {
	helpers[helper.XDPAdjustHead] = xdpAdjustHead
	helpers[helper.XDPAdjustMeta] = xdpAdjustMeta
	helpers[helper.XDPAdjustTail] = xdpAdjustTail
	helpers[helper.XDPGetBuffLen] = func(r *Run, _, _, _, _, _ uint64) uint64 { return uint64(r.skb.Len()) }
	helpers[helper.XDPLoadBytes] = xdpLoadBytes
	helpers[helper.XDPStoreBytes] = xdpStoreBytes
}

const (
	xdpHeadroom = 256 // XDP_PACKET_HEADROOM
	xdpMaxMeta  = 252
	xdpMaxLen   = 3520 // what a page holds behind the headroom
)

// xdpAdjustHead is bpf_xdp_adjust_head: moves the start of the packet. Metadata moves
// along.
func xdpAdjustHead(r *Run, _, delta, _, _, _ uint64) uint64 {
	pk, d := r.skb, int(int32(delta))
	switch {
	case d > pk.Len()-packet.EthernetLen, -d > pk.Headroom()-r.xdp.meta, -d > xdpHeadroom:
		return eInval
	case d >= 0:
		pk.Trim(d)
	default:
		pk.Push(-d)
	}
	if n := r.xdp.meta; n > 0 {
		// The metadata lies where the packet used to begin; take it along.
		h := pk.Push(max(d, 0) + n)
		from, to := 0, max(d, 0)
		if d < 0 {
			pk.Trim(n)
			h = pk.Push(n)
			from = -d
		}
		copy(h[to:to+n], h[from:from+n])
		pk.Trim(max(d, 0) + n)
	}
	r.refreshXDP()
	return 0
}

// xdpAdjustMeta is bpf_xdp_adjust_meta: moves the start of the metadata.
func xdpAdjustMeta(r *Run, _, delta, _, _, _ uint64) uint64 {
	n := r.xdp.meta - int(int32(delta))
	switch {
	case n < 0, n > r.skb.Headroom():
		return eInval
	case n%4 != 0, n > xdpMaxMeta:
		return errno(syscall.EACCES)
	}
	r.xdp.meta = n
	r.refreshXDP()
	return 0
}

// xdpAdjustTail is bpf_xdp_adjust_tail: moves the end of the packet.
func xdpAdjustTail(r *Run, _, delta, _, _, _ uint64) uint64 {
	pk, d := r.skb, int(int32(delta))
	n := pk.Len() + d
	switch {
	case n < packet.EthernetLen, d > 0 && n > xdpMaxLen:
		return eInval
	case d > 0:
		pk.Extend(d)
	default:
		pk.Truncate(n)
	}
	r.refreshXDP()
	return 0
}

func xdpLoadBytes(r *Run, _, off, to, n, _ uint64) uint64 {
	dst := r.mem(to, uint64(uint32(n)), true)
	if dst == nil {
		return 0
	}
	if !r.copyPacket(dst, uint64(uint32(off))) {
		return eInval
	}
	return 0
}

func xdpStoreBytes(r *Run, _, off, from, n, _ uint64) uint64 {
	src := r.mem(from, uint64(uint32(n)), false)
	if src == nil {
		return 0
	}
	if uint32(off) > math.MaxInt32 || !r.skb.Store(src, int(uint32(off))) {
		return eInval
	}
	return 0
}
