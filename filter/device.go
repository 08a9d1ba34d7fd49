package filter

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/filter/vm"
	"taproom/stack/hook"
)

// Direction is a side of an interface.
type Direction uint8

// The directions.
const (
	Ingress Direction = iota
	Egress
)

func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Qdisc is the kind of an interface's ingress qdisc.
type Qdisc string

// The kinds. NoQdisc has no place for filters.
const (
	NoQdisc      Qdisc = ""
	Clsact       Qdisc = "clsact"
	IngressQdisc Qdisc = "ingress"
)

// Device is what is attached to one interface.
type Device struct {
	fs    *Filters
	index int
	name  string

	// Guarded by fs.mu.
	gone   bool
	qdisc  Qdisc
	blocks [2]*block // by direction; the ingress qdisc has one for both
	root   *HTB
	tcx    [2]tcxList
	links  [2]*hook.Link

	// What packets read.
	live  [2]atomic.Pointer[block]
	queue atomic.Pointer[HTB]
}

// Index and Name are the interface's.
func (d *Device) Index() int { return d.index }

// Name is the interface's name.
func (d *Device) Name() string { return d.name }

// AddQdisc gives the interface a clsact or ingress qdisc, without which it
// has no classifier chains.
func (d *Device) AddQdisc(q Qdisc) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	switch {
	case d.gone:
		return fail(unix.ENODEV, "")
	case q != Clsact && q != IngressQdisc:
		return fail(unix.ENOENT, "Specified qdisc kind is unknown.")
	case d.qdisc != NoQdisc:
		return fail(unix.EEXIST, "Exclusivity flag on, cannot modify.")
	}
	d.qdisc = q
	d.blocks[Ingress] = new(block)
	d.blocks[Egress] = d.blocks[Ingress]
	d.live[Ingress].Store(d.blocks[Ingress])
	if q == Clsact {
		d.blocks[Egress] = new(block)
		d.live[Egress].Store(d.blocks[Egress])
	}
	return nil
}

// DelQdisc takes it away with all its filters.
func (d *Device) DelQdisc() error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.qdisc == NoQdisc {
		return fail(unix.EINVAL, "Cannot find specified qdisc on specified device.")
	}
	d.dropQdiscLocked()
	return nil
}

func (d *Device) dropQdiscLocked() {
	for _, b := range d.blocks {
		if b != nil {
			b.chains = nil
			b.publish()
		}
	}
	d.qdisc, d.blocks = NoQdisc, [2]*block{}
	for dir := range d.links {
		d.live[dir].Store(nil)
		d.update(Direction(dir))
	}
}

// Qdisc is the kind it has.
func (d *Device) Qdisc() Qdisc {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	return d.qdisc
}

// AddFilter adds, replaces or changes a classifier in a direction. On an
// interface with an ingress qdisc both directions are the same list, which
// runs at ingress.
func (d *Device) AddFilter(dir Direction, m Mode, c Config) (*Filter, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	b := d.blocks[dir]
	if b == nil {
		return nil, fail(unix.EINVAL, "Parent Qdisc doesn't exists.")
	}
	f, err := d.addLocked(b, m, c)
	if err != nil {
		return nil, err
	}
	if d.qdisc == IngressQdisc {
		dir = Ingress
	}
	return f, d.activate(dir)
}

func (d *Device) addLocked(b *block, m Mode, c Config) (*Filter, error) {
	f, err := b.add(m, c)
	if err != nil {
		return nil, err
	}
	for _, a := range c.Actions {
		d.fs.number(a)
	}
	return f, nil
}

// DelFilters removes the classifiers that s selects.
func (d *Device) DelFilters(dir Direction, s Select) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	b := d.blocks[dir]
	if b == nil {
		return fail(unix.EINVAL, "Parent Qdisc doesn't exists.")
	}
	if err := b.del(s); err != nil {
		return err
	}
	d.update(dir)
	return nil
}

