package verifier

import "taproom/filter/helper"

// kstruct is a kernel structure that programs may read.
type kstruct = helper.Struct

// field offsets of struct __sk_buff (uapi linux/bpf.h).
const (
	skbMark        = 8
	skbQueue       = 12
	skbPriority    = 32
	skbTCIndex     = 44
	skbCB          = 48
	skbHash        = 68
	skbTCClassID   = 72
	skbData        = 76
	skbDataEnd     = 80
	skbFamily      = 88
	skbDataMeta    = 140
	skbFlowKeys    = 144
	skbTstamp      = 152
	skbWireLen     = 160
	skbSk          = 168
	skbTstampType  = 180
	skbHwtstamp    = 184
	skbSize        = 192
	skbRemoteIP4   = 92
	skbAfterLocal  = 140 // end of local_port
	xdpSize        = 24
	xdpEgressIndex = 20
	nfSize         = 16
)

// loadCtx loads a field of the context.
func (v *verifier) loadCtx(p *reg, a access) (reg, error) {
	if err := v.checkCtxPointer(a.n, p); err != nil {
		return reg{}, err
	}
	v.noteRegion(RegionCtx, "", nil)
	value, ok := v.ctxField(a, false)
	if !ok {
		return reg{}, v.denied("invalid bpf_context access off=%d size=%d", a.off, a.size)
	}
	return value, nil
}

func (v *verifier) storeCtx(p *reg, a access) error {
	if err := v.checkCtxPointer(a.n, p); err != nil {
		return err
	}
	v.noteRegion(RegionCtx, "", nil)
	if _, ok := v.ctxField(a, true); !ok {
		return v.denied("invalid bpf_context access off=%d size=%d", a.off, a.size)
	}
	return nil
}

// ctxField tells whether the program may access the context there, and what a
// load yields.
func (v *verifier) ctxField(a access, write bool) (reg, bool) {
	off, size := int(a.off), a.size
	if off < 0 || off%size != 0 {
		return reg{}, false
	}
	switch v.progs {
	case helper.XDP:
		return v.xdpField(off, size, write, a.signed)
	case helper.Netfilter:
		if write || off >= nfSize || size != 8 {
			return reg{}, false
		}
		name := "nf_hook_state"
		if off == 8 {
			name = "sk_buff"
		}
		return reg{kind: ptrKernel, flags: trusted, st: helper.Structs[name]}, true
	case helper.SocketFilter:
		return v.skbField(off, size, write, a.signed, false)
	}
	return v.skbField(off, size, write, a.signed, true)
}

// skbField knows struct __sk_buff: tc is for classifiers and actions, else for
// socket filters.
func (v *verifier) skbField(off, size int, write, signed, tc bool) (reg, bool) {
	in := func(at, n int) bool { return off >= at && off < at+n }
	num := unknownReg()
	if off+size > skbSize || in(skbFamily, skbAfterLocal-skbFamily) || in(skbFlowKeys, 8) {
		return num, false
	}
	cb := in(skbCB, 20)
	if cb && off+size > skbCB+20 {
		return num, false
	}
	if write {
		switch {
		case cb:
			return num, true
		case !tc:
			return num, false
		case off == skbTstamp:
			return num, size == 8
		case in(skbMark, 4), in(skbTCIndex, 4), in(skbPriority, 4), in(skbTCClassID, 4), in(skbQueue, 4):
			return num, size == 4
		}
		return num, false
	}
	switch {
	case cb:
		return num, true
	case in(skbTCClassID, 4), in(skbWireLen, 4):
		return num, tc && size <= 4
	case in(skbData, 4), in(skbDataEnd, 4), in(skbDataMeta, 4):
		if !tc || size != 4 || signed {
			return num, false
		}
		return packetField(off, skbData, skbDataMeta), true
	case in(skbSk, 8):
		if off != skbSk || size != 8 {
			return num, false
		}
		return reg{kind: ptrSockCommon, flags: mayBeNull, id: v.nextID()}, true
	case in(skbTstamp, 8), in(skbHwtstamp, 8):
		return num, tc && size == 8
	case in(skbTstampType, 4):
		return num, tc && off == skbTstampType && size == 1
	}
	return num, size <= 4
}

