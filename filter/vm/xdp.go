package vm

import (
	"unsafe"

	"taproom/stack/packet"
)

// xdpCtx is what an XDP program's helpers work on.
type xdpCtx struct {
	pk    *packet.Packet
	meta  int // bytes of metadata in front of the packet
	moved int // bytes by which the packet has grown at its head
}

// xdpMD is struct xdp_md of uapi linux/bpf.h.
type xdpMD struct {
	Data           uint32
	DataEnd        uint32
	DataMeta       uint32
	IngressIfindex uint32
	RxQueueIndex   uint32
	EgressIfindex  uint32
}

// XDP runs an XDP program on a frame. The result is R0's low half.
func (r *Run) XDP(p *Prog, pk *packet.Packet, env Env) (uint32, error) {
	r.skb, r.env, r.kind = pk, env, ctxXDP
	r.xdp = xdpCtx{pk: pk}
	pk.Linearize()
	c := (*xdpMD)(unsafe.Pointer(&r.st.Ctx))
	*c = xdpMD{IngressIfindex: uint32(pk.In)}
	if pk.Queue > 0 {
		c.RxQueueIndex = uint32(pk.Queue) - 1
	}
	r.refreshXDP()
	v, err := r.start(p)
	return uint32(v), err
}

// refreshXDP sets the packet pointers; the metadata lies directly in front of the
// packet, in its headroom.
func (r *Run) refreshXDP() {
	b := r.xdp.pk.Head()
	r.setPacket(b)
	if n := r.xdp.meta; n > 0 {
		head := r.xdp.pk.Push(n)
		r.pkt = regionOf(head, true)
		r.xdp.pk.Trim(n)
		r.st.DataMeta = r.pkt.base
		r.st.Data = r.pkt.base + uint64(n)
		r.st.DataEnd = r.pkt.base + r.pkt.size
	}
}
