// Package verbs gives the routers of a lab RDMA devices: what the rdma
// commands act on. A device is made on an interface when it is first named,
// as "rdma link add" would, and goes with its router.
package verbs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"taproom/rdma"
	"taproom/rdma/nodeport"
	"taproom/stack"
	"taproom/stack/lab"
)

// Part are the devices of one router.
type Part struct {
	node *stack.Node

	mu   sync.Mutex
	devs map[string]*rdma.Device // by interface
}

// Of returns a router's devices.
func Of(l *lab.Lab, room string) (*Part, error) {
	p, err := l.Part(room, "rdma", func(n *stack.Node) (io.Closer, error) {
		return &Part{node: n, devs: make(map[string]*rdma.Device)}, nil
	})
	if err != nil {
		return nil, err
	}
	return p.(*Part), nil
}

// Close closes all devices.
func (p *Part) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, d := range p.devs {
		errs = append(errs, d.Close())
	}
	p.devs = nil
	return errors.Join(errs...)
}

// Node is the router.
func (p *Part) Node() *stack.Node { return p.node }

// Device returns the device of an interface, and makes it if need be.
func (p *Part) Device(iface string) (*rdma.Device, error) {
	i := p.node.InterfaceByName(iface)
	if i == nil {
		return nil, fmt.Errorf("%w: interface %s:%s", lab.ErrNoSuch, p.node.Name(), iface)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.devs[iface]; d != nil {
		return d, nil
	}
	if p.devs == nil {
		return nil, lab.ErrClosed
	}
	port, err := nodeport.New(nodeport.Config{Host: p.node, Interface: i.Index()})
	if err != nil {
		return nil, err
	}
	d, err := rdma.OpenDevice(port, rdma.Options{Name: p.node.Name() + "/" + iface})
	if err != nil {
		return nil, err
	}
	p.devs[iface] = d
	return d, nil
}

// Named is a device with its interface.
type Named struct {
	Interface string
	*rdma.Device
}

// Devices lists the devices by interface.
func (p *Part) Devices() []Named {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Named, 0, len(p.devs))
	for name, d := range p.devs {
		out = append(out, Named{name, d})
	}
	slices.SortFunc(out, func(a, b Named) int { return strings.Compare(a.Interface, b.Interface) })
	return out
}
