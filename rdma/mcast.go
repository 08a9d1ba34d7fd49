package rdma

import (
	"net/netip"
	"slices"
	"syscall"
)

// MulticastQPN is the destination queue pair of multicast datagrams.
const MulticastQPN = 0xffffff

type mcastGroup struct {
	qps []*QP
}

// AttachMcast makes a UD queue pair a member of a group. The first member of a
// group lets the port join it, which the network sees as IGMP or MLD.
func (q *QP) AttachMcast(gid GID) error {
	const verb = "attach_mcast"
	group, err := multicastAddr(gid)
	if err != nil {
		return invalid(verb, "qp %#x: %v", q.num, err)
	}
	if q.typ != UD {
		return invalid(verb, "qp %#x is %v, not UD", q.num, q.typ)
	}
	d := q.dev
	d.mcastMu.Lock()
	defer d.mcastMu.Unlock()
	g := d.mcastQ[group]
	q.mu.Lock()
	dead := q.dead // Destroy takes it out of its groups afterwards
	q.mu.Unlock()
	switch {
	case dead:
		return invalid(verb, "qp %#x is gone", q.num)
	case g == nil && len(d.mcastQ) >= d.limits.MaxMcastGroups:
		return fail(verb, syscall.ENOMEM, "device %s is in %d groups already", d.name, len(d.mcastQ))
	case g != nil && slices.Contains(g.qps, q):
		return nil
	case g != nil && len(g.qps) >= d.limits.MaxMcastQPs:
		return fail(verb, syscall.ENOMEM, "group %v has %d members already", group, len(g.qps))
	case g == nil:
		if err := d.port.Join(group); err != nil {
			return fail(verb, syscall.ENODEV, "qp %#x: join %v: %v", q.num, group, err)
		}
		g = &mcastGroup{}
		d.mcastQ[group] = g
	}
	g.qps = append(g.qps, q)
	d.publishMcastLocked()
	return nil
}

// DetachMcast ends the membership.
func (q *QP) DetachMcast(gid GID) error {
	group, _ := multicastAddr(gid)
	d := q.dev
	d.mcastMu.Lock()
	defer d.mcastMu.Unlock()
	if !d.detachLocked(q, group) {
		return invalid("detach_mcast", "qp %#x is not in group %v", q.num, group)
	}
	d.publishMcastLocked()
	return nil
}

func (d *Device) detachLocked(q *QP, group netip.Addr) bool {
	g := d.mcastQ[group]
	if g == nil {
		return false
	}
	i := slices.Index(g.qps, q)
	if i < 0 {
		return false
	}
	if g.qps = slices.Delete(g.qps, i, i+1); len(g.qps) == 0 {
		delete(d.mcastQ, group)
		_ = d.port.Leave(group) // the port may be gone; the membership ends either way
	}
	return true
}

// leaveAll takes a queue pair that is destroyed out of its groups.
func (d *Device) leaveAll(q *QP) {
	d.mcastMu.Lock()
	defer d.mcastMu.Unlock()
	for group := range d.mcastQ {
		d.detachLocked(q, group)
	}
	d.publishMcastLocked()
}

// publishMcastLocked makes the snapshot that the data path reads.
func (d *Device) publishMcastLocked() {
	m := make(map[netip.Addr][]*QP, len(d.mcastQ))
	for group, g := range d.mcastQ {
		m[group] = slices.Clone(g.qps)
	}
	d.mcast.Store(&m)
}
