package tc

import (
	"encoding/json"
	"fmt"
	"strings"

	"taproom/filter"
)

// show lists filters, as text or JSON. chain restricts it if set.
func (t *target) show(f flags, chain uint32, set bool) string {
	parent := ""
	var chains []filter.ChainInfo
	switch {
	case t.root || !t.set:
		q := t.dev.Root()
		if q == nil {
			if f.json {
				return "[]"
			}
			return ""
		}
		chains = q.Chains()
		parent = fmt.Sprintf("parent %x: ", q.Handle())
	default:
		chains = t.dev.Chains(t.dir)
	}
	var b strings.Builder
	list := []filterJSON{}
	for _, c := range chains {
		if set && c.Index != chain {
			continue
		}
		for _, p := range c.Priorities {
			head := fmt.Sprintf("filter %sprotocol %s pref %d bpf chain %d ", parent, protocolName(p.Protocol), p.Priority, c.Index)
			fmt.Fprintf(&b, "%s\n", head)
			j := filterJSON{Protocol: protocolName(p.Protocol), Pref: p.Priority, Kind: "bpf", Chain: c.Index}
			list = append(list, j)
			for _, fl := range p.Filters {
				fmt.Fprintf(&b, "%s%s", head, showFilter(fl.Config(), f))
				j.Options = optionsOf(fl.Config())
				list = append(list, j)
			}
		}
	}
	if f.json {
		out, _ := json.Marshal(list)
		return string(out)
	}
	return b.String()
}

// showFilter is what stands behind "chain N" in cls_bpf's listing.
func showFilter(c filter.Config, f flags) string {
	var b strings.Builder
	fmt.Fprintf(&b, "handle %#x ", c.Handle)
	if c.FlowID != 0 {
		fmt.Fprintf(&b, "flowid %s ", showHandle(c.FlowID))
	}
	p := c.Program
	if p.Label() != "" {
		fmt.Fprintf(&b, "%s ", p.Label())
	}
	if c.DirectAction {
		b.WriteString("direct-action ")
	}
	if c.SkipHW {
		b.WriteString("skip_hw ")
	}
	b.WriteString("not_in_hw ")
	if code := p.Bytecode(); code != "" {
		fmt.Fprintf(&b, "bytecode '%s'", code)
	} else {
		fmt.Fprintf(&b, "id %d name %s tag %s ", p.ID(), p.Name(), p.Tag())
		if p.JITed() {
			b.WriteString("jited ")
		}
	}
	b.WriteString("\n")
	for k, a := range c.Actions {
		fmt.Fprintf(&b, "\taction order %d: %s\n", k+1, showAction(a, f))
	}
	return b.String()
}

// showAction prints one action; each ends with an empty line, as in tc.
func showAction(a filter.Action, f flags) string {
	var b strings.Builder
	index := a.Stats().Index
	switch a := a.(type) {
	case *filter.Gact:
		word := a.Word()
		if a.Goto {
			word = fmt.Sprintf("goto chain %d", a.Chain)
		}
		fmt.Fprintf(&b, "gact action %s\n\t random type none pass val 0\n\t index %d ref 1 bind 1\n", word, index)
	case *filter.Mirred:
		dir, what, then := "Egress", "Redirect", "stolen"
		if a.Ingress {
			dir = "Ingress"
		}
		if a.Mirror {
			what, then = "Mirror", "pipe"
		}
		fmt.Fprintf(&b, "mirred (%s %s to device %s) %s\n \tindex %d ref 1 bind 1\n", dir, what, a.Dev, then, index)
	case *filter.Skbedit:
		b.WriteString("skbedit ")
		if a.QueueMapping != nil {
			fmt.Fprintf(&b, " queue_mapping %d", *a.QueueMapping)
		}
		if a.Priority != nil {
			fmt.Fprintf(&b, " priority :%x", *a.Priority)
		}
		if a.Mark != nil {
			fmt.Fprintf(&b, " mark %d", *a.Mark)
			if a.MarkMask != nil {
				fmt.Fprintf(&b, "/%#x", *a.MarkMask)
			}
		}
		fmt.Fprintf(&b, " pipe\n\t index %d ref 1 bind 1\n", index)
	}
	if f.stats {
		s := a.Stats()
		fmt.Fprintf(&b, " \tAction statistics:\n\tSent %d bytes %d pkt (dropped %d, overlimits 0 requeues 0) \n\tbacklog 0b 0p requeues 0\n",
			s.Bytes, s.Packets, s.Drops)
	}
	b.WriteString("\n")
	return strings.TrimSuffix(b.String(), "\n")
}

// chain is "tc chain show dev DEV ingress".
func (c Command) chain(w *words, f flags) (string, error) {
	verb := w.next()
	if verb != "" && !prefix(verb, "show") && !prefix(verb, "list") {
		return "", fmt.Errorf("tc: chains come and go with their filters; %q is not offered", verb)
	}
	var t target
	for w.more() {
		var err error
		switch o := w.next(); o {
		case "dev":
			t.dev, err = c.device(w)
		case "ingress", "egress":
			t.set = true
			if o == "egress" {
				t.dir = filter.Egress
			}
		default:
			err = fmt.Errorf("What is %q?", o) //nolint:staticcheck // tc's words
		}
		if err != nil {
			return "", err
		}
	}
	if t.dev == nil {
		return "", fmt.Errorf("tc: chain show needs \"dev\"")
	}
	var b strings.Builder
	for _, ci := range t.dev.Chains(t.dir) {
		fmt.Fprintf(&b, "chain parent ffff: chain %d \n", ci.Index)
	}
	return b.String(), nil
}

// showClasses lists an HTB's classes; with statistics, an empty line follows
// each.
func showClasses(q *filter.HTB, f flags) string {
	if q == nil {
		return ""
	}
	var b strings.Builder
	for _, k := range q.Classes() {
		parent := "root"
		if k.Parent&0xffff != 0 {
			parent = "parent " + showHandle(k.Parent)
		}
		prio := ""
		if k.Level == 0 {
			prio = fmt.Sprintf("prio %d ", k.Prio)
		}
		fmt.Fprintf(&b, "class htb %s %s %srate %s ceil %s burst %s cburst %s \n",
			showHandle(k.ID), parent, prio, showRate(k.Rate), showRate(k.Ceil), showSize(k.Burst), showSize(k.CBurst))
		if f.stats {
			fmt.Fprintf(&b, " Sent %d bytes %d pkt (dropped %d, overlimits %d requeues 0) \n backlog %db %dp requeues 0\n lended: %d borrowed: %d giants: 0\n tokens: %d ctokens: %d\n\n",
				k.Bytes, k.Packets, k.Dropped, k.Overlimits, k.BacklogBytes, k.Backlog, k.Lends, k.Borrows, k.Tokens, k.CTokens)
		}
	}
	return b.String()
}
