package object

// linkHeader is a pinned attachment: what is attached where.
type linkHeader struct {
	Type  string         `json:"type"`
	Prog  identity       `json:"prog"`
	Attrs map[string]any `json:"attrs,omitempty"`
}

// Attacher makes an attachment again that was pinned by another process. The result
// is owned by the directory; p is its program, on which the caller keeps a reference.
type Attacher func(info LinkInfo, p *Program) (*Link, error)

// PinLink pins an attachment under a name: it then holds although its maker lets it
// go, and is made again when a later process opens the pin.
func (d *Dir) PinLink(name string, l *Link) error {
	return d.pin(name, func() (identity, error) {
		if id, ok := d.linkID[l.ID()]; ok {
			return id, nil
		}
		p, ok := d.reg.Program(l.Info().ProgID)
		if !ok {
			return "", errDetached
		}
		defer p.Close()
		if _, err := d.adoptProgram(p); err != nil {
			return "", err
		}
		id := newIdentity()
		d.linkID[l.ID()], d.links[id] = id, l.Hold()
		return id, nil
	})
}

func encodeLink(l *Link, progID func(uint32) identity) ([]byte, error) {
	i := l.Info()
	return encode(header{Kind: "link", Link: &linkHeader{i.Type, progID(i.ProgID), i.Attrs}}, nil)
}

// reviveLink attaches again.
func (d *Dir) reviveLink(f file) error {
	h := f.h.Link
	p := d.progs[h.Prog]
	if p == nil {
		return errDetached
	}
	if d.attach == nil {
		return errNoAttacher
	}
	l, err := d.attach(LinkInfo{Type: h.Type, ProgID: p.ID(), Attrs: h.Attrs}, p)
	if err != nil {
		return err
	}
	d.links[f.id], d.linkID[l.ID()] = l, f.id
	return nil
}
