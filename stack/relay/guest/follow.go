package guest

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"taproom/stack/relay"
)

// Auto says which ports of the host are to follow what listens inside.
type Auto struct {
	TCP, UDP bool
	// Except are host ports that are left alone.
	ExceptTCP, ExceptUDP PortSet
	// Bind are the host's addresses to listen on.
	Bind []netip.Addr
	// Gateway4 and Gateway6 stand for clients on the host's loopback.
	Gateway4, Gateway6 netip.Addr
}

// The pace of looking at what listens inside: while a forward waits for its
// listener, and otherwise.
const (
	eagerPace = 100 * time.Millisecond
	idlePace  = time.Second
)

// Run keeps forwards in step with what listens inside, until ctx ends: TCP
// forwards accept only while somebody listens behind them, and those of auto
// come and go. Config.Follow must have been set.
func (g *Guest) Run(ctx context.Context, auto Auto) {
	f := follower{g: g, auto: auto, made: make(map[autoKey]int)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pace := idlePace
		if f.step() {
			pace = eagerPace
		}
		timer.Reset(pace)
	}
}

type (
	autoKey struct {
		udp  bool
		host netip.AddrPort
	}
	follower struct {
		g    *Guest
		auto Auto
		made map[autoKey]int // numbers of the forwards that follow; 0: the port is taken by others
	}
)

// step looks once and reports whether a forward waits for somebody to listen.
func (f *follower) step() (waiting bool) {
	r := f.g.Relay
	all := r.Forwards()
	if len(all) == 0 && !f.auto.TCP && !f.auto.UDP {
		return false
	}
	inside, err := f.g.Listeners()
	if err != nil {
		return false // the namespace is on its way out
	}
	for _, w := range all {
		if w.Proto != "tcp" {
			continue
		}
		heard := slices.ContainsFunc(inside, func(l Listener) bool { return l.takes(false, w.Guest) })
		if w.Shut == heard {
			_ = r.ShutForward(w.ID, !heard) // gone meanwhile, if it fails
		}
		waiting = waiting || !heard
	}
	f.follow(inside)
	return waiting
}

// follow opens and closes the forwards of auto.
func (f *follower) follow(inside []Listener) {
	want := make(map[autoKey]netip.AddrPort)
	for _, l := range inside {
		on, except := f.auto.TCP, f.auto.ExceptTCP
		if l.UDP {
			on, except = f.auto.UDP, f.auto.ExceptUDP
		}
		if !on || l.Addr.Port() == 0 || except.Has(l.Addr.Port()) || l.Addr.Addr().IsLoopback() {
			continue
		}
		for _, b := range f.auto.Bind {
			guest := netip.AddrPortFrom(f.g.address(b.Is6()), l.Addr.Port())
			if guest.Addr().IsValid() && l.takes(l.UDP, guest) {
				want[autoKey{l.UDP, netip.AddrPortFrom(b, l.Addr.Port())}] = guest
			}
		}
	}
	for k, id := range f.made {
		if _, ok := want[k]; !ok {
			_ = f.g.Relay.RemoveForward(id)
			delete(f.made, k)
		}
	}
	for k, guest := range want {
		if _, ok := f.made[k]; ok {
			continue
		}
		w := relay.Forward{Proto: "tcp", Host: k.host, Guest: guest, Gateway: f.auto.Gateway4}
		if k.udp {
			w.Proto = "udp"
		}
		if guest.Addr().Is6() {
			w.Gateway = f.auto.Gateway6
		}
		w, err := f.g.Relay.AddForward(w)
		if err != nil {
			w.ID = 0 // somebody of the host's has the port
		}
		f.made[k] = w.ID
	}
}
