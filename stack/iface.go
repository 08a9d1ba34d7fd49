package stack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"taproom/stack/hook"
	"taproom/stack/packet"
	"taproom/tap"
)

// InterfaceConfig describes an interface to add. The zero value takes
// everything from the device.
type InterfaceConfig struct {
	Name      string // must be new on the node; empty is the device's name
	Index     int    // 0 is the next one
	Addr      net.HardwareAddr
	MTU       int // 0 is the device's
	Addresses []netip.Prefix
	// NoLinkLocal leaves out the fe80::/64 address made from the link address.
	NoLinkLocal bool
	Down        bool // do not bring it up yet
}

// Interface is a node's end of a device.
type Interface struct {
	node  *Node
	index int
	name  string
	dev   tap.Device // nil for the loopback interface
	mac   [6]byte
	ether bool
	info  tap.Info

	mtu    atomic.Int32
	up     atomic.Bool
	gone   atomic.Bool
	addrs  atomic.Pointer[[]netip.Prefix]
	chains *hook.Chains
	neigh  neighbors
	ep     *endpoint

	counters ifaceCounters
}

// MaxMTU is the largest MTU an interface may have.
const MaxMTU = 65535

// AddInterface makes a device an interface of the node and starts it. The
// device belongs to the node from then on, and is closed with the interface;
// on an error it is still the caller's.
func (n *Node) AddInterface(dev tap.Device, c InterfaceConfig) (*Interface, error) {
	info := dev.Info()
	if c.Name == "" {
		c.Name = info.Name
	}
	if c.MTU == 0 {
		c.MTU = info.MTU
	}
	i := &Interface{node: n, name: c.Name, dev: dev, info: info, ether: info.Kind == tap.Ethernet}
	if i.ether {
		if err := i.setMAC(c.Addr); err != nil {
			return nil, err
		}
	}
	if err := n.register(i, c); err != nil {
		return nil, err
	}
	if err := dev.Start(i.receive); err != nil {
		n.unregister(i)
		return nil, fmt.Errorf("stack: %s:%s: %w", n.name, c.Name, err)
	}
	return i, nil
}

