package relay

import (
	"container/list"
	"sync"
	"time"
)

// flowTable is a bounded set of datagram flows in the order of their last
// use: when it is full the one idle longest goes.
type flowTable struct {
	mu    sync.Mutex
	limit int
	flows map[flowKey]*list.Element
	used  list.List // of *dgramFlow, most recently used in front
}

func (t *flowTable) init(limit int) {
	t.limit = limit
	t.flows = make(map[flowKey]*list.Element)
}

// get finds a flow and marks it as used.
func (t *flowTable) get(k flowKey, now time.Time) *dgramFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.flows[k]
	if e == nil {
		return nil
	}
	f := e.Value.(*dgramFlow)
	f.used = now
	t.used.MoveToFront(e)
	return f
}

// put adds a flow and returns one that must be ended in its place, if any.
func (t *flowTable) put(f *dgramFlow, now time.Time) (victim *dgramFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.flows) >= t.limit {
		e := t.used.Back()
		victim = e.Value.(*dgramFlow)
		t.removeLocked(e)
	}
	f.used = now
	t.flows[f.key] = t.used.PushFront(f)
	return victim
}

// remove takes a flow out and reports whether it was in.
func (t *flowTable) remove(f *dgramFlow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.flows[f.key]
	if e == nil || e.Value != f {
		return false
	}
	t.removeLocked(e)
	return true
}

func (t *flowTable) removeLocked(e *list.Element) {
	delete(t.flows, e.Value.(*dgramFlow).key)
	t.used.Remove(e)
}

// idle takes out the flows that have been idle too long.
func (t *flowTable) idle(now time.Time, timeout func(*dgramFlow) time.Duration) (out []*dgramFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.used.Back(); e != nil; {
		prev := e.Prev()
		if f := e.Value.(*dgramFlow); now.Sub(f.used) >= timeout(f) {
			out = append(out, f)
			t.removeLocked(e)
		}
		e = prev
	}
	return out
}

func (t *flowTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows)
}

func (t *flowTable) list() []*dgramFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*dgramFlow
	for e := t.used.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*dgramFlow))
	}
	return out
}

func (t *flowTable) closeAll(r *Relay) {
	for _, f := range t.list() {
		t.remove(f)
		f.end(r)
	}
}
