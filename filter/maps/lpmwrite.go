package maps

import (
	"sync/atomic"
	"syscall"
)

func (t *lpm) set(key, value []byte, flags uint64, _ int) syscall.Errno {
	p := t.parse(key)
	if p.len > t.max || flags > UpdateExist {
		return syscall.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at, old, common := t.descend(p)
	exact := old != nil && common == *plen(old) && common == p.len
	exists := exact && *isElem(old) != 0
	if e := checkExist(exists, flags); e != 0 {
		return e
	}
	if !exists && t.count == t.m.spec.MaxEntries {
		return syscall.ENOSPC
	}
	n, e := t.slots.get()
	if e != 0 {
		return e
	}
	t.prepare(n, key, value, p)
	fork := old != nil && common < *plen(old) && common < p.len
	var f node
	if fork {
		if f, e = t.slots.get(); e != 0 {
			t.slots.put(n)
			return e
		}
	}

	t.begin()
	defer t.end(p)
	if !exists {
		t.count++
	}
	switch {
	case old == nil:
		atomic.StoreUint32(at, t.link(n))
	case exact:
		*child(n, 0), *child(n, 1) = *child(old, 0), *child(old, 1)
		atomic.StoreUint32(at, t.link(n))
		t.m.dropped(t.value(old))
		defer t.slots.put(old)
	case fork:
		t.prepareFork(f, p, common)
		b := bit(p.data, common)
		*child(f, b), *child(f, 1-b) = t.link(n), t.link(old)
		atomic.StoreUint32(at, t.link(f))
	default: // the new prefix covers the old node
		*child(n, bit(t.data(old), p.len)) = t.link(old)
		atomic.StoreUint32(at, t.link(n))
	}
	return 0
}

// descend finds where p is or belongs: the link to it, the node there (nil: none),
// and how many bits that node has in common with p.
func (t *lpm) descend(p *prefix) (at *uint32, n node, common uint32) {
	at = &t.root
	for {
		if n = t.node(*at); n == nil {
			return at, nil, 0
		}
		common = t.match(n, p)
		if common < *plen(n) || common == p.len {
			return at, n, common
		}
		at = child(n, bit(p.data, common))
	}
}

// prepare fills a node that is not linked.
func (t *lpm) prepare(n node, key, value []byte, p *prefix) {
	*child(n, 0), *child(n, 1) = 0, 0
	*plen(n), *isElem(n) = p.len, 1
	t.cut(n, p, p.len)
	copy(t.key(n), key)
	copy(t.value(n), value)
}

// prepareFork makes a node that only branches, at the first l bits of p.
func (t *lpm) prepareFork(n node, p *prefix, l uint32) {
	*plen(n), *isElem(n) = l, 0
	t.cut(n, p, l)
}

// cut stores the first l bits of p, and zeros behind them.
func (t *lpm) cut(n node, p *prefix, l uint32) {
	for w := range t.data(n) {
		word := p.data[w]
		switch from := uint32(w) * 64; {
		case l <= from:
			word = 0
		case l < from+64:
			word &^= 1<<(64-(l-from)) - 1
		}
		t.data(n)[w] = word
	}
}

// begin and end enclose a change: readers between them take the lock.
func (t *lpm) begin() { atomic.AddUint32(t.seq, 1) }

func (t *lpm) end(p *prefix) {
	t.reindex(p)
	atomic.AddUint32(t.seq, 1)
}

// reindex computes the table's entries for all first bits that p covers.
func (t *lpm) reindex(p *prefix) {
	l := min(p.len, t.bits)
	first := t.first(p.data) &^ (1<<(t.bits-l) - 1)
	t.index(span{first, first + 1<<(t.bits-l)}, span{0, 1 << t.bits}, t.node(t.root), nil)
}

// first returns the bits that the table is indexed by.
func (t *lpm) first(data []uint64) uint32 { return uint32(data[0] >> (64 - t.bits&63)) }

// span is a range of table entries, the end excluded.
type span struct{ from, to uint32 }

func (s span) and(o span) span { return span{max(s.from, o.from), min(s.to, o.to)} }

// index fills the entries in want for the part of the trie under n, which lies in
// all; best is the longest element that covers all.
func (t *lpm) index(want, all span, n, best node) {
	if want = want.and(all); want.from >= want.to {
		return
	}
	if n == nil {
		t.put(want, nil, best)
		return
	}
	l, at := *plen(n), t.first(t.data(n))
	if l >= t.bits {
		t.put(span{want.from, min(want.to, at)}, nil, best)
		t.put(want.and(span{at, at + 1}), n, best)
		t.put(span{max(want.from, at+1), want.to}, nil, best)
		return
	}
	under := span{at, at + 1<<(t.bits-l)}
	t.put(span{want.from, min(want.to, under.from)}, nil, best)
	t.put(span{max(want.from, under.to), want.to}, nil, best)
	if *isElem(n) != 0 {
		best = n
	}
	half := (under.from + under.to) / 2
	t.index(want, span{under.from, half}, t.node(*child(n, 0)), best)
	t.index(want, span{half, under.to}, t.node(*child(n, 1)), best)
}

func (t *lpm) put(s span, n, best node) {
	for b := s.from; b < s.to; b++ {
		e := t.entry(b)
		atomic.StoreUint32(&e[0], t.link(n))
		atomic.StoreUint32(&e[1], t.link(best))
	}
}

func (t *lpm) unset(key []byte) syscall.Errno {
	p := t.parse(key)
	if p.len > t.max {
		return syscall.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// The path down, as links; the last one leads to the node.
	var above *uint32
	at := &t.root
	n := t.node(*at)
	for n != nil && *plen(n) < p.len && t.match(n, p) == *plen(n) {
		above, at = at, child(n, bit(p.data, *plen(n)))
		n = t.node(*at)
	}
	if n == nil || *plen(n) != p.len || t.match(n, p) != p.len || *isElem(n) == 0 {
		return syscall.ENOENT
	}
	t.begin()
	defer t.end(p)
	t.count--
	t.m.dropped(t.value(n))
	c0, c1 := *child(n, 0), *child(n, 1)
	if c0 != 0 && c1 != 0 {
		*isElem(n) = 0
		return 0
	}
	defer t.slots.put(n)
	if c0|c1 == 0 && above != nil {
		if up := t.node(*above); *isElem(up) == 0 {
			// The branch above has one side left: that takes its place.
			other := *child(up, 0)
			if child(up, 0) == at {
				other = *child(up, 1)
			}
			atomic.StoreUint32(above, other)
			defer t.slots.put(up)
			return 0
		}
	}
	atomic.StoreUint32(at, c0|c1)
	return 0
}

// next walks elements as Linux does: what a prefix covers comes before it, zero
// bits before one bits.
func (t *lpm) next(key, out []byte) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.successor(key)
	if n == nil {
		return syscall.ENOENT
	}
	copy(out, t.key(n))
	return 0
}

func (t *lpm) successor(key []byte) node {
	root := t.node(t.root)
	if key == nil {
		return t.leftmost(root)
	}
	p := t.parse(key)
	if p.len > t.max {
		return t.leftmost(root)
	}
	var path []node
	n := root
	for n != nil && *plen(n) < p.len && t.match(n, p) == *plen(n) {
		path = append(path, n)
		n = t.node(*child(n, bit(p.data, *plen(n))))
	}
	if n == nil || *plen(n) != p.len || t.match(n, p) != p.len || *isElem(n) == 0 {
		return t.leftmost(root)
	}
	for at := len(path) - 1; at >= 0; at-- {
		up := path[at]
		if right := t.node(*child(up, 1)); right != nil && right != n {
			return t.leftmost(right)
		}
		if *isElem(up) != 0 {
			return up
		}
		n = up
	}
	return nil
}

// leftmost returns the first element under n in the order of next.
func (t *lpm) leftmost(n node) node {
	for n != nil {
		c := t.node(*child(n, 0))
		if c == nil {
			c = t.node(*child(n, 1))
		}
		if c == nil {
			break
		}
		n = c
	}
	return n
}