// register makes an interface known; packets may arrive when it returns.
func (n *Node) register(i *Interface, c InterfaceConfig) error {
	if err := checkMTU(c.MTU); err != nil {
		return fmt.Errorf("stack: %s:%s: %w", n.name, c.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed.Load() {
		return ErrClosed
	}
	if c.Name == "" || n.byName[c.Name] != nil {
		return fmt.Errorf("stack: node %s: interface name %q is empty or taken", n.name, c.Name)
	}
	var err error
	if i.index, err = n.newIndexLocked(c.Index); err != nil {
		return err
	}
	i.mtu.Store(int32(c.MTU))
	i.addrs.Store(new([]netip.Prefix))
	i.chains = n.hooks.AddInterface(i.index)
	i.neigh.init(i)
	if i.ep, err = newEndpoint(i); err != nil {
		n.hooks.RemoveInterface(i.index)
		return err
	}
	n.byName[c.Name] = i
	n.publishLocked(i.index, i)
	i.up.Store(!c.Down)
	if i.ether && !c.NoLinkLocal {
		if err := i.addAddressLocked(netip.PrefixFrom(linkLocal(i.mac), 64)); err != nil {
			n.unregisterLocked(i)
			return err
		}
	}
	for _, a := range c.Addresses {
		if err := i.addAddressLocked(a); err != nil {
			n.unregisterLocked(i)
			return err
		}
	}
	n.changed()
	return nil
}

// RemoveInterface takes an interface away with its device, addresses, routes,
// neighbours and handlers. It returns when the device's readers have ended;
// it must not be called from a handler.
func (n *Node) RemoveInterface(name string) error {
	n.mu.Lock()
	i := n.byName[name]
	n.mu.Unlock()
	if i == nil {
		return fmt.Errorf("%w: %q on node %s", hook.ErrNoInterface, name, n.name)
	}
	var err error
	i.up.Store(false)
	if i.dev != nil {
		err = i.dev.Close()
	}
	n.unregister(i)
	return err
}

func (n *Node) unregister(i *Interface) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unregisterLocked(i)
}

func (n *Node) unregisterLocked(i *Interface) {
	if i.gone.Swap(true) {
		return
	}
	i.up.Store(false)
	delete(n.byName, i.name)
	n.publishLocked(i.index, nil)
	n.hooks.RemoveInterface(i.index)
	i.ep.remove()
	i.neigh.close()
	if n.closed.Load() {
		return // nobody will look at the table again, and it may be large
	}
	n.setFIBLocked(n.fib.Load().withoutAll(func(h *hop) bool { return h.ifc == i }))
}

// Name, Index and Node say who the interface is.
func (i *Interface) Name() string { return i.name }

// Index is the interface's number on its node.
func (i *Interface) Index() int { return i.index }

// Device is the interface's device, nil for loopback.
func (i *Interface) Device() tap.Device { return i.dev }

// MTU is the largest network packet the interface sends, in bytes.
func (i *Interface) MTU() int { return int(i.mtu.Load()) }

// Up reports whether the interface is up.
func (i *Interface) Up() bool { return i.up.Load() }

// HardwareAddr is the interface's own link address, nil without one.
func (i *Interface) HardwareAddr() net.HardwareAddr {
	if !i.ether {
		return nil
	}
	return slices.Clone(i.mac[:])
}

// SetUp brings the interface up or down. Routes through an interface that is
// down are passed over, and come back with it.
func (i *Interface) SetUp(up bool) {
	if i.up.Swap(up) == up || i.gone.Load() {
		return
	}
	i.node.mu.Lock()
	defer i.node.mu.Unlock()
	i.ep.setUp(up)
	if !up {
		i.neigh.flush()
	}
	i.node.changed()
}

// SetMTU changes the MTU, the device's included.
func (i *Interface) SetMTU(mtu int) error {
	if err := checkMTU(mtu); err != nil {
		return fmt.Errorf("stack: %s:%s: %w", i.node.name, i.name, err)
	}
	if i.dev != nil {
		if err := i.dev.SetMTU(mtu); err != nil {
			return fmt.Errorf("stack: %s:%s: %w", i.node.name, i.name, err)
		}
	}
	i.node.mu.Lock()
	defer i.node.mu.Unlock()
	i.mtu.Store(int32(mtu))
	i.node.mirrorRoutesLocked()
	i.node.changed()
	return nil
}

func checkMTU(mtu int) error {
	if mtu < 68 || mtu > MaxMTU {
		return fmt.Errorf("MTU %d is not between 68 (RFC 791) and %d", mtu, MaxMTU)
	}
	return nil
}

func (i *Interface) setMAC(a net.HardwareAddr) error {
	switch {
	case a == nil:
		_, _ = rand.Read(i.mac[:])
		i.mac[0] = i.mac[0]&^1 | 2 // locally administered, unicast
	case len(a) != 6:
		return fmt.Errorf("stack: %s: link address %v is not 6 bytes", i.name, a)
	case a[0]&1 != 0:
		return fmt.Errorf("stack: %s: link address %v is a group address", i.name, a)
	default:
		copy(i.mac[:], a)
	}
	return nil
}

// linkLocal makes the modified EUI-64 address of RFC 4291 appendix A.
func linkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

func (n *Node) addLoopback() error {
	i := &Interface{node: n, name: "lo", info: tap.Info{Name: "lo", MTU: MaxMTU}}
	n.lo = i
	return n.register(i, InterfaceConfig{Name: "lo", MTU: MaxMTU, Addresses: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"),
	}})
}

// loopback reports whether this is the node's own loopback interface.
func (i *Interface) loopback() bool { return i.dev == nil }

// receive is what a device calls with frames.
func (i *Interface) receive(queue int, batch []*packet.Packet) {
	now := i.node.Now().UnixNano()
	for _, p := range batch {
		p.Time, p.Queue = now, uint16(queue+1)
		i.ingress(p)
	}
}

// view is the interface as handlers see it.
func (i *Interface) view() hook.Interface {
	v := hook.Interface{
		Index: i.index, Name: i.name, MTU: i.MTU(), Addrs: *i.addrs.Load(), Up: i.Up(), Loopback: i.loopback(), TxQueues: 1,
	}
	if i.ether {
		v.HardwareAddr = i.mac[:]
	}
	if i.dev != nil {
		v.GSO, v.USO = i.info.Offloads.TSO4 && i.info.Offloads.TSO6, i.info.Offloads.USO
		v.TxQueues = max(i.info.Queues, 1)
	}
	return v
}

// ErrNoAddress is returned for an address an interface does not have.
var ErrNoAddress = errors.New("stack: no such address")
