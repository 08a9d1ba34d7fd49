package vm

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"taproom/filter/ebpf"
	"taproom/filter/vm/code"
)

// condition evaluates a conditional jump that is not worth a case of its own.
func condition(in *code.Insn, regs *[16]uint64) bool {
	a, b := regs[in.Dst&15], uint64(in.Imm)
	if in.Op.IsReg() {
		b = regs[in.Src&15]
	}
	if in.Op.Is32() {
		// Sign-extending both keeps every comparison's answer.
		a, b = uint64(int64(int32(a))), uint64(int64(int32(b)))
	}
	switch in.Op.Base() {
	case code.JSet:
		return a&b != 0
	case code.JSGT:
		return int64(a) > int64(b)
	case code.JSGE:
		return int64(a) >= int64(b)
	case code.JSLT:
		return int64(a) < int64(b)
	default:
		return int64(a) <= int64(b)
	}
}

// arith does the arithmetic that is not worth a case of its own: division,
// negation, sign extension and byte order.
func arith(in *code.Insn, regs *[16]uint64) {
	dst := &regs[in.Dst&15]
	if in.Op.IsALU() {
		b := uint64(in.Imm)
		if in.Op.IsReg() {
			b = regs[in.Src&15]
		}
		*dst = divide(in.Op, *dst, b)
		return
	}
	src := regs[in.Src&15]
	switch in.Op {
	case code.Neg64:
		*dst = -*dst
	case code.Neg32:
		*dst = uint64(-uint32(*dst))
	case code.MovSX8:
		*dst = uint64(int64(int8(src)))
	case code.MovSX16:
		*dst = uint64(int64(int16(src)))
	case code.MovSX32:
		*dst = uint64(int64(int32(src)))
	case code.MovSX8W:
		*dst = uint64(uint32(int32(int8(src))))
	case code.MovSX16W:
		*dst = uint64(uint32(int32(int16(src))))
	case code.Zext16:
		*dst = uint64(uint16(*dst))
	case code.Zext32:
		*dst = uint64(uint32(*dst))
	case code.Swap16:
		*dst = uint64(bits.ReverseBytes16(uint16(*dst)))
	case code.Swap32:
		*dst = uint64(bits.ReverseBytes32(uint32(*dst)))
	case code.Swap64:
		*dst = bits.ReverseBytes64(*dst)
	}
}

// divide does division and modulo, RFC 9669 section 4.1: by zero gives 0 and the
// dividend; the most negative number by -1 gives itself and 0, as in Go.
func divide(op code.Op, a, b uint64) uint64 {
	signed := op.Base() == code.SDiv || op.Base() == code.SMod
	mod := op.Base() == code.Mod || op.Base() == code.SMod
	if op.Is32() {
		if signed {
			a, b = uint64(int64(int32(a))), uint64(int64(int32(b)))
		} else {
			a, b = uint64(uint32(a)), uint64(uint32(b))
		}
	}
	var q uint64
	switch {
	case b == 0 && mod:
		q = a
	case b == 0:
	case signed && mod:
		q = uint64(int64(a) % int64(b))
	case signed:
		q = uint64(int64(a) / int64(b))
	case mod:
		q = a % b
	default:
		q = a / b
	}
	if op.Is32() {
		q = uint64(uint32(q))
	}
	return q
}

