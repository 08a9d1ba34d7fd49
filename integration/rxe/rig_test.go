package rxe

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"taproom/rdma"
)

// rig is a guest on a bridge, shared by the tests that talk to verbs programs in
// it: they need TCP beside RoCE, which the kernel on our side of the bridge does.
type rig struct {
	g   *Guest
	lab *Lab
}

// rigMTU lets every path MTU up to 4096 be used.
const rigMTU = 4500

var theRig struct {
	once sync.Once
	rig  *rig
	err  error
	tap  bool // what err is about
	down []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range theRig.down {
		f()
	}
	os.Exit(code)
}

// getRig boots the guest for the first test that needs it.
func getRig(t *testing.T) *rig {
	t.Helper()
	if testing.Short() && !required("rxe") {
		t.Skip("rxe: boots a guest, left out with -short")
	}
	theRig.once.Do(func() { theRig.rig, theRig.err = newRig() })
	if theRig.err != nil {
		if theRig.tap {
			Missing(t, "rxe-tap", theRig.err)
		}
		Missing(t, "rxe", theRig.err)
	}
	r := theRig.rig
	if !r.g.Alive() {
		t.Fatalf("the guest is gone; its console said:\n%s", r.g.Console())
	}
	if !r.g.HasVerbx() {
		Missing(t, "rxe", errNoCompiler)
	}
	return r
}

func newRig() (*rig, error) {
	r := &rig{}
	var err error
	if r.lab, err = NewLab(); err != nil {
		theRig.tap = true
		return nil, err
	}
	tap, err := r.lab.TAP("t-a", rigMTU, false)
	if err != nil {
		theRig.tap = true
		return nil, err
	}
	if r.g, err = bootForTest(Options{MTU: rigMTU, TAP: tap}); err != nil {
		return nil, err
	}
	theRig.down = append(theRig.down, func() { r.g.Close() }, func() { r.lab.Close() })
	return r, nil
}

// device makes an RDMA device on the segment, for one test. With damage its
// packets go through a Wire.
func (r *rig) device(t *testing.T, o rdma.Options, d *Damage, seed uint64) (*rdma.Device, *Wire) {
	t.Helper()
	f, err := r.lab.TAP("t-go", rigMTU, true)
	if err != nil {
		t.Fatal(err)
	}
	var link FrameLink = NewTAPLink(f)
	var w *Wire
	if d != nil {
		w = NewWire(link, *d, seed)
		link = w
	}
	h := NewHost(link, HostOptions{})
	t.Cleanup(func() { h.Close() })
	dev, err := rdma.OpenDevice(NewPort(h, rigMTU), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dev.Close() })
	return dev, w
}

// dial connects to a program in the guest that is about to listen.
func (r *rig) dial(t *testing.T, port int) net.Conn {
	t.Helper()
	var err error
	for range 100 {
		var c net.Conn
		if c, err = r.lab.Dial(fmt.Sprintf("10.9.0.1:%d", port)); err == nil {
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			return c
		}
		time.Sleep(30 * time.Millisecond)
	}
	t.Fatalf("the program in the guest does not listen: %v", err)
	return nil
}

// accept waits for a program in the guest to connect.
func (r *rig) accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("the program in the guest does not connect: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}
