package object

import "sync"

// LinkInfo describes an attachment in bpftool's terms.
type LinkInfo struct {
	ID     uint32 `json:"id"`
	Type   string `json:"type"` // "tcx", "netfilter", ...
	ProgID uint32 `json:"prog_id"`
	// Attrs says where it is attached: "devname", "attach_type", "pf", "hook",
	// "prio", ... Values are strings and numbers.
	Attrs map[string]any `json:"attrs,omitempty"`
}

// Link is a listed attachment. It does not attach anything itself.
type Link struct {
	reg    *Registry
	detach func() error

	mu   sync.Mutex
	info LinkInfo
	over bool
}

// AddLink lists an attachment. detach undoes it; it is called once, by Close.
func (r *Registry) AddLink(info LinkInfo, detach func() error) *Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastLink++
	info.ID = r.lastLink
	l := &Link{reg: r, info: info, detach: detach}
	r.links[info.ID] = l
	return l
}

// ID returns the link's number, never 0.
func (l *Link) ID() uint32 { return l.info.ID }

// Info describes the link.
func (l *Link) Info() LinkInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.info
}

// SetProgram notes that the link was updated to another program.
func (l *Link) SetProgram(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.info.ProgID = id
}

// Close detaches and unlists the link.
func (l *Link) Close() error {
	l.mu.Lock()
	done := l.over
	l.over = true
	l.mu.Unlock()
	if done {
		return nil
	}
	l.reg.mu.Lock()
	delete(l.reg.links, l.info.ID)
	l.reg.mu.Unlock()
	if l.detach == nil {
		return nil
	}
	return l.detach()
}
