package wire

import (
	"slices"
	"sync"
	"sync/atomic"

	"taproom/stack/packet"
)

// observer calls functions with the frames that pass. With none it costs one
// atomic load a batch.
type observer struct {
	mu   sync.Mutex // serialises changes
	list atomic.Pointer[[]*observation]
}

type observation struct {
	f func(out bool, batch []*packet.Packet)
}

func (o *observer) see(out bool, batch []*packet.Packet) {
	if l := o.list.Load(); l != nil {
		for _, f := range *l {
			f.f(out, batch)
		}
	}
}

func (o *observer) add(f func(out bool, batch []*packet.Packet)) (cancel func()) {
	entry := &observation{f}
	o.change(func(l []*observation) []*observation { return append(l, entry) })
	return func() {
		o.change(func(l []*observation) []*observation {
			return slices.DeleteFunc(l, func(e *observation) bool { return e == entry })
		})
	}
}

func (o *observer) change(f func([]*observation) []*observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var l []*observation
	if old := o.list.Load(); old != nil {
		l = slices.Clone(*old)
	}
	if l = f(l); len(l) == 0 {
		o.list.Store(nil)
		return
	}
	o.list.Store(&l)
}

// Observe lets f see the frames at this end until cancel is called: those it
// sends before anything happens to them, those it receives after. f runs on
// the goroutine of the frames, must be quick, and may neither change nor keep
// them.
func (e *End) Observe(f func(out bool, batch []*packet.Packet)) (cancel func()) {
	return e.observer.add(f)
}
