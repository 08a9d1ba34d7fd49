package object

import "sync"

// LinkInfo describes an attachment in bpftool's terms.
type LinkInfo struct {
	ID     uint32 `json:"id"`
	Type   string `json:"type"` // "tcx", "netfilter", ...
	ProgID uint32 `json:"prog_id"`
	// Attrs says where it is attached: "devname", "attach_type", "pf", "hook",
	// "prio", ... Values are strings and numbers; after a pin was opened numbers
	// are json.Number.
	Attrs map[string]any `json:"attrs,omitempty"`
}

// Link is a listed attachment. It does not attach anything itself. Like a link of
// the kernel's it holds as long as somebody holds it: its maker, or a pin.
type Link struct {
	reg    *Registry
	detach func() error

	mu   sync.Mutex
	info LinkInfo
	refs int
	over bool
}

// AddLink lists an attachment. detach undoes it; it is called once, when the last
// holder lets go or Detach is called. The caller owns one reference.
func (r *Registry) AddLink(info LinkInfo, detach func() error) *Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastLink++
	info.ID = r.lastLink
	l := &Link{reg: r, info: info, detach: detach, refs: 1}
	r.links[info.ID] = l
	return l
}

// ID returns the link's number, never 0.
func (l *Link) ID() uint32 { return l.info.ID }

// Info describes the link. Its program is 0 once it is detached.
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

// Hold adds a reference.
func (l *Link) Hold() *Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refs++
	return l
}

// Close drops a reference; the last one detaches and unlists the link.
func (l *Link) Close() error {
	l.mu.Lock()
	l.refs--
	last := l.refs == 0
	l.mu.Unlock()
	if !last {
		return nil
	}
	l.reg.mu.Lock()
	delete(l.reg.links, l.info.ID)
	l.reg.mu.Unlock()
	return l.Detach()
}

// Detach undoes the attachment at once, whoever holds the link (BPF_LINK_DETACH).
// The link stays listed until it is closed.
func (l *Link) Detach() error {
	l.mu.Lock()
	done := l.over
	l.over = true
	l.info.ProgID = 0
	l.mu.Unlock()
	if done || l.detach == nil {
		return nil
	}
	return l.detach()
}
