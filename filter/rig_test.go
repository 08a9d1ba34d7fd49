package filter_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"taproom/filter"
	"taproom/filter/ebpf"
	"taproom/filter/ebpf/cbpf"
	"taproom/filter/tc"
	"taproom/filter/vm"
	"taproom/stack"
	"taproom/stack/packet"
	"taproom/tap"
)

// vectorRoot is where recorded cases are.
func vectorRoot() string {
	if d := os.Getenv("TAPROOM_VECTORS"); d != "" {
		return d
	}
	return filepath.Join("testdata", "vectors")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// port is a device whose far end is the test.
type port struct {
	name string
	recv tap.Receiver
	mu   sync.Mutex
	sent [][]byte

	discard bool // for benchmarks
}

func (p *port) Info() tap.Info {
	return tap.Info{Name: p.name, MTU: 1500, Queues: 1, Offloads: tap.AllOffloads}
}
func (p *port) Start(r tap.Receiver) error { p.recv = r; return nil }
func (p *port) SetMTU(int) error           { return nil }
func (p *port) Stats() tap.Stats           { return tap.Stats{} }
func (p *port) Close() error               { return nil }

func (p *port) Write(_ int, batch []*packet.Packet) {
	for _, q := range batch {
		if p.discard {
			q.Release()
			continue
		}
		q.CompleteChecksum()
		b := make([]byte, q.Len())
		q.CopyTo(b, 0)
		q.Release()
		p.mu.Lock()
		p.sent = append(p.sent, b)
		p.mu.Unlock()
	}
}

func (p *port) out() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sent
	p.sent = nil
	return s
}

// rig is the node Y between X and Z, with the recording programs.
type rig struct {
	t      testing.TB
	y      *stack.Node
	y0, y1 *port
	fs     *filter.Filters
	tc     tc.Command
	coll   *ebpf.Collection
	progs  map[string]*filter.Program
	runs   map[string]*vm.Prog
	udp    [2]net.PacketConn
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

var (
	macX0, macY0 = mac("02:09:00:00:00:01"), mac("02:09:00:00:00:02")
	macY1, macZ0 = mac("02:09:00:00:01:02"), mac("02:09:00:00:01:03")
)

func newRig(t testing.TB, object string) *rig {
	t.Helper()
	r := &rig{t: t, y0: &port{name: "y0"}, y1: &port{name: "y1"}, progs: make(map[string]*filter.Program), runs: make(map[string]*vm.Prog)}
	var err error
	r.y, err = stack.New(stack.Options{Name: "y", ICMPRate: -1})
	must(t, err)
	for k, c := range []struct {
		p      *port
		mac    net.HardwareAddr
		v4, v6 string
	}{{r.y0, macY0, "10.9.0.2/24", "fd09::2/64"}, {r.y1, macY1, "10.9.1.2/24", "fd09:0:0:1::2/64"}} {
		_, err := r.y.AddInterface(c.p, stack.InterfaceConfig{
			Index: k + 2, Addr: c.mac, Addresses: []netip.Prefix{netip.MustParsePrefix(c.v4), netip.MustParsePrefix(c.v6)},
		})
		must(t, err)
	}
	for _, n := range []struct {
		dev, ip string
		mac     net.HardwareAddr
	}{{"y0", "10.9.0.1", macX0}, {"y0", "fd09::1", macX0}, {"y1", "10.9.1.3", macZ0}, {"y1", "fd09:0:0:1::3", macZ0}} {
		must(t, r.y.AddNeighbor(n.dev, netip.MustParseAddr(n.ip), n.mac))
	}
	for k, a := range []string{"10.9.0.2:9999", "[fd09::2]:9999"} {
		r.udp[k], err = r.y.ListenUDP(netip.MustParseAddrPort(a))
		must(t, err)
	}
	r.fs = filter.New(r.y, filter.Options{})
	r.tc = tc.Command{Filters: r.fs, Load: r}
	if object != "" {
		r.load(object)
	}
	r.y0.out()
	r.y1.out()
	return r
}

func (r *rig) load(object string) {
	f, err := os.Open(object)
	must(r.t, err)
	defer f.Close()
	spec, err := ebpf.LoadSpec(f)
	must(r.t, err)
	r.coll, err = ebpf.NewCollection(spec, ebpf.Options{})
	must(r.t, err)
	for name, p := range r.coll.Programs {
		v, err := vm.New(p, vm.Options{})
		must(r.t, err)
		r.runs[name] = v
		r.progs[name] = filter.NewProgram(v, name+":[*fsobj]")
	}
}

func (r *rig) close() {
	r.fs.Close()
	for _, c := range r.udp {
		_ = c.Close()
	}
	r.y.Close()
	for _, v := range r.runs {
		v.Release()
	}
	if r.coll != nil {
		r.coll.Close()
	}
}

// Pinned, Object and Classic are the tc command's loader.
func (r *rig) Pinned(path string) (*filter.Program, error) {
	p := r.progs[strings.TrimPrefix(path, "@")]
	if p == nil {
		return nil, fmt.Errorf("no program %s", path)
	}
	return p, nil
}

func (r *rig) Object(string, string, string) (*filter.Program, error) {
	return nil, errors.New("not here")
}

func (r *rig) Classic(code string) (*filter.Program, error) {
	insns, err := cbpf.Parse(code)
	if err != nil {
		return nil, err
	}
	f, err := cbpf.New(insns)
	if err != nil {
		return nil, &filter.Error{Errno: 22}
	}
	return filter.NewClassic(f, code), nil
}

// received reads what has come to the node's sockets.
func (r *rig) received() (lens []int, last []int) {
	buf := make([]byte, 65536)
	for _, c := range r.udp {
		for {
			must(r.t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond))) // what is coming has come
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				break
			}
			lens, last = append(lens, n), append(last, int(buf[n-1]))
		}
	}
	return lens, last
}

