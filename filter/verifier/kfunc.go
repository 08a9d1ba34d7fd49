package verifier

import (
	"taproom/filter/ebpf"
	"taproom/filter/helper"
)

// kfuncMeta is what the arguments of a kernel function told.
type kfuncMeta struct {
	dyn  dynSlot
	size uint32
	iter *slot
	ireg reg // pointer to the iterator
}

// callKfunc is a call of a kernel function.
func (v *verifier) callKfunc(in ebpf.Insn) error {
	k := helper.LookupKfunc(v.prog.Kfuncs[in.Imm].Name)
	switch {
	case !v.prog.GPL():
		return v.invalid("cannot call kernel function from non-GPL compatible program")
	case v.cur.lock.held:
		return v.invalid("function calls are not allowed while holding a lock")
	}
	var meta kfuncMeta
	f := v.cur.frame()
	for i, kind := range k.Args {
		n := uint8(i + 1)
		r, err := v.read(n)
		if err != nil {
			return err
		}
		if err := v.checkKArg(k, n, r, kind, &meta); err != nil {
			return err
		}
	}
	switch k.ID {
	case helper.RCUReadLock:
		if v.cur.rcu > 0 {
			return v.invalid("nested rcu read lock (kernel function %s)", k.Name)
		}
		v.cur.rcu++
	case helper.RCUReadUnlock:
		if v.cur.rcu == 0 {
			return v.invalid("unmatched rcu read unlock (kernel function %s)", k.Name)
		}
		v.cur.rcu--
	case helper.IterNumDestroy:
		v.cur.removeRef(meta.iter.dyn.ref)
		*meta.iter = slot{live: meta.iter.live}
	case helper.IterNumNext:
		return v.iterNext(&meta)
	case helper.DynptrSliceRdwr:
		packet := meta.dyn.kind == dynSKB || meta.dyn.kind == dynXDP
		if meta.dyn.readOnly || packet && !v.packetWritable() {
			return v.invalid("the prog does not allow writes to packet data")
		}
		v.writesPacket = v.writesPacket || packet
	}
	for n := range 6 {
		f.regs[n] = reg{}
	}
	r0 := &f.regs[0]
	switch k.Ret {
	case helper.KRetInt:
		r0.setUnknown()
	case helper.KRetSlice, helper.KRetSliceRdwr:
		*r0 = reg{kind: ptrMem, flags: mayBeNull | sliced, id: v.nextID(), size: meta.size, dyn: meta.dyn.id, ref: meta.dyn.ref}
		if k.Ret == helper.KRetSlice {
			r0.flags |= readOnly
		}
		if meta.dyn.kind == dynSKB || meta.dyn.kind == dynXDP {
			r0.flags |= packetSlice
		}
	}
	return nil
}

func (v *verifier) checkKArg(k *helper.Kfunc, n uint8, r *reg, kind helper.KKind, meta *kfuncMeta) error {
	switch kind {
	case helper.KScalar:
		if r.kind != number {
			return v.invalid("R%d is not a scalar", n)
		}
	case helper.KSKB, helper.KCtx:
		if v.progs.Has(helper.Netfilter) && kind == helper.KSKB {
			if r.kind != ptrKernel || r.st.Name != "sk_buff" || r.flags&trusted == 0 {
				return v.invalid("arg#%d expected pointer to sk_buff, R%d is %s", n-1, n, r.typeName())
			}
		} else if r.kind != ptrCtx {
			return v.invalid("arg#%d expected pointer to ctx, but got %s", n-1, r.typeName())
		}
		return v.checkFixed(n, r, true)
	case helper.KDynptr:
		d, err := v.dynptrAt(n, r)
		if err != nil {
			return err
		}
		meta.dyn = *d
	case helper.KDynptrNew:
		d := dynSlot{kind: dynSKB, readOnly: !v.packetWritable()}
		if k.ID == helper.DynptrFromXDP {
			d.kind = dynXDP
		}
		return v.makeDynptr(n, r, d)
	case helper.KDynptrClone:
		d := meta.dyn
		return v.makeDynptr(n, r, dynSlot{kind: d.kind, readOnly: d.readOnly, ref: d.ref})
	case helper.KBufOrNull:
		return nil // with its size
	case helper.KConstSize:
		if r.kind != number || !r.num.IsConst() {
			return v.invalid("R%d must be a known constant", n)
		}
		v.track.need(r.node)
		if r.num.Value() >= maxVarOff {
			return v.denied("R%d unbounded memory access", n)
		}
		meta.size = uint32(r.num.Value())
		buf := &v.cur.frame().regs[n-1]
		if buf.isNull() {
			return nil
		}
		if buf.maybeNull() || !argType(buf, helper.Arg{Kind: helper.Mem}) {
			return v.denied("R%d type=%s expected=%s", n-1, buf.typeName(), memoryTypes)
		}
		if err := v.useMem(n-1, buf, int(meta.size), false, false); err != nil {
			return err
		}
		return v.useMem(n-1, buf, int(meta.size), true, false)
	case helper.KIterNew:
		return v.makeIter(n, r)
	case helper.KIter:
		s, err := v.iterAt(n, r)
		if err != nil {
			return err
		}
		meta.iter, meta.ireg = s, *r
	}
	return nil
}

// iterNext forks: on one path the iterator yields another element, on the
// running one it is done.
func (v *verifier) iterNext(meta *kfuncMeta) error {
	clobber := func(f *frame) *reg {
		for n := range 6 {
			f.regs[n] = reg{}
		}
		return &f.regs[0]
	}
	if !meta.iter.dyn.drained {
		prev := v.earlier(v.pc, true)
		more, err := v.fork(v.pc + 1)
		if err != nil {
			return err
		}
		g := more.frames[meta.ireg.frame]
		g.stack[slotOf(meta.ireg.constOff())].dyn.depth++
		if prev != nil {
			v.widen(prev, more)
		}
		*clobber(more.frame()) = reg{kind: ptrMem, flags: readOnly, size: 4}
	}
	meta.iter.dyn.drained = true
	clobber(v.cur.frame()).set(0)
	return nil
}