// packetField is the pointer loaded from data, data_meta or data_end.
func packetField(off, data, meta int) reg {
	switch off {
	case data:
		return pointer(ptrPacket)
	case meta:
		return pointer(ptrPacketMeta)
	}
	return pointer(ptrPacketEnd)
}

// xdpField knows struct xdp_md.
func (v *verifier) xdpField(off, size int, write, signed bool) (reg, bool) {
	const attachDevmap = 33 // BPF_XDP_DEVMAP: only there is the egress device known
	num := unknownReg()
	if write || off >= xdpSize || size != 4 || off == xdpEgressIndex && v.prog.AttachType != attachDevmap {
		return num, false
	}
	if off < 12 {
		if signed {
			return num, false
		}
		return packetField(off, 0, 8), true
	}
	return num, true
}

// loadKernel loads a member of a kernel structure. Such loads cannot fault: a
// bad address reads as 0.
func (v *verifier) loadKernel(p *reg, a access) (reg, error) {
	off := int64(p.off) + int64(a.off)
	switch {
	case p.maybeNull():
		return reg{}, v.denied("R%d invalid mem access '%s'", a.n, p.typeName())
	case off < 0:
		return reg{}, v.denied("R%d is %s invalid negative access: off=%d", a.n, p.typeName(), off)
	case !p.num.IsConst() || p.num.Value() != 0:
		return reg{}, v.denied("R%d is %s invalid variable offset: off=%d, var_off=%v", a.n, p.typeName(), off, p.num.Bits)
	}
	f := p.st.At(int(off), a.size)
	if f == nil {
		return reg{}, v.denied("access to %d bytes at %d of struct %s is not offered", a.size, off, p.st.Name)
	}
	v.noteRegion(RegionKernel, p.st.Name, nil)
	if f.To == "" {
		return unknownReg(), nil
	}
	return reg{kind: ptrKernel, st: helper.Structs[f.To]}, nil
}

// Offsets in struct bpf_sock and struct bpf_tcp_sock.
const (
	sockSize       = 80
	sockDstPort    = 48
	sockDstIP4     = 52
	tcpSockSize    = 112
	tcpBytesRecv   = 80
	tcpBytesAckEnd = 96
)

// checkSock checks a load from a socket as its uapi structure.
func (v *verifier) checkSock(p *reg, a access) error {
	if a.write {
		return v.denied("R%d cannot write into %s", a.n, p.typeName())
	}
	if p.num.SMin < 0 {
		return v.denied("R%d min value is negative, either use unsigned index or do a if (index >=0) check.", a.n)
	}
	off := int(p.off) + int(a.off)
	ok := off >= 0 && off%a.size == 0 && p.num.IsConst() && p.num.Value() == 0
	name := "bpf_sock"
	if p.kind == ptrTCPSock {
		name = "bpf_tcp_sock"
		wide := off >= tcpBytesRecv && off < tcpBytesAckEnd
		ok = ok && off+a.size <= tcpSockSize && (wide && a.size == 8 || !wide && a.size == 4)
	} else {
		ok = ok && off+a.size <= sockSize && sockField(off, a.size, p.kind == ptrSockCommon)
	}
	if !ok {
		return v.denied("R%d invalid %s access off=%d size=%d", a.n, p.typeName(), off, a.size)
	}
	v.noteRegion(RegionSock, name, nil)
	return nil
}

// sockField tells whether a field of struct bpf_sock may be read so. Addresses
// may be read by the byte, most other members also by their low bytes.
func sockField(off, size int, common bool) bool {
	switch {
	case off >= sockDstPort && off < sockDstIP4:
		// A 16-bit port and padding; the whole word may be read for old programs.
		return off == sockDstPort && size <= 4 || off == sockDstPort+1 && size == 1
	case off < 4 || off >= 16 && off < 24:
		// bound_dev_if, mark, priority
		return size == 4 && !(common && off >= 16)
	case off >= 8 && off < 16:
		// type, protocol
		return size <= 4 && off%4 == 0 && !common
	case off < 8 || off >= 44 && off < 48 || off >= 72:
		// family, src_port, state, rx_queue_mapping
		return size <= 4 && off%4 == 0
	}
	return size <= 4
}
