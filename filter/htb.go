package filter

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// HTB is a tree of classes at an interface's egress, with token buckets that
// lend to each other (as tc-htb(8)). A packet that its class can afford
// passes at once; others wait in the class's fifo.
type HTB struct {
	dev     *Device
	major   uint32 // handle, in the high half
	defcls  uint32 // minor
	filters *block // its own, guarded by Filters.mu

	mu      sync.Mutex // guards the tree and its queues: a shaper serialises
	classes map[uint32]*class
	order   []*class // in order of creation
	timer   *time.Timer
	closed  bool
	direct  uint64 // packets of no class
	next    int    // where the round of leaves goes on
}

// ClassConfig describes a class. Rates are bytes a second, bursts bytes.
type ClassConfig struct {
	ID     uint32 // major<<16 | minor
	Parent uint32 // the root's handle, or a class
	Rate   uint64
	Ceil   uint64 // 0 is Rate
	Burst  uint32 // 0 is chosen
	CBurst uint32
	Prio   uint8
	Limit  int // packets that wait; 0 is 1000
}

// class is one node of the tree. Times are nanoseconds.
type class struct {
	ClassConfig
	parent          *class
	level           int // 0 is a leaf
	buffer, cbuffer int64
	tokens, ctokens int64
	checked         time.Time
	queue           []*packet.Packet
	queued          int // bytes

	bytes, packets, dropped, overlimits, lends, borrows uint64
}

// maxDebt is how far a bucket may be overdrawn (Linux: mbuffer).
const maxDebt = int64(time.Minute)

// AddHTB gives the interface an HTB as its root qdisc.
func (d *Device) AddHTB(major uint16, def uint16) (*HTB, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.gone {
		return nil, fail(unix.ENODEV, "")
	}
	if d.root != nil {
		return nil, fail(unix.EEXIST, "Exclusivity flag on, cannot modify.")
	}
	q := &HTB{dev: d, major: uint32(major) << 16, defcls: uint32(def), classes: make(map[uint32]*class)}
	q.filters = &block{bind: q.find}
	d.root = q
	d.queue.Store(q)
	return q, d.activate(Egress)
}

// Root is the interface's HTB, nil if it has none.
func (d *Device) Root() *HTB { return d.queue.Load() }

// DelRoot takes the root qdisc away; what waits in it is dropped.
func (d *Device) DelRoot() error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.root == nil {
		return fail(unix.ENOENT, "Cannot delete qdisc with handle of zero.")
	}
	d.queue.Store(nil)
	d.root.close()
	d.root = nil
	d.update(Egress)
	return nil
}

// AddFilter adds a classifier that chooses classes.
func (q *HTB) AddFilter(m Mode, c Config) (*Filter, error) {
	q.dev.fs.mu.Lock()
	defer q.dev.fs.mu.Unlock()
	return q.dev.addLocked(q.filters, m, c)
}

// DelFilters removes classifiers.
func (q *HTB) DelFilters(s Select) error {
	q.dev.fs.mu.Lock()
	defer q.dev.fs.mu.Unlock()
	return q.filters.del(s)
}

// Chains lists the classifiers.
func (q *HTB) Chains() []ChainInfo {
	q.dev.fs.mu.Lock()
	defer q.dev.fs.mu.Unlock()
	return q.filters.list()
}

// AddClass adds a class.
func (q *HTB) AddClass(c ClassConfig) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case c.Rate == 0 || c.ID&0xffff0000 != q.major || c.ID&0xffff == 0:
		return fail(unix.EINVAL, "")
	case q.classes[c.ID] != nil:
		return fail(unix.EEXIST, "")
	case c.Parent != q.major && q.classes[c.Parent] == nil:
		return fail(unix.ENOENT, "Specified parent class not found.")
	}
	if c.Ceil == 0 {
		c.Ceil = c.Rate
	}
	if c.Limit == 0 {
		c.Limit = 1000
	}
	k := &class{ClassConfig: c, parent: q.classes[c.Parent], checked: q.now()}
	k.buffer, k.cbuffer = bucket(c.Rate, c.Burst), bucket(c.Ceil, c.CBurst)
	k.tokens, k.ctokens = k.buffer, k.cbuffer
	for p := k.parent; p != nil; p = p.parent {
		if p.level == 0 && len(p.queue) > 0 {
			q.dropAll(p)
		}
		p.level = max(p.level, 1)
	}
	q.classes[c.ID] = k
	q.order = append(q.order, k)
	q.relevel()
	return nil
}

// relevel computes how high each class stands above its leaves.
func (q *HTB) relevel() {
	for _, k := range q.order {
		k.level = 0
	}
	for range q.order {
		for _, k := range q.order {
			if k.parent != nil && k.parent.level <= k.level {
				k.parent.level = k.level + 1
			}
		}
	}
}

// DelClass removes a leaf.
func (q *HTB) DelClass(id uint32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.classes[id]
	switch {
	case k == nil:
		return fail(unix.ENOENT, "Specified class not found.")
	case k.level > 0:
		return fail(unix.EBUSY, "HTB class in use")
	}
	q.dropAll(k)
	delete(q.classes, id)
	q.order = slices.DeleteFunc(q.order, func(o *class) bool { return o == k })
	q.relevel()
	return nil
}

func (q *HTB) dropAll(k *class) {
	for _, p := range k.queue {
		k.dropped++
		p.Release()
	}
	k.queue, k.queued = nil, 0
}

func (q *HTB) now() time.Time { return q.dev.fs.host.Now() }

// find returns a class; packets and filters ask for it.
func (q *HTB) find(id uint32) *class {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.classes[id]
}

// leafFor is htb_classify: by the packet's priority, else by the filters,
// else the default. nil with drop unset is the direct way.
func (q *HTB) leafFor(p *hook.Packet, e *env) (leaf *class, drop bool) {
	if p.Priority == q.major {
		return nil, false
	}
	if k := q.find(p.Priority); k != nil && k.level == 0 {
		return k, false
	}
	s := q.filters.snap.Load()
	if s != nil {
		var res result
		r := vm.Acquire()
		ret := s.classify(r, p, e, &res)
		r.Release()
		switch ret {
		case ActShot, ActStolen, ActQueued, ActTrap:
			return nil, true
		}
		if ret >= 0 {
			k := res.bound
			if k == nil {
				if res.classid == q.major {
					return nil, false
				}
				k = q.find(res.classid)
			}
			if k != nil && k.level == 0 {
				return k, false
			}
		}
	}
	k := q.find(q.major | q.defcls)
	if k == nil || k.level > 0 {
		return nil, false
	}
	return k, false
}

// enqueue is the last thing that happens to a packet at Egress.
func (q *HTB) enqueue(p *hook.Packet, e *env) hook.Verdict {
	k, drop := q.leafFor(p, e)
	if drop {
		p.Reason = packet.ByClassifier
		return hook.Drop
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if k == nil {
		q.direct++
		return hook.Continue
	}
	now := q.now()
	if len(k.queue) == 0 {
		if from := k.lender(now); from != nil {
			k.charge(p.Len(), from, now)
			return hook.Continue
		}
	}
	if len(k.queue) >= k.Limit || q.closed {
		k.dropped++
		p.Reason = packet.Shaper
		return hook.Drop
	}
	k.overlimits++
	k.queue = append(k.queue, p)
	k.queued += p.Len()
	q.schedule(now)
	return hook.Stolen
}

func (q *HTB) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, k := range q.order {
		q.dropAll(k)
	}
}
