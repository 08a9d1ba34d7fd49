package verifier

import "taproom/filter/helper"

// queueCallback queues a path on which the helper calls back, before the running
// path goes on as if it did not. A callback returns to the call itself
// (leaveFrame), so a path sees it called any number of times.
func (v *verifier) queueCallback(p *helper.Proto, meta *callMeta) error {
	i := v.subprogAt(meta.fn)
	if i < 0 {
		return v.invalid("callback is not a function of the program")
	}
	sub := &v.subprogs[i]
	sub.callback = true
	v.noteCallee(sub.start)
	f := v.cur.frame()
	if p.ID == helper.TimerSetCallback {
		return v.queueTimer(i, meta)
	}
	if p.ID == helper.Loop {
		turns := &f.regs[1]
		if turns.kind != number {
			return v.invalid("R1 type=%s expected=scalar", turns.typeName())
		}
		v.track.need(turns.node)
		if uint64(f.callDepth) >= turns.num.UMax {
			f.callDepth = 0
			return nil
		}
	}
	st, err := v.fork(sub.start)
	if err != nil {
		return err
	}
	caller := st.frame()
	caller.callDepth++
	st.unrolled++
	g, err := v.enter(st, i, v.pc)
	if err != nil {
		return err
	}
	g.callback, g.retMin, g.retMax = true, 0, 1
	if p.ID == helper.Loop {
		g.regs[1].setUnknown()
		g.regs[2] = caller.regs[3]
	} else {
		elementArgs(g, meta.m)
		g.regs[4] = caller.regs[3]
	}
	f.callDepth = 0
	return nil
}

// elementArgs sets R1 to R3 to a map, a key and the value under it.
func elementArgs(g *frame, m *mapInfo) {
	flags := regFlags(0)
	if m.index < 0 {
		flags = inner
	}
	g.regs[1] = reg{kind: ptrMap, m: m, flags: flags}
	g.regs[2] = reg{kind: ptrMapKey, m: m, flags: flags}
	g.regs[3] = reg{kind: ptrMapValue, m: m, flags: flags}
}

// queueTimer queues the timer's function as a program of its own: it runs after
// this one, with nothing of its state.
func (v *verifier) queueTimer(i int, meta *callMeta) error {
	sub := &v.subprogs[i]
	sub.async = true
	st, err := v.fork(sub.start)
	if err != nil {
		return err
	}
	for n := 0; n <= st.top; n++ {
		v.dropFrame(st.frames[n])
		st.frames[n] = nil
	}
	g := v.newFrame()
	g.reset(-1, i)
	st.frames[0], st.top = g, 0
	st.refs, st.lock, st.rcu = st.refs[:0], lockState{}, 0
	g.regs[10] = pointer(ptrStack)
	g.async = true
	elementArgs(g, meta.timer)
	if g.regs[3].lockable() {
		g.regs[3].id = v.nextID()
	}
	return nil
}
