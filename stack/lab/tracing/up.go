package tracing

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"taproom/ioam"
	"taproom/ioam/path"
	"taproom/ioam/probe"
	"taproom/stack/hook"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
)

// Lab is the IOAM of a running lab.
type Lab struct {
	// Nodes are the routers that take part, by room. Not to be changed.
	Nodes map[string]*ioam.Node
	// Paths knows what way packets take.
	Paths *path.Analyser
	// Names of the nodes, by their ids.
	Names map[uint64]string

	mu      sync.Mutex
	probers map[string]*probe.Prober
	done    chan struct{}
	wg      sync.WaitGroup
	cancels []func()
}

// running are the labs with a section, until they go down.
var (
	runningMu sync.Mutex
	running   = map[*lab.Lab]*Lab{}
)

// Of finds the IOAM of a lab; nil if its file has no such section.
func Of(l *lab.Lab) *Lab {
	runningMu.Lock()
	defer runningMu.Unlock()
	return running[l]
}

// Prober sends probes from a room that takes part.
func (x *Lab) Prober(room string) (*probe.Prober, error) {
	n := x.Nodes[room]
	if n == nil {
		return nil, fmt.Errorf("tracing: room %s takes no part", room)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.probers[room]; p != nil {
		return p, nil
	}
	p, err := probe.New(n.Host())
	if err == nil {
		x.probers[room] = p
	}
	return p, err
}

// eventsPerNode may wait for the analyser.
const eventsPerNode = 4096

// up makes the section real.
func up(_ context.Context, l *lab.Lab, sec spec.Section) (func() error, error) {
	s := sec.(*Section)
	x := &Lab{
		Nodes: make(map[string]*ioam.Node), Names: make(map[uint64]string),
		probers: make(map[string]*probe.Prober), done: make(chan struct{}),
	}
	for name, r := range s.Rooms {
		if r.Node != nil {
			x.Names[*r.Node] = name
		}
		if r.NodeWide != nil {
			x.Names[*r.NodeWide] = name
		}
	}
	x.Paths = path.New(path.Options{Names: x.Names})
	for name, r := range s.Rooms {
		host, err := l.Node(name)
		if err != nil {
			return nil, errors.Join(err, x.down())
		}
		queues := new(backlog)
		note := func() {
			m := make(map[int]queued)
			for _, i := range host.InterfaceList() {
				if q, ok := i.Device().(queued); ok {
					m[i.Index()] = q
				}
			}
			queues.byIndex.Store(&m)
		}
		x.cancels = append(x.cancels, host.OnChange(note))
		note()
		c := s.config(&r, host.Interfaces())
		c.Backlog = queues.octets
		n, err := ioam.Attach(host, c)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tracing: %s: %w", name, err), x.down())
		}
		x.Nodes[name] = n
		sub := n.Subscribe(eventsPerNode)
		x.wg.Go(func() {
			x.Paths.Follow(x.done, sub)
			sub.Close()
		})
	}
	runningMu.Lock()
	running[l] = x
	runningMu.Unlock()
	return func() error {
		runningMu.Lock()
		delete(running, l)
		runningMu.Unlock()
		return x.down()
	}, nil
}

func (x *Lab) down() error {
	close(x.done)
	x.wg.Wait()
	for _, f := range x.cancels {
		f()
	}
	var errs []error
	for _, p := range x.probers {
		errs = append(errs, p.Close())
	}
	for _, n := range x.Nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// config is a room's part for Attach.
func (s *Section) config(r *Room, ifs []hook.Interface) ioam.Config {
	c := ioam.Config{
		NodeIDWide: r.NodeWide, Decapsulate: r.Decapsulate, StripLocal: r.StripLocal, Interfaces: make(map[int]ioam.Interface),
	}
	if r.Node != nil {
		c.NodeID = ioam.ID(uint32(*r.Node))
	}
	for _, sc := range s.Schemas {
		c.Schemas = append(c.Schemas, ioam.Schema{ID: uint32(sc.ID), Data: []byte(sc.Data)})
	}
	own := make(map[int]bool)
	for _, n := range r.Namespaces {
		own[n.ID] = true
		c.Namespaces = append(c.Namespaces, n.ioam())
	}
	for _, n := range s.Namespaces {
		if !own[n.ID] {
			c.Namespaces = append(c.Namespaces, n.ioam())
		}
	}
	for _, t := range r.Tunnels {
		c.Tunnels = append(c.Tunnels, t.Tunnel)
	}
	for _, e := range r.Extras {
		extras[e](&c.Extras)
	}
	for _, i := range ifs {
		if !i.Loopback {
			c.Interfaces[i.Index] = r.Interfaces[i.Name].ioam(i.Index)
		}
	}
	return c
}

func (n Namespace) ioam() ioam.Namespace {
	out := ioam.Namespace{ID: uint16(n.ID), Wide: n.Wide}
	if n.Data != nil {
		out.Data = ioam.ID(uint32(*n.Data))
	}
	if n.Schema != nil {
		out.Schema = ioam.ID(uint32(*n.Schema))
	}
	return out
}

func (i Interface) ioam(index int) ioam.Interface {
	out := ioam.Interface{Enabled: i.Enabled == nil || *i.Enabled, ID: ioam.ID16(uint16(index)), IDWide: ioam.ID(uint32(index))}
	if i.ID != nil {
		out.ID = ioam.ID16(uint16(*i.ID))
	}
	if i.IDWide != nil {
		out.IDWide = ioam.ID(uint32(*i.IDWide))
	}
	out.Edge, _ = ioam.ParseEdge(i.Edge) // the file's enum; nothing is inside
	return out
}
