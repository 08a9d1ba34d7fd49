package vm

import (
	"unsafe"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// ctxKind is which context structure R1 points to.
type ctxKind uint8

const (
	ctxSKB       ctxKind = iota // struct __sk_buff
	ctxXDP                      // struct xdp_md
	ctxNetfilter                // struct bpf_nf_ctx
	ctxNone                     // no context: R1 is what the caller says
)

func kindOf(t ebpf.ProgType) ctxKind {
	switch t {
	case ebpf.XDP:
		return ctxXDP
	case ebpf.Netfilter:
		return ctxNetfilter
	case ebpf.Unspec:
		return ctxNone
	}
	return ctxSKB
}

// sizes of the structures, by kind.
var ctxSize = [...]uint64{ctxSKB: 192, ctxXDP: 24, ctxNetfilter: 16, ctxNone: 0}

// Offsets in struct __sk_buff that are not plain memory: the packet pointers are 32
// bits wide to the program and 64 in a register, and three fields are 16 bits wide in
// the kernel.
const (
	skbMark         = 8
	skbQueueMapping = 12
	skbPriority     = 32
	skbTCIndex      = 44
	skbCB           = 48
	skbCBEnd        = 68
	skbTCClassid    = 72
	skbData         = 76
	skbDataEnd      = 80
	skbDataMeta     = 140
	skbTstamp       = 152
)

// loadCtx reads a context field of n bytes at offset o.
func (r *Run) loadCtx(o, n uint64) (uint64, bool) {
	if o+n > ctxSize[r.kind] || o%n != 0 {
		return 0, false
	}
	st := r.st
	if n == 4 {
		switch field := jit.PacketField(jit.Ctx(r.kind), int32(o)); field {
		case jit.OffData:
			return st.Data, true
		case jit.OffDataEnd:
			return st.DataEnd, true
		case jit.OffDataMeta:
			return st.DataMeta, true
		}
	}
	return rawLoad(unsafe.Pointer(&st.Ctx[o]), n), true
}

// storeCtx writes a context field if programs may.
func (r *Run) storeCtx(o, n, v uint64) bool {
	if r.kind != ctxSKB || o%n != 0 {
		return false
	}
	switch {
	case n == 4 && (o == skbMark || o == skbPriority), n == 8 && o == skbTstamp,
		o >= skbCB && o+n <= skbCBEnd:
	case n == 4 && (o == skbTCIndex || o == skbTCClassid):
		v = uint64(uint16(v))
	case n == 4 && o == skbQueueMapping:
		if v >= 0xffff {
			return true
		}
	default:
		return false
	}
	rawStore(unsafe.Pointer(&r.st.Ctx[o]), n, v)
	r.dirty = true
	return true
}

// ctxUse says what compiled code does with its context, so that a run need not prepare
// or look at more.
type ctxUse struct {
	reads  bool // fields beside the packet pointers
	writes bool
}

// useOfCtx finds out, erring on the side of use.
func useOfCtx(c *code.Code, facts []code.Facts, kind ctxKind) (u ctxUse) {
	for i := range c.Insns {
		in := &c.Insns[i]
		switch {
		case in.Op == code.Call:
			switch helper.ID(in.Imm) {
			case helper.TailCall:
				return ctxUse{true, true}
			case helper.SKBSetTstamp, helper.CloneRedirect, helper.SetHash, helper.SetHashInvalid,
				helper.GetHashRecalc, helper.SKBChangeProto, helper.SKBStoreBytes:
				u.reads = true // they write single fields or take all of them over
			}
		case in.Op.IsLoad():
			f := facts[i][in.Src]
			packet := in.Op == code.Load32 && jit.PacketField(jit.Ctx(kind), in.Off) >= 0
			if f == code.IsCtx && !packet || f == code.Anything && in.Off >= 0 && in.Off < jit.CtxSize {
				u.reads = true
			}
		case in.Op.IsStore():
			if f := facts[i][in.Dst]; f == code.IsCtx || f == code.Anything && in.Off >= 0 && in.Off < jit.CtxSize {
				u.reads, u.writes = true, true
			}
		}
	}
	return u
}
