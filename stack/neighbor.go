package stack

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// A neighbour's state, as in RFC 4861 section 7.3.2; ARP uses the same.
//
//	(none) --packet--> incomplete --answer--> reachable --30 s, unused--> stale
//	                       |                      ^  |                      |
//	                   3 s, no answer             |  +--30 s, used--> probe |
//	                       v                      |                     ^   |
//	                    (none)                    +------answer---------+   |
//	                                                                    |   |
//	                                                   delay <--packet--|---+
//	                                                     +-----5 s------+
type neighborState uint32

const (
	incomplete neighborState = iota
	reachable
	stale
	delay
	probe
	permanent
)

var neighborStateNames = [...]string{"INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"}

const (
	maxPending  = 101 // packets that wait for one neighbour (Linux: unres_qlen)
	maxSolicits = 3   // RFC 4861 section 10, Linux mcast_solicit and ucast_solicit
	delayTime   = 5 * time.Second
)

// neighbor is one entry. Packets read mac and state; the rest is guarded by
// the table's mutex.
type neighbor struct {
	addr  netip.Addr
	mac   atomic.Uint64 // 48 bits
	state atomic.Uint32
	used  atomic.Bool // since the state last changed

	pending []*packet.Packet
	tries   int
	timer   Timer
}

// neighbors is an interface's table: a trie of host routes that packets read
// without a lock, changed copy-on-write.
type neighbors struct {
	ifc   *Interface
	table atomic.Pointer[bart.Table[*neighbor]]

	mu     sync.Mutex
	closed bool
}

func (t *neighbors) init(i *Interface) {
	t.ifc = i
	t.table.Store(new(bart.Table[*neighbor]))
}

func (t *neighbors) get(a netip.Addr) *neighbor {
	nb, _ := t.table.Load().Lookup(a)
	return nb
}

// resolve finds the link address of a neighbour. If it is not known the table
// takes the packet over, asks, and sends it later; resolve then reports false.
func (t *neighbors) resolve(a netip.Addr, mac *[6]byte, p *packet.Packet, f hook.Family) bool {
	nb := t.get(a)
	if nb == nil || neighborState(nb.state.Load()) == incomplete {
		t.wait(a, p)
		return false
	}
	*mac = macOf(nb.mac.Load())
	switch neighborState(nb.state.Load()) {
	case stale:
		t.touch(nb)
	case reachable:
		if !nb.used.Load() {
			nb.used.Store(true)
		}
	}
	return true
}

// lookup is resolve for those who only ask.
func (t *neighbors) lookup(a netip.Addr) (mac [6]byte, ok bool) {
	nb := t.get(a)
	if nb == nil || neighborState(nb.state.Load()) == incomplete {
		return mac, false
	}
	return macOf(nb.mac.Load()), true
}

// wait queues a packet for an unresolved neighbour and starts to ask for it.
func (t *neighbors) wait(a netip.Addr, p *packet.Packet) {
	t.mu.Lock()
	nb := t.get(a)
	switch {
	case t.closed:
		t.mu.Unlock()
		t.ifc.dropOut(p, packet.DeviceDown)
		return
	case nb != nil && neighborState(nb.state.Load()) != incomplete:
		t.mu.Unlock() // resolved in the meantime
		t.ifc.sendTo(p, macOf(nb.mac.Load()))
		return
	case nb == nil:
		if nb = t.addLocked(a, incomplete); nb == nil {
			t.mu.Unlock()
			t.ifc.dropOut(p, packet.NeighborQueueFull)
			return
		}
		defer t.solicit(nb) // when the lock is free again
	}
	var victim *packet.Packet
	if len(nb.pending) >= maxPending {
		victim = nb.pending[0] // the oldest goes, as on Linux
		nb.pending = nb.pending[1:]
	}
	nb.pending = append(nb.pending, p)
	t.mu.Unlock()
	if victim != nil {
		t.ifc.dropOut(victim, packet.NeighborQueueFull)
	}
}

