package tap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/netns"
	"taproom/tap/pump"
	"taproom/tap/taptest"
)

var noOffloads = &tap.Offloads{}

// TestTransfer lets two kernels talk TCP and UDP through two devices of
// different abilities that are joined.
func TestTransfer(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b tap.Options
		gso  bool // super-frames are expected from a
	}{
		{"vnet to vnet", tap.Options{}, tap.Options{}, true},
		{"vnet to plain", tap.Options{}, tap.Options{Backend: tap.BackendPlain}, true},
		{"plain with GRO to vnet", tap.Options{Offloads: noOffloads, GRO: true}, tap.Options{}, false},
		{"water to plain with GRO", tap.Options{Backend: tap.BackendWater}, tap.Options{Backend: tap.BackendPlain, GRO: true}, false},
		{"vnet with GRO", tap.Options{GRO: true}, tap.Options{GRO: true}, true},
		{"no USO", tap.Options{Offloads: &tap.Offloads{Checksum: true, TSO4: true, TSO6: true}}, tap.Options{}, true},
		{"checksum only", tap.Options{Offloads: &tap.Offloads{Checksum: true}}, tap.Options{}, false},
		{"vnet to checksum only", tap.Options{}, tap.Options{Offloads: &tap.Offloads{Checksum: true}}, true},
		{"two queues", tap.Options{Queues: 2}, tap.Options{Queues: 2}, true},
		{"large MTU", tap.Options{MTU: 9000, Offloads: noOffloads}, tap.Options{MTU: 9000}, false},
		{"TUN", tap.Options{Kind: tap.IP}, tap.Options{Kind: tap.IP}, true},
		{"TUN to plain TUN", tap.Options{Kind: tap.IP}, tap.Options{Kind: tap.IP, Offloads: noOffloads}, true},
		{"water TUN", tap.Options{Kind: tap.IP}, tap.Options{Kind: tap.IP, Backend: tap.BackendWater}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			live := packet.Live()
			a, b := taptest.NewRoom(t, 1, tt.a), taptest.NewRoom(t, 2, tt.b)
			if err := pump.Join(a.Device, b.Device); err != nil {
				t.Fatal(err)
			}
			for _, to := range []netip.Addr{b.Addr4, b.Addr6} {
				transferTCP(t, a.Namespace, b.Namespace, netip.AddrPortFrom(to, 5001))
				transferUDP(t, a.Namespace, b.Namespace, netip.AddrPortFrom(to, 5002))
			}
			s := a.Device.Stats()
			if got := s.Rx.Segments > s.Rx.Packets; got != tt.gso {
				t.Errorf("%d packets for %d segments from a; super-frames expected: %v", s.Rx.Packets, s.Rx.Segments, tt.gso)
			}
			if n := s.Rx.Dropped() + b.Device.Stats().Tx.Dropped(); n > 0 {
				t.Errorf("%d packets dropped: %v %v", n, s, b.Device.Stats())
			}
			for _, r := range []*taptest.Room{a, b} {
				if err := r.Device.Close(); err != nil {
					t.Error(err)
				}
			}
			if n := packet.Live() - live; n != 0 {
				t.Errorf("%d packets have not been released", n)
			}
		})
	}
}

// transferTCP sends 4 MB each way and compares.
func transferTCP(t *testing.T, from, to *netns.Namespace, addr netip.AddrPort) {
	t.Helper()
	var l net.Listener
	err := to.Do(func() (err error) { l, err = net.Listen("tcp", addr.String()); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(sent)
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.Copy(c, c)
		}
		done <- err
	}()
	var c net.Conn
	err = from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", addr.String(), 5*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("TCP to %v: %d of %d bytes came back, %v", addr, len(got), len(sent), err)
	}
	if err := <-done; err != nil {
		t.Errorf("TCP to %v: echo: %v", addr, err)
	}
}

