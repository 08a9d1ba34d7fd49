package spec

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The scalar types below read what people write, and print it back so that
// reading it again gives the same value.

// Duration is a time.Duration that is written as 10ms.
type Duration time.Duration

// UnmarshalText reads a duration with a unit.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration: give a number and a unit, as 10ms", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Percent is a chance of 0 to 1, written as 1% or 0.01.
type Percent float64

// UnmarshalText reads a percentage or a fraction.
func (p *Percent) UnmarshalText(b []byte) error {
	s, percent := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if percent {
		v /= 100
	}
	switch {
	case err != nil || math.IsNaN(v) || v < 0:
		return fmt.Errorf("%q is no chance: write 1%% or 0.01", b)
	case v > 1 && !percent:
		return fmt.Errorf("%s is more than certain: do you mean %s%%?", b, b)
	case v > 1:
		return fmt.Errorf("%s is more than 100%%", b)
	}
	*p = Percent(v)
	return nil
}

// MarshalText prints a percentage.
func (p Percent) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(p)*100, 'g', 12, 64) + "%"), nil
}

// Rate is a speed in bit/s, written as 10mbit, 1.5Gbit/s or 9600bit.
type Rate uint64

var rateUnits = []struct {
	suffix string
	bits   float64
}{{"tbit", 1e12}, {"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// UnmarshalText reads a rate. tc's "bps" is refused: it means bytes there and
// bits elsewhere.
func (r *Rate) UnmarshalText(b []byte) error {
	s := strings.TrimSuffix(strings.ToLower(string(b)), "/s")
	for _, u := range rateUnits {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
			if err != nil || !(v >= 0) || v*u.bits > 1e15 {
				break
			}
			*r = Rate(math.Round(v * u.bits))
			return nil
		}
	}
	return fmt.Errorf("%q is no rate: give a number and bit, kbit, mbit, gbit or tbit (per second), as 10mbit", b)
}

// MarshalText prints the rate in the largest unit that has no fraction.
func (r Rate) MarshalText() ([]byte, error) {
	for _, u := range rateUnits {
		if r > 0 && uint64(r)%uint64(u.bits) == 0 {
			return []byte(strconv.FormatUint(uint64(r)/uint64(u.bits), 10) + u.suffix), nil
		}
	}
	return []byte("0bit"), nil
}

// Size is a number of bytes, written as 64kB, 1MiB or 1500.
type Size int64

// UnmarshalText reads a size.
func (z *Size) UnmarshalText(b []byte) error {
	s, unit := strings.ToLower(string(b)), int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"b", 1}} {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(s, 10, 40)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no size: give bytes, or a number and kB, MB, KiB, MiB", b)
	}
	*z = Size(v * unit)
	return nil
}

// MarshalText prints bytes.
func (z Size) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(z), 10), nil }

// MAC is a link address of six bytes; empty if there is none.
type MAC string

// UnmarshalText reads any form that net.ParseMAC does.
func (m *MAC) UnmarshalText(b []byte) error {
	a, err := net.ParseMAC(string(b))
	if err != nil || len(a) != 6 {
		return fmt.Errorf("%q is no MAC address: give six bytes, as 02:00:00:00:00:01", b)
	}
	if a[0]&1 != 0 {
		return fmt.Errorf("%s is a group address: the first byte must be even", a)
	}
	*m = MAC(a.String())
	return nil
}

// HardwareAddr is the address, nil if it is empty.
func (m MAC) HardwareAddr() net.HardwareAddr {
	a, _ := net.ParseMAC(string(m))
	return a
}

// Endpoint is an interface of a room.
type Endpoint struct{ Room, Interface string }

// UnmarshalText reads room:interface.
func (e *Endpoint) UnmarshalText(b []byte) error {
	room, iface, ok := strings.Cut(string(b), ":")
	if !ok || room == "" || iface == "" {
		return fmt.Errorf("%q is no interface: write room:interface, as alice:eth0", b)
	}
	e.Room, e.Interface = room, iface
	return nil
}

// MarshalText is the inverse.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

func (e Endpoint) String() string { return e.Room + ":" + e.Interface }

// Destination is where a route leads: a prefix, or one of the defaults.
// "default" is that of the next hop's IP version, or of both.
type Destination string

// UnmarshalText checks the form.
func (d *Destination) UnmarshalText(b []byte) error {
	*d = Destination(b)
	switch *d {
	case "default", "default4", "default6":
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if a, aerr := netip.ParseAddr(string(b)); aerr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return fmt.Errorf("%q is no destination: give a prefix, as 10.0.0.0/8, or default", b)
	}
	if p != p.Masked() {
		return fmt.Errorf("%v has bits set behind its prefix: do you mean %v?", p, p.Masked())
	}
	*d = Destination(p.String())
	return nil
}

// Prefixes are the prefixes the destination stands for, given the next hop.
func (d Destination) Prefixes(via netip.Addr) []netip.Prefix {
	v4, v6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	switch {
	case d == "default4", d == "default" && via.Is4():
		return []netip.Prefix{v4}
	case d == "default6", d == "default" && via.Is6():
		return []netip.Prefix{v6}
	case d == "default":
		return []netip.Prefix{v4, v6}
	}
	p, err := netip.ParsePrefix(string(d))
	if err != nil {
		return nil
	}
	return []netip.Prefix{p}
}

// Command is a program and its arguments. One string is a line for sh -c.
type Command []string

// Short takes a line for the shell.
func (c *Command) Short(s string) error {
	if strings.TrimSpace(s) == "" {
		return fmt.Errorf("an empty command")
	}
	*c = Command{"/bin/sh", "-c", s}
	return nil
}

// Pattern is a regular expression in Go's syntax.
type Pattern string

// UnmarshalText checks that it compiles.
func (p *Pattern) UnmarshalText(b []byte) error {
	if _, err := regexp.Compile(string(b)); err != nil {
		return err
	}
	*p = Pattern(b)
	return nil
}

// Scalar is a string that may be written as a number or boolean as well.
type Scalar string

// UnmarshalText takes anything.
func (s *Scalar) UnmarshalText(b []byte) error { *s = Scalar(b); return nil }
