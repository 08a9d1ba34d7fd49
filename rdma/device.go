package rdma

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"taproom/rdma/roce"
)

// Device is a verbs device with one port. Its methods, and those of all its
// objects, may be called from any goroutine.
type Device struct {
	name   string
	port   Port
	clock  Clock
	limits Limits
	opts   Options
	pkeys  []uint16

	gids atomic.Pointer[[]GID]
	info atomic.Pointer[PortInfo]

	qps  table[QP] // by QPN
	keys table[region]

	mu     sync.Mutex // guards what follows
	pds    map[*PD]bool
	cqs    map[*CQ]bool
	srqs   map[*SRQ]bool
	nextID uint32
	ahs    int
	mws    int
	mrs    int
	closed bool
	dead   Counters // of queue pairs that are gone
	events eventQueue

	// mcastMu guards the groups. It is its own because a port may call Changed,
	// which takes mu, while it joins one.
	mcastMu sync.Mutex
	mcastQ  map[netip.Addr]*mcastGroup

	mcast  atomic.Pointer[map[netip.Addr][]*QP] // snapshot of mcastQ for the data path
	unseen deviceCounters
	timers timerHeap
}

// OpenDevice makes a device over a port, which is the device's until Close.
func OpenDevice(port Port, o Options) (*Device, error) {
	d := &Device{
		name: o.Name, port: port, clock: port.Clock(), limits: o.Limits.withDefaults(), opts: o, pkeys: o.PKeys,
		pds: make(map[*PD]bool), cqs: make(map[*CQ]bool), srqs: make(map[*SRQ]bool), mcastQ: make(map[netip.Addr]*mcastGroup),
	}
	if d.name == "" {
		d.name = "taproom0"
	}
	if len(d.pkeys) == 0 {
		d.pkeys = []uint16{roce.DefaultPKey}
	}
	l := &d.limits
	if l.MaxSGE > 32 || l.MaxSRQSGE > 32 || l.FirstQPN < 2 || l.LastQPN < l.FirstQPN || l.LastQPN > 0xfffffe || l.MaxUnacked < 1 || l.MaxUnacked > 1<<22 || l.MaxMsgSize > 1<<31 {
		return nil, invalid("open_device", "%s: limits %+v are out of range", d.name, *l)
	}
	d.opts.Congestion = d.opts.Congestion.withDefaults()
	d.qps.max, d.qps.next = int(l.LastQPN)+1, int(l.FirstQPN)
	d.keys.max, d.keys.next = l.MaxMR+l.MaxMW+1, 1
	d.keys.putAt(0, new(region)) // index 0 is never handed out: key 0 means no key
	d.timers.init(d)
	d.refresh()
	if err := port.Open(d); err != nil {
		return nil, fail("open_device", syscall.ENODEV, "%s: %v", d.name, err)
	}
	d.refresh() // what changed before the port knew us
	return d, nil
}

// Close ends the device. It fails with EBUSY while objects are left.
func (d *Device) Close() error {
	d.mu.Lock()
	if n := len(d.pds) + len(d.cqs); n > 0 && !d.closed {
		d.mu.Unlock()
		return fail("close_device", syscall.EBUSY, "%s: %d protection domains and %d completion queues are left", d.name, len(d.pds), len(d.cqs))
	}
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.timers.close()
	return d.port.Close()
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Limits are the device's.
func (d *Device) Limits() Limits { return d.limits }

// Port is what the device was opened over.
func (d *Device) Port() Port { return d.port }

// Clock is the device's time.
func (d *Device) Clock() Clock { return d.clock }

// PortState is a port's state (enum ibv_port_state).
type PortState uint8

// Port states.
const (
	PortDown   PortState = 1
	PortActive PortState = 4
)

// String returns DOWN or ACTIVE.
func (s PortState) String() string {
	if s == PortActive {
		return "ACTIVE"
	}
	return "DOWN"
}

// PortAttr describes the port (struct ibv_port_attr).
type PortAttr struct {
	State      PortState
	MaxMTU     roce.MTU
	ActiveMTU  roce.MTU // the largest that fits the interface; it follows it
	GIDTblLen  int
	PKeyTblLen int
	MaxMsgSize int
	LinkMTU    int
}

// QueryPort describes the port as it is now.
func (d *Device) QueryPort() PortAttr {
	info := d.info.Load()
	a := PortAttr{
		State: PortDown, MaxMTU: roce.MTU4096, ActiveMTU: roce.MTUFor(info.MTU), GIDTblLen: len(d.gidTable()),
		PKeyTblLen: len(d.pkeys), MaxMsgSize: d.limits.MaxMsgSize, LinkMTU: info.MTU,
	}
	if info.Up {
		a.State = PortActive
	}
	return a
}

// GUID returns the node's GUID: the MAC as EUI-64.
func (d *Device) GUID() (g [8]byte) {
	l := linkLocal(d.info.Load().MAC)
	copy(g[:], l[8:])
	return g
}

// Changed is for ports to call when their Info has changed.
func (d *Device) Changed() {
	was, gids := d.refresh()
	now := d.info.Load()
	if gids {
		d.event(Event{Type: GIDChange})
	}
	if was != nil && was.Up != now.Up {
		if now.Up {
			d.event(Event{Type: PortActiveEvent})
		} else {
			d.unseen.linkDowned.Add(1)
			d.event(Event{Type: PortErr})
		}
	}
}

func (d *Device) refresh() (was *PortInfo, gids bool) {
	info := d.port.Info()
	was = d.info.Swap(&info)
	return was, d.updateGIDs(&info)
}

// maxRun is how many packets of a size may share a super-frame.
func (d *Device) maxRun(size int, v6 bool) int {
	n := d.info.Load().MaxRun
	if d.opts.MaxRun > 0 {
		n = min(n, d.opts.MaxRun)
	}
	if n <= 1 {
		return 1
	}
	return min(n, roce.MaxRun(size, v6))
}

func (d *Device) id() uint32 {
	d.nextID++
	return d.nextID
}

// newKey is the lower part of a new key.
func (d *Device) newKey() uint32 {
	if d.opts.NewKey != nil {
		return uint32(d.opts.NewKey())
	}
	return rand.Uint32N(256)
}
