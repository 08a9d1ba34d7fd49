package vm

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Netfilter's numbers (uapi linux/netfilter.h): hooks in the order of NF_INET_*, and
// protocol families.
const (
	NFPreRouting = iota
	NFLocalIn
	NFForward
	NFLocalOut
	NFPostRouting

	NFProtoIPv4 = 2
	NFProtoIPv6 = 10
)

// NFHook says where a netfilter program runs.
type NFHook struct {
	Hook, PF uint8
}

// Sizes and offsets of the kernel structures that netfilter programs read: those of
// filter/helper's table.
const (
	nfStateSize  = 48
	skBuffSize   = 224
	netDevSize   = 544
	nfStateIn    = 8
	nfStateOut   = 16
	devMTU       = 56
	devFlags     = 176
	devHdrLen    = 180
	devIfindex   = 224
	devName      = 280
	devType      = 536
	skbDev       = 16
	skbTime      = 32
	skbLen       = 112
	skbDataLen   = 116
	skbPktType   = 128
	skbTCIndexK  = 132
	skbPriorityK = 140
	skbIif       = 144
	skbHashK     = 148
	skbVLANProtK = 152
	skbVLANTCIK  = 154
	skbMarkK     = 164
	skbProtocolK = 176
	ifUp         = 1
	ifLoopback   = 8
	arphrdEther  = 1
	arphrdLoop   = 772
	arphrdNone   = 0xfffe
)

// netfilterCtx is the memory behind struct bpf_nf_ctx: its state and skb pointers,
// and the devices those point to.
type netfilterCtx struct {
	state  *[nfStateSize]byte
	skb    *[skBuffSize]byte
	dev    [2]*[netDevSize]byte // in, out
	filled [2]int               // interface that dev describes
}

// Netfilter runs a netfilter program on a network packet: Head starts with the IP
// header. The result is NF_DROP (0) or NF_ACCEPT (1). The program cannot change the
// packet.
func (r *Run) Netfilter(p *Prog, pk *packet.Packet, at NFHook, env Env) (uint32, error) {
	r.skb, r.env, r.kind = pk, env, ctxNetfilter
	n := &r.nf
	if n.state == nil {
		n.state, n.skb = new([nfStateSize]byte), new([skBuffSize]byte)
		n.dev = [2]*[netDevSize]byte{new([netDevSize]byte), new([netDevSize]byte)}
	}
	n.state[0], n.state[1] = at.Hook, at.PF
	in, out := r.device(0, pk.In), r.device(1, pk.Out)
	binary.LittleEndian.PutUint64(n.state[nfStateIn:], in)
	binary.LittleEndian.PutUint64(n.state[nfStateOut:], out)
	if in == 0 {
		in = out
	}
	n.fillSKB(pk, in)
	r.setPacket(pk.Head())
	ctx := (*[2]uint64)(unsafe.Pointer(&r.st.Ctx))
	ctx[0] = r.grantInner(n.state[:])
	ctx[1] = r.grantInner(n.skb[:])
	if p.native == nil {
		r.grantInner(n.dev[0][:])
		r.grantInner(n.dev[1][:])
	}
	v, err := r.start(p)
	return uint32(v), err
}

// grantInner makes kernel structure memory readable to the interpreter.
func (r *Run) grantInner(b []byte) uint64 {
	g := regionOf(b, false)
	r.extra.add(g)
	return g.base
}

// fillSKB sets the members of struct sk_buff that programs may read.
func (n *netfilterCtx) fillSKB(pk *packet.Packet, dev uint64) {
	le := binary.LittleEndian
	b := n.skb
	le.PutUint64(b[skbDev:], dev)
	le.PutUint64(b[skbTime:], uint64(pk.Time))
	le.PutUint32(b[skbLen:], uint32(pk.Len()))
	le.PutUint32(b[skbDataLen:], uint32(pk.Len()-len(pk.Head())))
	b[skbPktType] = byte(pk.Type) & 7
	le.PutUint16(b[skbTCIndexK:], pk.TCIndex)
	le.PutUint32(b[skbPriorityK:], pk.Priority)
	le.PutUint32(b[skbIif:], uint32(pk.In))
	le.PutUint32(b[skbHashK:], pk.Hash)
	le.PutUint32(b[skbMarkK:], pk.Mark)
	le.PutUint16(b[skbProtocolK:], bits.ReverseBytes16(pk.Proto))
	le.PutUint32(b[skbVLANProtK:], 0)
	if pk.VLAN.Present {
		le.PutUint16(b[skbVLANProtK:], bits.ReverseBytes16(pk.VLAN.Proto))
		le.PutUint16(b[skbVLANTCIK:], pk.VLAN.TCI)
	}
}

// device describes an interface in slot i and returns its address, 0 for no
// interface.
func (r *Run) device(i, index int) uint64 {
	if index == 0 {
		return 0
	}
	b := r.nf.dev[i]
	if r.nf.filled[i] != index {
		*b = [netDevSize]byte{}
		r.nf.filled[i] = index
		ifc := hook.Interface{Index: index, MTU: 1500, Up: true}
		if r.env != nil {
			if known, ok := r.env.Interface(index); ok {
				ifc = known
			}
		}
		describe(b, ifc)
	}
	return uint64(uintptr(unsafe.Pointer(b)))
}

func describe(b *[netDevSize]byte, ifc hook.Interface) {
	le := binary.LittleEndian
	le.PutUint32(b[devMTU:], uint32(ifc.MTU))
	var flags uint32
	kind, hdr := uint16(arphrdNone), uint16(0)
	if ifc.Up {
		flags |= ifUp
	}
	switch {
	case ifc.Loopback:
		flags |= ifLoopback
		kind, hdr = arphrdLoop, 14
	case len(ifc.HardwareAddr) == 6:
		kind, hdr = arphrdEther, 14
	}
	le.PutUint32(b[devFlags:], flags)
	le.PutUint16(b[devHdrLen:], hdr)
	le.PutUint32(b[devIfindex:], uint32(ifc.Index))
	copy(b[devName:devName+15], ifc.Name)
	le.PutUint16(b[devType:], kind)
}
