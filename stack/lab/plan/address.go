package plan

import (
	"fmt"
	"hash/fnv"
	"math/big"
	"net"
	"net/netip"

	"taproom/stack/lab/spec"
)

// addresser gives interfaces the addresses that the file does not.
type addresser struct {
	lab  *spec.Lab
	used []netip.Prefix                   // every prefix the file names, and those given out
	old  map[spec.Endpoint][]netip.Prefix // what they have now; kept if it still fits
	next [2]int                           // of the v4 and the v6 pool
	bits [2]int
}

func newAddresser(l *spec.Lab, old map[spec.Endpoint][]netip.Prefix) *addresser {
	a := &addresser{lab: l, old: old}
	automatic := 0
	for i := range l.Links {
		k := &l.Links[i]
		a.used = append(a.used, k.Subnets...)
		for _, e := range k.Ends {
			a.used = append(a.used, e.Addresses...)
		}
		if len(k.Subnets) < 2 && k.Ends[0].Addresses == nil && k.Ends[1].Addresses == nil {
			automatic++
		}
	}
	for _, r := range l.Rooms {
		a.used = append(a.used, r.Addresses...)
	}
	a.bits = [2]int{24, 64}
	if automatic > 1<<max(0, 24-l.Addressing.V4.Bits()) {
		a.bits[0] = 30
	}
	return a
}

// link returns the addresses of both ends of a link.
func (a *addresser) link(k *spec.Link) (out [2][]netip.Prefix, err error) {
	switch {
	case k.Ends[0].Addresses != nil && k.Ends[1].Addresses != nil:
		return [2][]netip.Prefix{k.Ends[0].Addresses, k.Ends[1].Addresses}, nil
	case k.Ends[0].Addresses != nil:
		out[0] = k.Ends[0].Addresses
		out[1], err = a.beside(out[0])
		return out, err
	case k.Ends[1].Addresses != nil:
		out[1] = k.Ends[1].Addresses
		out[0], err = a.beside(out[1])
		return out, err
	}
	if kept, ok := a.kept(k); ok {
		return kept, nil
	}
	for f := range 2 {
		p, err := a.subnet(k, f)
		if err != nil {
			return out, err
		}
		first, second := p.Addr().Next(), p.Addr().Next().Next()
		out[0] = append(out[0], netip.PrefixFrom(first, p.Bits()))
		out[1] = append(out[1], netip.PrefixFrom(second, p.Bits()))
	}
	return out, nil
}

// kept are the automatic addresses that both ends have from before, so that
// another link in the file does not renumber the rest.
func (a *addresser) kept(k *spec.Link) (out [2][]netip.Prefix, ok bool) {
	for e := range 2 {
		out[e] = a.old[k.Ends[e].At]
		if len(out[e]) != 2 {
			return out, false
		}
	}
	for f := range 2 {
		p, q := out[0][f].Masked(), out[1][f].Masked()
		if p != q || p.Addr().Is4() != (f == 0) || !a.inPool(k, p, f) {
			return out, false
		}
	}
	a.used = append(a.used, out[0]...)
	return out, true
}

func (a *addresser) inPool(k *spec.Link, p netip.Prefix, f int) bool {
	for _, s := range k.Subnets {
		if s.Addr().Is4() == (f == 0) {
			return s == p
		}
	}
	for _, u := range a.used {
		if u.Overlaps(p) {
			return false
		}
	}
	return p.Bits() == a.bits[f] && a.pool(f).Contains(p.Addr())
}

func (a *addresser) pool(f int) netip.Prefix {
	if f == 0 {
		return a.lab.Addressing.V4
	}
	return a.lab.Addressing.V6
}

// maxSubnets bounds the search where a prefix of the file covers most of a
// large pool.
const maxSubnets = 1 << 18

// subnet is the next free one of a pool, or the link's own.
func (a *addresser) subnet(k *spec.Link, f int) (netip.Prefix, error) {
	for _, s := range k.Subnets {
		if s.Addr().Is4() == (f == 0) {
			return s, nil
		}
	}
	pool := a.pool(f).Masked()
next:
	for {
		p, ok := nth(pool, a.bits[f], a.next[f])
		if !ok || a.next[f] > maxSubnets {
			return p, fmt.Errorf("link %s: no /%d left in %v", k.Name, a.bits[f], pool)
		}
		a.next[f]++
		for _, u := range a.used {
			if u.Overlaps(p) {
				continue next
			}
		}
		for _, have := range a.old {
			for _, u := range have {
				if u.Overlaps(p) {
					continue next
				}
			}
		}
		a.used = append(a.used, p)
		return p, nil
	}
}

// nth is the n-th subnet of the given length in a pool.
func nth(pool netip.Prefix, bits, n int) (netip.Prefix, bool) {
	free := bits - pool.Bits()
	if free < 0 || free < 31 && n >= 1<<free {
		return netip.Prefix{}, false
	}
	b := new(big.Int).SetBytes(pool.Addr().AsSlice())
	step := new(big.Int).Lsh(big.NewInt(int64(n)), uint(pool.Addr().BitLen()-bits))
	raw := b.Add(b, step).FillBytes(make([]byte, pool.Addr().BitLen()/8))
	addr, ok := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(addr, bits), ok
}

// beside chooses an address next to each of those given.
func (a *addresser) beside(have []netip.Prefix) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, p := range have {
		if p.Bits() >= p.Addr().BitLen() {
			continue // a host route has no neighbour
		}
		addr, err := a.free(p)
		if err != nil {
			return nil, err
		}
		out = append(out, netip.PrefixFrom(addr, p.Bits()))
	}
	return out, nil
}

// free is the first address of a prefix that nobody has.
func (a *addresser) free(p netip.Prefix) (netip.Addr, error) {
	n := p.Masked()
	addr := n.Addr()
	if p.Addr().BitLen()-p.Bits() > 1 {
		addr = addr.Next() // not the network's own
	}
candidates:
	for ; n.Contains(addr); addr = addr.Next() {
		for _, u := range a.used {
			if u.Addr() == addr {
				continue candidates
			}
		}
		if addr.Is4() && n.Bits() < 31 && !n.Contains(addr.Next()) {
			break // broadcast
		}
		a.used = append(a.used, netip.PrefixFrom(addr, addr.BitLen()))
		return addr, nil
	}
	return addr, fmt.Errorf("no free address in %v", n)
}

// deriveMAC makes a locally administered address of the names, the same in
// every run.
func deriveMAC(lab string, at spec.Endpoint) spec.MAC {
	h := fnv.New64a()
	h.Write([]byte(lab + "\x00" + at.String()))
	mac := net.HardwareAddr(h.Sum(nil)[:6])
	mac[0] = mac[0]&^0x03 | 0x02
	return spec.MAC(mac.String())
}
