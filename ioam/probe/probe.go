package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"taproom/ioam/option"
	"taproom/stack/hook"
)

// ErrNoWay: the destination cannot be reached from here.
var ErrNoWay = errors.New("probe: no route to the destination")

// Options of a Run. The zero value sends three probes, a second apart.
type Options struct {
	Count     int           // probes; 0 is 3
	Interval  time.Duration // between them; 0 is a second
	Timeout   time.Duration // to wait for the last answer; 0 is a second
	Namespace uint16
	Type      option.Type // 0 is hop limit, node, interfaces and time
	Size      int         // room for data in octets; 0 is 240
	HopLimit  uint8       // 0 is 64
	Loopback  bool        // ask every node for a copy (L flag)
	Src       netip.Addr  // invalid: chosen by the route
	Names     map[uint64]string
}

func (o *Options) setDefaults() error {
	if o.Count == 0 {
		o.Count = 3
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Type == 0 {
		o.Type = option.HopNode | option.Interfaces | option.Seconds | option.Fraction
	}
	if o.Size == 0 {
		o.Size = 240
	}
	if o.HopLimit == 0 {
		o.HopLimit = 64
	}
	if o.Size < 4 || o.Size > 4*option.MaxWords || o.Size%4 != 0 || o.Type > option.All {
		return fmt.Errorf("probe: type %v, size %d: no such trace", o.Type, o.Size)
	}
	return nil
}

// Prober sends probes from a host and takes in what comes back. It may run
// several measurements at once.
type Prober struct {
	host hook.Host
	link *hook.Link
	runs atomic.Uint32

	mu     sync.Mutex
	waiter map[uint32]chan record // by run
}

// New hooks a prober into a host. Close takes it out again.
func New(host hook.Host) (*Prober, error) {
	p := &Prober{host: host, waiter: make(map[uint32]chan record)}
	p.runs.Store(uint32(host.Now().UnixNano()))
	var err error
	// Early: nobody else has a use for a copy of a probe.
	p.link, err = host.Attach(hook.Input, hook.HandlerFunc(p.input), hook.Options{Name: "ioam-probe", Priority: -500, Family: hook.IPv6})
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return p, nil
}

// Close ends the prober. Runs that are under way hear nothing more.
func (p *Prober) Close() error { return p.link.Close() }

// input takes copies of probes, which nobody else must answer, and looks at
// ICMP errors, which others may want too.
func (p *Prober) input(_ hook.Point, k *hook.Packet) hook.Verdict {
	b := k.Head()
	if len(b) < 48 || b[6] != 0 && (b[6] != 58 || b[40] >= 128) {
		return hook.Continue
	}
	p.mu.Lock()
	idle := len(p.waiter) == 0
	p.mu.Unlock()
	if idle || !k.Pull(min(k.Len(), 1280)) {
		return hook.Continue
	}
	r, ok := parse(k.Head())
	if !ok {
		return hook.Continue
	}
	p.mu.Lock()
	c := p.waiter[r.run]
	p.mu.Unlock()
	if c == nil {
		return hook.Continue
	}
	r.at = p.host.Now().UnixNano()
	select {
	case c <- r:
	default: // more answers than probes could have: somebody else's doing
	}
	if k.Head()[6] == 0 {
		return hook.Drop
	}
	return hook.Continue
}

// Run measures the way to dst. It returns what it has when ctx ends.
func (p *Prober) Run(ctx context.Context, dst netip.Addr, o Options) (*Result, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	src := o.Src
	if !src.IsValid() {
		r := p.host.Route(hook.RouteQuery{Dst: dst})
		if r.Kind != hook.Unicast && r.Kind != hook.LocalRoute || !r.Src.Is6() {
			return nil, fmt.Errorf("%w: %v", ErrNoWay, dst)
		}
		src = r.Src
	}
	run := p.runs.Add(1)
	c := make(chan record, 64*o.Count)
	p.mu.Lock()
	p.waiter[run] = c
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiter, run)
		p.mu.Unlock()
	}()
	res := newResult(src, dst, &o)
	for seq := range uint32(o.Count) {
		if seq > 0 && !p.collect(ctx, c, res, o.Interval, false) {
			return res, ctx.Err()
		}
		k := build(src, dst, run, seq, p.host.Now().UnixNano(), &o)
		res.Sent++
		if err := p.host.Send(k); err != nil {
			return res, fmt.Errorf("probe: %w", err)
		}
	}
	p.collect(ctx, c, res, o.Timeout, true)
	return res, ctx.Err()
}

// collect takes answers for a while; with all, only until every probe has
// been answered.
func (p *Prober) collect(ctx context.Context, c <-chan record, res *Result, d time.Duration, all bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		if all && res.answered() == res.Sent && len(c) == 0 {
			return true
		}
		select {
		case r := <-c:
			res.add(&r)
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