// transferUDP sends datagrams of many sizes, one at a time, fragments
// included, and wants the echo.
func transferUDP(t *testing.T, from, to *netns.Namespace, addr netip.AddrPort) {
	t.Helper()
	var server, client *net.UDPConn
	err := to.Do(func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	err = from.Do(func() (err error) {
		client, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	client.SetDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, 65536)
	for _, size := range []int{0, 1, 17, 18, 511, 1471, 1472, 1473, 3001, 9000, 60000} {
		sent := bytes.Repeat([]byte{byte(size), 0xa5}, size)[:size]
		if _, err := client.Write(sent); err != nil {
			t.Fatalf("UDP to %v: %v", addr, err)
		}
		n, err := client.Read(got)
		if err != nil || !bytes.Equal(got[:n], sent) {
			t.Errorf("UDP to %v: %d of %d bytes came back, %v", addr, n, size, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, tt := range []struct {
		o    tap.Options
		want error
	}{
		{tap.Options{Name: "sixteen-bytes-ab"}, tap.ErrOptions},
		{tap.Options{Name: "a/b"}, tap.ErrOptions},
		{tap.Options{Name: "a b"}, tap.ErrOptions},
		{tap.Options{Name: ".."}, tap.ErrOptions},
		{tap.Options{Name: "t%d%d"}, tap.ErrOptions},
		{tap.Options{Name: "t%s"}, tap.ErrOptions},
		{tap.Options{Queues: -1}, tap.ErrOptions},
		{tap.Options{Queues: 257}, tap.ErrOptions},
		{tap.Options{MTU: 20}, tap.ErrOptions},
		{tap.Options{Backend: "magic"}, tap.ErrOptions},
		{tap.Options{Addr: net.HardwareAddr{1, 2, 3, 4, 5, 6}}, tap.ErrOptions},
		{tap.Options{Addr: net.HardwareAddr{2, 2, 3, 4, 5, 6}, Kind: tap.IP}, tap.ErrOptions},
	} {
		d, err := tap.Open(tt.o)
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("Open(%+v): %v, want %v", tt.o, err, tt.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	r := taptest.NewRoomIn(t, netns.Options{}, 1, tap.Options{Name: "port%d", Addr: mac, MTU: 1400, QueueLen: 77, Persist: true, Queues: 2})
	d := r.Device
	if i := d.Info(); i.Name != "port0" || i.Addr.String() != mac.String() || i.MTU != 1400 || i.Queues != 2 || i.Backend != "vnet" || i.Netns != r.Namespace.String() {
		t.Errorf("info is %+v", i)
	}
	if err := d.SetMTU(1300); err != nil {
		t.Error(err)
	}
	l, err := r.Namespace.Link("port0")
	if err != nil || l.MTU != 1300 || l.Addr != mac.String() || d.Info().MTU != 1300 {
		t.Errorf("link is %+v, %v; info says MTU %d", l, err, d.Info().MTU)
	}
	if _, err := tap.Open(tap.Options{Name: "port0", Kind: tap.IP, Namespace: r.Namespace}); err == nil {
		t.Error("a TAP was opened as a TUN")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.SetMTU(1200); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("SetMTU after Close: %v", err)
	}
	// It was persistent: attach again, without, and it goes.
	again, err := tap.Open(tap.Options{Name: "port0", Queues: 2, Namespace: r.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	if again.Info().MTU != 1300 {
		t.Errorf("attached to a device of MTU %d, want the old one's 1300", again.Info().MTU)
	}
	again.Close()
}

// TestHanded passes the queues of a device through a socket.
func TestHanded(t *testing.T) {
	r := taptest.NewRoom(t, 1, tap.Options{})
	var file *os.File
	err := r.Namespace.Do(func() (err error) { file, err = tap.OpenFile("handed", tap.IP); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a, b := socketPair(t)
	if err := tap.SendFiles(a, []byte("x"), file); err != nil {
		t.Fatal(err)
	}
	files, msg, err := tap.ReceiveFiles(b)
	if err != nil || string(msg) != "x" {
		t.Fatal(msg, err)
	}
	d, err := tap.FromFiles(files, tap.Options{Namespace: r.Namespace})
	if err != nil {
		t.Fatal(err)
	}
	if i := d.Info(); i.Name != "handed" || i.Kind != tap.IP || i.Offloads != tap.AllOffloads || i.MTU != 1500 {
		t.Errorf("info is %+v", i)
	}
	d.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tap.FromFiles([]*os.File{null}, tap.Options{}); err == nil {
		t.Error("/dev/null was taken for a device")
	}
}

func socketPair(t *testing.T) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestNamespaceGone deletes the interface under a device.
func TestInterfaceGone(t *testing.T) {
	r := taptest.NewRoom(t, 1, tap.Options{Name: "doomed"})
	if err := r.Device.Start(new(taptest.Recorder).Receive); err != nil {
		t.Fatal(err)
	}
	if err := deleteLink(r.Namespace, "doomed"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Device.Failed():
		t.Log(r.Device.Err())
	case <-time.After(5 * time.Second):
		t.Error("the device did not notice")
	}
	r.Device.Write(0, packet.New(make([]byte, 60)).Batch())
	if s := r.Device.Stats(); s.Tx.Dropped() != 1 {
		t.Errorf("stats %+v, want one drop", s.Tx)
	}
}

// TestWriteAfterClose counts what comes too late and releases it.
func TestWriteAfterClose(t *testing.T) {
	live := packet.Live()
	r := taptest.NewRoom(t, 1, tap.Options{})
	r.Device.Close()
	r.Device.Write(tap.AnyQueue, packet.New(make([]byte, 60)).Batch())
	if n := r.Device.Stats().Tx.Drops[packet.DeviceDown]; n != 1 {
		t.Errorf("%d drops because the device is down, want 1", n)
	}
	if err := r.Device.Close(); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if packet.Live() != live {
		t.Error("the packet was not released")
	}
}

// TestHostileWrite gives the device packets whose metadata lie.
func TestHostileWrite(t *testing.T) {
	r := taptest.NewRoomIn(t, netns.Options{}, 1, tap.Options{})
	live := packet.Live()
	for _, lie := range []func(*packet.Packet){
		func(p *packet.Packet) { p.GSO = packet.GSO{Type: packet.GSOTCPv4} },
		func(p *packet.Packet) { p.GSO = packet.GSO{Type: packet.GSOUDP, Size: 1} },
		func(p *packet.Packet) { p.GSO = packet.GSO{Type: 99, Size: 100} },
		func(p *packet.Packet) { p.SetPartialChecksum(50, 60000) },
		func(p *packet.Packet) { p.SetPartialChecksum(-5, 2) },
		func(p *packet.Packet) { p.Truncate(3) },
	} {
		p := packet.New(make([]byte, 60))
		lie(p)
		r.Device.Write(0, p.Batch())
	}
	if s := r.Device.Stats().Tx; s.Dropped() != 6 || s.Packets != 0 {
		t.Errorf("%d dropped, %d sent; want 6 and 0", s.Dropped(), s.Packets)
	}
	if packet.Live() != live {
		t.Error("packets were not released")
	}
}

// TestSegmentsOnTheWire has the kernel send a super-frame and wants the right
// number of segments of it.
func TestUDPSuperFrame(t *testing.T) {
	r := taptest.NewRoom(t, 1, tap.Options{Kind: tap.IP})
	var raw, wire taptest.Recorder
	wire.Finish = true
	if err := r.Device.Start(func(q int, batch []*packet.Packet) {
		for _, p := range batch {
			raw.Receive(q, p.Clone().Batch())
		}
		wire.Receive(q, batch)
	}); err != nil {
		t.Fatal(err)
	}
	err := r.Namespace.Do(func() error {
		c, err := net.Dial("udp", "192.0.2.9:9")
		if err != nil {
			return err
		}
		defer c.Close()
		return sendSegmented(c.(*net.UDPConn), make([]byte, 2500), 1000)
	})
	if err != nil {
		t.Skip("needs UDP_SEGMENT: ", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f, err := wire.Wait(ctx, func(f []taptest.Frame) bool { return len(f) == 3 })
	if err != nil {
		t.Fatal(err, len(f))
	}
	if g := raw.Frames(); len(g) != 1 || g[0].Meta.GSO != (packet.GSO{Type: packet.GSOUDP, Size: 1000, Segs: 3}) {
		t.Errorf("read %+v, want one super-frame", g)
	}
	for i, n := range []int{1028, 1028, 528} {
		if len(f[i].Bytes) != n {
			t.Errorf("segment %d has %d bytes, want %d", i, len(f[i].Bytes), n)
		}
	}
}
