package vm

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"taproom/filter/helper"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

func init() {
	helpers[helper.FIBLookup] = fibLookup
	helpers[helper.CheckMTU] = checkMTU
}

// Layout of struct bpf_fib_lookup (uapi linux/bpf.h).
const (
	fibLen      = 64
	fibFamily   = 0
	fibTotLen   = 6 // in; the route's MTU, out
	fibIfindex  = 8
	fibMetric   = 12
	fibSrc      = 16
	fibDst      = 32
	fibVLAN     = 48 // protocol and TCI, out; table id, in
	fibSMAC     = 52 // out; mark, in
	fibDMAC     = 58
	fibDirect   = 1 << 0
	fibOutput   = 1 << 1
	fibNoNeigh  = 1 << 2
	fibTable    = 1 << 3
	fibWantSrc  = 1 << 4
	fibMark     = 1 << 5
	fibAllFlags = 1<<6 - 1
)

// What bpf_fib_lookup returns (BPF_FIB_LKUP_RET_*).
const (
	fibSuccess     = 0
	fibBlackhole   = 1
	fibUnreachable = 2
	fibProhibit    = 3
	fibNotFwded    = 4
	fibNoNeighbor  = 7
	fibFragNeeded  = 8
	fibNoSrcAddr   = 9
)

// fibLookup is bpf_fib_lookup: where the node would forward a packet. The answer goes
// back into the parameters.
func fibLookup(r *Run, _, params, n, flags, _ uint64) uint64 {
	b := r.mem(params, uint64(uint32(n)), true)
	if b == nil {
		return 0
	}
	if len(b) < fibLen || flags&^fibAllFlags != 0 || r.env == nil {
		return eInval
	}
	le := binary.LittleEndian
	q := hook.RouteQuery{In: int(le.Uint32(b[fibIfindex:]))}
	switch b[fibFamily] {
	case syscall.AF_INET:
		q.Src, q.Dst = netip.AddrFrom4([4]byte(b[fibSrc:])), netip.AddrFrom4([4]byte(b[fibDst:]))
	case syscall.AF_INET6:
		q.Src, q.Dst = netip.AddrFrom16([16]byte(b[fibSrc:])), netip.AddrFrom16([16]byte(b[fibDst:]))
	default:
		return errno(syscall.EAFNOSUPPORT)
	}
	if _, ok := r.env.Interface(q.In); !ok {
		return errno(syscall.ENODEV)
	}
	if flags&fibMark != 0 {
		q.Mark = le.Uint32(b[fibSMAC:])
	}
	if flags&fibOutput != 0 {
		q.In, q.Out = 0, q.In
	}
	if flags&fibWantSrc != 0 {
		q.Src = netip.Addr{}
	}
	return r.fibAnswer(b, r.env.Route(q), flags)
}

// fibAnswer writes a route into the parameters.
func (r *Run) fibAnswer(b []byte, route hook.Route, flags uint64) uint64 {
	switch route.Kind {
	case hook.Unicast:
	case hook.Blackhole:
		return fibBlackhole
	case hook.Unreachable, hook.NoRoute:
		if route.Kind == hook.Unreachable {
			return fibUnreachable
		}
		return fibNotFwded
	case hook.Prohibit:
		return fibProhibit
	default:
		return fibNotFwded
	}
	le := binary.LittleEndian
	out, ok := r.env.Interface(route.Out)
	if !ok {
		return errno(syscall.ENODEV)
	}
	total := int(le.Uint16(b[fibTotLen:]))
	if total > 0 && route.MTU > 0 && total > route.MTU {
		le.PutUint16(b[fibTotLen:], uint16(route.MTU))
		return fibFragNeeded
	}
	le.PutUint32(b[fibIfindex:], uint32(route.Out))
	le.PutUint16(b[fibTotLen:], uint16(route.MTU))
	le.PutUint32(b[fibMetric:], 0)
	hop := route.NextHop
	switch {
	case !hop.IsValid():
	case hop.Is4():
		b[fibFamily] = syscall.AF_INET
		a := hop.As4()
		copy(b[fibDst:], a[:])
	default:
		b[fibFamily] = syscall.AF_INET6
		a := hop.As16()
		copy(b[fibDst:], a[:])
	}
	if flags&fibWantSrc != 0 {
		if !route.Src.IsValid() {
			return fibNoSrcAddr
		}
		copy(b[fibSrc:fibSrc+16], route.Src.AsSlice())
	}
	clear(b[fibVLAN : fibVLAN+4])
	if flags&fibNoNeigh != 0 {
		return fibSuccess
	}
	if !route.HasMAC {
		return fibNoNeighbor
	}
	copy(b[fibDMAC:fibDMAC+6], route.MAC[:])
	copy(b[fibSMAC:fibSMAC+6], out.HardwareAddr)
	return fibSuccess
}

// Flags and answers of bpf_check_mtu.
const (
	mtuSegs       = 1
	mtuOK         = 0
	mtuFragNeeded = 1
)

// checkMTU is bpf_check_mtu: whether the packet, or one of the length given, fits an
// interface once it has grown by diff.
func checkMTU(r *Run, _, ifindex, p, diff, flags uint64) uint64 {
	b := r.mem(p, 4, true)
	if b == nil {
		return 0
	}
	length, d := int(binary.LittleEndian.Uint32(b)), int(int32(diff))
	if flags&^mtuSegs != 0 || flags&mtuSegs != 0 && (d != 0 || length != 0) || r.env == nil {
		return eInval
	}
	index := int(uint32(ifindex))
	if index == 0 {
		index = r.device0()
	}
	ifc, ok := r.env.Interface(index)
	if !ok {
		return errno(syscall.ENODEV)
	}
	binary.LittleEndian.PutUint32(b, uint32(ifc.MTU))
	limit := ifc.MTU + packet.EthernetLen
	have := r.skb.Len()
	if length > 0 {
		have = length + packet.EthernetLen
	}
	if have+d <= limit || r.skb.GSO.Type != packet.GSONone && length == 0 {
		return mtuOK
	}
	return mtuFragNeeded
}

// device0 is the interface the packet is at.
func (r *Run) device0() int {
	if r.skb.Out != 0 {
		return r.skb.Out
	}
	return r.skb.In
}
