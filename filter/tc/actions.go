package tc

import (
	"fmt"
	"strings"

	"taproom/filter"
)

// results are the words of the gact action.
var results = map[string]int32{
	"ok": filter.ActOK, "pass": filter.ActOK, "drop": filter.ActShot, "shot": filter.ActShot, "pipe": filter.ActPipe,
	"continue": filter.ActUnspec, "reclassify": filter.ActReclassify, "trap": filter.ActTrap,
}

// actions reads a list of actions; "action" has been read.
func (c Command) actions(w *words) ([]filter.Action, error) {
	var out []filter.Action
	for {
		a, err := c.action(w)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
		if !w.accept("action") {
			return out, nil
		}
	}
}

func (c Command) action(w *words) (filter.Action, error) {
	o := w.next()
	if o == "gact" {
		o = w.next()
	}
	if r, ok := results[o]; ok {
		return &filter.Gact{Result: r}, nil
	}
	switch o {
	case "goto":
		if !w.accept("chain") {
			return nil, fmt.Errorf("tc: action goto: \"chain\" is expected, not %q", w.peek())
		}
		s, err := w.value("chain")
		if err != nil {
			return nil, err
		}
		n, err := number("chain", s, 28)
		return &filter.Gact{Goto: true, Chain: uint32(n)}, err
	case "mirred":
		return c.mirred(w)
	case "skbedit":
		return c.skbedit(w)
	}
	return nil, fmt.Errorf("tc: action %q is unknown (ok, drop, pipe, continue, reclassify, goto chain N, mirred, skbedit)", o)
}

// mirred is "mirred egress|ingress redirect|mirror dev NAME".
func (c Command) mirred(w *words) (filter.Action, error) {
	a := new(filter.Mirred)
	for {
		switch w.peek() {
		case "ingress", "egress":
			a.Ingress = w.next() == "ingress"
		case "redirect", "mirror":
			a.Mirror = w.next() == "mirror"
		case "dev":
			w.next()
			d, err := c.device(w)
			if err != nil {
				return nil, err
			}
			a.Ifindex, a.Dev = d.Index(), d.Name()
		default:
			if a.Ifindex == 0 {
				return nil, fmt.Errorf("tc: mirred: \"dev\" is missing")
			}
			return a, nil
		}
	}
}

// skbedit is "skbedit [mark M[/MASK]] [priority P] [queue_mapping Q]".
func (c Command) skbedit(w *words) (filter.Action, error) {
	a := new(filter.Skbedit)
	for {
		o := w.peek()
		switch o {
		case "mark", "priority", "queue_mapping":
			w.next()
		default:
			return a, nil
		}
		s, err := w.value(o)
		if err != nil {
			return nil, err
		}
		switch o {
		case "mark":
			err = mark(a, s)
		case "priority":
			var n uint64
			if h, herr := handle(s); herr == nil {
				n = uint64(h)
			} else {
				n, err = number(o, s, 32)
			}
			v := uint32(n)
			a.Priority = &v
		case "queue_mapping":
			var n uint64
			n, err = number(o, s, 16)
			v := uint16(n)
			a.QueueMapping = &v
		}
		if err != nil {
			return nil, err
		}
	}
}

func mark(a *filter.Skbedit, s string) error {
	value, mask, masked := strings.Cut(s, "/")
	n, err := number("mark", value, 32)
	if err != nil {
		return err
	}
	v := uint32(n)
	a.Mark = &v
	if masked {
		if n, err = number("mark", mask, 32); err != nil {
			return err
		}
		m := uint32(n)
		a.MarkMask = &m
	}
	return nil
}
