package filter

import (
	"bytes"
	"net"
	"net/netip"
	"sort"
	"testing"

	"taproom/filter"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/tap"
)

// ours is a taproom node.
type ours struct {
	node  *stack.Node
	ports map[string]*port
	parts *filter.Filters
	load  filter.Objects
	coll  *filter.Collection
}

type port struct {
	name string
	recv tap.Receiver
	out  [][]byte
}

func (p *port) Info() tap.Info {
	return tap.Info{Name: p.name, MTU: 1500, Queues: 1, Offloads: tap.AllOffloads}
}
func (p *port) Start(r tap.Receiver) error { p.recv = r; return nil }
func (p *port) SetMTU(int) error           { return nil }
func (p *port) Stats() tap.Stats           { return tap.Stats{} }
func (p *port) Close() error               { return nil }
func (p *port) Write(_ int, batch []*packet.Packet) {
	for _, q := range batch {
		q.CompleteChecksum()
		q.Linearize()
		p.out = append(p.out, bytes.Clone(q.Head()))
		q.Release()
	}
}

func newOurs(t *testing.T) *ours {
	o := &ours{ports: make(map[string]*port)}
	var err error
	o.node, err = stack.New(stack.Options{Name: "y"})
	must(t, err)
	for dev, mac := range map[string]net.HardwareAddr{"a": macA, "b": macB} {
		o.ports[dev] = &port{name: dev}
		c := stack.InterfaceConfig{Name: dev, Addr: mac}
		for _, a := range addresses[dev] {
			c.Addresses = append(c.Addresses, netip.MustParsePrefix(a))
		}
		_, err := o.node.AddInterface(o.ports[dev], c)
		must(t, err)
	}
	for _, n := range neighbours {
		must(t, o.node.AddNeighbor(n.dev, netip.MustParseAddr(n.ip), n.mac))
	}
	o.parts = filter.New(o.node, filter.Options{})
	t.Cleanup(func() {
		o.parts.Close()
		_ = o.load.Close()
		o.node.Close()
	})
	return o
}

func (o *ours) attach(t *testing.T, object string, at []attachment) {
	var err error
	o.coll, err = o.load.Load(object)
	must(t, err)
	for _, a := range at {
		prog := o.coll.Programs[a.program]
		if a.pf != 0 {
			_, err = o.parts.AttachNetfilter(prog, filter.NFConfig{PF: a.pf, Hook: 2})
			must(t, err)
			continue
		}
		d, err := o.parts.DeviceByName(a.dev)
		must(t, err)
		dir := filter.Ingress
		if a.egress {
			dir = filter.Egress
		}
		if a.clsact {
			if d.Qdisc() == filter.NoQdisc {
				must(t, d.AddQdisc(filter.Clsact))
			}
			_, err = d.AddFilter(dir, filter.Add, filter.Config{DirectAction: true, Program: prog})
		} else {
			_, err = d.AttachTCX(dir, prog, filter.TCXOptions{})
		}
		must(t, err)
	}
}

func (o *ours) send(dev string, p *packet.Packet) {
	o.ports[dev].recv(0, []*packet.Packet{p})
}

func (o *ours) received(dev string) [][]byte {
	out := o.ports[dev].out
	o.ports[dev].out = nil
	return out
}

func (o *ours) dump(t *testing.T, name string) []string {
	m := o.coll.Maps[name]
	var out []string
	for key, err := m.NextKey(nil); err == nil; key, err = m.NextKey(key) {
		v, err := m.Lookup(key, 0)
		must(t, err)
		out = append(out, entry(name, key, v))
	}
	sort.Strings(out)
	return out
}
