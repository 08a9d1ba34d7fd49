package filter

import (
	"fmt"
	"strings"

	"taproom/filter/vm"
)

// Info is what /proc/PID/fdinfo shows of a tcx link.
func (k *TCXLink) Info() string {
	k.dev.fs.mu.Lock()
	defer k.dev.fs.mu.Unlock()
	attach := 46 + int(k.dir) // BPF_TCX_INGRESS, BPF_TCX_EGRESS
	index := k.dev.index
	if k.gone {
		index = 0
	}
	return fmt.Sprintf("link_type:\ttcx\nlink_id:\t%d\nprog_tag:\t%s\nprog_id:\t%d\nifindex:\t%d\nattach_type:\t%d (%s)\n",
		k.id, k.prog.tag, k.prog.id, index, attach, k.dir)
}

// Info is what /proc/PID/fdinfo shows of a netfilter link.
func (l *NFLink) Info() string {
	return fmt.Sprintf("link_type:\tnetfilter\nlink_id:\t%d\nprog_tag:\t%s\nprog_id:\t%d\npf:\t%d\thooknum:\t%d\tprio:\t%d\n",
		l.id, l.prog.tag, l.prog.id, l.conf.PF, l.conf.Hook, l.conf.Priority)
}

// NetOptions restrict ShowNet.
type NetOptions struct {
	Dev    string // one interface only
	TCOnly bool   // as bpftool before version 7.3, which knew neither tcx nor netfilter
}

// ShowNet lists what is attached to the network, as "bpftool net" does.
func ShowNet(fs *Filters, o NetOptions) string {
	var b strings.Builder
	b.WriteString("xdp:\n\ntc:\n")
	for _, d := range fs.Devices() {
		if o.Dev != "" && o.Dev != d.name {
			continue
		}
		for _, dir := range [...]Direction{Ingress, Egress} {
			if !o.TCOnly {
				q := d.QueryTCX(dir)
				for n, p := range q.Programs {
					fmt.Fprintf(&b, "%s(%d) tcx/%s %s prog_id %d ", d.name, d.index, dir, p.name, p.id)
					if id := q.Links[n].ID(); id != 0 {
						fmt.Fprintf(&b, "link_id %d ", id)
					}
					b.WriteString("\n")
				}
			}
			if dir == Egress && d.Qdisc() != Clsact {
				continue
			}
			for _, c := range d.Chains(dir) {
				for _, p := range c.Priorities {
					for _, f := range p.Filters {
						if prog := f.Config().Program; prog.bpf != nil {
							fmt.Fprintf(&b, "%s(%d) %s/%s %s id %d\n", d.name, d.index, d.Qdisc(), dir, prog.label, prog.id)
						}
					}
				}
			}
		}
	}
	b.WriteString("\nflow_dissector:\n")
	if links := fs.NetfilterLinks(); !o.TCOnly {
		b.WriteString("\nnetfilter:\n")
		for _, l := range links {
			fmt.Fprintf(&b, "%s %s prio %d prog_id %d link_id %d \n", nfFamily(l.conf.PF), nfHookNames[l.conf.Hook], l.conf.Priority, l.prog.id, l.id)
		}
	}
	return b.String()
}

var nfHookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

func nfFamily(pf uint8) string {
	if pf == vm.NFProtoIPv6 {
		return "ip6"
	}
	return "ip"
}
