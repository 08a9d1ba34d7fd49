package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"taproom/stack"
	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
	"taproom/stack/packet"
	"taproom/stack/wire"
	"taproom/tap"
	"taproom/tap/netns"
)

// link is a link that is up.
type link struct {
	spec plan.Link
	line line
	taps [2]*tap.TAP // of the ends that are namespaces
	done chan struct{}

	// Under Lab.mu: of the first end's and the second end's direction, and why
	// a TAP of the link is gone, if it is.
	impairments [2]wire.Impairment
	failure     error
}

// line is what the frames of a link pass: a wire, or a shim at a TAP.
type line interface {
	impair([2]wire.Impairment) error
	stats() ([2]wire.Stats, bool)
	observe(end int, f func(out bool, batch []*packet.Packet)) (cancel func())
	close() error
}

// cable is a wire between two routers.
type cable struct{ ends [2]*wire.End }

func (c cable) impair(i [2]wire.Impairment) error {
	return errors.Join(c.ends[0].Impair(i[0]), c.ends[1].Impair(i[1]))
}

func (c cable) stats() ([2]wire.Stats, bool) {
	return [2]wire.Stats{c.ends[0].Sent(), c.ends[1].Sent()}, true
}

func (c cable) observe(end int, f func(bool, []*packet.Packet)) func() {
	return c.ends[end].Observe(f)
}

func (c cable) close() error { return c.ends[0].Close() }

// shimmed is a link with a TAP at an end, behind the shim. Its near side is a
// router's interface, or the other room's TAP.
type shimmed struct {
	shim  *wire.Shim
	tapAt int        // the end whose TAP is behind the shim
	other tap.Device // the other room's TAP, nil if a router is there
}

func (s shimmed) impair(i [2]wire.Impairment) error {
	return s.shim.Impair(i[1-s.tapAt], i[s.tapAt])
}

func (s shimmed) stats() (out [2]wire.Stats, ok bool) {
	out[1-s.tapAt], out[s.tapAt], ok = s.shim.Wire()
	return out, ok
}

// observe turns the direction round at the TAP's end: what goes to the TAP
// comes in at the room.
func (s shimmed) observe(end int, f func(bool, []*packet.Packet)) func() {
	if end != s.tapAt {
		return s.shim.Observe(f)
	}
	return s.shim.Observe(func(out bool, batch []*packet.Packet) { f(!out, batch) })
}

func (s shimmed) close() error {
	err := s.shim.Close()
	if s.other != nil {
		err = errors.Join(err, s.other.Close())
	}
	return err
}

func (l *Lab) addLink(p plan.Link) (err error) {
	k := &link{spec: p, done: make(chan struct{})}
	var rooms [2]*room
	for e := range rooms {
		if rooms[e], err = l.room(p.Ends[e].At.Room); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			k.close(rooms)
		}
	}()
	for e, r := range rooms {
		if r.ns != nil {
			if k.taps[e], err = openTAP(r.ns, p, e); err != nil {
				return err
			}
		}
	}
	config := wire.Config{
		Name: p.Name, NameA: p.Ends[0].At.String(), NameB: p.Ends[1].At.String(), MTU: wire.MaxMTU, Seed: p.Seed ^ hash(p.Name),
	}
	var devices [2]tap.Device // of the routers' interfaces
	switch {
	case k.taps[0] == nil && k.taps[1] == nil:
		a, b, err := wire.New(config)
		if err != nil {
			return err
		}
		k.line, devices = cable{[2]*wire.End{a, b}}, [2]tap.Device{a, b}
	default:
		at := 0
		if k.taps[0] == nil {
			at = 1
		}
		shim, err := wire.Around(k.taps[at], config)
		if err != nil {
			return err
		}
		s := shimmed{shim: shim, tapAt: at}
		if other := k.taps[1-at]; other != nil {
			s.other = other
		} else {
			devices[1-at] = shim
		}
		k.line = s
		if s.other != nil {
			if err := join(shim, s.other); err != nil {
				return err
			}
		}
	}
	for e, dev := range devices {
		if dev == nil {
			continue
		}
		_, err = rooms[e].node.AddInterface(dev, stack.InterfaceConfig{
			Name: p.Ends[e].At.Interface, Addr: p.Ends[e].MAC.HardwareAddr(), MTU: 1500,
		})
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.links[p.Name] = k
	l.mu.Unlock()
	l.watch(k)
	return nil
}

// join lets two devices exchange frames.
func join(a, b tap.Device) error {
	if err := a.Start(func(_ int, batch []*packet.Packet) { b.Write(tap.AnyQueue, batch) }); err != nil {
		return err
	}
	return b.Start(func(_ int, batch []*packet.Packet) { a.Write(tap.AnyQueue, batch) })
}

func openTAP(ns *netns.Namespace, p plan.Link, e int) (*tap.TAP, error) {
	end := p.Ends[e]
	o := tap.Options{Name: end.At.Interface, Namespace: ns, Queues: end.Queues, Addr: end.MAC.HardwareAddr(), Up: true}
	if !p.Offload {
		o.Offloads = new(tap.Offloads)
	}
	return tap.Open(o)
}

// watch reports a TAP that is taken away under our feet.
func (l *Lab) watch(k *link) {
	for e, t := range k.taps {
		if t == nil {
			continue
		}
		go func() {
			select {
			case <-t.Failed():
				l.log("%v: %v", k.spec.Ends[e].At, t.Err())
				l.mu.Lock()
				k.failure = t.Err()
				far := l.rooms[k.spec.Ends[1-e].At.Room]
				l.mu.Unlock()
				if far != nil && far.node != nil {
					if ifc := far.node.InterfaceByName(k.spec.Ends[1-e].At.Interface); ifc != nil {
						ifc.SetUp(false)
					}
				}
			case <-k.done:
			}
		}()
	}
}

