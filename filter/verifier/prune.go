package verifier

import "syscall"

// How two states are compared.
type compareMode uint8

const (
	// oldCovers: what mattered in the old state must include the new one.
	oldCovers compareMode = iota
	// oldIncludes: all of the old state must include the new one. For loops,
	// where it is not known yet what matters.
	oldIncludes
	// identical: nothing happened in between.
	identical
)

// visit compares the running state with those saved at this instruction. It
// reports whether the path may end here because one of them covers it.
func (v *verifier) visit(info *insnInfo) (pruned bool, err error) {
	cur := v.cur
	add := info.force || v.jumps-v.prevJumps >= 2 && v.processed-v.prevProcessed >= 8
	for link := &info.states; *link != nil; {
		old := *link
		if old.branches > 0 {
			hit, endless := v.visitUnfinished(info, old)
			if endless {
				return false, v.reject(v.pc, syscall.EINVAL, "infinite loop detected at insn %d", v.pc)
			}
			if hit {
				v.closeLoop(old, old)
				return true, nil
			}
			// Saving a state in every turn of a short loop costs more than it
			// prunes.
			if !info.force && v.jumps-v.prevJumps < 20 && v.processed-v.prevProcessed < 100 {
				add = false
			}
		} else if head := old.open(); head != nil {
			if !v.noPrune && v.covers(old, cur, oldIncludes) {
				old.hits++
				v.closeLoop(old, head)
				return true, nil
			}
		} else if !v.noPrune && v.covers(old, cur, oldCovers) {
			old.hits++
			v.inherit(old, cur)
			return true, nil
		}
		if add {
			old.misses++
		}
		limit := 3
		if info.force && old.branches > 0 {
			limit = 64
		}
		if old.misses > old.hits*limit+limit {
			*link = old.next
			v.states--
			if old.branches == 0 {
				v.drop(old)
			} else {
				old.retired = true
			}
			continue
		}
		link = &old.next
	}
	if add {
		v.save(info)
	}
	return false, nil
}

// open returns the unfinished head of a loop that s belongs to, nil if all that
// matters of s is known.
func (s *state) open() *state {
	for h := s.openUntil; h != nil; h = h.openUntil {
		if h.branches > 0 {
			return h
		}
	}
	return nil
}

// closeLoop ends the running path at old, whose own paths end at the unfinished
// head, which the running path came through.
func (v *verifier) closeLoop(old, head *state) {
	v.track.tie(old, v.cur)
	head.target = true
	for p := v.cur.parent; p != nil && p != head; p = p.parent {
		if p.openUntil == nil || p.openUntil.path > head.path {
			p.openUntil = head
		}
	}
}

// visitUnfinished compares with a state some of whose paths, perhaps the running
// one, have not ended.
func (v *verifier) visitUnfinished(info *insnInfo, old *state) (hit, endless bool) {
	cur := v.cur
	if cur.top != old.top || cur.frame().async != old.frame().async {
		return false, false
	}
	if info.force {
		// A loop that something else than its condition bounds: another turn
		// that brings nothing new need not be walked.
		progress := cur.mayGoto != old.mayGoto || cur.unrolled != old.unrolled || v.iterMoved(old, cur)
		if progress || info.callback {
			return v.covers(old, cur, oldIncludes), false
		}
	}
	if cur.mayGoto != old.mayGoto || cur.unrolled != old.unrolled || v.iterMoved(old, cur) {
		return false, false
	}
	f, g := old.frame(), cur.frame()
	for n := range f.regs {
		// The quick way to tell that a loop counter moved.
		if f.regs[n].kind != g.regs[n].kind || f.regs[n].num.UMin != g.regs[n].num.UMin {
			return false, false
		}
	}
	return false, v.covers(old, cur, identical)
}

// iterMoved reports whether an iterator advanced between two states.
func (v *verifier) iterMoved(old, cur *state) bool {
	for i := 0; i <= min(old.top, cur.top); i++ {
		f, g := old.frames[i], cur.frames[i]
		for n := range min(len(f.stack), len(g.stack)) {
			a, b := &f.stack[n], &g.stack[n]
			if a.bytes[0] == slotIter && b.bytes[0] == slotIter && a.dyn.depth != b.dyn.depth {
				return true
			}
		}
	}
	return false
}

// save keeps a copy of the running state at this instruction.
func (v *verifier) save(info *insnInfo) {
	v.prevJumps, v.prevProcessed = v.jumps, v.processed
	v.dropLonelyLinks(v.cur)
	v.track.renew(v.cur)
	st := v.clone(v.cur)
	st.parent, st.branches, st.pc = v.cur.parent, 1, v.pc
	v.cur.parent = st
	st.next, info.states = info.states, st
	v.states++
	v.totalStates++
	v.peakStates = max(v.peakStates, v.states)
}

// dropLonelyLinks forgets links between numbers that have no partner left, so
// that a state does not differ from another by a link to nothing.
func (v *verifier) dropLonelyLinks(s *state) {
	v.ids.reset()
	s.each(func(r *reg) {
		if r.kind == number && r.id != 0 {
			v.ids.count(r.id)
		}
	})
	s.each(func(r *reg) {
		if r.kind == number && r.id != 0 && v.ids.counted(r.id) < 2 {
			r.id, r.delta = 0, 0
		}
	})
}

// inherit marks in the running state what mattered in the old one, since its
// paths stand for the rest of the running path.
func (v *verifier) inherit(old, cur *state) {
	for i := 0; i <= old.top; i++ {
		f, g := old.frames[i], cur.frames[i]
		for n := range f.regs {
			if r := &f.regs[n]; r.kind == number && v.track.needed(r.node) {
				v.track.need(g.regs[n].node)
			}
		}
		for n := range f.stack {
			s := &f.stack[n]
			if n >= len(g.stack) {
				break
			}
			if v.track.wasRead(s.live) {
				v.track.read(g.stack[n].live)
			}
			if s.spilled() && s.reg.kind == number && v.track.needed(s.reg.node) && g.stack[n].spilled() {
				v.track.need(g.stack[n].reg.node)
			}
		}
	}
}
