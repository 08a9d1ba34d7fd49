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

// reindex computes the table's entries for all first bytes that p covers.
func (t *lpm) reindex(p *prefix) {
	l := min(p.len, rootBits)
	first := uint32(p.data[0]>>(64-rootBits)) &^ (1<<(rootBits-l) - 1)
	q := prefix{len: rootBits, data: make([]uint64, t.words)}
	for b := first; b < first+1<<(rootBits-l); b++ {
		var best node
		q.data[0] = uint64(b) << (64 - rootBits)
		n := t.node(t.root)
		for n != nil && *plen(n) < rootBits {
			if t.match(n, &q) < *plen(n) {
				n = nil
				break
			}
			if *isElem(n) != 0 {
				best = n
			}
			n = t.node(*child(n, bit(q.data, *plen(n))))
		}
		if n != nil && t.match(n, &q) < rootBits {
			n = nil
		}
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
