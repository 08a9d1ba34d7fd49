package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// PortSet is a set of ports.
type PortSet [1 << 16 / 64]uint64

// Has reports whether a port is in the set.
func (s *PortSet) Has(p uint16) bool { return s[p/64]>>(p%64)&1 != 0 }

// Add puts a port in.
func (s *PortSet) Add(p uint16) { s[p/64] |= 1 << (p % 64) }

// PortSpec is what an option like "-t SPEC" asks for.
type PortSpec struct {
	Auto   bool // all that listen inside
	None   bool
	Except PortSet // with Auto
	Ports  []Port
}

// Port is one port of the host that leads to one inside.
type Port struct {
	Addr        netip.Addr // of the host; invalid is all
	Device      string
	Host, Guest uint16
}

// ErrPortSpec is wrapped by every error of ParsePorts.
var ErrPortSpec = errors.New("invalid port specifier")

// ParsePorts reads a port specification:
//
//	none | auto | [ADDR][%DEV]/ITEM,... | ITEM,...
//	ITEM: PORT | PORT-PORT | PORT:PORT | PORT-PORT:PORT-PORT | ~PORT | ~PORT-PORT
//
// With ~ ports are taken out. If nothing but exclusions is there, all ports
// but those that Linux hands out by itself follow what listens inside.
func ParsePorts(s string) (PortSpec, error) {
	bad := func() (PortSpec, error) { return PortSpec{}, fmt.Errorf("%w %s", ErrPortSpec, s) }
	var spec PortSpec
	switch s {
	case "none":
		spec.None = true
		return spec, nil
	case "auto", "all":
		spec.Auto = true
		return spec, nil
	}
	list := s
	var at Port
	if where, rest, ok := strings.Cut(s, "/"); ok {
		list = rest
		addr, dev, bound := strings.Cut(where, "%")
		at.Device = dev
		if bound && dev == "" || len(dev) > 15 {
			return bad()
		}
		if addr != "" && addr != "*" {
			a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
			if err != nil {
				return bad()
			}
			at.Addr = a
		} else if !bound && addr == "" {
			return bad()
		}
	}
	var ports []Port
	for item := range strings.SplitSeq(list, ",") {
		out, excluded := strings.CutPrefix(item, "~")
		host, guest, mapped := strings.Cut(out, ":")
		h0, h1, err := parseRange(host)
		if err != nil || excluded && mapped {
			return bad()
		}
		g0, g1 := h0, h1
		if mapped {
			if g0, g1, err = parseRange(guest); err != nil || g1-g0 != h1-h0 {
				return bad()
			}
		}
		for p := h0; p <= h1; p++ {
			if excluded {
				spec.Except.Add(uint16(p))
				continue
			}
			q := at
			q.Host, q.Guest = uint16(p), uint16(g0+p-h0)
			ports = append(ports, q)
		}
	}
	if ports == nil {
		spec.Auto = true
		return spec, nil
	}
	for _, p := range ports {
		if !spec.Except.Has(p.Host) {
			spec.Ports = append(spec.Ports, p)
		}
	}
	return spec, nil
}

func parseRange(s string) (first, last int, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	lo, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	hi, err := strconv.ParseUint(b, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	if lo == 0 || hi < lo {
		return 0, 0, ErrPortSpec
	}
	return int(lo), int(hi), nil
}
