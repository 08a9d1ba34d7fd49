package ioam

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"
)

// Sysctl reads one of Linux's IOAM settings by its path below /proc/sys:
//
//	net/ipv6/ioam6_id, net/ipv6/ioam6_id_wide,
//	net/ipv6/max_hbh_opts_number, net/ipv6/max_hbh_length,
//	net/ipv6/conf/IFACE/ioam6_enabled, .../ioam6_id, .../ioam6_id_wide
//
// Dots may stand for slashes. IFACE may be all, which changes nothing, and
// default, which is what interfaces begin with that nobody has configured.
func (n *Node) Sysctl(key string) (string, error) {
	s := n.state.Load()
	f, err := s.sysctl(key)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(f.get(s), 10), nil
}

// SetSysctl writes one of those settings: EINVAL if the value is no number or
// out of the setting's range.
func (n *Node) SetSysctl(key, value string) error {
	return n.change(func(s *state) error {
		f, err := s.sysctl(key)
		if err != nil {
			return err
		}
		v, err := strconv.ParseInt(strings.TrimSpace(value), 0, 64)
		if err != nil || v < f.low || v > f.high {
			return refuse(fmt.Sprintf("%s = %s", key, value), syscall.EINVAL, "")
		}
		f.set(s, v)
		return nil
	})
}

// setting is one sysctl: its range and where it is kept.
type setting struct {
	low, high int64
	get       func(*state) int64
	set       func(*state, int64)
}

// errNoSysctl: no such file, as the kernel says.
var errNoSysctl = fmt.Errorf("ioam: %w", errors.Join(fs.ErrNotExist, syscall.ENOENT))

func (s *state) sysctl(key string) (setting, error) {
	path := strings.Split(strings.TrimPrefix(strings.ReplaceAll(key, ".", "/"), "/proc/sys/"), "/")
	if len(path) < 3 || path[0] != "net" || path[1] != "ipv6" {
		return setting{}, fmt.Errorf("%w: %s", errNoSysctl, key)
	}
	switch path = path[2:]; {
	case len(path) == 1:
		if f, ok := nodeSettings[path[0]]; ok {
			return f, nil
		}
	case len(path) == 3 && path[0] == "conf":
		if f, ok := s.ifSetting(path[1], path[2]); ok {
			return f, nil
		}
	}
	return setting{}, fmt.Errorf("%w: %s", errNoSysctl, key)
}

var nodeSettings = map[string]setting{
	"ioam6_id": {0, maxNodeID,
		func(s *state) int64 { return int64(s.nodeID) }, func(s *state, v int64) { s.nodeID = uint32(v) }},
	"ioam6_id_wide": {0, maxNodeIDWide,
		func(s *state) int64 { return int64(s.nodeIDWide) }, func(s *state, v int64) { s.nodeIDWide = uint64(v) }},
	"max_hbh_opts_number": {math.MinInt32, math.MaxInt32,
		func(s *state) int64 { return int64(s.maxOptions) }, func(s *state, v int64) { s.maxOptions = int(v) }},
	"max_hbh_length": {math.MinInt32, math.MaxInt32,
		func(s *state) int64 { return int64(s.maxHeader) }, func(s *state, v int64) { s.maxHeader = int(v) }},
}

// ifSetting finds a setting of an interface, or of one of the two that stand
// for many.
func (s *state) ifSetting(ifname, name string) (setting, bool) {
	get, set := func(s *state) Interface { return s.defaults }, func(s *state, c Interface) { s.defaults = c }
	switch ifname {
	case "default":
	case "all":
		set = func(*state, Interface) {} // Linux asks the interface alone
	default:
		index, ok := s.byName[ifname]
		if !ok {
			return setting{}, false
		}
		get = func(s *state) Interface {
			if c, ok := s.config[index]; ok {
				return c
			}
			return s.defaults
		}
		set = func(s *state, c Interface) { s.config[index] = c }
	}
	edit := func(f func(*Interface, int64)) func(*state, int64) {
		return func(s *state, v int64) {
			c := get(s)
			f(&c, v)
			set(s, c)
		}
	}
	switch name {
	case "ioam6_enabled":
		return setting{0, 1, func(s *state) int64 {
			if get(s).Enabled {
				return 1
			}
			return 0
		}, edit(func(c *Interface, v int64) { c.Enabled = v == 1 })}, true
	case "ioam6_id":
		return setting{0, math.MaxUint16, func(s *state) int64 {
			if p := get(s).ID; p != nil {
				return int64(*p)
			}
			return unset16
		}, edit(func(c *Interface, v int64) { c.ID = ID16(uint16(v)) })}, true
	case "ioam6_id_wide":
		return setting{0, math.MaxUint32, func(s *state) int64 {
			if p := get(s).IDWide; p != nil {
				return int64(*p)
			}
			return unset32
		}, edit(func(c *Interface, v int64) { c.IDWide = ID(uint32(v)) })}, true
	}
	return setting{}, false
}
