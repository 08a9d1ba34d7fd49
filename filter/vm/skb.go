package vm

import (
	"math/bits"
	"unsafe"

	"taproom/filter/ebpf"
	"taproom/stack/packet"
)

// skbCtx is struct __sk_buff of uapi linux/bpf.h, as a program sees it.
type skbCtx struct {
	Len            uint32
	PktType        uint32
	Mark           uint32
	QueueMapping   uint32
	Protocol       uint32 // network order
	VLANPresent    uint32
	VLANTCI        uint32
	VLANProto      uint32 // network order
	Priority       uint32
	IngressIfindex uint32
	Ifindex        uint32
	TCIndex        uint32
	CB             [5]uint32
	Hash           uint32
	TCClassid      uint32
	Data           uint32
	DataEnd        uint32
	NAPI           uint32
	Family         uint32
	RemoteIP4      uint32
	LocalIP4       uint32
	RemoteIP6      [4]uint32
	LocalIP6       [4]uint32
	RemotePort     uint32
	LocalPort      uint32
	DataMeta       uint32
	FlowKeys       uint64
	Tstamp         uint64
	WireLen        uint32
	GSOSegs        uint32
	SK             uint64
	GSOSize        uint32
	TstampType     uint32
	Hwtstamp       uint64
}

func (r *Run) skbCtx() *skbCtx { return (*skbCtx)(unsafe.Pointer(&r.st.Ctx)) }

// SKB runs a classifier or socket filter on a packet, which it may change. The
// result is R0's low half. What the program set in the context (mark, priority,
// cb, ...) and where it redirects to are in the packet afterwards; env may be nil
// for programs that ask for nothing outside.
func (r *Run) SKB(p *Prog, pk *packet.Packet, env Env) (uint32, error) {
	r.skb, r.env, r.kind = pk, env, p.kind
	r.encap, r.levels = false, 0
	if p.native != nil && !p.use.reads {
		h := pk.Head()
		data := addressOf(h)
		r.st.Data, r.st.DataMeta, r.st.DataEnd = data, data, data+uint64(len(h))
	} else {
		r.fillSKB(pk)
	}
	v, err := r.start(p)
	if r.dirty || p.native != nil && p.use.writes {
		r.syncSKB(pk)
	}
	return uint32(v), err
}

// RunSKB is Run.SKB on a Run of its own.
func (p *Prog) RunSKB(pk *packet.Packet, env Env) (uint32, error) {
	r := Acquire()
	v, err := r.SKB(p, pk, env)
	r.Release()
	return v, err
}

// fillSKB sets the context from the packet.
func (r *Run) fillSKB(pk *packet.Packet) {
	c := r.skbCtx()
	c.Mark, c.Priority = pk.Mark, pk.Priority
	c.QueueMapping = uint32(pk.Queue)
	c.IngressIfindex, c.Ifindex = uint32(pk.In), uint32(pk.Out)
	if pk.Out == 0 {
		c.Ifindex = uint32(pk.In)
	}
	c.TCIndex = uint32(pk.TCIndex)
	c.CB = pk.CB
	c.Hash = pk.Hash
	c.TCClassid = pk.ClassID & 0xffff
	c.Tstamp = uint64(pk.Time)
	r.refreshSKB(pk)
}

// refreshSKB sets the part of the context that helpers change: lengths, protocol and
// packet pointers. Every helper that moves the packet calls it.
func (r *Run) refreshSKB(pk *packet.Packet) {
	c := r.skbCtx()
	c.Len = uint32(pk.Len())
	c.WireLen = c.Len
	c.PktType = uint32(pk.Type)
	c.Protocol = uint32(bits.ReverseBytes16(pk.Proto))
	if pk.VLAN.Present {
		c.VLANPresent, c.VLANTCI = 1, uint32(pk.VLAN.TCI)
		c.VLANProto = uint32(bits.ReverseBytes16(pk.VLAN.Proto))
	} else {
		c.VLANPresent, c.VLANTCI, c.VLANProto = 0, 0, 0
	}
	c.GSOSize, c.GSOSegs = uint32(pk.GSO.Size), uint32(pk.GSO.Segs)
	r.setPacket(pk.Head())
}

// setPacket makes b the memory between data and data_end.
func (r *Run) setPacket(b []byte) {
	r.pkt = regionOf(b, r.kind != ctxNetfilter)
	r.st.Data = r.pkt.base
	r.st.DataMeta = r.pkt.base
	r.st.DataEnd = r.pkt.base + r.pkt.size
}

// syncSKB takes what the program wrote into the context over into the packet.
func (r *Run) syncSKB(pk *packet.Packet) {
	c := r.skbCtx()
	pk.Mark, pk.Priority = c.Mark, c.Priority
	pk.Queue = uint16(c.QueueMapping)
	pk.TCIndex = uint16(c.TCIndex)
	pk.CB = c.CB
	pk.ClassID = pk.ClassID&^0xffff | c.TCClassid&0xffff
	pk.Time = int64(c.Tstamp)
}

// pushMeta brings the packet's metadata up to date before somebody outside looks at
// it in the middle of a run.
func (r *Run) pushMeta() {
	if r.kind == ctxSKB {
		r.syncSKB(r.skb)
	}
}

var _ = [1]struct{}{}[unsafe.Sizeof(skbCtx{})-192] // the uapi size

// isSocketFilter: such programs have no direct packet access, and packet loads for
// negative offsets.
func (p *Prog) isSocketFilter() bool { return p.src.Type == ebpf.SocketFilter }
