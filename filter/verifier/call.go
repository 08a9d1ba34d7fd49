package verifier

import (
	"syscall"

	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

// callMeta is what the arguments of one call told.
type callMeta struct {
	m       *mapInfo // of the map argument
	uid     uint32
	memSize uint32 // AllocSize
	ref     uint32 // reference that an argument carries
	release uint32 // reference that is given up
	fn      int    // start of the callback, -1
	dyn     *dynSlot
	key     uint32
	keyOK   bool
	timer   *mapInfo // of the timer argument
	tuid    uint32
}

// callHelper is a call of a helper function.
func (v *verifier) callHelper(in ebpf.Insn) (end bool, err error) {
	id := helper.ID(in.Imm)
	p := helper.Lookup(id)
	switch {
	case p == nil:
		return false, v.invalid("invalid func unknown#%d", in.Imm)
	case !p.Progs.Has(v.progs):
		return false, v.invalid("program of this type cannot use helper %v#%d", id, in.Imm)
	case !p.Offered:
		return false, v.invalid("helper %v#%d is not offered", id, in.Imm)
	case p.Is(helper.GPL) && !v.prog.GPL():
		return false, v.invalid("cannot call GPL-restricted function from non-GPL compatible program")
	case v.cur.lock.held && id != helper.SpinUnlockID:
		return false, v.invalid("function calls are not allowed while holding a lock")
	}
	meta := callMeta{fn: -1}
	for i := range p.Args {
		if err := v.checkArg(p, i, &meta); err != nil {
			return false, err
		}
	}
	if err := v.checkMapCall(p, &meta); err != nil {
		return false, err
	}
	if err := v.beforeCall(p, &meta); err != nil {
		return false, err
	}
	if meta.release != 0 {
		v.releaseRef(meta.release)
	}
	if p.Is(helper.Callback) {
		if err := v.queueCallback(p, &meta); err != nil {
			return false, err
		}
	}
	v.afterCall(p, &meta)
	if id == helper.TailCall && v.cur.top > 0 {
		// The other program, which may do anything to the packet, ends this
		// function and returns what it likes to our caller.
		v.writesPacket = true
		return false, v.hiddenExit(unknownReg(), true)
	}
	v.pc++
	return false, nil
}

// hiddenExit is an instruction that may end its function: one path goes on
// behind it, the running one returns r0.
func (v *verifier) hiddenExit(r0 reg, moved bool) error {
	if _, err := v.fork(v.pc + 1); err != nil {
		return err
	}
	if moved {
		v.movePacket()
	}
	v.cur.frame().regs[0] = r0
	return v.leaveFrame()
}

// beforeCall applies the rules of single helpers.
func (v *verifier) beforeCall(p *helper.Proto, meta *callMeta) error {
	f := v.cur.frame()
	switch p.ID {
	case helper.TailCall:
		if err := v.checkLeaks("tail_call"); err != nil {
			return err
		}
		if r := &f.regs[3]; r.kind == number && r.num.IsConst() {
			v.track.need(r.node)
		}
	case helper.DynptrWrite:
		// That a dynptr is read-only is found when the call is made.
		if meta.dyn.kind == dynSKB || meta.dyn.kind == dynXDP {
			v.movePacket()
			v.writesPacket = true
		}
	}
	return nil
}

// afterCall clobbers the caller's registers and types the result.
func (v *verifier) afterCall(p *helper.Proto, meta *callMeta) {
	if p.Is(helper.MovesData) {
		v.movePacket()
	}
	f := v.cur.frame()
	for n := range 6 {
		f.regs[n] = reg{}
	}
	r0 := &f.regs[0]
	switch p.Ret {
	case helper.RetVoid:
		return
	case helper.RetInt:
		r0.setUnknown()
		return
	case helper.RetMapValueOrNull:
		*r0 = reg{kind: ptrMapValue, flags: mayBeNull, m: meta.m, uid: meta.uid}
		if meta.keyOK {
			r0.flags = 0
		}
		if meta.m.index < 0 {
			r0.flags |= inner
		}
		if r0.maybeNull() || r0.lockable() {
			r0.id = v.nextID()
		}
		return
	case helper.RetSocketOrNull:
		*r0 = reg{kind: ptrSock, flags: mayBeNull, id: v.nextID()}
	case helper.RetSockCommonOrNull:
		*r0 = reg{kind: ptrSockCommon, flags: mayBeNull, id: v.nextID()}
	case helper.RetTCPSockOrNull:
		*r0 = reg{kind: ptrTCPSock, flags: mayBeNull, id: v.nextID()}
	case helper.RetRecordOrNull:
		*r0 = reg{kind: ptrMem, flags: mayBeNull | record, id: v.nextID(), size: meta.memSize}
	case helper.RetDynptrMemOrNull:
		*r0 = reg{kind: ptrMem, flags: mayBeNull | sliced, id: v.nextID(), size: meta.memSize, dyn: meta.dyn.id, ref: meta.dyn.ref}
		if meta.dyn.readOnly {
			r0.flags |= readOnly
		}
		return
	}
	switch {
	case p.Is(helper.Acquires):
		r0.ref = r0.id
		v.cur.refs = append(v.cur.refs, resource{r0.id, v.pc})
	case p.Is(helper.Casts):
		r0.ref = meta.ref
	}
}

// movePacket makes every pointer into the packet an unknown number.
func (v *verifier) movePacket() {
	v.cur.each(func(r *reg) {
		if r.isPacket() || r.kind == ptrPacketEnd {
			r.setUnknown()
		}
	})
	v.killSlices(func(r *reg) bool { return r.flags&packetSlice != 0 })
}

// releaseRef gives up a reference: all pointers that carry it become numbers.
func (v *verifier) releaseRef(ref uint32) {
	v.cur.removeRef(ref)
	v.cur.each(func(r *reg) {
		if r.isPtr() && r.ref == ref {
			r.setUnknown()
		}
	})
}

// checkLeaks refuses to leave the program with something held.
func (v *verifier) checkLeaks(what string) error {
	switch {
	case len(v.cur.refs) > 0:
		r := v.cur.refs[0]
		return v.invalid("%s would lead to reference leak: unreleased reference id=%d alloc_insn=%d", what, r.id, r.insn)
	case v.cur.lock.held:
		return v.invalid("%s cannot be used inside bpf_spin_lock-ed region", what)
	case v.cur.rcu > 0:
		return v.invalid("%s cannot be used inside bpf_rcu_read_lock-ed region", what)
	}
	return nil
}

// stepExit ends a function or the program.
func (v *verifier) stepExit() (end bool, err error) {
	s := v.cur
	f := s.frame()
	if s.top > 0 {
		return false, v.leaveFrame()
	}
	if err := v.checkLeaks("BPF_EXIT instruction in main prog"); err != nil {
		return true, err
	}
	r0, err := v.read(0)
	if err != nil {
		return true, err
	}
	switch {
	case f.async:
		return true, v.checkReturn(r0, "At async callback the register", f.retMin, f.retMax)
	case v.rootGlobal != 0:
		if r0.kind != number {
			return true, v.invalid("At subprogram exit the register R0 is not a scalar value (%s)", r0.typeName())
		}
	case v.progs.Has(helper.Netfilter):
		return true, v.checkReturn(r0, "At program exit the register", 0, 1)
	}
	return true, nil
}

// checkReturn demands that a result is a number from lo to hi.
func (v *verifier) checkReturn(r *reg, where string, lo, hi int64) error {
	if r.kind != number {
		return v.invalid("%s R0 is not a known value (%s)", where, r.typeName())
	}
	v.track.need(r.node)
	// Results are ints: the low half counts.
	if int64(r.num.S32Min) < lo || int64(r.num.S32Max) > hi {
		return v.invalid("%s R0 has smin=%d smax=%d should have been in [%d, %d]", where, r.num.SMin, r.num.SMax, lo, hi)
	}
	return nil
}

// callLocal is a call of a function of the program.
func (v *verifier) callLocal(in ebpf.Insn) (end bool, err error) {
	i := v.subprogAt(v.pc + 1 + int(in.Imm))
	if i < 0 {
		return false, v.invalid("call to invalid destination")
	}
	sub := &v.subprogs[i]
	f := v.cur.frame()
	if sub.global {
		if v.cur.lock.held {
			return false, v.invalid("global function calls are not allowed while holding a lock, use static function instead")
		}
		if err := v.checkGlobalCall(i); err != nil {
			return false, err
		}
		sub.called = true
		if sub.moves {
			v.movePacket()
		}
		for n := range 6 {
			f.regs[n] = reg{}
		}
		f.regs[0].setUnknown()
		v.pc++
		return false, nil
	}
	if _, err := v.enter(v.cur, i, v.pc); err != nil {
		return false, err
	}
	g := v.cur.frame()
	copy(g.regs[1:6], f.regs[1:6])
	for n := range 6 {
		f.regs[n] = reg{}
	}
	v.pc = sub.start
	return false, nil
}

// enter pushes a frame for function i on state s.
func (v *verifier) enter(s *state, i, callsite int) (*frame, error) {
	if s.top+1 >= maxFrames {
		return nil, v.reject(v.pc, syscall.E2BIG, "the call stack of %d frames is too deep", s.top+2)
	}
	g := v.newFrame()
	g.reset(callsite, i)
	s.top++
	s.frames[s.top] = g
	g.regs[10] = reg{kind: ptrStack, frame: uint8(s.top)}
	return g, nil
}

// leaveFrame returns from a static function or a callback.
func (v *verifier) leaveFrame() error {
	s := v.cur
	f := s.frame()
	r0 := f.regs[0]
	if r0.kind == ptrStack {
		return v.invalid("cannot return stack pointer to the caller")
	}
	caller := s.frames[s.top-1]
	callsite := f.callsite
	if f.callback {
		if r0.kind == notInit {
			return v.denied("R0 !read_ok")
		}
		if err := v.checkReturn(&r0, "At callback return the register", f.retMin, f.retMax); err != nil {
			return err
		}
	} else {
		caller.regs[0] = r0
	}
	callback := f.callback
	s.frames[s.top] = nil
	s.top--
	v.dropFrame(f)
	if !callback {
		v.pc = callsite + 1
		return nil
	}
	// The helper may call again: go back to it with what this turn changed.
	if prev := v.earlier(callsite, false); prev != nil {
		v.widen(prev, s)
	}
	v.pc = callsite
	return nil
}
