package filter

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/filter/ebpf"
)

// Config describes a classifier, in cls_bpf's terms.
type Config struct {
	Chain        uint32
	Priority     uint16 // 0: one is chosen, below those chosen before
	Protocol     uint16 // EtherType; 0 is all
	Handle       uint32 // 0: the next free one
	DirectAction bool
	FlowID       uint32 // major<<16 | minor, 0 for none
	SkipSW       bool
	SkipHW       bool
	Program      *Program
	Actions      []Action
}

// filterKey is how a filter is found again.
type filterKey struct {
	chain  uint32
	prio   uint16
	handle uint32
}

// Mode says what AddFilter may do, as the flags of a netlink request.
type Mode uint8

// The modes, by the words of tc.
const (
	Add     Mode = iota // create, fail if it exists
	Replace             // create or replace
	Change              // replace, fail if it does not exist
)

// block is the changeable form of a list of chains. Its owner's mutex guards
// it; packets see the snapshot.
type block struct {
	chains []*chain // in order of creation
	snap   atomic.Pointer[snapshot]
	bind   func(flowID uint32) *class // finds the class of a flow, nil without classes
}

type chain struct {
	index uint32
	prios []*priority // ascending
}

// priority is a tcf_proto: filters of one priority and protocol, newest first.
type priority struct {
	prio    uint16
	proto   uint16
	filters []*Filter
}

const (
	autoFirst = 0xc000 // the first priority that is chosen by itself
	autoFloor = 0x8000 // which looks for its place among those from here on
)

func (b *block) chain(index uint32) *chain {
	for _, c := range b.chains {
		if c.index == index {
			return c
		}
	}
	return nil
}

