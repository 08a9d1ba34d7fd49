package tc

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"taproom/filter"
)

// qdisc is "tc qdisc add|del|replace|show dev DEV ...".
func (c Command) qdisc(w *words, f flags) (string, error) {
	verb := w.next()
	var d *filter.Device
	var kind, where string
	major, def := uint32(0), uint64(0)
	var err error
	for w.more() && err == nil {
		switch o := w.next(); o {
		case "dev":
			d, err = c.device(w)
		case "root", "egress":
			where = "root"
		case "parent":
			var s string
			s, err = w.value(o)
			if s == "ffff:fff1" {
				where = "ingress"
			}
		case "handle":
			var s string
			if s, err = w.value(o); err == nil {
				major, err = handle(s)
			}
		case "clsact", "ingress", "htb", "noqueue", "fifo", "pfifo":
			kind = o
		case "default":
			var s string
			if s, err = w.value(o); err == nil {
				def, err = strconv.ParseUint(s, 16, 16)
			}
		case "r2q":
			_, err = w.value(o)
		default:
			return "", fmt.Errorf("What is %q? Try \"tc qdisc help\".", o) //nolint:staticcheck // tc's words
		}
	}
	switch {
	case err != nil:
		return "", err
	case d == nil && prefix(verb, "show"), d == nil && prefix(verb, "list"), d == nil && verb == "":
		return c.showQdiscs(kind, f)
	case d == nil:
		return "", fmt.Errorf("tc: qdisc %s needs \"dev\"", verb)
	}
	switch {
	case prefix(verb, "add"), prefix(verb, "replace"):
		switch kind {
		case "clsact", "ingress":
			err = d.AddQdisc(filter.Qdisc(kind))
			if err != nil && prefix(verb, "replace") && d.Qdisc() == filter.Qdisc(kind) {
				err = nil
			}
		case "htb":
			_, err = d.AddHTB(uint16(major>>16), uint16(def))
		default:
			err = refused(unix.ENOENT, "Specified qdisc kind is unknown.")
		}
	case prefix(verb, "delete"):
		if kind == "htb" || where == "root" {
			err = d.DelRoot()
		} else {
			err = d.DelQdisc()
		}
	case prefix(verb, "show"), prefix(verb, "list"):
		return showQdisc(d, kind, false, f), nil
	default:
		err = fmt.Errorf("tc: qdisc: command %q is unknown", verb)
	}
	return "", err
}

func (c Command) showQdiscs(kind string, f flags) (string, error) {
	var b strings.Builder
	for _, d := range c.Filters.Devices() {
		b.WriteString(showQdisc(d, kind, true, f))
	}
	return b.String(), nil
}

// showQdisc lists a device's qdiscs, as text; the root first.
func showQdisc(d *filter.Device, kind string, withDev bool, f flags) string {
	var b strings.Builder
	dev := ""
	if withDev {
		dev = "dev " + d.Name() + " "
	}
	q := d.Root()
	switch {
	case q == nil && (kind == "" || kind == "noqueue"):
		fmt.Fprintf(&b, "qdisc noqueue 0: %sroot refcnt 2 \n", dev)
	case q != nil && (kind == "" || kind == "htb"):
		fmt.Fprintf(&b, "qdisc htb %x: %sroot refcnt 2 r2q 10 default %#x direct_packets_stat %d direct_qlen 1000\n",
			q.Handle(), dev, q.Default(), q.Direct())
	}
	if k := d.Qdisc(); k != filter.NoQdisc && (kind == "" || kind == string(k)) {
		end := " \n"
		if k == filter.IngressQdisc {
			end = " ---------------- \n"
		}
		fmt.Fprintf(&b, "qdisc %s ffff: %sparent ffff:fff1%s", k, dev, end)
	}
	if f.json {
		return jsonQdisc(d, kind)
	}
	return b.String()
}

// class is "tc class add|del|show dev DEV ...".
func (c Command) class(w *words, f flags) (string, error) {
	verb := w.next()
	var d *filter.Device
	var cc filter.ClassConfig
	var err error
	for w.more() && err == nil {
		var s string
		switch o := w.next(); o {
		case "dev":
			d, err = c.device(w)
		case "parent", "classid":
			var h uint32
			if s, err = w.value(o); err == nil {
				h, err = handle(s)
			}
			if o == "parent" {
				cc.Parent = h
			} else {
				cc.ID = h
			}
		case "htb", "root":
		case "rate", "ceil":
			var r uint64
			if s, err = w.value(o); err == nil {
				r, err = rate(s)
			}
			if o == "rate" {
				cc.Rate = r
			} else {
				cc.Ceil = r
			}
		case "burst", "buffer", "cburst", "cbuffer":
			var n uint64
			if s, err = w.value(o); err == nil {
				n, err = size(s)
			}
			if o[0] == 'c' {
				cc.CBurst = uint32(n)
			} else {
				cc.Burst = uint32(n)
			}
		case "prio":
			var n uint64
			if s, err = w.value(o); err == nil {
				n, err = number(o, s, 3)
			}
			cc.Prio = uint8(n)
		case "quantum", "mtu":
			_, err = w.value(o)
		default:
			return "", fmt.Errorf("What is %q?", o) //nolint:staticcheck // tc's words
		}
	}
	switch {
	case err != nil:
		return "", err
	case d == nil:
		return "", fmt.Errorf("tc: class %s needs \"dev\"", verb)
	}
	q := d.Root()
	switch {
	case prefix(verb, "show"), prefix(verb, "list"), verb == "":
		return showClasses(q, f), nil
	case q == nil:
		return "", refused(unix.ENOENT, "Specified qdisc not found.")
	case prefix(verb, "add"):
		return "", q.AddClass(cc)
	case prefix(verb, "delete"):
		return "", q.DelClass(cc.ID)
	}
	return "", fmt.Errorf("tc: class: command %q is unknown", verb)
}
