package verifier

// Two graphs say which parts of a saved state the paths through it depended on.
//
// A value node stands for a number in a saved state. A number in the running
// state points at the node it was made from: a copy at the same node, a sum at a
// new node that has both operands' nodes behind it, a constant or a load at
// none (0). When the program depends on a number being what it is (an offset, a
// size, a decided branch), need marks the nodes behind it, so every saved state
// on the way knows that this register or slot must fit.
//
// A slot node stands for the contents of a stack slot in a saved state. It has
// the node of the same slot in the saved state before behind it, unless the slot
// was overwritten in between. A read marks them.
//
// Where a loop closes, the nodes of the state at its head get those of the state
// that came round behind them.
//
// When a state is saved, each of its numbers and slots gets a node of its own,
// so that marks of one path do not spill over to its siblings.
type node struct {
	a, b   int32
	marked bool
}

type tracker struct {
	values []node
	slots  []node
	todo   []int32
}

func newTracker() tracker {
	// Node 0 is nobody's: marking it ends there.
	return tracker{values: make([]node, 1, 1024), slots: make([]node, 1, 1024)}
}

// join returns a node with both a and b behind it.
func (t *tracker) join(a, b int32) int32 {
	switch {
	case a == 0 || a == b:
		return b
	case b == 0:
		return a
	}
	return t.value(a, b)
}

func (t *tracker) value(a, b int32) int32 {
	t.values = append(t.values, node{a: a, b: b})
	return int32(len(t.values) - 1)
}

func (t *tracker) slot(a int32) int32 {
	t.slots = append(t.slots, node{a: a})
	return int32(len(t.slots) - 1)
}

// need marks the value n and all it was made from.
func (t *tracker) need(n int32) {
	if n != 0 && !t.values[n].marked {
		t.mark(t.values, n)
	}
}

// read marks the contents n of a slot and those it was carried over from.
func (t *tracker) read(n int32) {
	if n != 0 && !t.slots[n].marked {
		t.mark(t.slots, n)
	}
}

func (t *tracker) mark(nodes []node, n int32) {
	t.todo = append(t.todo[:0], n)
	for len(t.todo) > 0 {
		n := t.todo[len(t.todo)-1]
		t.todo = t.todo[:len(t.todo)-1]
		x := &nodes[n]
		if n == 0 || x.marked {
			continue
		}
		x.marked = true
		t.todo = append(t.todo, x.a, x.b)
	}
}

func (t *tracker) needed(n int32) bool { return t.values[n].marked }

func (t *tracker) wasRead(n int32) bool { return t.slots[n].marked }

// tie closes a loop: what turns out to matter of the saved state old matters of
// cur too, whose paths it stands for.
func (t *tracker) tie(old, cur *state) {
	for i := 0; i <= old.top; i++ {
		f, g := old.frames[i], cur.frames[i]
		for n := range f.regs {
			if f.regs[n].kind == number && g.regs[n].kind == number {
				t.tieValue(f.regs[n].node, g.regs[n].node)
			}
		}
		for n := range min(len(f.stack), len(g.stack)) {
			a, b := &f.stack[n], &g.stack[n]
			t.tieSlot(a.live, b.live)
			if a.spilled() && b.spilled() && a.reg.kind == number && b.reg.kind == number {
				t.tieValue(a.reg.node, b.reg.node)
			}
		}
	}
}

func (t *tracker) tieValue(old, cur int32) {
	switch {
	case old == 0 || cur == 0 || old == cur:
	case t.values[old].marked:
		t.need(cur)
	default:
		b := t.join(t.values[old].b, cur)
		t.values[old].b = b
	}
}

func (t *tracker) tieSlot(old, cur int32) {
	switch {
	case old == 0 || cur == 0 || old == cur:
	case t.slots[old].marked:
		t.read(cur)
	case t.slots[old].b == 0:
		t.slots[old].b = cur
	default:
		t.slots = append(t.slots, node{a: t.slots[old].b, b: cur})
		t.slots[old].b = int32(len(t.slots) - 1)
	}
}

// renew gives every number and slot of s a node of its own. s is about to be
// saved; the running state shares the nodes.
func (t *tracker) renew(s *state) {
	for i := 0; i <= s.top; i++ {
		f := s.frames[i]
		for n := range f.regs {
			if r := &f.regs[n]; r.kind == number {
				r.node = t.value(r.node, 0)
			}
		}
		for n := range f.stack {
			sl := &f.stack[n]
			sl.live = t.slot(sl.live)
			if sl.spilled() && sl.reg.kind == number {
				sl.reg.node = t.value(sl.reg.node, 0)
			}
		}
	}
}