// addLocked makes room for and adds an entry; nil if the table is full of
// entries that must stay.
func (t *neighbors) addLocked(a netip.Addr, s neighborState) *neighbor {
	tab := t.table.Load()
	if tab.Size() >= t.ifc.node.opts.Neighbors {
		var victim *neighbor
		for _, nb := range tab.All() {
			if st := neighborState(nb.state.Load()); st == stale || st == reachable && victim == nil {
				victim = nb
				if st == stale {
					break
				}
			}
		}
		if victim == nil {
			return nil
		}
		t.removeLocked(victim)
	}
	nb := &neighbor{addr: a}
	nb.state.Store(uint32(s))
	t.table.Store(t.table.Load().InsertPersist(hostPrefix(a), nb))
	return nb
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (t *neighbors) removeLocked(nb *neighbor) []*packet.Packet {
	if nb.timer != nil {
		nb.timer.Stop()
	}
	t.table.Store(t.table.Load().DeletePersist(hostPrefix(nb.addr)))
	q := nb.pending
	nb.pending = nil
	return q
}

func (t *neighbors) after(d time.Duration, nb *neighbor) Timer {
	return t.ifc.node.opts.Clock.AfterFunc(d, func() { t.expire(nb) })
}

func (t *neighbors) armLocked(nb *neighbor, d time.Duration) {
	if nb.timer == nil {
		nb.timer = t.after(d, nb)
		return
	}
	nb.timer.Reset(d)
}

func (nb *neighbor) enter(s neighborState) {
	nb.used.Store(false)
	nb.tries = 0
	nb.state.Store(uint32(s))
}

// touch starts the check of a stale neighbour that is being used.
func (t *neighbors) touch(nb *neighbor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if neighborState(nb.state.Load()) == stale && !t.closed {
		nb.enter(delay)
		t.armLocked(nb, delayTime)
	}
}

// expire is the one timer of an entry: what it does depends on the state.
func (t *neighbors) expire(nb *neighbor) {
	t.mu.Lock()
	if t.closed || t.get(nb.addr) != nb {
		t.mu.Unlock()
		return
	}
	switch neighborState(nb.state.Load()) {
	case reachable:
		if !nb.used.Load() {
			nb.enter(stale)
			t.mu.Unlock()
			return
		}
		nb.enter(probe)
	case delay:
		nb.enter(probe)
	case incomplete, probe:
		if nb.tries >= maxSolicits {
			lost := t.removeLocked(nb)
			t.mu.Unlock()
			t.fail(lost)
			return
		}
	default:
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.solicit(nb)
}

// solicit asks for a neighbour: everybody if its address is not known, else
// the neighbour itself.
func (t *neighbors) solicit(nb *neighbor) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	nb.tries++
	t.armLocked(nb, t.ifc.node.opts.RetransTime)
	to := broadcastMAC
	known := neighborState(nb.state.Load()) == probe
	if known {
		to = macOf(nb.mac.Load())
	}
	var hint netip.Addr
	if len(nb.pending) > 0 {
		hint = pendingSource(nb.pending[0])
	}
	t.mu.Unlock()
	if nb.addr.Is4() {
		t.ifc.arpRequest(nb.addr, to, hint)
	} else {
		t.ifc.neighborSolicit(nb.addr, to, known, hint)
	}
}

// pendingSource is the source address of a packet of our own that waits, the
// one to ask with.
func pendingSource(p *packet.Packet) netip.Addr {
	if !p.Local {
		return netip.Addr{}
	}
	if h := p.Head(); p.Proto == packet.EtherIPv4 {
		return sourceOf(h, hook.IPv4)
	}
	return sourceOf(p.Head(), hook.IPv6)
}

// fail tells the senders of packets that nobody answered.
func (t *neighbors) fail(lost []*packet.Packet) {
	for _, p := range lost {
		f := hook.IPv4
		if p.Proto == packet.EtherIPv6 {
			f = hook.IPv6
		}
		t.ifc.node.hostUnreachable(p, f)
		t.ifc.dropOut(p, packet.NoNeighbor)
	}
}

// learn takes what a neighbour says of itself. create allows a new entry;
// confirm means that it answered us; override that a different link address
// replaces the one known (RFC 4861 7.2.5).
func (t *neighbors) learn(a netip.Addr, mac [6]byte, create, confirm, override bool) {
	t.mu.Lock()
	nb := t.get(a)
	if t.closed || nb == nil && !create {
		t.mu.Unlock()
		return
	}
	if nb == nil {
		if nb = t.addLocked(a, incomplete); nb == nil {
			t.mu.Unlock()
			return
		}
	}
	st := neighborState(nb.state.Load())
	v := macValue(mac)
	changed := nb.mac.Load() != v
	if st == permanent || st != incomplete && changed && !override {
		if st == reachable && changed && confirm {
			nb.enter(stale)
		}
		t.mu.Unlock()
		return
	}
	nb.mac.Store(v)
	switch {
	case confirm:
		nb.enter(reachable)
		t.armLocked(nb, t.ifc.node.opts.ReachableTime)
	case st == incomplete || changed:
		nb.enter(stale)
		if nb.timer != nil {
			nb.timer.Stop()
		}
	}
	q := nb.pending
	nb.pending = nil
	t.mu.Unlock()
	for _, p := range q {
		t.ifc.sendTo(p, mac)
	}
}

// flush forgets all but the permanent entries: the link went down.
func (t *neighbors) flush() {
	t.mu.Lock()
	var lost []*packet.Packet
	for _, nb := range t.table.Load().All() {
		if neighborState(nb.state.Load()) != permanent {
			lost = append(lost, t.removeLocked(nb)...)
		}
	}
	t.mu.Unlock()
	for _, p := range lost {
		t.ifc.dropOut(p, packet.DeviceDown)
	}
}

func (t *neighbors) close() {
	t.flush()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.flush()
}

func macValue(m [6]byte) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}