func (l *Lab) removeLink(name string) error {
	l.mu.Lock()
	k := l.links[name]
	delete(l.links, name)
	var rooms [2]*room
	if k != nil {
		for e := range rooms {
			rooms[e] = l.rooms[k.spec.Ends[e].At.Room]
		}
	}
	l.mu.Unlock()
	if k == nil {
		return nil
	}
	return k.close(rooms)
}

// close takes a link away, also one that is only half there.
func (k *link) close(rooms [2]*room) error {
	close(k.done)
	var err error
	closed := false
	for e, r := range rooms {
		if r != nil && r.node != nil && r.node.InterfaceByName(k.spec.Ends[e].At.Interface) != nil {
			err = errors.Join(err, r.node.RemoveInterface(k.spec.Ends[e].At.Interface))
			closed = true // the device went with the interface
		}
	}
	switch {
	case k.line == nil:
		for _, t := range k.taps {
			if t != nil {
				err = errors.Join(err, t.Close())
			}
		}
	case !closed:
		err = errors.Join(err, k.line.close())
	}
	return err
}

// impair sets one direction of a link.
func (l *Lab) impair(i plan.Impairment) error {
	l.mu.Lock()
	k := l.links[i.Link]
	if k == nil {
		l.mu.Unlock()
		return fmt.Errorf("%w: link %q", ErrNoSuch, i.Link)
	}
	imp := k.impairments
	imp[i.Direction] = i.Impairment
	l.mu.Unlock()
	if err := k.line.impair(imp); err != nil {
		return err
	}
	l.mu.Lock()
	k.impairments = imp
	nodes := [2]*room{l.rooms[k.spec.Ends[0].At.Room], l.rooms[k.spec.Ends[1].At.Room]}
	l.mu.Unlock()
	// A wire that is cut has no carrier at either end: routers notice.
	up := !imp[0].Down && !imp[1].Down
	for e, r := range nodes {
		if r != nil && r.node != nil {
			if ifc := r.node.InterfaceByName(k.spec.Ends[e].At.Interface); ifc != nil {
				ifc.SetUp(up)
			}
		} else if t, ok := any(k.taps[e]).(interface{ SetCarrier(bool) error }); ok && k.taps[e] != nil {
			_ = t.SetCarrier(up) // kernels before 4.20 cannot
		}
	}
	return nil
}

// setMTU sets the MTU of one interface. A router's end of a TAP and the
// namespace's end are set each on its own.
func (l *Lab) setMTU(m plan.MTU, want *plan.Resolved) error {
	l.mu.Lock()
	k := l.links[m.Link]
	l.mu.Unlock()
	if k == nil {
		return fmt.Errorf("%w: link %q", ErrNoSuch, m.Link)
	}
	e := 0
	if k.spec.Ends[1].At == m.At {
		e = 1
	}
	r, err := l.room(m.At.Room)
	if err != nil {
		return err
	}
	if r.ns != nil {
		return r.ns.Configure(netns.Config{Links: []netns.Link{{Name: m.At.Interface, MTU: m.MTU}}})
	}
	ifc := r.node.InterfaceByName(m.At.Interface)
	if ifc == nil {
		return fmt.Errorf("%w: interface %v", ErrNoSuch, m.At)
	}
	if err := ifc.SetMTU(m.MTU); err != nil {
		return err
	}
	// That set the kernel's side of a TAP too; give it back what it had.
	if far := k.spec.Ends[1-e].At; k.taps[1-e] != nil {
		for _, res := range want.Resources {
			if o, ok := res.(plan.MTU); ok && o.At == far {
				return l.setMTU(o, want)
			}
		}
	}
	return nil
}

// find returns the link and the end an interface is at, or the link of a name
// with end -1.
func (l *Lab) find(what string) (*link, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.links[what]; k != nil {
		return k, -1, nil
	}
	for _, k := range l.links {
		for e := range k.spec.Ends {
			if k.spec.Ends[e].At.String() == what {
				return k, e, nil
			}
		}
	}
	return nil, 0, fmt.Errorf("%w: neither a link nor an interface (room:interface) is named %q ('taproom link show' lists them)", ErrNoSuch, what)
}

// Impair changes the settings of a link: of the direction that leaves an
// interface, or of both directions of a link given by name. Settings that are
// not in change stay. It is an Apply of the file with that change, so computed
// routes lead round a link that is taken down, and come back with it. It
// returns what holds now, by the interface a direction leaves.
func (l *Lab) Impair(ctx context.Context, what string, change spec.Impair) (map[string]wire.Impairment, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	k, end, err := l.find(what)
	if err != nil {
		return nil, err
	}
	file := *l.File()
	file.Links = slices.Clone(file.Links)
	i := slices.IndexFunc(file.Links, func(f spec.Link) bool { return f.Name == k.spec.Name })
	if i < 0 {
		return nil, fmt.Errorf("%w: link %q", ErrNoSuch, k.spec.Name)
	}
	for d, own := range []*spec.Impair{&file.Links[i].Forward, &file.Links[i].Backward} {
		if end < 0 || end == d {
			own.Merge(change)
		}
		own.Merge(spec.Impair{State: change.State}) // a cable has one carrier
	}
	now := file.Links[i].Impairments()
	for _, imp := range now {
		if err := imp.Validate(); err != nil {
			return nil, err
		}
	}
	if err := l.apply(ctx, &file, nil); err != nil {
		return nil, err
	}
	return map[string]wire.Impairment{k.spec.Ends[0].At.String(): now[0], k.spec.Ends[1].At.String(): now[1]}, nil
}

// hash spreads the names of links over seeds (FNV-1a).
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