// ChainInfo is a chain in a listing: its filters in order of priority, newest
// first in each.
type ChainInfo struct {
	Index      uint32
	Priorities []PriorityInfo
}

// PriorityInfo are the filters of one priority.
type PriorityInfo struct {
	Priority, Protocol uint16
	Filters            []*Filter
}

// Chains lists a direction's chains in order of their creation.
func (d *Device) Chains(dir Direction) []ChainInfo {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	return d.blocks[dir].list()
}

func (b *block) list() []ChainInfo {
	if b == nil {
		return nil
	}
	var out []ChainInfo
	for _, c := range b.chains {
		ci := ChainInfo{Index: c.index}
		for _, p := range c.prios {
			ci.Priorities = append(ci.Priorities, PriorityInfo{p.prio, p.proto, append([]*Filter(nil), p.filters...)})
		}
		out = append(out, ci)
	}
	return out
}

// activate puts the device's handler at a point if it is not there yet.
func (d *Device) activate(dir Direction) error {
	if d.links[dir] != nil {
		return nil
	}
	pt := hook.Ingress
	if dir == Egress {
		pt = hook.Egress
	}
	l, err := d.fs.host.Attach(pt, &point{dev: d, dir: dir}, hook.Options{Name: "tc", Interface: d.index})
	if err != nil {
		return fail(unix.ENODEV, "").about(err.Error())
	}
	d.links[dir] = l
	return nil
}

// update takes the handler away when nothing is left for it to do.
func (d *Device) update(dir Direction) {
	if d.links[dir] == nil {
		return
	}
	idle := len(d.tcx[dir].links) == 0 && (d.blocks[dir] == nil || len(d.blocks[dir].chains) == 0)
	if dir == Egress {
		idle = idle && d.root == nil
	}
	if idle {
		_ = d.links[dir].Close()
		d.links[dir] = nil
	}
}

// removeLocked ends the device: its interface has gone, or the node goes.
func (d *Device) removeLocked() {
	d.gone = true
	for dir := range d.tcx {
		for _, k := range d.tcx[dir].links {
			k.gone = true
		}
		d.tcx[dir].links = nil
		d.tcx[dir].changed()
	}
	if d.root != nil {
		d.root.close()
		d.root = nil
		d.queue.Store(nil)
	}
	d.dropQdiscLocked()
	delete(d.fs.devs, d.index)
}

// point is the handler of one direction: tcx, then the chains, then the
// queueing discipline.
type point struct {
	dev *Device
	dir Direction
}

// Handle implements hook.Handler.
func (pt *point) Handle(_ hook.Point, p *hook.Packet) hook.Verdict {
	d, e := pt.dev, &pt.dev.fs.env
	if v, done := pt.classify(p, e); done {
		return v
	}
	if pt.dir == Egress {
		if q := d.queue.Load(); q != nil {
			return q.enqueue(p, e)
		}
	}
	return hook.Continue
}

// classify runs the programs; done says that the packet goes no further here.
func (pt *point) classify(p *hook.Packet, e *env) (v hook.Verdict, done bool) {
	list, live := &pt.dev.tcx[pt.dir].snap, &pt.dev.live[pt.dir]
	if b := live.Load(); list.Load() == nil && (b == nil || b.snap.Load() == nil) {
		return hook.Continue, false
	}
	// A program that is let go of lives on until every Run has been idle, so
	// what is found while one is held may be run.
	r := vm.Acquire()
	defer r.Release()
	progs := list.Load()
	var s *snapshot
	if b := live.Load(); b != nil {
		s = b.snap.Load()
	}
	v = hook.Continue
	if progs != nil {
		v = runTCX(*progs, r, p, e)
		if v == hook.Accept {
			return hook.Continue, false // past the chains, to the queue
		}
	}
	if v == hook.Continue && s != nil {
		var res result
		v = act(s.classify(r, p, e, &res), p, &res)
	}
	if v == hook.Redirect {
		v = e.redirect(p)
	}
	return v, v != hook.Continue
}
