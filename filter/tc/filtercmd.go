package tc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"taproom/filter"
)

// target is where filters are: a direction, or the root's own list.
type target struct {
	dev  *filter.Device
	dir  filter.Direction
	root bool
	set  bool
}

func (t *target) parent(s string) error {
	h, err := handle(s)
	if err != nil {
		return err
	}
	t.set = true
	switch h {
	case 0xfffffff2, 0xffff0000:
		t.dir = filter.Ingress
	case 0xfffffff3:
		t.dir = filter.Egress
	default:
		t.root = true
	}
	return nil
}

// protocols are tc's names of EtherTypes.
var protocols = map[string]uint16{
	"all": 3, "ip": 0x0800, "ipv4": 0x0800, "ipv6": 0x86dd, "arp": 0x0806, "802.1q": 0x8100, "802.1Q": 0x8100,
	"802.1ad": 0x88a8, "mpls_uc": 0x8847, "loop": 0x0060,
}

func protocolName(p uint16) string {
	switch p {
	case 3:
		return "all"
	case 0x0800:
		return "ip"
	case 0x86dd:
		return "ipv6"
	case 0x0806:
		return "arp"
	case 0x8100:
		return "802.1Q"
	case 0x88a8:
		return "802.1ad"
	}
	return fmt.Sprintf("[%d]", p)
}

// filter is "tc filter add|replace|change|del|show dev DEV ...".
func (c Command) filter(w *words, f flags) (string, error) {
	verb := w.next()
	var t target
	var conf filter.Config
	var kind string
	chainSet := false
	for w.more() && kind == "" {
		var s string
		var n uint64
		var err error
		switch o := w.next(); o {
		case "dev":
			t.dev, err = c.device(w)
		case "ingress":
			t.dir, t.set = filter.Ingress, true
		case "egress":
			t.dir, t.set = filter.Egress, true
		case "root":
			t.root, t.set = true, true
		case "parent":
			if s, err = w.value(o); err == nil {
				err = t.parent(s)
			}
		case "prio", "pref", "preference", "priority":
			if s, err = w.value(o); err == nil {
				n, err = number(o, s, 16)
			}
			conf.Priority = uint16(n)
		case "protocol":
			if s, err = w.value(o); err == nil {
				conf.Protocol, err = protocol(s)
			}
		case "handle":
			if s, err = w.value(o); err == nil {
				n, err = number(o, s, 32)
			}
			conf.Handle = uint32(n)
		case "chain":
			if s, err = w.value(o); err == nil {
				n, err = number(o, s, 28)
			}
			conf.Chain, chainSet = uint32(n), true
		case "bpf":
			kind = o
			err = c.bpf(w, &conf)
		default:
			if verb == "add" || verb == "replace" || verb == "change" {
				err = fmt.Errorf("Unknown filter %q, hence option %q is unparsable", o, w.peek()) //nolint:staticcheck // tc's words
			} else {
				kind = o
			}
		}
		if err != nil {
			return "", err
		}
	}
	if t.dev == nil {
		return "", fmt.Errorf("tc: filter %s needs \"dev\"", verb)
	}
	switch {
	case prefix(verb, "add"), verb == "replace", verb == "change":
		return "", t.add(verb, kind, conf)
	case prefix(verb, "delete"):
		return "", t.del(filter.Select{Chain: conf.Chain, Priority: conf.Priority, Protocol: conf.Protocol, Handle: conf.Handle, Kind: kind})
	case prefix(verb, "show"), prefix(verb, "list"), verb == "":
		return t.show(f, conf.Chain, chainSet), nil
	}
	return "", fmt.Errorf("tc: filter: command %q is unknown", verb)
}

func protocol(s string) (uint16, error) {
	if p, ok := protocols[s]; ok {
		return p, nil
	}
	if n, err := strconv.ParseUint(s, 0, 16); err == nil {
		return uint16(n), nil
	}
	return 0, fmt.Errorf("tc: protocol %q is unknown (all, ip, ipv6, arp, 802.1Q, ...)", s)
}

// add also supplies what tc itself adds to a request: all protocols, unless an
// existing filter is to be changed.
func (t *target) add(verb, kind string, conf filter.Config) error {
	m := filter.Add
	switch verb {
	case "replace":
		m = filter.Replace
	case "change":
		m = filter.Change
	}
	if m != filter.Change && conf.Protocol == 0 {
		conf.Protocol = protocols["all"]
	}
	if kind == "" {
		return fmt.Errorf("tc: filter %s needs a kind: bpf", verb)
	}
	var err error
	switch {
	case t.root || !t.set:
		q := t.dev.Root()
		if q == nil {
			return refused(22, "Parent Qdisc doesn't exists.")
		}
		_, err = q.AddFilter(m, conf)
	default:
		_, err = t.dev.AddFilter(t.dir, m, conf)
	}
	return err
}

func (t *target) del(s filter.Select) error {
	if t.root || !t.set {
		q := t.dev.Root()
		if q == nil {
			return refused(22, "Parent Qdisc doesn't exists.")
		}
		return q.DelFilters(s)
	}
	return t.dev.DelFilters(t.dir, s)
}

// bpf reads what follows the kind.
func (c Command) bpf(w *words, conf *filter.Config) error {
	var file, section, name, pinned, code string
	for w.more() {
		var err error
		var s string
		switch o := w.next(); o {
		case "da", "direct-action":
			conf.DirectAction = true
		case "obj", "object", "object-file":
			file, err = w.value(o)
		case "sec", "section":
			section, err = w.value(o)
		case "program", "name":
			name, err = w.value(o)
		case "object-pinned", "pinned", "fd":
			pinned, err = w.value(o)
		case "bytecode":
			code, err = w.value(o)
		case "bytecode-file":
			if s, err = w.value(o); err == nil {
				var b []byte
				b, err = os.ReadFile(s)
				code = strings.TrimSpace(string(b))
			}
		case "flowid", "classid":
			if s, err = w.value(o); err == nil {
				conf.FlowID, err = handle(s)
			}
		case "verbose", "export":
			if o == "export" {
				_, err = w.value(o)
			}
		case "skip_sw":
			conf.SkipSW = true
		case "skip_hw":
			conf.SkipHW = true
		case "action":
			conf.Actions, err = c.actions(w)
		default:
			err = fmt.Errorf("What is %q? Usage: ... bpf [da] obj FILE [sec NAME] | object-pinned PATH | bytecode BPF [flowid CLASSID] [action ...]", o) //nolint:staticcheck // tc's words
		}
		if err != nil {
			return err
		}
	}
	var err error
	switch {
	case code != "":
		conf.Program, err = c.Load.Classic(code)
	case pinned != "":
		conf.Program, err = c.Load.Pinned(pinned)
	case file != "":
		conf.Program, err = c.Load.Object(file, section, name)
	}
	return err
}
