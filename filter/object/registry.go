package object

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	bpfmaps "taproom/filter/maps"
)

// Options configure a Registry. The zero value is fine.
type Options struct {
	// Now is the clock for load times; nil means time.Now.
	Now func() time.Time
}

// Registry is the list of a process's programs and links. Maps list themselves.
type Registry struct {
	now func() time.Time

	mu       sync.Mutex
	progs    map[uint32]*Program
	links    map[uint32]*Link
	lastLink uint32
}

// NewRegistry returns an empty registry.
func NewRegistry(o Options) *Registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{now: o.Now, progs: map[uint32]*Program{}, links: map[uint32]*Link{}}
}

// Programs returns the live programs by id. The caller gets no references.
func (r *Registry) Programs() []*Program {
	r.sweep()
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedByID(r.progs, (*Program).ID)
}

// Program returns the live program with an id, with a reference for the caller.
func (r *Registry) Program(id uint32) (*Program, bool) {
	r.sweep()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.progs[id]
	if !ok {
		return nil, false
	}
	p.holdLocked()
	return p, true
}

// Find returns the live programs that match a name or a tag in hex. The caller gets
// no references.
func (r *Registry) Find(nameOrTag string) []*Program {
	return slices.DeleteFunc(r.Programs(), func(p *Program) bool {
		return p.Name() != nameOrTag && p.Tag() != nameOrTag
	})
}

// Maps returns all live maps by id, each with a reference for the caller, who must
// Close them.
func (r *Registry) Maps() []*bpfmaps.Map {
	var all []*bpfmaps.Map
	for _, id := range bpfmaps.IDs() {
		if m, ok := bpfmaps.ByID(id); ok {
			all = append(all, m)
		}
	}
	return all
}

// Links returns the live links by id.
func (r *Registry) Links() []*Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedByID(r.links, (*Link).ID)
}

// Link returns the live link with an id.
func (r *Registry) Link(id uint32) (*Link, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.links[id]
	return l, ok
}

func sortedByID[T any](all map[uint32]T, id func(T) uint32) []T {
	return slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(id(a), id(b)) })
}

// sweep forgets programs that nobody holds any more: not even a program array.
func (r *Registry) sweep() {
	if !r.anyIdle() {
		return
	}
	inArray := map[uint32]bool{}
	for _, m := range r.Maps() {
		for i := range m.MaxEntries() {
			if m.Type() != bpfmaps.ProgArray {
				break
			}
			if p := m.Prog(uint32(i)); p != nil {
				inArray[p.ID()] = true
			}
		}
		m.Close()
	}
	r.mu.Lock()
	var gone []*Program
	for id, p := range r.progs {
		if p.refs == 0 && !inArray[id] {
			delete(r.progs, id)
			gone = append(gone, p)
		}
	}
	r.mu.Unlock()
	for _, p := range gone {
		p.src.Close()
	}
	if len(gone) > 0 {
		r.sweep() // its maps may have been program arrays
	}
}

func (r *Registry) anyIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.progs {
		if p.refs == 0 {
			return true
		}
	}
	return false
}
