package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"taproom/ioam"
	"taproom/ioam/option"
)

// ParseRoute reads an encapsulating route, as ip -6 route add takes it, from
// its prefix on; what says where the route leads (via, dev and the like) is
// skipped, because a tunnel follows the routing table:
//
//	PREFIX encap ioam6 [ freq K/N ] [ mode { inline | encap | auto } ]
//	  [ tunsrc ADDR ] [ tundst ADDR ]
//	  trace { prealloc | incremental | dex } type TYPE ns ID [ size OCTETS ]
//
// taproom's own words may follow anywhere behind ioam6: class MAJOR:MINOR,
// mark MARK[/MASK], mtu { signal | linux | skip }, e2e { seq32 | seq64 | time
// | none }, flow ID, stripped, loopback, active.
func ParseRoute(args []string) (ioam.Tunnel, error) {
	w := words(args)
	var t ioam.Tunnel
	s, err := w.next()
	if err != nil {
		return t, err
	}
	if t.Prefix, err = parsePrefix(s); err != nil {
		return t, wrong(s, "IPv6 prefix is expected")
	}
	inside := false
	for len(w) > 0 {
		key, _ := w.next()
		switch {
		case key == "encap":
			kind, err := w.next()
			if err != nil {
				return t, err
			}
			if kind != "ioam6" {
				return t, wrong(kind, "invalid encap type")
			}
			inside = true
		case !inside || skipped[key]:
			if _, err := w.next(); err != nil {
				return t, err
			}
		default:
			if err := routeWord(&t, key, &w); err != nil {
				return t, err
			}
		}
	}
	if !inside {
		return t, errIncomplete
	}
	return t, nil
}

// skipped words of a route have one argument and nothing to do with the
// encapsulation.
var skipped = map[string]bool{"via": true, "dev": true, "proto": true, "metric": true, "pref": true, "table": true, "src": true}

func parsePrefix(s string) (netip.Prefix, error) {
	if s == "default" {
		s = "::/0"
	}
	if !strings.Contains(s, "/") {
		s += "/128"
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && !p.Addr().Is6() {
		err = fmt.Errorf("cli: %s is no IPv6 prefix", s)
	}
	return p, err
}

func routeWord(t *ioam.Tunnel, key string, w *words) error {
	switch key {
	case "stripped":
		t.Stripped = true
		return nil
	case "loopback":
		t.Loopback = true
		return nil
	case "active":
		t.Active = true
		return nil
	}
	parse, ok := routeWords[key]
	if !ok {
		return wrong(key, "Unknown")
	}
	val, err := w.next()
	if err != nil {
		return err
	}
	if err := parse(t, val); err != nil {
		return wrong(val, "Invalid "+key)
	}
	return nil
}

var routeWords = map[string]func(*ioam.Tunnel, string) error{
	"freq": func(t *ioam.Tunnel, s string) (err error) {
		k, n, _ := strings.Cut(s, "/")
		if t.K, err = parse32(k); err == nil {
			t.N, err = parse32(n)
		}
		return err
	},
	"mode":   func(t *ioam.Tunnel, s string) (err error) { t.Mode, err = ioam.ParseMode(s); return },
	"tunsrc": func(t *ioam.Tunnel, s string) (err error) { t.Src, err = netip.ParseAddr(s); return },
	"tundst": func(t *ioam.Tunnel, s string) (err error) { t.Dst, err = netip.ParseAddr(s); return },
	"trace": func(t *ioam.Tunnel, s string) error {
		kinds := map[string]option.Kind{
			"prealloc": option.Preallocated, "incremental": option.Incremental, "dex": option.DirectExport,
		}
		k, ok := kinds[s]
		t.Kind = k
		return unless(ok, s)
	},
	"type": func(t *ioam.Tunnel, s string) (err error) { t.Type, err = option.ParseType(s); return },
	"ns": func(t *ioam.Tunnel, s string) error {
		v, err := strconv.ParseUint(s, 0, 16)
		t.Namespace = uint16(v)
		return err
	},
	"size": func(t *ioam.Tunnel, s string) error {
		v, err := strconv.ParseUint(s, 0, 8)
		t.Size = int(v)
		return err
	},
	"flow": func(t *ioam.Tunnel, s string) (err error) { t.FlowID, err = parse32(s); return },
	"mark": func(t *ioam.Tunnel, s string) (err error) {
		mark, mask, ok := strings.Cut(s, "/")
		if t.Mark, err = parse32(mark); err != nil {
			return err
		}
		t.MarkMask = 0xffffffff
		if ok {
			t.MarkMask, err = parse32(mask)
		}
		return err
	},
	"class": func(t *ioam.Tunnel, s string) error {
		major, minor, _ := strings.Cut(s, ":")
		a, err1 := strconv.ParseUint(major, 16, 16)
		b, err2 := strconv.ParseUint(minor, 16, 16)
		t.Class = uint32(a<<16 | b)
		return unless(err1 == nil && err2 == nil, s)
	},
	"mtu": func(t *ioam.Tunnel, s string) error {
		p, ok := map[string]ioam.MTUPolicy{"signal": ioam.MTUSignal, "linux": ioam.MTULinux, "skip": ioam.MTUSkip}[s]
		t.MTU = p
		return unless(ok, s)
	},
	"e2e": func(t *ioam.Tunnel, s string) error {
		for f := range strings.SplitSeq(s, ",") {
			v, ok := map[string]option.E2EType{
				"none": 0, "seq32": option.Sequence32, "seq64": option.Sequence64, "time": option.E2ESeconds | option.E2EFraction,
			}[f]
			if !ok {
				return unless(false, s)
			}
			t.E2E |= v
		}
		return nil
	},
}

func parse32(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 0, 32)
	return uint32(v), err
}

func unless(ok bool, s string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("cli: %q", s)
}

// FormatRoute is the line for a tunnel that ParseRoute reads.
func FormatRoute(t ioam.Tunnel) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", t.Prefix, t.Encapsulation())
	if t.Class != 0 {
		fmt.Fprintf(&b, " class %x:%x", t.Class>>16, t.Class&0xffff)
	}
	if t.MarkMask != 0 {
		fmt.Fprintf(&b, " mark %#x/%#x", t.Mark, t.MarkMask)
	}
	if t.MTU != ioam.MTUSignal {
		b.WriteString(map[ioam.MTUPolicy]string{ioam.MTULinux: " mtu linux", ioam.MTUSkip: " mtu skip"}[t.MTU])
	}
	var e []string
	for _, f := range []struct {
		t option.E2EType
		s string
	}{{option.Sequence32, "seq32"}, {option.Sequence64, "seq64"}, {option.E2ESeconds | option.E2EFraction, "time"}} {
		if t.E2E&f.t == f.t {
			e = append(e, f.s)
		}
	}
	if e != nil {
		b.WriteString(" e2e " + strings.Join(e, ","))
	}
	if t.FlowID != 0 {
		fmt.Fprintf(&b, " flow %d", t.FlowID)
	}
	for _, f := range []struct {
		on   bool
		word string
	}{{t.Stripped, " stripped"}, {t.Loopback, " loopback"}, {t.Active, " active"}} {
		if f.on {
			b.WriteString(f.word)
		}
	}
	return b.String()
}
