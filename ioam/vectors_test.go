package ioam_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// vectorFiles finds the files of recorded cases. TAPROOM_VECTORS names another
// root than testdata/vectors.
func vectorFiles(t *testing.T, pattern string) []string {
	t.Helper()
	root := os.Getenv("TAPROOM_VECTORS")
	if root == "" {
		root = filepath.Join("testdata", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(root, "ioam", pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no %s below %s", pattern, root)
	}
	return files
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// mask is a range of octets that a run may decide: offset, length, kind.
type mask struct {
	off, n int
	kind   string
}

func (m *mask) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&m.off, &m.n, &m.kind}) }

// compare reports where got is not what was recorded, or breaks the rule of a
// masked field.
func compare(got, want []byte, masks []mask, now time.Time) error {
	if len(got) != len(want) {
		return fmt.Errorf("length %d, want %d\n got %x\nwant %x", len(got), len(want), got, want)
	}
	free := make([]bool, len(want))
	for _, m := range masks {
		for i := range m.n {
			free[m.off+i] = true
		}
		if m.n == 4 {
			v := binary.BigEndian.Uint32(got[m.off:])
			switch {
			case m.kind == "ts_sec" && (int64(v) < now.Unix()-1 || int64(v) > now.Unix()+1),
				m.kind == "ts_frac_usec" && v >= 1e6,
				m.kind == "queue_backlog_bytes" && v != 0 && v != 0xffffffff:
				return fmt.Errorf("%s at %d is %d", m.kind, m.off, v)
			}
		}
		if m.kind == "icmpv6_checksum" && !ioamtest.ValidICMP(got) {
			return fmt.Errorf("wrong ICMPv6 checksum in %x", got)
		}
	}
	for i := range want {
		if got[i] != want[i] && !free[i] {
			return fmt.Errorf("octet %d is %02x, want %02x\n got %x\nwant %x", i, got[i], want[i], got, want)
		}
	}
	return nil
}

type nodeProfile struct {
	ID     *uint32 `json:"id"`
	IDWide *uint64 `json:"id_wide"`
	Ifs    map[string]struct {
		Enabled int     `json:"enabled"`
		ID      *uint16 `json:"id"`
		IDWide  *uint32 `json:"id_wide"`
	} `json:"ifs"`
	Namespaces []struct {
		ID     uint16  `json:"id"`
		Data   *uint32 `json:"data"`
		Wide   *uint64 `json:"wide"`
		Schema *uint32 `json:"schema"`
	} `json:"namespaces"`
	Schemas []struct {
		ID   uint32   `json:"id"`
		Data hexBytes `json:"data"`
	} `json:"schemas"`
	Sysctl map[string]int64 `json:"sysctl"`
}

type eventVector struct {
	NS      uint16   `json:"ns"`
	NodeLen uint8    `json:"nodelen"`
	Type    hexBytes `json:"type"`
	Data    hexBytes `json:"data"`
	Mask    []mask   `json:"mask"`
}

type returnedVector struct {
	Frame hexBytes `json:"frame"`
	Mask  []mask   `json:"mask"`
}

type nodeVector struct {
	Action       string          `json:"action"`
	OutIf        string          `json:"out_if"`
	Out          hexBytes        `json:"out"`
	UDPDelivered bool            `json:"udp_delivered"`
	HBH          hexBytes        `json:"hbh"`
	Mask         []mask          `json:"mask"`
	Returned     *returnedVector `json:"returned"`
	Counters     map[string]int  `json:"counters"`
	Events       []eventVector   `json:"events"`
}

type transitVector struct {
	ID          string      `json:"id"`
	Group       string      `json:"group"`
	Desc        string      `json:"desc"`
	Profile     string      `json:"profile"`
	In          hexBytes    `json:"in"`
	R1          *nodeVector `json:"R1"`
	R2          *nodeVector `json:"R2"`
	B           *nodeVector `json:"B"`
	DropReasons []string    `json:"drop_reasons"`
	Wallclock   [2]float64  `json:"wallclock"`
}

type transitFile struct {
	Topology topology                          `json:"topology"`
	Profiles map[string]map[string]nodeProfile `json:"profiles"`
	Vectors  []transitVector                   `json:"vectors"`
}

type topology struct {
	Nodes   map[string][]string `json:"nodes"`
	Links   [][2]string         `json:"links"`
	MAC     map[string]string   `json:"mac"`
	Addr    map[string][]string `json:"addr"`
	Route   map[string][]string `json:"route"`
	Src     netip.Addr          `json:"src"`
	UDPPort uint16              `json:"udp_port"`
}

// network is the topology of a file, made afresh for a case.
type network struct {
	nodes    map[string]*ioamtest.Node
	ioam     map[string]*ioam.Node
	events   map[string]*ioam.Subscription
	sent     map[string][]byte // last frame by "NODE.IF"
	returned [][]byte          // frames that came back to A
	heard    [][]byte          // packets B's socket got
}

