package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"taproom/integration/room"
	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/packet"
	"taproom/stack/wire"
)

// soakEnv makes TestSoak run for longer, as "10m".
const soakEnv = "TAPROOM_SOAK"

// TestSoak lets flows come and go through a node while its interfaces, routes
// and handlers do, too: all flows must get through, and afterwards there must
// be as many goroutines and packets as before, and no more memory than after
// the first tenth of the time.
func TestSoak(t *testing.T) {
	length := 3 * time.Second
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", soakEnv, err)
		}
	}
	goroutines, packets := runtime.NumGoroutine(), packet.Live()
	room.Need(t, "root", "tun")
	s, err := room.NewTwo(room.Config{}, room.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	k := &soak{Two: s, ctx: ctx}
	server, err := k.listen()
	if err != nil {
		s.Close()
		t.Fatal(err)
	}
	work := []func(*rand.Rand) error{
		k.flow, k.flow, k.churnInterface, k.churnRoutes, k.churnHooks,
	}
	results := make(chan error, len(work))
	for n, f := range work {
		go func() {
			r := rand.New(rand.NewPCG(7, uint64(n)))
			for ctx.Err() == nil {
				if err := f(r); err != nil && ctx.Err() == nil {
					cancel()
					results <- err
					return
				}
			}
			results <- nil
		}()
	}
	early := k.memoryAfter(length / 10)
	for range work {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	late := k.memoryAfter(0)
	_ = server.Close()
	s.Close()
	t.Logf("%v: %d flows, %d MiB, %d interfaces, %d route changes, %d handlers; heap %d KiB early, %d KiB late",
		length, k.flows.Load(), k.bytes.Load()>>20, k.interfaces.Load(), k.routes.Load(), k.hooks.Load(), early>>10, late>>10)
	if k.flows.Load() == 0 || k.interfaces.Load() == 0 || k.routes.Load() == 0 || k.hooks.Load() == 0 {
		t.Error("something did not happen at all")
	}
	if late > early+early/2+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", early, late)
	}
	settle(t, "goroutines", int64(goroutines), func() int64 { return int64(runtime.NumGoroutine()) })
	settle(t, "packets", packets, packet.Live)
}

// settle waits until a count is back where it was.
func settle(t *testing.T, what string, want int64, count func() int64) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for count() > want {
		if time.Now().After(deadline) {
			t.Errorf("%d %s are left, there were %d", count(), what, want)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// soak is the scene and what has happened to it.
type soak struct {
	*room.Two
	ctx                                     context.Context
	flows, bytes, interfaces, routes, hooks atomic.Int64
}

const soakPort = 5300

// memoryAfter is the live heap after a while.
func (k *soak) memoryAfter(d time.Duration) uint64 {
	select {
	case <-k.ctx.Done():
	case <-time.After(d):
	}
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// listen takes connections in B and sends back what comes.
func (k *soak) listen() (l net.Listener, err error) {
	err = k.B.Ns.Do(func() error {
		l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", soakPort))
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l, nil
}

// flow sends some data from A to B and back, over IPv4 or IPv6.
func (k *soak) flow(r *rand.Rand) error {
	to := room.B4
	if r.IntN(2) == 0 {
		to = room.B6
	}
	var c net.Conn
	err := k.A.Ns.Do(func() (err error) {
		d := net.Dialer{Timeout: 20 * time.Second}
		c, err = d.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(to), soakPort).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("flow to %s: %w", to, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	n := int64(1 + r.IntN(1<<20))
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(c, zeros{}, n)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.Copy(io.Discard, c)
	if err = errors.Join(err, <-sent); err != nil || got != n {
		return fmt.Errorf("flow to %s: %d of %d bytes came back: %w", to, got, n, err)
	}
	k.flows.Add(1)
	k.bytes.Add(2 * n)
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// churnInterface adds an interface with a wire behind it, sends into it what
// nobody will answer, and removes it.
func (k *soak) churnInterface(r *rand.Rand) error {
	near, far, err := wire.New(wire.Config{Name: fmt.Sprint("w", r.Uint32())})
	if err != nil {
		return err
	}
	defer far.Close()
	if err := far.Start(func(_ int, batch []*packet.Packet) {
		for _, p := range batch {
			p.Release()
		}
	}); err != nil {
		return err
	}
	own := netip.AddrFrom4([4]byte{10, 9, byte(r.Uint32()), 1})
	i, err := k.Node.AddInterface(near, stack.InterfaceConfig{Addresses: []netip.Prefix{netip.PrefixFrom(own, 24)}})
	if err != nil {
		return err
	}
	ping := make([]byte, 28)
	copy(ping, []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0})
	copy(ping[12:], own.AsSlice())
	copy(ping[16:], own.Next().AsSlice())
	ping[20] = 8
	_ = k.Node.Send(packet.New(ping)) // waits for the neighbour, and dies with it
	k.interfaces.Add(1)
	return k.Node.RemoveInterface(i.Name())
}

// churnRoutes adds some routes and takes them away, one that traffic matches
// among them.
func (k *soak) churnRoutes(r *rand.Rand) error {
	var rs []stack.Route
	for range 1 + r.IntN(50) {
		rs = append(rs, stack.Route{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(r.Uint32()), byte(r.Uint32()), 0}), 24),
			Via:    netip.MustParseAddr(room.A4), Metric: uint32(r.IntN(1000)),
		})
	}
	rs = append(rs, stack.Route{Prefix: netip.MustParsePrefix(room.B4 + "/32"), Interface: "eth1"})
	if err := k.Node.AddRoutes(rs); err != nil {
		return err
	}
	k.routes.Add(int64(len(rs)))
	for _, x := range rs {
		if err := k.Node.DelRoute(x); err != nil && !errors.Is(err, stack.ErrNoSuchRoute) {
			return err
		}
	}
	return nil
}

// churnHooks attaches a handler somewhere and closes it; some cannot take
// super-frames.
func (k *soak) churnHooks(r *rand.Rand) error {
	pt := hook.Point(r.IntN(int(hook.NumPoints)))
	var seen atomic.Uint64
	l, err := k.Node.Attach(pt, hook.HandlerFunc(func(hook.Point, *packet.Packet) hook.Verdict {
		seen.Add(1)
		return hook.Continue
	}), hook.Options{Name: "soak", NoGSO: r.IntN(4) == 0})
	if err != nil {
		return err
	}
	select {
	case <-k.ctx.Done():
	case <-time.After(time.Duration(r.IntN(5)) * time.Millisecond):
	}
	k.hooks.Add(1)
	return l.Close()
}