// uncommon does sign-extending, ordered and atomic memory operations. It reports
// false if the access is out of bounds.
func (r *Run) uncommon(in *code.Insn, regs *[16]uint64) bool {
	switch in.Op {
	case code.Atomic64:
		p := r.reach(regs[in.Dst&15]+uint64(int64(in.Off)), 8, true)
		if p != nil {
			atomic64((*uint64)(p), in, regs)
		}
		return p != nil
	case code.Atomic32:
		p := r.reach(regs[in.Dst&15]+uint64(int64(in.Off)), 4, true)
		if p != nil {
			atomic32((*uint32)(p), in, regs)
		}
		return p != nil
	}
	n := uint64(in.Op.Width())
	switch {
	case n == 0:
		return in.Op == code.Nop
	case in.Op.IsLoad():
		v, ok := r.load(regs[in.Src&15]+uint64(int64(in.Off)), n)
		if !ok {
			return false
		}
		switch in.Op {
		case code.LoadSX8:
			v = uint64(int64(int8(v)))
		case code.LoadSX16:
			v = uint64(int64(int16(v)))
		case code.LoadSX32:
			v = uint64(int64(int32(v)))
		}
		regs[in.Dst&15] = v
		return true
	case in.Op.IsStore():
		return r.store(regs[in.Dst&15]+uint64(int64(in.Off)), n, regs[in.Src&15])
	}
	return false
}

// atomic32 does a read-modify-write operation of RFC 9669 section 5.3.
func atomic32(p *uint32, in *code.Insn, regs *[16]uint64) {
	src := uint32(regs[in.Src&15])
	var old uint32
	switch in.Imm {
	case ebpf.AtomicCmpXchg:
		for {
			old = atomic.LoadUint32(p)
			if old != uint32(regs[0]) || atomic.CompareAndSwapUint32(p, old, src) {
				break
			}
		}
		regs[0] = uint64(old)
		return
	case ebpf.AtomicXchg:
		old = atomic.SwapUint32(p, src)
	case ebpf.AtomicAdd, ebpf.AtomicAdd | ebpf.AtomicFetch:
		old = atomic.AddUint32(p, src) - src
	case ebpf.AtomicAnd, ebpf.AtomicAnd | ebpf.AtomicFetch:
		old = atomic.AndUint32(p, src)
	case ebpf.AtomicOr, ebpf.AtomicOr | ebpf.AtomicFetch:
		old = atomic.OrUint32(p, src)
	default:
		for {
			old = atomic.LoadUint32(p)
			if atomic.CompareAndSwapUint32(p, old, old^src) {
				break
			}
		}
	}
	if in.Imm&ebpf.AtomicFetch != 0 {
		regs[in.Src&15] = uint64(old)
	}
}

func atomic64(p *uint64, in *code.Insn, regs *[16]uint64) {
	src := regs[in.Src&15]
	var old uint64
	switch in.Imm {
	case ebpf.AtomicCmpXchg:
		for {
			old = atomic.LoadUint64(p)
			if old != regs[0] || atomic.CompareAndSwapUint64(p, old, src) {
				break
			}
		}
		regs[0] = old
		return
	case ebpf.AtomicXchg:
		old = atomic.SwapUint64(p, src)
	case ebpf.AtomicAdd, ebpf.AtomicAdd | ebpf.AtomicFetch:
		old = atomic.AddUint64(p, src) - src
	case ebpf.AtomicAnd, ebpf.AtomicAnd | ebpf.AtomicFetch:
		old = atomic.AndUint64(p, src)
	case ebpf.AtomicOr, ebpf.AtomicOr | ebpf.AtomicFetch:
		old = atomic.OrUint64(p, src)
	default:
		for {
			old = atomic.LoadUint64(p)
			if atomic.CompareAndSwapUint64(p, old, old^src) {
				break
			}
		}
	}
	if in.Imm&ebpf.AtomicFetch != 0 {
		regs[in.Src&15] = old
	}
}

// rawLoad and rawStore move n bytes in the machine's order, little-endian.
func rawLoad(p unsafe.Pointer, n uint64) uint64 {
	switch n {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

func rawStore(p unsafe.Pointer, n, v uint64) {
	switch n {
	case 1:
		*(*uint8)(p) = uint8(v)
	case 2:
		*(*uint16)(p) = uint16(v)
	case 4:
		*(*uint32)(p) = uint32(v)
	default:
		*(*uint64)(p) = v
	}
}