func (tp *topology) build(t *testing.T, profile map[string]nodeProfile, now time.Time) *network {
	nw := &network{
		nodes: make(map[string]*ioamtest.Node), ioam: make(map[string]*ioam.Node),
		events: make(map[string]*ioam.Subscription), sent: make(map[string][]byte),
	}
	owner := map[netip.Addr]net.HardwareAddr{}
	for name, ifs := range tp.Nodes {
		if name == "A" {
			continue // the sender: frames go in at R1, and come back
		}
		n := ioamtest.NewNode(name, func() time.Time { return now })
		nw.nodes[name] = n
		for _, ifname := range ifs {
			var addrs []netip.Prefix
			mac := must(net.ParseMAC(tp.MAC[name+"."+ifname]))
			for _, a := range tp.Addr[name+"."+ifname] {
				addrs = append(addrs, netip.MustParsePrefix(a))
				owner[netip.MustParsePrefix(a).Addr()] = mac
			}
			n.AddIface(ifname, mac, addrs...)
		}
	}
	owner[tp.Src] = must(net.ParseMAC(tp.MAC["A.eth0"]))
	for name, n := range nw.nodes {
		n.MACs = owner
		for _, r := range tp.Route[name] {
			n.Routes = append(n.Routes, parseRoute(n, r))
		}
		nw.attach(t, name, profile[name])
	}
	for _, l := range tp.Links {
		nw.wire(l[0], l[1])
		nw.wire(l[1], l[0])
	}
	if b := nw.nodes["B"]; b != nil {
		b.Sockets[tp.UDPPort] = func(ip []byte) { nw.heard = append(nw.heard, ip) }
	}
	return nw
}

// wire carries the frames of one end to the other, and notes them.
func (nw *network) wire(from, to string) {
	a, aif, _ := strings.Cut(from, ".")
	b, bif, _ := strings.Cut(to, ".")
	if nw.nodes[a] == nil {
		return
	}
	nw.nodes[a].IfaceByName(aif).Wire = func(f []byte) {
		nw.sent[from] = f
		if far := nw.nodes[b]; far != nil {
			far.Input(far.IfaceByName(bif).Index, f)
		} else {
			nw.returned = append(nw.returned, f)
		}
	}
}

