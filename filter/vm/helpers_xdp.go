package vm

import (
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
	xdpFrame    = 40  // struct xdp_frame, which the kernel keeps at the start of it
	xdpRoom     = xdpHeadroom - xdpFrame
	xdpMaxMeta  = 252
	xdpMaxLen   = 3520 // what a page holds behind the headroom
	xdpMaxOff   = 0xffff
)

// xdpAdjustHead is bpf_xdp_adjust_head: moves the start of the packet. Metadata moves
// along.
func xdpAdjustHead(r *Run, _, delta, _, _, _ uint64) uint64 {
	pk, x, d := r.skb, &r.xdp, int(int32(delta))
	if d > pk.Len()-packet.EthernetLen || x.moved-d+x.meta > xdpRoom {
		return eInval
	}
	meta := make([]byte, x.meta)
	copy(meta, pk.Push(x.meta))
	pk.Trim(x.meta)
	if d >= 0 {
		pk.Trim(d)
	} else {
		pk.Push(-d)
	}
	x.moved -= d
	copy(pk.Push(x.meta), meta)
	pk.Trim(x.meta)
	r.refreshXDP()
	return 0
}

// xdpAdjustMeta is bpf_xdp_adjust_meta: moves the start of the metadata.
func xdpAdjustMeta(r *Run, _, delta, _, _, _ uint64) uint64 {
	n := r.xdp.meta - int(int32(delta))
	switch {
	case n < 0, r.xdp.moved+n > xdpRoom:
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
	case n < packet.EthernetLen, d > 0 && n > xdpMaxLen+r.xdp.moved:
		return eInval
	case d > 0:
		pk.Extend(d)
	default:
		pk.Truncate(n)
	}
	r.refreshXDP()
	return 0
}

// xdpRange checks the offset and length of a copy.
func (r *Run) xdpRange(off, n uint64) uint64 {
	switch {
	case off > xdpMaxOff || n > xdpMaxOff:
		return eFault
	case off+n > uint64(r.skb.Len()):
		return eInval
	}
	return 0
}

func xdpLoadBytes(r *Run, _, off, to, n, _ uint64) uint64 {
	off, n = uint64(uint32(off)), uint64(uint32(n))
	dst := r.mem(to, n, true)
	if dst == nil {
		return 0
	}
	if e := r.xdpRange(off, n); e != 0 {
		return e
	}
	r.skb.CopyTo(dst, int(off))
	return 0
}

func xdpStoreBytes(r *Run, _, off, from, n, _ uint64) uint64 {
	off, n = uint64(uint32(off)), uint64(uint32(n))
	src := r.mem(from, n, false)
	if src == nil {
		return 0
	}
	if e := r.xdpRange(off, n); e != 0 {
		return e
	}
	r.skb.Store(src, int(off))
	return 0
}
