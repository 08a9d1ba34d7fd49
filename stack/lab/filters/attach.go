package filters

import (
	"fmt"
	"io"

	"taproom/filter"
)

// Request asks for a program on a router, as "taproom bpf net attach" does:
// in a tcx list if Dev is given, else at a netfilter point.
type Request struct {
	File    string `json:"file"`
	Section string `json:"section,omitempty"`
	Program string `json:"program,omitempty"`

	Dev    string `json:"dev,omitempty"`
	Egress bool   `json:"egress,omitempty"`

	Netfilter *Netfilter `json:"netfilter,omitempty"`
}

// Attach attaches a program with a link that its caller closes.
func (p *Part) Attach(r Request) (io.Closer, error) {
	prog, err := p.Object(r.File, r.Section, r.Program)
	if err != nil {
		return nil, err
	}
	if r.Dev == "" {
		return p.link(prog, r.Netfilter)
	}
	d, err := p.DeviceByName(r.Dev)
	if err != nil {
		return nil, err
	}
	return d.AttachTCX(direction(r.Egress), prog, filter.TCXOptions{})
}

// AttachProgram attaches a program to stay: to a tcx list without a link, or
// with a netfilter link that nobody closes.
func (p *Part) AttachProgram(r Request) error {
	if r.Dev == "" {
		_, err := p.Attach(r)
		return err
	}
	d, err := p.DeviceByName(r.Dev)
	if err != nil {
		return err
	}
	prog, err := p.Object(r.File, r.Section, r.Program)
	if err != nil {
		return err
	}
	return d.AttachTCXProgram(direction(r.Egress), prog, filter.TCXOptions{})
}

// DetachProgram takes the last program without a link out of a tcx list.
func (p *Part) DetachProgram(dev string, egress bool) error {
	d, err := p.DeviceByName(dev)
	if err != nil {
		return err
	}
	return d.DetachTCX(direction(egress), nil, 0)
}

func direction(egress bool) filter.Direction {
	if egress {
		return filter.Egress
	}
	return filter.Ingress
}

func (p *Part) link(prog *filter.Program, n *Netfilter) (*filter.NFLink, error) {
	if n == nil {
		return nil, fmt.Errorf("filters: neither an interface nor a netfilter hook")
	}
	c, err := n.config()
	if err != nil {
		return nil, err
	}
	return p.AttachNetfilter(prog, c)
}
