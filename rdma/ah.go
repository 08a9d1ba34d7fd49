package rdma

import (
	"net/netip"
	"sync/atomic"
	"syscall"

	"taproom/rdma/roce"
)

// AHAttr is an address vector (struct ibv_ah_attr, its RoCE part).
type AHAttr struct {
	DGID         GID
	SGIDIndex    int
	HopLimit     uint8 // as rxe: 64 is sent, whatever this says, unless it is above 64
	TrafficClass uint8 // DSCP and ECN bits, sent as they are
	FlowLabel    uint32
	SL           uint8 // service level; kept, not sent
}

// endpoint is where packets of one flow go: headers and ICRC seed, made once.
type endpoint struct {
	path  roce.Path
	flow  roce.Flow
	v6    bool
	local bool // one of the device's own addresses: packets go round inside
	mcast bool
}

// resolve makes the endpoint of an address vector. port is the UDP source port,
// which a flow label in the vector overrides.
func (d *Device) resolve(verb string, a *AHAttr, port uint16) (*endpoint, error) {
	sgid, err := d.QueryGID(a.SGIDIndex)
	if err != nil {
		return nil, invalid(verb, "address vector: no GID at index %d", a.SGIDIndex)
	}
	src, dst := sgid.Addr(), a.DGID.Addr()
	if a.DGID.IsZero() || dst.IsUnspecified() {
		return nil, invalid(verb, "address vector: destination GID is zero")
	}
	if src.Is4() != dst.Is4() {
		return nil, fail(verb, syscall.ENETUNREACH, "address vector: from %v (GID %d) to %v", src, a.SGIDIndex, dst)
	}
	e := &endpoint{v6: !dst.Is4(), local: d.isLocal(dst), mcast: dst.IsMulticast()}
	if a.FlowLabel&0xfffff != 0 {
		port = roce.FlowLabelPort(a.FlowLabel)
	}
	e.path = roce.Path{Src: src, Dst: dst, SrcPort: port, TOS: a.TrafficClass, TTL: max(a.HopLimit, roce.DefaultTTL)}
	if d.opts.Congestion.ECT && e.path.TOS&3 == 0 {
		e.path.TOS |= 2
	}
	e.flow = e.path.Flow()
	return e, nil
}

// AH is an address handle: where a datagram goes.
type AH struct {
	pd   *PD
	num  uint32
	ep   atomic.Pointer[ahPaths]
	dead atomic.Bool
}

// ahPaths are the endpoints by source port: each queue pair sends from its own.
type ahPaths struct {
	attr AHAttr
	last atomic.Pointer[endpoint]
}

// CreateAH makes an address handle.
func (pd *PD) CreateAH(attr AHAttr) (*AH, error) {
	const verb = "create_ah"
	d := pd.dev
	if _, err := d.resolve(verb, &attr, 0); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ahs >= d.limits.MaxAH {
		return nil, fail(verb, syscall.ENOMEM, "device %s has %d address handles already", d.name, d.ahs)
	}
	d.ahs++
	pd.uses.Add(1)
	ah := &AH{pd: pd, num: d.id()}
	ah.ep.Store(&ahPaths{attr: attr})
	return ah, nil
}

// Attr returns the address vector.
func (ah *AH) Attr() AHAttr { return ah.ep.Load().attr }

// Modify replaces the address vector, for datagrams posted from now on.
func (ah *AH) Modify(attr AHAttr) error {
	if _, err := ah.pd.dev.resolve("modify_ah", &attr, 0); err != nil {
		return err
	}
	ah.ep.Store(&ahPaths{attr: attr})
	return nil
}

// Destroy ends the handle. Datagrams that were posted with it still go out.
func (ah *AH) Destroy() error {
	if ah.dead.Swap(true) {
		return invalid("destroy_ah", "ah %d is gone already", ah.num)
	}
	d := ah.pd.dev
	d.mu.Lock()
	d.ahs--
	d.mu.Unlock()
	ah.pd.uses.Add(-1)
	return nil
}

// endpoint returns the handle's endpoint for a source port.
func (ah *AH) endpoint(port uint16) *endpoint {
	p := ah.ep.Load()
	if e := p.last.Load(); e != nil && (e.path.SrcPort == port || p.attr.FlowLabel != 0) {
		return e
	}
	e, err := ah.pd.dev.resolve("post_send", &p.attr, port)
	if err != nil {
		return nil
	}
	p.last.Store(e)
	return e
}

// AHFromWC makes the address vector that answers a datagram: to its sender, from
// the address it came to. grh is the first 40 bytes of the receive buffer.
func (d *Device) AHFromWC(wc *WC, grh []byte) (AHAttr, error) {
	const verb = "init_ah_from_wc"
	if wc.Flags&WCGRH == 0 || len(grh) < roce.GRHLen {
		return AHAttr{}, invalid(verb, "qp %#x: no GRH", wc.QPN)
	}
	ip := roce.GRHIP(grh)
	var src, dst netip.Addr
	if ip[0]>>4 == 6 {
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	} else {
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	}
	i, err := d.FindGID(GIDOf(dst))
	if err != nil {
		i = d.DefaultGID() // it came to a group
	}
	return AHAttr{DGID: GIDOf(src), SGIDIndex: i, HopLimit: roce.DefaultTTL}, nil
}
