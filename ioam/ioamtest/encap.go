package ioamtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"taproom/ioam"
)

type encapFile struct {
	MAC  map[string]string `json:"mac"`
	Node struct {
		ID      uint32               `json:"id"`
		IDWide  uint64               `json:"id_wide"`
		Ifs     map[string][2]uint32 `json:"ifs"`
		Enabled []string             `json:"ioam6_enabled"`
		Addr    map[string]string    `json:"addr"`
		Routes  []string             `json:"routes"`

		Namespaces []namespaceVector `json:"namespaces"`
		Schemas    []schemaVector    `json:"schemas"`
	} `json:"node"`
	Vectors []encapVector `json:"vectors"`
}

type encapVector struct {
	ID    string `json:"id"`
	Group string `json:"group"`
	Desc  string `json:"desc"`
	Route struct {
		Mode   string  `json:"mode"`
		Type   string  `json:"trace_type"`
		Remlen int     `json:"remlen"`
		NS     uint16  `json:"ns"`
		Dst    string  `json:"dst"`
		Src    string  `json:"src"`
		K      *uint32 `json:"k"`
		N      *uint32 `json:"n"`
	} `json:"route"`
	Errno   string `json:"errno"`
	Extack  string `json:"extack"`
	Show    string `json:"show"`
	Packets []struct {
		In        string        `json:"in"`
		Frame     hexBytes      `json:"frame"`
		Out       []hexBytes    `json:"out"`
		Mask      [][]mask      `json:"mask"`
		Back      []hexBytes    `json:"back"`
		Events    []eventVector `json:"events"`
		SendErrno string        `json:"send_errno"`
		Wallclock [2]float64    `json:"wallclock"`
	} `json:"packets"`
}

// RunEncap runs every case of the files encap-vectors-*.json below root on
// machines of a maker: packets into an encapsulating route.
func RunEncap(t *testing.T, root string, make Maker) {
	ok, total, cases := 0, 0, 0
	for _, file := range VectorFiles(t, root, "encap-vectors-*.json") {
		var f encapFile
		ReadJSON(t, file, &f)
		for i := range f.Vectors {
			v := &f.Vectors[i]
			cases++
			n, err := runEncap(&f, v, make)
			ok += n
			total += max(len(v.Packets), 1)
			if err != nil {
				t.Errorf("%s (%s, %s): %v", v.ID, v.Group, v.Desc, err)
			}
		}
	}
	t.Logf("ioam encap: %d of %d packets and refusals, %d routes", ok, total, cases)
}

// runEncap makes the route and sends the packets; it returns how many did as
// recorded, a refused route counting as one.
func runEncap(f *encapFile, v *encapVector, make Maker) (int, error) {
	attrs, err := v.attrs()
	if err != nil {
		return 0, err
	}
	tunnel, err := ioam.ParseEncap(f.encapPrefix(), attrs)
	if v.Errno != "OK" {
		return 1, wantRefusal(err, v)
	}
	if err != nil {
		return 0, err
	}
	tunnel.MTU = ioam.MTULinux
	if err := v.checkShow(tunnel); err != nil {
		return 0, err
	}
	now := time.Now()
	r, err := newEncapper(f, &now, make)
	if err != nil {
		return 0, err
	}
	defer r.close()
	if err := r.ioam.AddTunnel(tunnel); err != nil {
		return 0, err
	}
	for i := range v.Packets {
		p := &v.Packets[i]
		now = wallclock(p.Wallclock)
		r.out, r.back = nil, nil
		err := r.send(p.In, p.Frame)
		if (err != nil) != (p.SendErrno != "") || err != nil && !errors.Is(err, errnoByName(p.SendErrno)) {
			return i, fmt.Errorf("packet %d (%s): sending: %v, want %q", i, p.In, err, p.SendErrno)
		}
		if len(r.out) != len(p.Out) || len(r.back) != len(p.Back) {
			return i, fmt.Errorf("packet %d (%s): %d out, %d back, want %d and %d", i, p.In, len(r.out), len(r.back), len(p.Out), len(p.Back))
		}
		sameFragmentID(r.out, p.Out)
		for j, o := range p.Out {
			if err := compare(r.out[j], o, p.Mask[j], now); err != nil {
				return i, fmt.Errorf("packet %d (%s): %w", i, p.In, err)
			}
		}
		for j, o := range p.Back {
			if err := compare(r.back[j], o, nil, now); err != nil {
				return i, fmt.Errorf("packet %d (%s), back: %w", i, p.In, err)
			}
		}
		if err := checkEvents(r.events, p.Events, now); err != nil {
			return i, fmt.Errorf("packet %d (%s): %w", i, p.In, err)
		}
	}
	return len(v.Packets), nil
}

// encapPrefix is the destination of the encap route.
func (f *encapFile) encapPrefix() netip.Prefix {
	for _, r := range f.Node.Routes {
		if prefix, _, ok := strings.Cut(r, " = the encap route"); ok {
			return netip.MustParsePrefix(prefix)
		}
	}
	return netip.Prefix{}
}

func wantRefusal(err error, v *encapVector) error {
	var e *ioam.Error
	if !errors.As(err, &e) || !errors.Is(err, errnoByName(v.Errno)) || e.Text != v.Extack {
		return fmt.Errorf("answered %v, want %s %q", err, v.Errno, v.Extack)
	}
	return nil
}

