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
	if n == 0 || t.values[n].marked {
		return
	}
	t.todo = append(t.todo[:0], n)
	for len(t.todo) > 0 {
		n := t.todo[len(t.todo)-1]
		t.todo = t.todo[:len(t.todo)-1]
		x := &t.values[n]
		if n == 0 || x.marked {
			continue
		}
		x.marked = true
		t.todo = append(t.todo, x.a, x.b)
	}
}

func (t *tracker) needed(n int32) bool { return t.values[n].marked }

// read marks the contents n of a slot and those it was carried over from.
func (t *tracker) read(n int32) {
	for n != 0 && !t.slots[n].marked {
		t.slots[n].marked = true
		n = t.slots[n].a
	}
}

func (t *tracker) wasRead(n int32) bool { return t.slots[n].marked }

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

// needAll marks every number and slot of s: its future is not known yet.
func (t *tracker) needAll(s *state) {
	s.each(func(r *reg) { t.need(r.node) })
	for i := 0; i <= s.top; i++ {
		for n := range s.frames[i].stack {
			t.read(s.frames[i].stack[n].live)
		}
	}
}
