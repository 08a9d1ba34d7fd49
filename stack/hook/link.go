package hook

import (
	"errors"
	"sync/atomic"
)

// The errors of Attach and of links.
var (
	// ErrClosed: the link has been closed, or its interface has gone.
	ErrClosed = errors.New("hook: link is closed")
	// ErrBusy: an exclusive priority is taken.
	ErrBusy = errors.New("hook: priority is taken")
	// ErrNoInterface: there is no such interface.
	ErrNoInterface = errors.New("hook: no such interface")
	// ErrAnchor: the link an anchor names is not in this chain.
	ErrAnchor = errors.New("hook: anchor is not in this chain")
	// ErrOptions: options that do not fit the point.
	ErrOptions = errors.New("hook: options do not fit the point")
)

// Options say where in a chain a handler goes. The zero value is priority 0
// for both IP versions at a netfilter point, and the tail of the chain of
// every interface at Ingress or Egress.
type Options struct {
	// Name is shown in listings. It need not be unique.
	Name string
	// Interface is the index of the interface whose Ingress or Egress is
	// meant; 0 is every interface, present and future, before its own chain.
	Interface int
	// Anchor is the place in an Ingress or Egress chain; nil is the tail.
	Anchor Anchor
	// Priority orders the handlers of a netfilter point, smallest first;
	// equals run in the order in which they were attached.
	Priority int32
	// Exclusive refuses a priority that another handler of the same family
	// and point has: ErrBusy.
	Exclusive bool
	// Family restricts a handler at a netfilter point.
	Family Family
	// NoGSO says that the handler cannot take super-frames: what reaches it
	// has been cut into segments with complete checksums.
	NoGSO bool
}

// Link holds a handler at its place. Its methods may be called from any
// goroutine.
type Link struct {
	table *Table
	chain *chain // where it is; its entries are guarded by table.mu
	id    uint64
	point Point
	opts  Options

	handler atomic.Pointer[Handler]
	counts  [numVerdicts]atomic.Uint64
	closed  atomic.Bool
}

// LinkInfo is what a listing shows of a link.
type LinkInfo struct {
	ID        uint64            `json:"id"`
	Name      string            `json:"name,omitempty"`
	Point     string            `json:"point"`
	Interface int               `json:"ifindex,omitempty"`
	Priority  int32             `json:"priority"`
	Family    string            `json:"family"`
	Verdicts  map[string]uint64 `json:"verdicts"`
}

// Close takes the handler out of its chain. Closing twice does no harm.
func (l *Link) Close() error {
	l.table.detach(l)
	return nil
}

// Update puts another handler in the same place, atomically. It fails with
// ErrClosed if the link is no longer there.
func (l *Link) Update(h Handler) error {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if l.closed.Load() {
		return ErrClosed
	}
	l.handler.Store(&h)
	return nil
}

// Handler is the present handler.
func (l *Link) Handler() Handler { return *l.handler.Load() }

// Closed reports whether the link has been detached.
func (l *Link) Closed() bool { return l.closed.Load() }

// Point is where the link is.
func (l *Link) Point() Point { return l.point }

// Options are those of Attach.
func (l *Link) Options() Options { return l.opts }

// Count is how often the handler gave a verdict.
func (l *Link) Count(v Verdict) uint64 { return l.counts[v].Load() }

// Info describes the link for listings.
func (l *Link) Info() LinkInfo {
	i := LinkInfo{
		ID: l.id, Name: l.opts.Name, Point: l.point.String(), Interface: l.opts.Interface,
		Priority: l.opts.Priority, Family: l.opts.Family.String(), Verdicts: make(map[string]uint64),
	}
	for v := range l.counts {
		if n := l.counts[v].Load(); n > 0 {
			i.Verdicts[Verdict(v).String()] = n
		}
	}
	return i
}

// Anchor is a place in the chain of an Ingress or Egress point.
type Anchor interface {
	place(entries []*Link) (int, error)
}

type edge bool

func (e edge) place(entries []*Link) (int, error) {
	if e {
		return 0, nil
	}
	return len(entries), nil
}

// Head is the place before all others.
func Head() Anchor { return edge(true) }

// Tail is the place after all others.
func Tail() Anchor { return edge(false) }

type relative struct {
	link  *Link
	after int
}

func (r relative) place(entries []*Link) (int, error) {
	for i, e := range entries {
		if e == r.link {
			return i + r.after, nil
		}
	}
	return 0, ErrAnchor
}

// Before is the place just before a link.
func Before(l *Link) Anchor { return relative{l, 0} }

// After is the place just after a link.
func After(l *Link) Anchor { return relative{l, 1} }
