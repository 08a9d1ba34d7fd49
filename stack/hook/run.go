package hook

// NeedsSegments reports whether a handler of an L3 point, for packets of the
// given family, cannot take super-frames. The caller then cuts a super-frame
// before it runs the point.
func (t *Table) NeedsSegments(pt Point, f Family) bool {
	s := t.points[pt].snapshot.Load()
	return s != nil && s.noGSO[f]
}

// FrameNeedsSegments is NeedsSegments for a frame point of one interface.
func (t *Table) FrameNeedsSegments(pt Point, c *Chains) bool {
	s, o := t.points[pt].snapshot.Load(), c.chain(pt).snapshot.Load()
	return s != nil && s.noGSO[Any] || o != nil && o.noGSO[Any]
}

// Has reports whether anybody is attached at an L3 point for a family, so
// that callers can leave out preparations.
func (t *Table) Has(pt Point, f Family) bool {
	s := t.points[pt].snapshot.Load()
	return s != nil && (f == IPv4 && len(s.v4) > 0 || f == IPv6 && len(s.v6) > 0 || f == Any)
}

// Run lets the handlers of one of the five netfilter points see a packet of
// the given family (IPv4 or IPv6). It returns Accept, Drop or Stolen.
func (t *Table) Run(pt Point, f Family, p *Packet) Verdict {
	t.runs[pt].Add(1)
	s := t.points[pt].snapshot.Load()
	if s == nil {
		return Accept
	}
	links := s.v4
	if f == IPv6 {
		links = s.v6
	}
	return run(links, pt, p)
}

// RunFrame lets the handlers of a frame point see a frame: those of every
// interface first, then the interface's own. It returns Accept, Drop, Stolen
// or Redirect.
func (t *Table) RunFrame(pt Point, c *Chains, p *Packet) Verdict {
	t.runs[pt].Add(1)
	if s := t.points[pt].snapshot.Load(); s != nil {
		if v := run(s.all, pt, p); v != Accept {
			return v
		}
	}
	if s := c.chain(pt).snapshot.Load(); s != nil {
		return run(s.all, pt, p)
	}
	return Accept
}

func run(links []*Link, pt Point, p *Packet) Verdict {
	for _, l := range links {
		v := (*l.handler.Load()).Handle(pt, p)
		if v >= numVerdicts || v == Redirect && !pt.Frame() {
			v = Drop
		}
		l.counts[v].Add(1)
		if v != Continue {
			return v
		}
	}
	return Accept
}
