package hook

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// chain is one list of handlers; what packets run through is an immutable
// snapshot of it.
type chain struct {
	links    []*Link // guarded by Table.mu
	snapshot atomic.Pointer[snapshot]
}

type snapshot struct {
	all   []*Link
	v4    []*Link // all but those for IPv6 only
	v6    []*Link
	noGSO [3]bool // by Family: somebody in the list needs segments
}

func (c *chain) publish() {
	if len(c.links) == 0 {
		c.snapshot.Store(nil)
		return
	}
	s := &snapshot{all: slices.Clone(c.links)}
	for _, l := range c.links {
		f := l.opts.Family
		if f != IPv6 {
			s.v4 = append(s.v4, l)
			s.noGSO[IPv4] = s.noGSO[IPv4] || l.opts.NoGSO
		}
		if f != IPv4 {
			s.v6 = append(s.v6, l)
			s.noGSO[IPv6] = s.noGSO[IPv6] || l.opts.NoGSO
		}
		s.noGSO[Any] = s.noGSO[Any] || l.opts.NoGSO
	}
	c.snapshot.Store(s)
}

// Chains are the Ingress and Egress handlers of one interface. A node keeps
// the pointer in its interface, so that no packet looks anything up.
type Chains struct {
	index int
	at    [2]chain // Ingress, Egress
}

// Table holds all handlers of a node.
type Table struct {
	mu         sync.Mutex // serialises changes; packets never take it
	lastID     uint64
	points     [NumPoints]chain // Ingress and Egress: those of every interface
	runs       [NumPoints]atomic.Uint64
	interfaces map[int]*Chains
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{interfaces: make(map[int]*Chains)} }

// AddInterface makes the chains of a new interface.
func (t *Table) AddInterface(index int) *Chains {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &Chains{index: index}
	t.interfaces[index] = c
	return c
}

// RemoveInterface closes the links of an interface that goes away.
func (t *Table) RemoveInterface(index int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.interfaces[index]
	if c == nil {
		return
	}
	delete(t.interfaces, index)
	for i := range c.at {
		for _, l := range c.at[i].links {
			l.closed.Store(true)
		}
		c.at[i].links = nil
		c.at[i].publish()
	}
}

// Attach puts a handler at a point. See Options for where it goes, and the
// package's errors for what may be wrong.
func (t *Table) Attach(pt Point, h Handler, o Options) (*Link, error) {
	if h == nil || pt >= NumPoints {
		return nil, fmt.Errorf("%w: no handler, or point %v", ErrOptions, pt)
	}
	if pt.Frame() && (o.Priority != 0 || o.Family != Any || o.Exclusive) {
		return nil, fmt.Errorf("%w: %v orders by anchor and sees every protocol", ErrOptions, pt)
	}
	if !pt.Frame() && (o.Anchor != nil || o.Interface != 0) {
		return nil, fmt.Errorf("%w: %v belongs to the node and orders by priority", ErrOptions, pt)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.points[pt]
	if o.Interface != 0 {
		ic := t.interfaces[o.Interface]
		if ic == nil {
			return nil, fmt.Errorf("%w: index %d", ErrNoInterface, o.Interface)
		}
		c = ic.chain(pt)
	}
	i, err := c.position(pt, o)
	if err != nil {
		return nil, err
	}
	t.lastID++
	l := &Link{table: t, chain: c, id: t.lastID, point: pt, opts: o}
	l.handler.Store(&h)
	c.links = slices.Insert(c.links, i, l)
	c.publish()
	return l, nil
}

func (c *chain) position(pt Point, o Options) (int, error) {
	if pt.Frame() {
		if o.Anchor == nil {
			return len(c.links), nil
		}
		return o.Anchor.place(c.links)
	}
	i, _ := slices.BinarySearchFunc(c.links, o.Priority, func(l *Link, p int32) int {
		if l.opts.Priority == p {
			return -1 // behind its equals
		}
		return cmp.Compare(l.opts.Priority, p)
	})
	if o.Exclusive {
		for _, l := range c.links {
			if l.opts.Priority == o.Priority && (l.opts.Family == o.Family || l.opts.Family == Any || o.Family == Any) {
				return 0, fmt.Errorf("%w: %d at %v", ErrBusy, o.Priority, pt)
			}
		}
	}
	return i, nil
}

func (t *Table) detach(l *Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.closed.Swap(true) {
		return
	}
	if i := slices.Index(l.chain.links, l); i >= 0 {
		l.chain.links = slices.Delete(l.chain.links, i, i+1)
		l.chain.publish()
	}
}

// Links lists all links, by point, interface and the order in which packets
// meet them.
func (t *Table) Links() []*Link {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*Link
	indices := make([]int, 0, len(t.interfaces))
	for i := range t.interfaces {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	for pt := range NumPoints {
		out = append(out, t.points[pt].links...)
		if pt.Frame() {
			for _, i := range indices {
				out = append(out, t.interfaces[i].chain(pt).links...)
			}
		}
	}
	return out
}

// Runs is how many packets met a point.
func (t *Table) Runs(pt Point) uint64 { return t.runs[pt].Load() }

func (c *Chains) chain(pt Point) *chain {
	if pt == Ingress {
		return &c.at[0]
	}
	return &c.at[1]
}
