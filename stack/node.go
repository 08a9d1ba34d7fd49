package stack

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	tcpstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"taproom/stack/hook"
)

// ErrClosed is returned by what is done on a closed node.
var ErrClosed = errors.New("stack: node is closed")

// Node is a router and host in user space. It implements hook.Router.
type Node struct {
	name  string
	opts  Options
	start time.Time

	hooks *hook.Table
	// What packets read, without a lock.
	fib        atomic.Pointer[fib]
	mroutes    atomic.Pointer[mrouteTable]
	ifaces     atomic.Pointer[[]*Interface] // by index; holes are nil
	forwarding atomic.Bool
	closed     atomic.Bool
	ipID       atomic.Uint32

	counters nodeCounters
	icmp     icmpLimiter
	defrag   reassembler
	backlog  backlog
	net      *tcpstack.Stack
	lo       *Interface

	mu        sync.Mutex // guards what follows, and changes of the above
	byName    map[string]*Interface
	lastIndex int
	watchers  map[int]func()
	lastWatch int
}

var _ hook.Router = (*Node)(nil)

// New returns a node with a loopback interface ("lo", 127.0.0.1/8 and ::1/128)
// and nothing else.
func New(o Options) (*Node, error) {
	o.setDefaults()
	n := &Node{
		name: o.Name, opts: o, start: o.Clock.Now(), hooks: hook.NewTable(),
		byName: make(map[string]*Interface), watchers: make(map[int]func()),
	}
	n.forwarding.Store(!o.NoForwarding)
	n.fib.Store(newFIB())
	n.mroutes.Store(new(mrouteTable))
	n.ifaces.Store(new([]*Interface))
	n.icmp.init(o.Clock, o.ICMPRate, o.ICMPBurst)
	n.defrag.init(n)
	n.backlog.init(n)
	var err error
	if n.net, err = newNetstack(n); err != nil {
		n.backlog.close()
		return nil, err
	}
	if err := n.addLoopback(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Name is the node's name.
func (n *Node) Name() string { return n.name }

// SetForwarding turns forwarding on or off.
func (n *Node) SetForwarding(on bool) { n.forwarding.Store(on) }

// Forwarding reports whether the node forwards.
func (n *Node) Forwarding() bool { return n.forwarding.Load() }

// Now is the node's clock.
func (n *Node) Now() time.Time { return n.opts.Clock.Now() }

// Links lists the handlers attached to the node.
func (n *Node) Links() []*hook.Link { return n.hooks.Links() }

// Attach puts a handler at a point.
func (n *Node) Attach(pt hook.Point, h hook.Handler, o hook.Options) (*hook.Link, error) {
	return n.hooks.Attach(pt, h, o)
}

// byIndex finds an interface without a lock; nil if there is none.
func (n *Node) byIndex(index int) *Interface {
	l := *n.ifaces.Load()
	if index <= 0 || index >= len(l) {
		return nil
	}
	return l[index]
}

// InterfaceByName returns an interface, nil if there is none of that name.
func (n *Node) InterfaceByName(name string) *Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byName[name]
}

// InterfaceList returns the interfaces by index.
func (n *Node) InterfaceList() []*Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*Interface, 0, len(n.byName))
	for _, i := range n.byName {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Interface) int { return cmp.Compare(a.index, b.index) })
	return out
}

// Close takes the node down: devices are closed, sockets fail, everything
// that waits is released. It returns when nothing of the node runs any more.
func (n *Node) Close() {
	if n.closed.Swap(true) {
		return
	}
	for _, i := range n.InterfaceList() {
		_ = n.RemoveInterface(i.name)
	}
	n.defrag.close()
	n.backlog.close()
	n.net.Close()
	n.net.Wait()
}

// OnChange calls f after interfaces, addresses, routes or link states have
// changed. f must return soon and must not change the node.
func (n *Node) OnChange(f func()) (cancel func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastWatch++
	id := n.lastWatch
	n.watchers[id] = f
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, id)
	}
}

// changed tells the watchers, on a goroutine of its own since n.mu is held.
func (n *Node) changed() {
	for _, f := range n.watchers {
		go f()
	}
}

// newIndexLocked makes room for another interface.
func (n *Node) newIndexLocked(want int) (int, error) {
	if want == 0 {
		n.lastIndex++
		return n.lastIndex, nil
	}
	if n.byIndex(want) != nil {
		return 0, fmt.Errorf("stack: node %s: interface index %d is taken", n.name, want)
	}
	n.lastIndex = max(n.lastIndex, want)
	return want, nil
}

func (n *Node) publishLocked(index int, i *Interface) {
	l := slices.Clone(*n.ifaces.Load())
	for len(l) <= index {
		l = append(l, nil)
	}
	l[index] = i
	n.ifaces.Store(&l)
}

// ownerOf is the interface that has an address, nil if none.
func (n *Node) ownerOf(a netip.Addr) *Interface {
	if h := n.fib.Load().lookup(a, nil); h != nil && h.kind == hook.LocalRoute {
		return h.ifc
	}
	return nil
}
