package ioam_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/ioam/option"
	"taproom/stack/hook"
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

		Namespaces []ioamNamespace `json:"namespaces"`
		Schemas    []struct {
			ID   uint32   `json:"id"`
			Data hexBytes `json:"data"`
		} `json:"schemas"`
	} `json:"node"`
	Vectors []encapVector `json:"vectors"`
}

type ioamNamespace struct {
	ID     uint16  `json:"id"`
	Data   *uint32 `json:"data"`
	Wide   *uint64 `json:"wide"`
	Schema *uint32 `json:"schema"`
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

func TestVectorsEncap(t *testing.T) {
	ok, total, cases := 0, 0, 0
	for _, file := range vectorFiles(t, "encap-vectors-*.json") {
		var f encapFile
		readJSON(t, file, &f)
		for i := range f.Vectors {
			v := &f.Vectors[i]
			cases++
			n, err := runEncap(t, &f, v)
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
func runEncap(t *testing.T, f *encapFile, v *encapVector) (int, error) {
	attrs, err := v.attrs()
	if err != nil {
		return 0, err
	}
	prefix := netip.MustParsePrefix("2001:db8:b::/64")
	tunnel, err := ioam.ParseEncap(prefix, attrs)
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
	r := newEncapper(t, f, &now)
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

// attrs are the netlink attributes of the case's route. Cases about refusals
// are told by their description only: the usual route with one thing wrong.
func (v *encapVector) attrs() (ioam.EncapAttrs, error) {
	r := v.Route
	if r.Type == "" {
		return describedAttrs(v.Desc)
	}
	var a ioam.EncapAttrs
	if m, ok := map[string]uint8{"inline": 1, "encap": 2, "auto": 3}[r.Mode]; ok {
		a.Mode = &m
	}
	typ, err := strconv.ParseUint(r.Type, 16, 24)
	if err != nil {
		return a, err
	}
	a.Trace = traceAttr(option.Type(typ), r.Remlen, r.NS)
	a.FreqK, a.FreqN = r.K, r.N
	if r.Dst != "" {
		a.Dst = new(netip.MustParseAddr(r.Dst))
	}
	if r.Src != "" {
		a.Src = new(netip.MustParseAddr(r.Src))
	}
	return a, nil
}

func traceAttr(t option.Type, words int, ns uint16) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, ns)
	b[2] = byte(t.NodeLen() << 3)
	b[3] = byte(words)
	binary.BigEndian.PutUint32(b[4:], uint32(t)<<8)
	return b
}

func describedAttrs(desc string) (ioam.EncapAttrs, error) {
	inline, encap, auto := uint8(1), uint8(2), uint8(3)
	dst, src, none := netip.MustParseAddr("2001:db8:c::1"), netip.MustParseAddr("2001:db8:a::2"), netip.IPv6Unspecified()
	a := ioam.EncapAttrs{Mode: &inline, Trace: traceAttr(0xc00000, 8, 123)}
	u32 := func(v uint32) *uint32 { return &v }
	w := strings.Fields(desc)
	num := func() int {
		n, _ := strconv.Atoi(w[len(w)-1])
		return n
	}
	switch {
	case desc == "no trace":
		a.Trace = nil
	case desc == "type 0":
		a.Trace = traceAttr(0, 8, 123)
	case w[0] == "remlen":
		a.Trace = traceAttr(0xc00000, num(), 123)
	case w[0] == "bit":
		a.Trace = traceAttr(0xc00000|1<<(23-num()), 8, 123)
	case strings.HasPrefix(desc, "nodelen given wrong"):
		a.Trace[2] = 0x38
	case desc == "overflow preset":
		a.Trace[2] |= 0x04
	case desc == "trace reserved octet":
		a.Trace[7] = 0x7e
	case w[0] == "mode":
		m := uint8(num())
		a.Mode = &m
	case desc == "encap without dst":
		a.Mode = &encap
	case desc == "auto without dst":
		a.Mode = &auto
	case desc == "inline with dst":
		a.Dst = &dst
	case desc == "inline with src":
		a.Src = &src
	case desc == "encap dst ::":
		a.Mode, a.Dst = &encap, &none
	case desc == "encap src ::":
		a.Mode, a.Dst, a.Src = &encap, &dst, &none
	case desc == "freq k without n":
		a.FreqK = u32(1)
	case desc == "freq n without k":
		a.FreqN = u32(1)
	case desc == "freq k>n":
		a.FreqK, a.FreqN = u32(3), u32(2)
	case strings.HasPrefix(desc, "freq k="):
		k, _ := strconv.Atoi(desc[len("freq k="):])
		a.FreqK, a.FreqN = u32(uint32(k)), u32(1)
	case strings.HasPrefix(desc, "freq n="):
		n, _ := strconv.Atoi(desc[len("freq n="):])
		a.FreqK, a.FreqN = u32(1), u32(uint32(n))
	case w[0] == "trace" && w[2] == "octets":
		n, _ := strconv.Atoi(w[1])
		a.Trace = make([]byte, n)
	default:
		return a, fmt.Errorf("no route is known for the description %q", desc)
	}
	return a, nil
}

// encapper is the node of an encapsulation file between its two neighbours.
type encapper struct {
	node      *ioamtest.Node
	ioam      *ioam.Node
	events    *ioam.Subscription
	out, back [][]byte
}

func newEncapper(t *testing.T, f *encapFile, now *time.Time) *encapper {
	n := ioamtest.NewNode("R", func() time.Time { return *now })
	r := &encapper{node: n}
	c := ioam.Config{NodeID: &f.Node.ID, NodeIDWide: &f.Node.IDWide, Interfaces: make(map[int]ioam.Interface), ErrorRate: -1}
	for _, name := range []string{"in0", "out1"} {
		i := n.AddIface(name, must(net.ParseMAC(f.MAC[name])), netip.MustParsePrefix(f.Node.Addr[name]))
		ids := f.Node.Ifs[name]
		ic := ioam.Interface{ID: new(uint16(ids[0])), IDWide: &ids[1]}
		for _, e := range f.Node.Enabled {
			ic.Enabled = ic.Enabled || e == name
		}
		c.Interfaces[i.Index] = ic
	}
	n.IfaceByName("out1").Offload = true // the recording was made behind a veth
	n.IfaceByName("in0").Wire = func(b []byte) { r.back = append(r.back, b) }
	n.IfaceByName("out1").Wire = func(b []byte) { r.out = append(r.out, b) }
	// The neighbours' addresses are the only ones of their links that packets go to.
	n.MACs[netip.MustParseAddr("2001:db8:a::1")] = must(net.ParseMAC(f.MAC["h0"]))
	n.MACs[netip.MustParseAddr("2001:db8:12::2")] = must(net.ParseMAC(f.MAC["s0"]))
	for _, route := range f.Node.Routes {
		route, via, encap := strings.Cut(strings.ReplaceAll(route, ",", ""), " = the encap route")
		if encap {
			route += via
		}
		n.Routes = append(n.Routes, parseRoute(n, route))
	}
	for _, s := range f.Node.Schemas {
		c.Schemas = append(c.Schemas, ioam.Schema{ID: s.ID, Data: s.Data})
	}
	for _, ns := range f.Node.Namespaces {
		c.Namespaces = append(c.Namespaces, ioam.Namespace(ns))
	}
	r.ioam = must(ioam.Attach(n, c))
	r.events = r.ioam.Subscribe(16)
	return r
}

// send lets a frame come in, or a socket send: "local" the usual payload,
// "localN" N octets of zeros.
func (r *encapper) send(in string, frame []byte) error {
	size, local := strings.CutPrefix(in, "local")
	if !local {
		r.node.Input(r.node.IfaceByName("in0").Index, frame)
		return nil
	}
	payload := []byte("taproom-encap")
	if size != "" {
		payload = make([]byte, must(strconv.Atoi(size)))
	}
	src := r.node.IfaceByName("out1").Addrs[0].Addr()
	return r.node.SendUDP(netip.AddrPortFrom(src, 40001), netip.MustParseAddrPort("[2001:db8:b::9]:9999"), payload)
}

var _ hook.Host = (*ioamtest.Node)(nil)
