package vm

import (
	"fmt"
	"unsafe"

	"taproom/filter/vm/code"
	"taproom/filter/vm/jit"
)

// interpret runs prog from instruction pc until the function it begins in
// returns, and gives R0. Registers, stack and context are those of the run, whose
// frame pointer R10 is set already.
//
// Loads and stores on the packet and on the stack are checked in place, all others
// by load and store. The budget is charged for the instructions between target and
// jump whenever a jump goes backwards, so that interpreted and compiled programs run
// out of it at the same place.
func (r *Run) interpret(prog *Prog, pc int) (uint64, error) {
	regs := &r.st.Regs
	insns := prog.code.Insns
	depth := r.depth
	top := r.stackTop
	pktBase, pktLen, pktPtr := r.pkt.base, r.pkt.size, r.pkt.ptr
	stkBase := regs[10] - jit.FrameSize
	stkLen := top - stkBase
	stkPtr := unsafe.Add(unsafe.Pointer(&r.st.Stack), len(r.st.Stack)-int(stkLen))
	for {
		in := &insns[pc]
		pc++
		switch in.Op {
		case code.Add + code.Imm64:
			regs[in.Dst&15] += uint64(in.Imm)
		case code.Add + code.Reg64:
			regs[in.Dst&15] += regs[in.Src&15]
		case code.Add + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) + uint32(in.Imm))
		case code.Add + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) + uint32(regs[in.Src&15]))
		case code.Sub + code.Imm64:
			regs[in.Dst&15] -= uint64(in.Imm)
		case code.Sub + code.Reg64:
			regs[in.Dst&15] -= regs[in.Src&15]
		case code.Sub + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) - uint32(in.Imm))
		case code.Sub + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) - uint32(regs[in.Src&15]))
		case code.Mul + code.Imm64:
			regs[in.Dst&15] *= uint64(in.Imm)
		case code.Mul + code.Reg64:
			regs[in.Dst&15] *= regs[in.Src&15]
		case code.Mul + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) * uint32(in.Imm))
		case code.Mul + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) * uint32(regs[in.Src&15]))
		case code.Or + code.Imm64:
			regs[in.Dst&15] |= uint64(in.Imm)
		case code.Or + code.Reg64:
			regs[in.Dst&15] |= regs[in.Src&15]
		case code.Or + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) | uint32(in.Imm))
		case code.Or + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) | uint32(regs[in.Src&15]))
		case code.And + code.Imm64:
			regs[in.Dst&15] &= uint64(in.Imm)
		case code.And + code.Reg64:
			regs[in.Dst&15] &= regs[in.Src&15]
		case code.And + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) & uint32(in.Imm))
		case code.And + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) & uint32(regs[in.Src&15]))
		case code.Xor + code.Imm64:
			regs[in.Dst&15] ^= uint64(in.Imm)
		case code.Xor + code.Reg64:
			regs[in.Dst&15] ^= regs[in.Src&15]
		case code.Xor + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) ^ uint32(in.Imm))
		case code.Xor + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) ^ uint32(regs[in.Src&15]))
		case code.Lsh + code.Imm64:
			regs[in.Dst&15] = regs[in.Dst&15] << (uint64(in.Imm) & 63)
		case code.Lsh + code.Reg64:
			regs[in.Dst&15] = regs[in.Dst&15] << (regs[in.Src&15] & 63)
		case code.Lsh + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) << (uint32(in.Imm) & 31))
		case code.Lsh + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) << (uint32(regs[in.Src&15]) & 31))
		case code.Rsh + code.Imm64:
			regs[in.Dst&15] = regs[in.Dst&15] >> (uint64(in.Imm) & 63)
		case code.Rsh + code.Reg64:
			regs[in.Dst&15] = regs[in.Dst&15] >> (regs[in.Src&15] & 63)
		case code.Rsh + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) >> (uint32(in.Imm) & 31))
		case code.Rsh + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Dst&15]) >> (uint32(regs[in.Src&15]) & 31))
		case code.Arsh + code.Imm64:
			regs[in.Dst&15] = uint64(int64(regs[in.Dst&15]) >> (uint64(in.Imm) & 63))
		case code.Arsh + code.Reg64:
			regs[in.Dst&15] = uint64(int64(regs[in.Dst&15]) >> (regs[in.Src&15] & 63))
		case code.Arsh + code.Imm32:
			regs[in.Dst&15] = uint64(uint32(int32(regs[in.Dst&15]) >> (uint32(in.Imm) & 31)))
		case code.Arsh + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(int32(regs[in.Dst&15]) >> (uint32(regs[in.Src&15]) & 31)))
		case code.Mov + code.Imm64, code.Mov + code.Imm32, code.LoadImm:
			regs[in.Dst&15] = uint64(in.Imm)
		case code.Mov + code.Reg64:
			regs[in.Dst&15] = regs[in.Src&15]
		case code.Mov + code.Reg32:
			regs[in.Dst&15] = uint64(uint32(regs[in.Src&15]))
		case code.JEq + code.Imm64:
			if regs[in.Dst&15] == uint64(in.Imm) {
				goto taken
			}
		case code.JEq + code.Reg64:
			if regs[in.Dst&15] == regs[in.Src&15] {
				goto taken
			}
		case code.JEq + code.Imm32:
			if uint32(regs[in.Dst&15]) == uint32(in.Imm) {
				goto taken
			}
		case code.JEq + code.Reg32:
			if uint32(regs[in.Dst&15]) == uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.JNE + code.Imm64:
			if regs[in.Dst&15] != uint64(in.Imm) {
				goto taken
			}
		case code.JNE + code.Reg64:
			if regs[in.Dst&15] != regs[in.Src&15] {
				goto taken
			}
		case code.JNE + code.Imm32:
			if uint32(regs[in.Dst&15]) != uint32(in.Imm) {
				goto taken
			}
		case code.JNE + code.Reg32:
			if uint32(regs[in.Dst&15]) != uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.JGT + code.Imm64:
			if regs[in.Dst&15] > uint64(in.Imm) {
				goto taken
			}
		case code.JGT + code.Reg64:
			if regs[in.Dst&15] > regs[in.Src&15] {
				goto taken
			}
		case code.JGT + code.Imm32:
			if uint32(regs[in.Dst&15]) > uint32(in.Imm) {
				goto taken
			}
		case code.JGT + code.Reg32:
			if uint32(regs[in.Dst&15]) > uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.JGE + code.Imm64:
			if regs[in.Dst&15] >= uint64(in.Imm) {
				goto taken
			}
		case code.JGE + code.Reg64:
			if regs[in.Dst&15] >= regs[in.Src&15] {
				goto taken
			}
		case code.JGE + code.Imm32:
			if uint32(regs[in.Dst&15]) >= uint32(in.Imm) {
				goto taken
			}
		case code.JGE + code.Reg32:
			if uint32(regs[in.Dst&15]) >= uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.JLT + code.Imm64:
			if regs[in.Dst&15] < uint64(in.Imm) {
				goto taken
			}
		case code.JLT + code.Reg64:
			if regs[in.Dst&15] < regs[in.Src&15] {
				goto taken
			}
		case code.JLT + code.Imm32:
			if uint32(regs[in.Dst&15]) < uint32(in.Imm) {
				goto taken
			}
		case code.JLT + code.Reg32:
			if uint32(regs[in.Dst&15]) < uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.JLE + code.Imm64:
			if regs[in.Dst&15] <= uint64(in.Imm) {
				goto taken
			}
		case code.JLE + code.Reg64:
			if regs[in.Dst&15] <= regs[in.Src&15] {
				goto taken
			}
		case code.JLE + code.Imm32:
			if uint32(regs[in.Dst&15]) <= uint32(in.Imm) {
				goto taken
			}
		case code.JLE + code.Reg32:
			if uint32(regs[in.Dst&15]) <= uint32(regs[in.Src&15]) {
				goto taken
			}
		case code.Load8:
			a := regs[in.Src&15] + uint64(int64(in.Off))
			var p unsafe.Pointer
			if o := a - pktBase; o < pktLen && pktLen-o >= 1 {
				p = unsafe.Add(pktPtr, o)
			} else if o := a - stkBase; o < stkLen && stkLen-o >= 1 {
				p = unsafe.Add(stkPtr, o)
			} else if v, ok := r.load(a, 1); ok {
				regs[in.Dst&15] = v
				continue
			} else {
				return 0, r.badAccess(prog, pc-1)
			}
			regs[in.Dst&15] = uint64(*(*uint8)(p))
		case code.Load16:
			a := regs[in.Src&15] + uint64(int64(in.Off))
			var p unsafe.Pointer
			if o := a - pktBase; o < pktLen && pktLen-o >= 2 {
				p = unsafe.Add(pktPtr, o)
			} else if o := a - stkBase; o < stkLen && stkLen-o >= 2 {
				p = unsafe.Add(stkPtr, o)
			} else if v, ok := r.load(a, 2); ok {
				regs[in.Dst&15] = v
				continue
			} else {
				return 0, r.badAccess(prog, pc-1)
			}
			regs[in.Dst&15] = uint64(*(*uint16)(p))
		case code.Load32:
			a := regs[in.Src&15] + uint64(int64(in.Off))
			var p unsafe.Pointer
			if o := a - pktBase; o < pktLen && pktLen-o >= 4 {
				p = unsafe.Add(pktPtr, o)
			} else if o := a - stkBase; o < stkLen && stkLen-o >= 4 {
				p = unsafe.Add(stkPtr, o)
			} else if v, ok := r.load(a, 4); ok {
				regs[in.Dst&15] = v
				continue
			} else {
				return 0, r.badAccess(prog, pc-1)
			}
			regs[in.Dst&15] = uint64(*(*uint32)(p))
		case code.Load64:
			a := regs[in.Src&15] + uint64(int64(in.Off))
			var p unsafe.Pointer
			if o := a - pktBase; o < pktLen && pktLen-o >= 8 {
				p = unsafe.Add(pktPtr, o)
			} else if o := a - stkBase; o < stkLen && stkLen-o >= 8 {
				p = unsafe.Add(stkPtr, o)
			} else if v, ok := r.load(a, 8); ok {
				regs[in.Dst&15] = v
				continue
			} else {
				return 0, r.badAccess(prog, pc-1)
			}
			regs[in.Dst&15] = *(*uint64)(p)
		case code.Store8, code.StoreImm8:
			a := regs[in.Dst&15] + uint64(int64(in.Off))
			v := uint64(in.Imm)
			if in.Op == code.Store8 {
				v = regs[in.Src&15]
			}
			if o := a - stkBase; o < stkLen && stkLen-o >= 1 {
				*(*uint8)(unsafe.Add(stkPtr, o)) = uint8(v)
			} else if !r.store(a, 1, v) {
				return 0, r.badAccess(prog, pc-1)
			}
		case code.Store16, code.StoreImm16:
			a := regs[in.Dst&15] + uint64(int64(in.Off))
			v := uint64(in.Imm)
			if in.Op == code.Store16 {
				v = regs[in.Src&15]
			}
			if o := a - stkBase; o < stkLen && stkLen-o >= 2 {
				*(*uint16)(unsafe.Add(stkPtr, o)) = uint16(v)
			} else if !r.store(a, 2, v) {
				return 0, r.badAccess(prog, pc-1)
			}
		case code.Store32, code.StoreImm32:
			a := regs[in.Dst&15] + uint64(int64(in.Off))
			v := uint64(in.Imm)
			if in.Op == code.Store32 {
				v = regs[in.Src&15]
			}
			if o := a - stkBase; o < stkLen && stkLen-o >= 4 {
				*(*uint32)(unsafe.Add(stkPtr, o)) = uint32(v)
			} else if !r.store(a, 4, v) {
				return 0, r.badAccess(prog, pc-1)
			}
		case code.Store64, code.StoreImm64:
			a := regs[in.Dst&15] + uint64(int64(in.Off))
			v := uint64(in.Imm)
			if in.Op == code.Store64 {
				v = regs[in.Src&15]
			}
			if o := a - stkBase; o < stkLen && stkLen-o >= 8 {
				*(*uint64)(unsafe.Add(stkPtr, o)) = v
			} else if !r.store(a, 8, v) {
				return 0, r.badAccess(prog, pc-1)
			}
		case code.Ja:
			goto taken
		case code.MayGoto:
			if r.st.Loops == 0 {
				goto taken
			}
			r.st.Loops--
		case code.Exit:
			goto exit
		case code.CallFunc:
			if r.depth == maxDepth || stkBase-jit.FrameSize < top-jit.Frames*jit.FrameSize {
				return 0, prog.fault(pc-1, -1, 0, fmt.Errorf("%w: too many frames", ErrCall))
			}
			f := &r.frames[r.depth]
			r.depth++
			f.prog, f.pc = prog, pc
			copy(f.saved[:], regs[6:11])
			regs[10] -= jit.FrameSize
			pc = int(in.Off)
			goto framed
		case code.Call:
			if in.Imm == tailCall {
				if next := r.tailTarget(regs[2], regs[3]); next != nil {
					prog, pc = next, 0
					insns = prog.code.Insns
					r.cur = prog
					goto framed
				}
				if r.err != nil {
					return 0, prog.locate(pc-1, r.err)
				}
				continue
			}
			regs[0] = r.call(in.Imm, regs[1], regs[2], regs[3], regs[4], regs[5])
			if r.err != nil {
				return 0, prog.locate(pc-1, r.err)
			}
			pktBase, pktLen, pktPtr = r.pkt.base, r.pkt.size, r.pkt.ptr
		case code.CallKfunc:
			regs[0] = r.kfunc(in.Imm, regs[1], regs[2], regs[3], regs[4], regs[5])
			if r.err != nil {
				return 0, prog.locate(pc-1, r.err)
			}
			pktBase, pktLen, pktPtr = r.pkt.base, r.pkt.size, r.pkt.ptr
		default:
			switch {
			case in.Op >= code.Load8 && in.Op <= code.Atomic64:
				if !r.uncommon(in, regs) {
					return 0, r.badAccess(prog, pc-1)
				}
			case in.Op.IsJump():
				if condition(in, regs) {
					goto taken
				}
			case in.Op.IsALU(), in.Op < code.LoadImm && in.Op >= code.Neg64:
				arith(in, regs)
			case in.Op >= code.Abs8 && in.Op <= code.Ind32:
				v, ok := r.packetLoad(in, regs[in.Src&15])
				if !ok {
					// RFC 9669 section 5.5 lets a load beyond the packet end the
					// program; in Linux it ends the function, with 0.
					regs[0] = 0
					goto exit
				}
				regs[0] = v
			default:
				if !r.uncommon(in, regs) {
					return 0, r.badAccess(prog, pc-1)
				}
			}
		}
		continue
	taken:
		if n := pc - int(in.Off); n > 0 {
			if r.st.Budget -= int64(n); r.st.Budget < 0 {
				return 0, prog.fault(pc-1, -1, 0, ErrBudget)
			}
		}
		pc = int(in.Off)
		continue
	exit:
		if r.depth == depth {
			return regs[0], nil
		}
		r.depth--
		prog, pc = r.frames[r.depth].prog, r.frames[r.depth].pc
		insns = prog.code.Insns
		r.cur = prog
		copy(regs[6:11], r.frames[r.depth].saved[:])
	framed:
		stkBase = regs[10] - jit.FrameSize
		stkLen = top - stkBase
		stkPtr = unsafe.Add(unsafe.Pointer(&r.st.Stack), len(r.st.Stack)-int(stkLen))
	}
}
