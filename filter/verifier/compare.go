package verifier

import "slices"

// idMap pairs the ids of two states: names given to links, references and
// unchecked pointers mean the same if they pair up one to one.
type idMap struct {
	pairs   [][2]uint32 // pointers and references
	numbers [][2]uint32 // links of numbers
	counts  []idCount
}

type idCount struct {
	id uint32
	n  int
}

func (m *idMap) reset() {
	m.pairs, m.numbers, m.counts = m.pairs[:0], m.numbers[:0], m.counts[:0]
}

func (m *idMap) count(id uint32) {
	for i := range m.counts {
		if m.counts[i].id == id {
			m.counts[i].n++
			return
		}
	}
	m.counts = append(m.counts, idCount{id, 1})
}

func (m *idMap) counted(id uint32) int {
	for _, c := range m.counts {
		if c.id == id {
			return c.n
		}
	}
	return 0
}

// same pairs two ids, both ways.
func (m *idMap) same(old, cur uint32) bool {
	if (old == 0) != (cur == 0) {
		return false
	}
	if old == 0 {
		return true
	}
	for _, p := range m.pairs {
		if p[0] == old || p[1] == cur {
			return p[0] == old && p[1] == cur
		}
	}
	m.pairs = append(m.pairs, [2]uint32{old, cur})
	return true
}

// linked tests that numbers linked in the old state are linked in the new one.
// More links in the new state do no harm.
func (m *idMap) linked(old, cur *reg) bool {
	if old.id == 0 {
		return true
	}
	for _, p := range m.numbers {
		if p[0] == old.id {
			return p[1] == cur.id && cur.id != 0 && old.delta == cur.delta
		}
	}
	if cur.id != 0 && old.delta != cur.delta {
		return false
	}
	m.numbers = append(m.numbers, [2]uint32{old.id, cur.id})
	return true
}

// covers reports whether what was shown for old holds for cur.
func (v *verifier) covers(old, cur *state, mode compareMode) bool {
	if old.top != cur.top || old.rcu != cur.rcu || len(old.refs) != len(cur.refs) {
		return false
	}
	v.ids.reset()
	if old.lock.held != cur.lock.held || old.lock.m != cur.lock.m || !v.ids.same(old.lock.id, cur.lock.id) {
		return false
	}
	for i := range old.refs {
		if !v.ids.same(old.refs[i].id, cur.refs[i].id) {
			return false
		}
	}
	for i := 0; i <= old.top; i++ {
		f, g := old.frames[i], cur.frames[i]
		if f.callsite != g.callsite || f.subprog != g.subprog || f.callback != g.callback ||
			f.async != g.async || f.retMin != g.retMin || f.retMax != g.retMax {
			return false
		}
	}
	// The innermost frame differs most often: begin there.
	for i := old.top; i >= 0; i-- {
		var at int
		if i == old.top {
			at = v.pc
		} else {
			at = old.frames[i+1].callsite
		}
		if !v.coversFrame(old.frames[i], cur.frames[i], v.info[at].live, mode) {
			return false
		}
	}
	return true
}

func (v *verifier) coversFrame(old, cur *frame, live uint16, mode compareMode) bool {
	for n := range 10 {
		if mode == oldCovers && live>>n&1 == 0 {
			continue
		}
		if !v.coversReg(&old.regs[n], &cur.regs[n], mode) {
			return false
		}
	}
	if mode == identical && len(old.stack) != len(cur.stack) {
		return false
	}
	for n := range old.stack {
		s := &old.stack[n]
		if mode == oldCovers && !v.track.wasRead(s.live) {
			continue
		}
		if n >= len(cur.stack) {
			// What was never written is anything.
			if mode == identical || !s.vague() {
				return false
			}
			continue
		}
		if !v.coversSlot(s, &cur.stack[n], mode) {
			return false
		}
	}
	return true
}

// vague reports whether nothing is known of the slot's bytes.
func (s *slot) vague() bool {
	for _, b := range s.bytes {
		if b != slotInvalid && b != slotMisc {
			return false
		}
	}
	return true
}

