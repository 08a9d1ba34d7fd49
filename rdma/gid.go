package rdma

import (
	"fmt"
	"net/netip"
	"syscall"
)

// GID is a port address in 16 bytes: an IPv6 address, or an IPv4 address in its
// mapped form.
type GID [16]byte

// GIDOf returns the GID of an address.
func GIDOf(a netip.Addr) GID { return a.As16() }

// Addr returns the IP address; a mapped one as IPv4.
func (g GID) Addr() netip.Addr { return netip.AddrFrom16(g).Unmap() }

// IsZero tells whether g is the empty entry of a table.
func (g GID) IsZero() bool { return g == GID{} }

// String returns the address as IPv6 text, mapped ones as ::ffff:a.b.c.d.
func (g GID) String() string { return netip.AddrFrom16(g).String() }

// linkLocal is the fe80::/64 address made of a MAC (RFC 4291 appendix A).
func linkLocal(mac [6]byte) GID {
	return GID{0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}

// updateGIDs brings the table up to date with the port. Its order is: 0 is the
// link-local address of the MAC, then the addresses in the order in which they
// came. An entry keeps its index as long as its address stays; one that goes
// leaves a hole, which the next new address takes.
func (d *Device) updateGIDs(info *PortInfo) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	want := make(map[GID]bool)
	var order []GID
	add := func(g GID) {
		if !want[g] && !g.IsZero() {
			want[g] = true
			order = append(order, g)
		}
	}
	if info.MAC != ([6]byte{}) {
		add(linkLocal(info.MAC))
	}
	for _, a := range info.Addrs {
		add(GIDOf(a))
	}
	table := append([]GID(nil), d.gidTable()...)
	have := make(map[GID]bool)
	for i, g := range table {
		if !g.IsZero() && !want[g] {
			table[i], changed = GID{}, true
		}
		have[g] = true
	}
	for _, g := range order {
		if have[g] {
			continue
		}
		changed = true
		hole := -1
		for i := range table {
			if table[i].IsZero() {
				hole = i
				break
			}
		}
		if hole < 0 {
			table = append(table, g)
		} else {
			table[hole] = g
		}
	}
	d.gids.Store(&table)
	return changed
}

func (d *Device) gidTable() []GID {
	if t := d.gids.Load(); t != nil {
		return *t
	}
	return nil
}

// GIDs returns the GID table; removed entries are zero. All are RoCE v2.
func (d *Device) GIDs() []GID { return append([]GID(nil), d.gidTable()...) }

// QueryGID returns an entry of the table.
func (d *Device) QueryGID(index int) (GID, error) {
	t := d.gidTable()
	if index < 0 || index >= len(t) || t[index].IsZero() {
		return GID{}, invalid("query_gid", "device %s: no GID at index %d of %d", d.name, index, len(t))
	}
	return t[index], nil
}

// FindGID returns the index of an address.
func (d *Device) FindGID(g GID) (int, error) {
	for i, e := range d.gidTable() {
		if e == g {
			return i, nil
		}
	}
	return 0, fail("find_gid", syscall.ENOENT, "device %s: no GID %v", d.name, g)
}

// DefaultGID returns the index of the first address that can be routed: IPv4
// before IPv6, 0 if there are only link-local ones.
func (d *Device) DefaultGID() int {
	best := 0
	for i, g := range d.gidTable() {
		a := g.Addr()
		switch {
		case g.IsZero() || a.IsLinkLocalUnicast():
		case a.Is4():
			return i
		case best == 0:
			best = i
		}
	}
	return best
}

// isLocal tells whether an address is one of the device's.
func (d *Device) isLocal(a netip.Addr) bool {
	_, err := d.FindGID(GIDOf(a))
	return err == nil
}

// QueryPKey returns an entry of the partition table.
func (d *Device) QueryPKey(index int) (uint16, error) {
	if index < 0 || index >= len(d.pkeys) {
		return 0, invalid("query_pkey", "device %s: no P_Key at index %d of %d", d.name, index, len(d.pkeys))
	}
	return d.pkeys[index], nil
}

// pkeyMatch is the partition check of IBTA 10.9.3: the same partition, and one
// of the two a full member.
func pkeyMatch(a, b uint16) bool {
	return (a^b)&0x7fff == 0 && (a|b)&0x8000 != 0 && a&0x7fff != 0
}

// MulticastGID returns the group address for a GID of multicast form, or an error.
func multicastAddr(g GID) (netip.Addr, error) {
	a := g.Addr()
	if !a.IsMulticast() {
		return a, fmt.Errorf("%v is not a multicast address", a)
	}
	return a, nil
}
