package ioam

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"taproom/stack/hook"
)

// ErrClosed is what changes to a closed node fail with.
var ErrClosed = errors.New("ioam: node is closed")

type hostInterface = hook.Interface

// Node is one node's IOAM. Attach makes it; its methods may be called from
// any goroutine.
type Node struct {
	host    hook.Host
	backlog func(ifindex int) uint32
	state   atomic.Pointer[state]
	errors  limiter // of ICMP errors
	returns limiter // of looped-back copies

	counters counters
	subs     atomic.Pointer[[]*Subscription]

	mu     sync.Mutex // serialises changes; packets never take it
	closed bool
	links  []*hook.Link
	// leaving is the one of links at Postrouting, nil before it is needed.
	leaving *hook.Link
	cancel  func()
}

// Attach hooks a node into a host. Close detaches it.
func Attach(host hook.Host, c Config) (*Node, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &Node{host: host, backlog: c.Backlog}
	if n.backlog == nil {
		n.backlog = func(int) uint32 { return 0 }
	}
	n.errors.set(c.ErrorRate, 1000, 50)
	n.returns.set(c.Extras.LoopbackRate, 100, 10)
	n.subs.Store(&[]*Subscription{})
	n.state.Store(newState(&c))
	if err := n.configure(&c); err != nil {
		n.Close()
		return nil, err
	}
	n.cancel = host.OnChange(n.refresh)
	if err := n.hook(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// earliest is before every netfilter program: Linux parses hop-by-hop options
// before its PREROUTING hook, and its encapsulating routes act before
// POSTROUTING.
const earliest = math.MinInt32

// hook attaches the handlers that are always needed. That at Postrouting
// comes with the first tunnel or edge: packets do not pay for what is not used.
func (n *Node) hook() error {
	points := []struct {
		pt hook.Point
		h  hook.HandlerFunc
	}{{hook.Prerouting, n.prerouting}}
	if n.state.Load().extras.TransitDelay {
		points = append(points, struct {
			pt hook.Point
			h  hook.HandlerFunc
		}{hook.Input, n.stampDelay})
	}
	for _, p := range points {
		l, err := n.host.Attach(p.pt, p.h, hook.Options{Name: "ioam", Priority: earliest, Family: hook.IPv6})
		if err != nil {
			return fmt.Errorf("ioam: %v: %w", p.pt, err)
		}
		n.links = append(n.links, l)
	}
	if n.state.Load().extras.TransitDelay {
		l, err := n.host.Attach(hook.Egress, hook.HandlerFunc(n.stampDelay), hook.Options{Name: "ioam-delay", Anchor: hook.Tail()})
		if err != nil {
			return fmt.Errorf("ioam: egress: %w", err)
		}
		n.links = append(n.links, l)
	}
	return n.hookPostrouting()
}

// hookPostrouting attaches the handler at Postrouting, once, if there is
// something for it to do.
func (n *Node) hookPostrouting() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.state.Load(); n.closed || n.leaving != nil || s.tunnels.n == 0 && !s.anyEdge {
		return nil
	}
	l, err := n.host.Attach(hook.Postrouting, hook.HandlerFunc(n.postrouting),
		hook.Options{Name: "ioam", Priority: earliest, Family: hook.IPv6})
	if err != nil {
		return fmt.Errorf("ioam: postrouting: %w", err)
	}
	n.leaving = l
	n.links = append(n.links, l)
	return nil
}

func newState(c *Config) *state {
	s := &state{
		nodeID: maxNodeID, nodeIDWide: maxNodeIDWide, maxOptions: 8, maxHeader: math.MaxInt32,
		extras: c.Extras, decap: c.Decapsulate, stripLocal: c.StripLocal,
		namespaces: make(map[uint16]Namespace), schemas: make(map[uint32]Schema), config: make(map[int]Interface),
		tunnels: new(tunnels),
	}
	if c.NodeID != nil {
		s.nodeID = *c.NodeID
	}
	if c.NodeIDWide != nil {
		s.nodeIDWide = *c.NodeIDWide
	}
	if c.MaxOptions != 0 {
		s.maxOptions = c.MaxOptions
	}
	if c.MaxHeader != 0 {
		s.maxHeader = c.MaxHeader
	}
	for i, f := range c.Interfaces {
		s.config[i] = f
	}
	return s
}

// configure adds what Config lists, with the rules of the methods.
func (n *Node) configure(c *Config) error {
	for _, sc := range c.Schemas {
		sc.Namespace = nil // bound from the other side
		if err := n.AddSchema(sc); err != nil {
			return err
		}
	}
	for _, ns := range c.Namespaces {
		if err := n.AddNamespace(ns); err != nil {
			return err
		}
	}
	for _, t := range c.Tunnels {
		if err := n.AddTunnel(t); err != nil {
			return err
		}
	}
	return n.change(func(*state) error { return nil }) // index the interfaces
}

// change edits a copy of the snapshot and publishes it, unless f fails.
func (n *Node) change(f func(*state) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	s := n.state.Load().clone()
	if err := f(s); err != nil {
		return err
	}
	s.index(n.host.Interfaces())
	n.state.Store(s)
	return nil
}

// refresh takes note of the host's interfaces.
func (n *Node) refresh() { n.change(func(*state) error { return nil }) }

// SetNodeID sets the short or the wide node id (ioam6_id, ioam6_id_wide); nil
// leaves one as it is.
func (n *Node) SetNodeID(id *uint32, wide *uint64) error {
	c := Config{NodeID: id, NodeIDWide: wide}
	if err := c.validate(); err != nil {
		return err
	}
	return n.change(func(s *state) error {
		if id != nil {
			s.nodeID = *id
		}
		if wide != nil {
			s.nodeIDWide = *wide
		}
		return nil
	})
}

// SetInterface configures an interface by its index. It need not exist yet.
func (n *Node) SetInterface(index int, i Interface) error {
	c := Config{Interfaces: map[int]Interface{index: i}}
	if err := c.validate(); err != nil {
		return err
	}
	err := n.change(func(s *state) error {
		s.config[index] = i
		return nil
	})
	return errors.Join(err, n.hookPostrouting())
}

// Host is what the node is attached to.
func (n *Node) Host() hook.Host { return n.host }

// Close detaches the node. Subscriptions stay, and hear nothing more.
func (n *Node) Close() error {
	n.mu.Lock()
	links, cancel := slices.Clone(n.links), n.cancel
	n.links, n.cancel, n.closed = nil, nil, true
	n.mu.Unlock()
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	if cancel != nil {
		cancel()
	}
	return errors.Join(errs...)
}