func macOf(v uint64) [6]byte {
	return [6]byte{byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
}

// AddNeighbor sets a permanent entry, which nothing on the link changes.
func (n *Node) AddNeighbor(iface string, a netip.Addr, mac net.HardwareAddr) error {
	i := n.InterfaceByName(iface)
	switch {
	case i == nil:
		return fmt.Errorf("%w: %q on node %s", hook.ErrNoInterface, iface, n.name)
	case !i.ether:
		return fmt.Errorf("stack: %s:%s has no link addresses", n.name, iface)
	case len(mac) != 6 || mac[0]&1 != 0:
		return fmt.Errorf("stack: neighbour %v: %v is not a unicast link address", a, mac)
	}
	t := &i.neigh
	t.mu.Lock()
	nb := t.get(a)
	if nb == nil {
		if nb = t.addLocked(a, incomplete); nb == nil {
			t.mu.Unlock()
			return fmt.Errorf("stack: %s:%s: the neighbour table is full (%d)", n.name, iface, n.opts.Neighbors)
		}
	}
	if nb.timer != nil {
		nb.timer.Stop()
	}
	nb.mac.Store(macValue([6]byte(mac)))
	nb.enter(permanent)
	q := nb.pending
	nb.pending = nil
	t.mu.Unlock()
	for _, p := range q {
		i.sendTo(p, [6]byte(mac))
	}
	return nil
}

// DelNeighbor removes an entry of whatever kind.
func (n *Node) DelNeighbor(iface string, a netip.Addr) error {
	i := n.InterfaceByName(iface)
	if i == nil {
		return fmt.Errorf("%w: %q on node %s", hook.ErrNoInterface, iface, n.name)
	}
	t := &i.neigh
	t.mu.Lock()
	nb := t.get(a)
	if nb == nil {
		t.mu.Unlock()
		return fmt.Errorf("stack: %s:%s has no neighbour %v", n.name, iface, a)
	}
	lost := t.removeLocked(nb)
	t.mu.Unlock()
	t.fail(lost)
	return nil
}

// Neighbor is an entry of a neighbour table, for listings.
type Neighbor struct {
	Interface string     `json:"dev"`
	Addr      netip.Addr `json:"dst"`
	MAC       string     `json:"lladdr,omitempty"`
	State     string     `json:"state"`
}

// Neighbors lists the tables of all interfaces.
func (n *Node) Neighbors() []Neighbor {
	var out []Neighbor
	for _, i := range n.InterfaceList() {
		for _, nb := range i.neigh.table.Load().AllSorted() {
			s := neighborState(nb.state.Load())
			e := Neighbor{Interface: i.name, Addr: nb.addr, State: neighborStateNames[s]}
			if s != incomplete {
				m := macOf(nb.mac.Load())
				e.MAC = net.HardwareAddr(m[:]).String()
			}
			out = append(out, e)
		}
	}
	return out
}