func (nw *network) attach(t *testing.T, name string, p nodeProfile) {
	n := nw.nodes[name]
	c := ioam.Config{NodeID: p.ID, NodeIDWide: p.IDWide, Interfaces: make(map[int]ioam.Interface), ErrorRate: -1}
	for ifname, i := range p.Ifs {
		c.Interfaces[n.IfaceByName(ifname).Index] = ioam.Interface{Enabled: i.Enabled != 0, ID: i.ID, IDWide: i.IDWide}
	}
	for _, s := range p.Schemas {
		c.Schemas = append(c.Schemas, ioam.Schema{ID: s.ID, Data: append([]byte{}, s.Data...)})
	}
	for _, ns := range p.Namespaces {
		c.Namespaces = append(c.Namespaces, ioam.Namespace{ID: ns.ID, Data: ns.Data, Wide: ns.Wide, Schema: ns.Schema})
	}
	in, err := ioam.Attach(n, c)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for k, v := range p.Sysctl {
		if err := in.SetSysctl(k, fmt.Sprint(v)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	nw.ioam[name], nw.events[name] = in, in.Subscribe(64)
}

// parseRoute reads a route as ip prints it: "[KIND] PREFIX [via ADDR] [dev IF]".
func parseRoute(n *ioamtest.Node, s string) ioamtest.Route {
	kinds := map[string]hook.RouteKind{"unreachable": hook.Unreachable, "blackhole": hook.Blackhole, "prohibit": hook.Prohibit}
	w := strings.Fields(s)
	var r ioamtest.Route
	if k, ok := kinds[w[0]]; ok {
		r.Kind, w = k, w[1:]
	}
	if w[0] == "default" {
		w[0] = "::/0"
	}
	r.Prefix = netip.MustParsePrefix(w[0])
	for i := 1; i+1 < len(w); i += 2 {
		switch w[i] {
		case "via":
			r.Via = netip.MustParseAddr(w[i+1])
			r.Out = n.Route(hook.RouteQuery{Dst: r.Via}).Out
		case "dev":
			r.Out = n.IfaceByName(w[i+1]).Index
		}
	}
	return r
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func wallclock(w [2]float64) time.Time { return time.UnixMicro(int64(w[0] * 1e6)) }

func TestVectorsTransit(t *testing.T) {
	ok, total := 0, 0
	for _, file := range vectorFiles(t, "vectors-*.json") {
		var f transitFile
		readJSON(t, file, &f)
		for _, v := range f.Vectors {
			total++
			if err := runTransit(t, &f, &v); err != nil {
				t.Errorf("%s (%s, %s): %v", v.ID, v.Group, v.Desc, err)
				continue
			}
			ok++
		}
	}
	t.Logf("ioam transit: %d of %d", ok, total)
}

func runTransit(t *testing.T, f *transitFile, v *transitVector) error {
	now := wallclock(v.Wallclock)
	nw := f.Topology.build(t, f.Profiles[v.Profile], now)
	r1 := nw.nodes["R1"]
	r1.Input(r1.IfaceByName("in0").Index, v.In)
	for _, c := range []struct {
		name string
		want *nodeVector
	}{{"R1", v.R1}, {"R2", v.R2}, {"B", v.B}} {
		if c.want == nil {
			if got := nw.nodes[c.name].Counters["Ip6InReceives"]; got != 0 {
				return fmt.Errorf("%s saw %d packets", c.name, got)
			}
			continue
		}
		if err := nw.check(c.name, c.want, now); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return checkReasons(nw, v.DropReasons)
}

func (nw *network) check(name string, want *nodeVector, now time.Time) error {
	if want.OutIf != "" {
		if err := compare(nw.sent[name+"."+want.OutIf], want.Out, want.Mask, now); err != nil {
			return fmt.Errorf("out of %s: %w", want.OutIf, err)
		}
	}
	if name == "B" {
		if got := len(nw.heard) > 0; got != want.UDPDelivered {
			return fmt.Errorf("delivered %v, want %v", got, want.UDPDelivered)
		}
		if want.HBH != nil {
			ip := nw.heard[0]
			if err := compare(ip[40:40+(int(ip[41])+1)*8], want.HBH, want.Mask, now); err != nil {
				return fmt.Errorf("hop-by-hop header at the socket: %w", err)
			}
		}
	}
	if want.Returned != nil {
		if len(nw.returned) != 1 {
			return fmt.Errorf("%d frames came back, want 1", len(nw.returned))
		}
		if err := compare(nw.returned[0], want.Returned.Frame, want.Returned.Mask, now); err != nil {
			return fmt.Errorf("returned: %w", err)
		}
	}
	got := nw.counters(name)
	for k := range got {
		if got[k] != want.Counters[k] {
			return fmt.Errorf("%s is %d, want %d", k, got[k], want.Counters[k])
		}
	}
	for k := range want.Counters {
		if got[k] != want.Counters[k] {
			return fmt.Errorf("%s is %d, want %d", k, got[k], want.Counters[k])
		}
	}
	return checkEvents(nw.events[name], want.Events, now)
}

// counters are the node's, those that IOAM keeps included.
func (nw *network) counters(name string) map[string]int {
	c := nw.nodes[name].Counters
	for k, snmp := range map[ioam.Counter]string{
		ioam.InHdrErrors: "Ip6InHdrErrors", ioam.InTruncatedPkts: "Ip6InTruncatedPkts",
		ioam.OutParmProblems: "Icmp6OutParmProblems", ioam.OutPktTooBigs: "Icmp6OutPktTooBigs",
	} {
		if v := nw.ioam[name].Count(k); v > 0 {
			c[snmp] += int(v)
		}
	}
	return c
}

func checkEvents(sub *ioam.Subscription, want []eventVector, now time.Time) error {
	for i, w := range want {
		select {
		case e := <-sub.C:
			if e.Namespace != w.NS || e.NodeLen != w.NodeLen || e.Type != binary.BigEndian.Uint32(w.Type) {
				return fmt.Errorf("event %d is %v, want namespace %d node length %d type %x", i, &e, w.NS, w.NodeLen, w.Type)
			}
			if err := compare(e.Data(), w.Data, w.Mask, now); err != nil {
				return fmt.Errorf("event %d: %w", i, err)
			}
		default:
			return fmt.Errorf("%d events, want %d", i, len(want))
		}
	}
	select {
	case e := <-sub.C:
		return fmt.Errorf("one event too many: %v", &e)
	default:
		return nil
	}
}

// linuxReasons are the kernel's names for the reasons that hop-by-hop
// processing gives.
var linuxReasons = map[packet.Reason]string{
	packet.IOAMMalformed: "IP_INHDR", packet.BadHeader: "IP_INHDR",
	packet.OptionUnknown: "UNHANDLED_PROTO", packet.TooShort: "NOT_SPECIFIED",
}

func checkReasons(nw *network, want []string) error {
	for _, w := range want {
		fn, reason, _ := strings.Cut(w, ":")
		switch fn {
		case "ip6_parse_tlv", "ip6_tlvopt_unknown", "ipv6_parse_hopopts":
		default:
			continue // not hop-by-hop processing
		}
		for _, n := range nw.nodes {
			for _, r := range n.Drops {
				if linuxReasons[r] != reason {
					return fmt.Errorf("%s dropped for %v, want %s", n.Name, r, w)
				}
			}
		}
	}
	return nil
}
