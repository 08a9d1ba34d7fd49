package hook

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"taproom/stack/packet"
)

// recorder appends its name to a list when it runs.
func recorder(log *[]string, name string, v Verdict) Handler {
	return HandlerFunc(func(Point, *Packet) Verdict {
		*log = append(*log, name)
		return v
	})
}

func attach(t *testing.T, tab *Table, pt Point, h Handler, o Options) *Link {
	t.Helper()
	l, err := tab.Attach(pt, h, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPriorities(t *testing.T) {
	var log []string
	tab := NewTable()
	for _, e := range []struct {
		name string
		prio int32
		f    Family
	}{{"b", 0, Any}, {"d", 10, IPv4}, {"a", -300, Any}, {"c", 0, IPv4}, {"six", 5, IPv6}} {
		attach(t, tab, Forward, recorder(&log, e.name, Continue), Options{Name: e.name, Priority: e.prio, Family: e.f})
	}
	p := packet.Alloc(0)
	defer p.Release()
	if v := tab.Run(Forward, IPv4, p); v != Accept || !slices.Equal(log, []string{"a", "b", "c", "d"}) {
		t.Errorf("IPv4: %v %v", v, log)
	}
	log = nil
	if v := tab.Run(Forward, IPv6, p); v != Accept || !slices.Equal(log, []string{"a", "b", "six"}) {
		t.Errorf("IPv6: %v %v", v, log)
	}
	if tab.Runs(Forward) != 2 || tab.Runs(Input) != 0 {
		t.Errorf("runs %d %d", tab.Runs(Forward), tab.Runs(Input))
	}
}

func TestVerdicts(t *testing.T) {
	for v, want := range map[Verdict]Verdict{
		Continue: Accept, Accept: Accept, Drop: Drop, Stolen: Stolen,
		Redirect: Drop, // only frames are redirected
		99:       Drop,
	} {
		var log []string
		tab := NewTable()
		l := attach(t, tab, Input, recorder(&log, "first", v), Options{})
		attach(t, tab, Input, recorder(&log, "second", Continue), Options{Priority: 1})
		p := packet.Alloc(0)
		if got := tab.Run(Input, IPv4, p); got != want {
			t.Errorf("%v: %v", v, got)
		}
		if more := len(log) == 2; more != (v == Continue) {
			t.Errorf("%v: ran %v", v, log)
		}
		total := uint64(0)
		for k := range numVerdicts {
			total += l.Count(k)
		}
		if total != 1 {
			t.Errorf("%v: counted %d verdicts", v, total)
		}
		p.Release()
	}
}

func TestAnchors(t *testing.T) {
	var log []string
	tab := NewTable()
	c := tab.AddInterface(3)
	at := func(name string, a Anchor, ifc int) *Link {
		return attach(t, tab, Ingress, recorder(&log, name, Continue), Options{Name: name, Anchor: a, Interface: ifc})
	}
	b := at("b", nil, 3)
	at("d", Tail(), 3)
	at("a", Head(), 3)
	at("c", After(b), 3)
	at("b0", Before(b), 3)
	at("everywhere", nil, 0)
	p := packet.Alloc(0)
	defer p.Release()
	want := []string{"everywhere", "a", "b0", "b", "c", "d"}
	if v := tab.RunFrame(Ingress, c, p); v != Accept || !slices.Equal(log, want) {
		t.Errorf("%v %v", v, log)
	}
	var names []string
	for _, l := range tab.Links() {
		names = append(names, l.Options().Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("listed %v", names)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := tab.Attach(Ingress, recorder(&log, "x", Continue), Options{Interface: 3, Anchor: After(b)}); !errors.Is(err, ErrAnchor) {
		t.Errorf("anchor at a closed link: %v", err)
	}
}

func TestAttachErrors(t *testing.T) {
	h := HandlerFunc(func(Point, *Packet) Verdict { return Continue })
	tab := NewTable()
	attach(t, tab, Forward, h, Options{Priority: 7, Family: IPv4})
	for _, c := range []struct {
		name string
		pt   Point
		h    Handler
		o    Options
		want error
	}{
		{"no handler", Forward, nil, Options{}, ErrOptions},
		{"no point", NumPoints, h, Options{}, ErrOptions},
		{"priority of a frame", Egress, h, Options{Priority: 1}, ErrOptions},
		{"anchor of a packet", Input, h, Options{Anchor: Head()}, ErrOptions},
		{"no interface", Ingress, h, Options{Interface: 9}, ErrNoInterface},
		{"taken", Forward, h, Options{Priority: 7, Exclusive: true}, ErrBusy},
	} {
		if _, err := tab.Attach(c.pt, c.h, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	attach(t, tab, Forward, h, Options{Priority: 7, Exclusive: true, Family: IPv6})
}

func TestUpdateAndRemoval(t *testing.T) {
	var log []string
	tab := NewTable()
	c := tab.AddInterface(1)
	l := attach(t, tab, Egress, recorder(&log, "old", Continue), Options{Interface: 1})
	if err := l.Update(recorder(&log, "new", Drop)); err != nil {
		t.Fatal(err)
	}
	p := packet.Alloc(0)
	defer p.Release()
	if v := tab.RunFrame(Egress, c, p); v != Drop || !slices.Equal(log, []string{"new"}) {
		t.Errorf("%v %v", v, log)
	}
	tab.RemoveInterface(1)
	if v := tab.RunFrame(Egress, c, p); v != Accept || !l.Closed() {
		t.Errorf("after removal: %v, closed %v", v, l.Closed())
	}
	if err := l.Update(recorder(&log, "late", Drop)); !errors.Is(err, ErrClosed) {
		t.Errorf("update of a closed link: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Changes under traffic: every packet sees all of a chain or none of it.
func TestSnapshots(t *testing.T) {
	tab := NewTable()
	c := tab.AddInterface(1)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			p := packet.Alloc(0)
			defer p.Release()
			for {
				select {
				case <-done:
					return
				default:
				}
				p.Mark = 0
				tab.RunFrame(Ingress, c, p)
				if p.Mark > 2 {
					t.Errorf("mark %d", p.Mark)
				}
			}
		})
	}
	count := HandlerFunc(func(_ Point, p *Packet) Verdict { p.Mark++; return Continue })
	for range 2000 {
		a := attach(t, tab, Ingress, count, Options{Interface: 1})
		b := attach(t, tab, Ingress, count, Options{Interface: 1, Anchor: Head()})
		_ = a.Close()
		_ = b.Close()
	}
	close(done)
	wg.Wait()
}

func TestRunDoesNotAllocate(t *testing.T) {
	tab := NewTable()
	c := tab.AddInterface(1)
	h := HandlerFunc(func(Point, *Packet) Verdict { return Continue })
	attach(t, tab, Ingress, h, Options{Interface: 1})
	attach(t, tab, Forward, h, Options{})
	p := packet.Alloc(0)
	defer p.Release()
	if n := testing.AllocsPerRun(100, func() {
		tab.RunFrame(Ingress, c, p)
		tab.Run(Forward, IPv4, p)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