func (v *verifier) coversReg(old, cur *reg, mode compareMode) bool {
	if mode == identical {
		a, b := *old, *cur
		a.node, b.node, a.id, b.id, a.ref, b.ref = 0, 0, 0, 0, 0, 0
		return a == b && v.ids.same(old.id, cur.id) && v.ids.same(old.ref, cur.ref)
	}
	if old.kind == notInit {
		return true
	}
	if old.kind != cur.kind || old.flags != cur.flags {
		return false
	}
	if old.kind == number {
		if mode == oldCovers && !v.track.needed(old.node) {
			return true
		}
		return old.num.Contains(&cur.num) && v.ids.linked(old, cur)
	}
	if old.off != cur.off || old.m != cur.m || old.st != cur.st || old.frame != cur.frame || old.size != cur.size {
		return false
	}
	if !v.ids.same(old.id, cur.id) || !v.ids.same(old.ref, cur.ref) ||
		!v.ids.same(old.dyn, cur.dyn) || !v.ids.same(old.uid, cur.uid) {
		return false
	}
	if old.isPacket() && !rangeFits(old.rng, cur.rng) {
		return false
	}
	return old.num.Contains(&cur.num)
}

// rangeFits reports whether a packet pointer checked as far as cur may be used
// where one checked as far as old was.
func rangeFits(old, cur int32) bool {
	if old < 0 || cur < 0 {
		return old == cur
	}
	return old <= cur
}

func (v *verifier) coversSlot(old, cur *slot, mode compareMode) bool {
	if mode == identical {
		return old.bytes == cur.bytes && old.dyn == cur.dyn && (!old.spilled() || v.coversReg(&old.reg, &cur.reg, mode))
	}
	if old.vague() {
		return cur.bytes[0] != slotDynptr && cur.bytes[0] != slotIter
	}
	if old.spilled() || cur.spilled() {
		return v.coversSpill(old, cur, mode)
	}
	if old.bytes[0] == slotDynptr || old.bytes[0] == slotIter {
		a, b := old.dyn, cur.dyn
		ok := old.bytes == cur.bytes && a.kind == b.kind && a.first == b.first && a.readOnly == b.readOnly &&
			a.drained == b.drained
		return ok && v.ids.same(a.id, b.id) && v.ids.same(a.ref, b.ref)
	}
	for n, b := range old.bytes {
		switch c := cur.bytes[n]; {
		case b == c, b == slotInvalid:
		case b == slotMisc && (c == slotZero || c == slotInvalid):
		default:
			return false
		}
	}
	return true
}

// coversSpill compares slots of which at least one holds a register.
func (v *verifier) coversSpill(old, cur *slot, mode compareMode) bool {
	if old.spilled() && cur.spilled() && old.spillSize() == cur.spillSize() {
		for n := old.spillSize(); n < 8; n++ {
			b, c := old.bytes[n], cur.bytes[n]
			if b != c && b != slotInvalid && !(b == slotMisc && (c == slotZero || c == slotInvalid)) {
				return false
			}
		}
		return v.coversReg(&old.reg, &cur.reg, mode)
	}
	if !old.spilled() {
		// Bytes of the old slot that were only some number take part of any
		// number, but known zeros must be zeros.
		if cur.reg.kind != number {
			return false
		}
		for n, b := range old.bytes {
			if b == slotZero && !(cur.bytes[n] == slotZero || cur.bytes[n] == slotSpill && cur.reg.isNull()) {
				return false
			}
			if b != slotZero && b != slotMisc && b != slotInvalid {
				return false
			}
		}
		if cur.reg.isNull() && slices.Contains(old.bytes[:], slotZero) {
			v.track.need(cur.reg.node)
		}
		return true
	}
	// A number that did not matter is as good as any.
	return mode == oldCovers && old.reg.kind == number && !v.track.needed(old.reg.node) &&
		old.spillSize() == 8 && cur.vague()
}