// add is tc_new_tfilter, with cls_bpf_change: the order of the checks is
// Linux's, since it decides which error is given.
func (b *block) add(m Mode, c Config) (*Filter, error) {
	if m == Change && c.Protocol == 0 {
		return nil, fail(unix.EINVAL, "Filter kind and protocol must be specified.")
	}
	if c.Protocol == 0 {
		c.Protocol = protoAll
	}
	ch := b.chain(c.Chain)
	if ch == nil {
		if m == Change {
			return nil, fail(unix.ENOENT, "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter.")
		}
		ch = &chain{index: c.Chain}
	}
	auto := c.Priority == 0
	if auto {
		c.Priority = ch.autoPriority()
	}
	k, found := slices.BinarySearchFunc(ch.prios, c.Priority, func(p *priority, v uint16) int { return cmp.Compare(p.prio, v) })
	var tp *priority
	if found {
		tp = ch.prios[k]
		if tp.proto != c.Protocol {
			return nil, fail(unix.EINVAL, "Protocol mismatch for filter with specified priority.")
		}
	} else {
		if m == Change {
			return nil, fail(unix.ENOENT, "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter.")
		}
		tp = &priority{prio: c.Priority, proto: c.Protocol}
	}
	old := tp.find(c.Handle)
	switch {
	case old == nil && m == Change:
		return nil, fail(unix.ENOENT, "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter.")
	case old != nil && m == Add:
		return nil, fail(unix.EEXIST, "Filter already exists.")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	st := &filterState{Config: c}
	if b.bind != nil && c.FlowID != 0 {
		st.bound = b.bind(c.FlowID)
	}
	if old != nil {
		st.Handle = old.key.handle
		old.conf.Store(st)
		b.publish()
		return old, nil
	}
	if st.Handle == 0 {
		st.Handle = tp.freeHandle()
	}
	f := &Filter{key: filterKey{c.Chain, c.Priority, st.Handle}}
	f.conf.Store(st)
	tp.filters = slices.Insert(tp.filters, 0, f)
	if !found {
		ch.prios = slices.Insert(ch.prios, k, tp)
	}
	if b.chain(c.Chain) == nil {
		b.chains = append(b.chains, ch)
	}
	b.publish()
	return f, nil
}

func (c *Config) check() error {
	switch {
	case c.Program == nil || c.Program.bpf != nil && c.Program.typ != ebpf.SchedCLS:
		return fail(unix.EINVAL, "")
	case c.SkipSW && c.SkipHW:
		return fail(unix.EINVAL, "")
	case c.SkipSW: // there is no hardware here
		return fail(unix.EOPNOTSUPP, "")
	}
	return nil
}

// autoPriority is tcf_auto_prio: one below the first of the upper half.
func (c *chain) autoPriority() uint16 {
	for _, p := range c.prios {
		if p.prio >= autoFloor {
			return p.prio - 1
		}
	}
	return autoFirst
}

func (p *priority) find(handle uint32) *Filter {
	if handle == 0 {
		return nil
	}
	for _, f := range p.filters {
		if f.key.handle == handle {
			return f
		}
	}
	return nil
}

func (p *priority) freeHandle() uint32 {
	for h := uint32(1); ; h++ {
		if p.find(h) == nil {
			return h
		}
	}
}

// Select names the filters that Delete is to remove. The zero value of a
// field leaves it open.
type Select struct {
	Chain    uint32
	Priority uint16
	Protocol uint16
	Handle   uint32
	Kind     string // "bpf" where tc names it
}

// del is tc_del_tfilter.
func (b *block) del(s Select) error {
	if s.Priority == 0 && (s.Protocol != 0 || s.Handle != 0 || s.Kind != "") {
		return fail(unix.ENOENT, "Cannot flush filters with protocol, handle or kind set.")
	}
	ch := b.chain(s.Chain)
	if ch == nil {
		if s.Priority == 0 {
			return nil // flushing what is empty
		}
		return fail(unix.EINVAL, "Cannot find specified filter chain.")
	}
	if s.Priority == 0 {
		ch.prios = nil
		b.prune()
		return nil
	}
	k := slices.IndexFunc(ch.prios, func(p *priority) bool { return p.prio == s.Priority })
	if k < 0 || s.Protocol != 0 && ch.prios[k].proto != s.Protocol {
		return fail(unix.ENOENT, "Filter with specified priority/protocol not found.")
	}
	tp := ch.prios[k]
	if s.Kind != "" && s.Kind != "bpf" {
		return fail(unix.EINVAL, "Specified filter kind does not match existing one.")
	}
	if s.Handle != 0 {
		f := tp.find(s.Handle)
		if f == nil {
			return fail(unix.ENOENT, "Specified filter not found.")
		}
		tp.filters = slices.DeleteFunc(slices.Clone(tp.filters), func(g *Filter) bool { return g == f })
	} else {
		tp.filters = nil
	}
	if len(tp.filters) == 0 {
		ch.prios = slices.Delete(slices.Clone(ch.prios), k, k+1)
	}
	b.prune()
	return nil
}

// prune forgets empty chains.
func (b *block) prune() {
	b.chains = slices.DeleteFunc(b.chains, func(c *chain) bool { return len(c.prios) == 0 })
	b.publish()
}

// publish makes the present chains those that packets see.
func (b *block) publish() {
	if len(b.chains) == 0 {
		b.snap.Store(nil)
		return
	}
	s := &snapshot{chains: make(map[uint32][]entry, len(b.chains))}
	for _, c := range b.chains {
		var list []entry
		for _, p := range c.prios {
			for _, f := range p.filters {
				list = append(list, entry{proto: p.proto, f: f, st: f.conf.Load()})
			}
		}
		s.chains[c.index] = list
	}
	s.first = s.chains[0]
	b.snap.Store(s)
}

// String names a filter for errors.
func (k filterKey) String() string {
	return fmt.Sprintf("chain %d pref %d handle %#x", k.chain, k.prio, k.handle)
}

// Config is what the filter does now.
func (f *Filter) Config() Config { return f.conf.Load().Config }

// Hits is how often it was asked, Errors how often its program was stopped.
func (f *Filter) Hits() uint64 { return f.hits.Load() }

// Errors is how often its program had to be stopped.
func (f *Filter) Errors() uint64 { return f.errs.Load() }