// datagram builds an Ethernet frame with a UDP datagram, as X sends it.
func datagram(src, dst string, payload []byte) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	u := make([]byte, 8+len(payload))
	binary.BigEndian.PutUint16(u, 4000)
	binary.BigEndian.PutUint16(u[2:], 9999)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], payload)
	var h []byte
	if s.Is4() {
		h = make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, 17
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(u)))
		binary.BigEndian.PutUint16(h[4:], 7)
		a, b := s.As4(), d.As4()
		copy(h[12:], a[:])
		copy(h[16:], b[:])
		binary.BigEndian.PutUint16(h[10:], packet.Checksum(h))
	} else {
		h = make([]byte, 40)
		h[0], h[6], h[7] = 0x60, 17, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(u)))
		a, b := s.As16(), d.As16()
		copy(h[8:], a[:])
		copy(h[24:], b[:])
	}
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(h, 17, len(u)), u))
	binary.BigEndian.PutUint16(u[6:], sum)
	return append(h, u...)
}

func ether(b []byte) []byte {
	f := append(append([]byte{}, macY0...), macX0...)
	if b[0]>>4 == 4 {
		f = append(f, 8, 0)
	} else {
		f = append(f, 0x86, 0xdd)
	}
	return append(f, b...)
}

func readJSON(t testing.TB, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	must(t, json.Unmarshal(b, v))
}

func (p *port) recvFrame(f []byte) { p.recv(0, []*packet.Packet{packet.New(f)}) }

func udpAddr(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// fragments cuts a packet in two at a multiple of 8 bytes of payload.
func fragments(b []byte, at int) [][]byte {
	if b[0]>>4 == 4 {
		first, second := append([]byte{}, b[:20+at]...), append(append([]byte{}, b[:20]...), b[20+at:]...)
		first[6] = 0x20
		binary.BigEndian.PutUint16(second[6:], uint16(at/8))
		for _, f := range [][]byte{first, second} {
			binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
			f[10], f[11] = 0, 0
			binary.BigEndian.PutUint16(f[10:], packet.Checksum(f[:20]))
		}
		return [][]byte{first, second}
	}
	var out [][]byte
	for _, part := range []struct {
		from, to int
		word     uint16
	}{{40, 40 + at, 1}, {40 + at, len(b), uint16(at)}} {
		f := append(append([]byte{}, b[:40]...), 17, 0, byte(part.word>>8), byte(part.word), 0, 0, 0, 0x77)
		f[6] = 44
		f = append(f, b[part.from:part.to]...)
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
		out = append(out, f)
	}
	return out
}
