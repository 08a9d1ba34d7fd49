package ioamtest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"taproom/ioam"
)

type nodeProfile struct {
	ID     *uint32 `json:"id"`
	IDWide *uint64 `json:"id_wide"`
	Ifs    map[string]struct {
		Enabled int     `json:"enabled"`
		ID      *uint16 `json:"id"`
		IDWide  *uint32 `json:"id_wide"`
	} `json:"ifs"`
	Namespaces []namespaceVector `json:"namespaces"`
	Schemas    []schemaVector    `json:"schemas"`
	Sysctl     map[string]int64  `json:"sysctl"`
}

type namespaceVector struct {
	ID     uint16  `json:"id"`
	Data   *uint32 `json:"data"`
	Wide   *uint64 `json:"wide"`
	Schema *uint32 `json:"schema"`
}

type schemaVector struct {
	ID   uint32   `json:"id"`
	Data hexBytes `json:"data"`
}

type nodeVector struct {
	Action       string   `json:"action"`
	OutIf        string   `json:"out_if"`
	Out          hexBytes `json:"out"`
	UDPDelivered bool     `json:"udp_delivered"`
	HBH          hexBytes `json:"hbh"`
	Mask         []mask   `json:"mask"`
	Returned     *struct {
		Frame hexBytes `json:"frame"`
		Mask  []mask   `json:"mask"`
	} `json:"returned"`
	Counters map[string]int `json:"counters"`
	Events   []eventVector  `json:"events"`
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

// RunTransit runs every case of the files vectors-*.json below root on
// machines of a maker: a packet with a trace through two routers to a host.
func RunTransit(t *testing.T, root string, make Maker) {
	ok, total := 0, 0
	for _, file := range VectorFiles(t, root, "vectors-*.json") {
		var f transitFile
		ReadJSON(t, file, &f)
		for _, v := range f.Vectors {
			total++
			if err := runTransit(&f, &v, make); err != nil {
				t.Errorf("%s (%s, %s): %v", v.ID, v.Group, v.Desc, err)
				continue
			}
			ok++
		}
	}
	t.Logf("ioam transit: %d of %d", ok, total)
}

// network is the topology of a file, made afresh for a case.
type network struct {
	spec    map[string]*Spec
	machine map[string]Machine
	ioam    map[string]*ioam.Node
	events  map[string]*ioam.Subscription

	mu       sync.Mutex        // machines may answer on goroutines of their own
	sent     map[string][]byte // last frame by "NODE.IF"
	returned [][]byte          // frames that came back to A
	heard    [][]byte          // packets B's socket got
}

func (tp *topology) build(profile map[string]nodeProfile, now time.Time, maker Maker) (*network, error) {
	nw := &network{
		spec: make(map[string]*Spec), machine: make(map[string]Machine), ioam: make(map[string]*ioam.Node),
		events: make(map[string]*ioam.Subscription), sent: make(map[string][]byte),
	}
	owner := map[netip.Addr]net.HardwareAddr{tp.Src: must(net.ParseMAC(tp.MAC["A.eth0"]))}
	for name, ifs := range tp.Nodes {
		if name == "A" {
			continue // the sender: frames go in at R1, and come back
		}
		s := &Spec{Name: name, Now: func() time.Time { return now }, MACs: owner}
		for _, ifname := range ifs {
			end := name + "." + ifname
			i := IfaceSpec{Name: ifname, MAC: must(net.ParseMAC(tp.MAC[end])), Out: func(f []byte) { nw.carry(tp, end, f) }}
			for _, a := range tp.Addr[end] {
				i.Addrs = append(i.Addrs, netip.MustParsePrefix(a))
				owner[netip.MustParsePrefix(a).Addr()] = i.MAC
			}
			s.Ifaces = append(s.Ifaces, i)
		}
		for _, r := range tp.Route[name] {
			s.Routes = append(s.Routes, s.parseRoute(r))
		}
		if name == "B" {
			s.Port, s.Heard = tp.UDPPort, func(ip []byte) { nw.heard = append(nw.heard, ip) }
		}
		nw.spec[name] = s
	}
	for name, s := range nw.spec {
		m, err := maker(*s)
		if err != nil {
			return nil, err
		}
		nw.machine[name] = m
		if err := nw.attach(name, profile[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return nw, nil
}

// carry brings a frame to the other end of a link, and notes it.
func (nw *network) carry(tp *topology, from string, f []byte) {
	nw.mu.Lock()
	nw.sent[from] = f
	nw.mu.Unlock()
	for _, l := range tp.Links {
		to := l[1]
		if to == from {
			to = l[0]
		} else if l[0] != from {
			continue
		}
		name, ifname, _ := strings.Cut(to, ".")
		if m := nw.machine[name]; m != nil {
			m.Input(m.Ifindex(ifname), f)
		} else {
			nw.mu.Lock()
			nw.returned = append(nw.returned, f)
			nw.mu.Unlock()
		}
	}
}

// back waits for the first frame that comes back, and returns all there are.
func (nw *network) back() [][]byte {
	for range 1000 {
		nw.mu.Lock()
		b := nw.returned
		nw.mu.Unlock()
		if len(b) > 0 {
			return b
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// out is the last frame that left an interface.
func (nw *network) out(name string) []byte {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	return nw.sent[name]
}

func (nw *network) attach(name string, p nodeProfile) error {
	c := ioam.Config{NodeID: p.ID, NodeIDWide: p.IDWide, Interfaces: make(map[int]ioam.Interface), ErrorRate: -1}
	for ifname, i := range p.Ifs {
		c.Interfaces[nw.machine[name].Ifindex(ifname)] = ioam.Interface{Enabled: i.Enabled != 0, ID: i.ID, IDWide: i.IDWide}
	}
	for _, s := range p.Schemas {
		c.Schemas = append(c.Schemas, ioam.Schema{ID: s.ID, Data: append([]byte{}, s.Data...)})
	}
	for _, ns := range p.Namespaces {
		c.Namespaces = append(c.Namespaces, ioam.Namespace(ns))
	}
	n, err := ioam.Attach(nw.machine[name], c)
	if err != nil {
		return err
	}
	for k, v := range p.Sysctl {
		// What is not IOAM's is the machine's own affair.
		if err := n.SetSysctl(k, fmt.Sprint(v)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	nw.ioam[name], nw.events[name] = n, n.Subscribe(64)
	return nil
}

func runTransit(f *transitFile, v *transitVector, make Maker) error {
	now := wallclock(v.Wallclock)
	nw, err := f.Topology.build(f.Profiles[v.Profile], now, make)
	if err != nil {
		return err
	}
	defer nw.close()
	nw.mu.Lock()
	nw.returned = nil // a machine may have announced itself
	nw.mu.Unlock()
	nw.machine["R1"].Input(nw.machine["R1"].Ifindex("in0"), v.In)
	for _, c := range []struct {
		name string
		want *nodeVector
	}{{"R1", v.R1}, {"R2", v.R2}, {"B", v.B}} {
		if c.want == nil {
			if got := nw.machine[c.name].SNMP()["Ip6InReceives"]; got != 0 {
				return fmt.Errorf("%s saw %d packets", c.name, got)
			}
			continue
		}
		if err := nw.check(c.name, c.want, now); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nw.checkReasons(v.DropReasons)
}

func (nw *network) close() {
	for name, m := range nw.machine {
		nw.ioam[name].Close()
		if c, ok := m.(interface{ Close() }); ok {
			c.Close()
		}
	}
}

func (nw *network) check(name string, want *nodeVector, now time.Time) error {
	if want.OutIf != "" {
		if err := compare(nw.out(name+"."+want.OutIf), want.Out, want.Mask, now); err != nil {
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
		back := nw.back()
		if len(back) != 1 {
			return fmt.Errorf("%d frames came back, want 1", len(back))
		}
		if err := compare(back[0], want.Returned.Frame, want.Returned.Mask, now); err != nil {
			return fmt.Errorf("returned: %w", err)
		}
	}
	if err := nw.checkCounters(name, want.Counters); err != nil {
		return err
	}
	return checkEvents(nw.events[name], want.Events, now)
}

// checkCounters compares the machine's counters, those that IOAM keeps added.
func (nw *network) checkCounters(name string, want map[string]int) error {
	got := nw.machine[name].SNMP()
	if got == nil {
		return nil
	}
	for k, snmp := range map[ioam.Counter]string{
		ioam.InHdrErrors: "Ip6InHdrErrors", ioam.InTruncatedPkts: "Ip6InTruncatedPkts",
		ioam.OutParmProblems: "Icmp6OutParmProblems", ioam.OutPktTooBigs: "Icmp6OutPktTooBigs",
	} {
		if v := nw.ioam[name].Count(k); v > 0 {
			got[snmp] += int(v)
		}
	}
	for _, keys := range []map[string]int{got, want} {
		for k := range keys {
			if got[k] != want[k] {
				return fmt.Errorf("%s is %d, want %d", k, got[k], want[k])
			}
		}
	}
	return nil
}

// checkReasons compares why hop-by-hop processing dropped the packet.
func (nw *network) checkReasons(want []string) error {
	for _, w := range want {
		fn, reason, _ := strings.Cut(w, ":")
		switch fn {
		case "ip6_parse_tlv", "ip6_tlvopt_unknown", "ipv6_parse_hopopts":
		default:
			continue // not hop-by-hop processing
		}
		for name, m := range nw.machine {
			for _, r := range m.Reasons() {
				if linuxReasons[r] != reason {
					return fmt.Errorf("%s dropped for %v, want %s", name, r, w)
				}
			}
		}
	}
	return nil
}