// checkShow compares the route as ip shows it. The recording's ip does not
// know tunsrc.
func (v *encapVector) checkShow(t ioam.Tunnel) error {
	if v.Show == "" {
		return nil
	}
	t.Src = netip.Addr{}
	if got := t.Prefix.String() + "  " + t.Encapsulation() + " via "; !strings.HasPrefix(v.Show, got) {
		return fmt.Errorf("shown as %q, want %q", got, v.Show)
	}
	return nil
}

func errnoByName(s string) syscall.Errno {
	return map[string]syscall.Errno{
		"EINVAL": syscall.EINVAL, "ERANGE": syscall.ERANGE, "ENETUNREACH": syscall.ENETUNREACH, "EMSGSIZE": syscall.EMSGSIZE,
		"EHOSTUNREACH": syscall.EHOSTUNREACH, "ENOENT": syscall.ENOENT, "EEXIST": syscall.EEXIST, "EACCES": syscall.EACCES,
		"ENOTSUP": syscall.EOPNOTSUPP, "EADDRNOTAVAIL": syscall.EADDRNOTAVAIL,
	}[s]
}

// sameFragmentID gives our fragments the recorded identification, which the
// kernel draws at random, if all of ours have one and the same.
func sameFragmentID(got [][]byte, want []hexBytes) {
	id := func(f []byte) []byte {
		b := f[14:]
		if b[6] == 0 && b[40] == 44 {
			at := 40 + (int(b[41])+1)*8
			return b[at+4 : at+8]
		}
		return nil
	}
	if len(got) < 2 {
		return
	}
	first := append([]byte(nil), id(got[0])...)
	for i := range got {
		if g, w := id(got[i]), id(want[i]); g != nil && w != nil && string(g) == string(first) {
			copy(g, w)
		}
	}
}

// encapper is the node of an encapsulation file between its two neighbours.
type encapper struct {
	Machine
	spec      Spec
	ioam      *ioam.Node
	events    *ioam.Subscription
	out, back [][]byte
}

func newEncapper(f *encapFile, now *time.Time, maker Maker) (*encapper, error) {
	r := &encapper{}
	s := &r.spec
	// The neighbours' addresses are the only ones of their links that packets go to.
	*s = Spec{Name: "R", Now: func() time.Time { return *now }, MACs: map[netip.Addr]net.HardwareAddr{
		netip.MustParseAddr("2001:db8:a::1"):  must(net.ParseMAC(f.MAC["h0"])),
		netip.MustParseAddr("2001:db8:12::2"): must(net.ParseMAC(f.MAC["s0"])),
	}}
	c := ioam.Config{NodeID: &f.Node.ID, NodeIDWide: &f.Node.IDWide, Interfaces: make(map[int]ioam.Interface), ErrorRate: -1}
	for _, name := range []string{"in0", "out1"} {
		s.Ifaces = append(s.Ifaces, IfaceSpec{
			Name: name, MAC: must(net.ParseMAC(f.MAC[name])), Addrs: []netip.Prefix{netip.MustParsePrefix(f.Node.Addr[name])},
		})
	}
	s.Ifaces[0].Out = func(b []byte) { r.back = append(r.back, b) }
	s.Ifaces[1].Out = func(b []byte) { r.out = append(r.out, b) }
	s.Ifaces[1].Offload = true // the recording was made behind a veth
	for _, route := range f.Node.Routes {
		route, via, encap := strings.Cut(strings.ReplaceAll(route, ",", ""), " = the encap route")
		if encap {
			route += via
		}
		s.Routes = append(s.Routes, s.parseRoute(route))
	}
	for _, sc := range f.Node.Schemas {
		c.Schemas = append(c.Schemas, ioam.Schema{ID: sc.ID, Data: sc.Data})
	}
	for _, ns := range f.Node.Namespaces {
		c.Namespaces = append(c.Namespaces, ioam.Namespace(ns))
	}
	var err error
	if r.Machine, err = maker(*s); err != nil {
		return nil, err
	}
	for name, ids := range f.Node.Ifs {
		c.Interfaces[r.Ifindex(name)] = ioam.Interface{
			ID: ioam.ID16(uint16(ids[0])), IDWide: &ids[1], Enabled: slices.Contains(f.Node.Enabled, name),
		}
	}
	if r.ioam, err = ioam.Attach(r.Machine, c); err != nil {
		return nil, err
	}
	r.events = r.ioam.Subscribe(16)
	return r, nil
}

func (r *encapper) close() {
	r.ioam.Close()
	if c, ok := r.Machine.(interface{ Close() }); ok {
		c.Close()
	}
}

// send lets a frame come in, or a socket send: "local" the usual payload,
// "localN" N octets of zeros.
func (r *encapper) send(in string, frame []byte) error {
	size, local := strings.CutPrefix(in, "local")
	if !local {
		r.Input(r.Ifindex("in0"), frame)
		return nil
	}
	payload := []byte("taproom-encap")
	if size != "" {
		payload = make([]byte, must(strconv.Atoi(size)))
	}
	src := r.spec.Ifaces[1].Addrs[0].Addr()
	return r.SendUDP(netip.AddrPortFrom(src, 40001), netip.MustParseAddrPort("[2001:db8:b::9]:9999"), payload)
}
