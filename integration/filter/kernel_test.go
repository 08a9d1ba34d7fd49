package filter

import (
	"bytes"
	"net"
	"net/netip"
	"sort"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/netns"
)

// kernels is a network namespace; the far ends of its two interfaces are TAPs'.
type kernels struct {
	ns   *netns.Namespace
	taps map[string]*tap.TAP
	got  map[string]chan []byte
	coll *ebpf.Collection
}

func newKernels(t *testing.T) *kernels {
	ns, err := netns.New(netns.Options{})
	must(t, err)
	k := &kernels{ns: ns, taps: make(map[string]*tap.TAP), got: make(map[string]chan []byte)}
	t.Cleanup(func() {
		for _, d := range k.taps {
			_ = d.Close()
		}
		_ = ns.Close()
	})
	cfg := netns.Config{Loopback: true, Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}}
	for dev, mac := range map[string]net.HardwareAddr{"a": macA, "b": macB} {
		d, err := tap.Open(tap.Options{Name: dev, Namespace: ns, MTU: 1500, Up: true})
		must(t, err)
		k.taps[dev] = d
		got := make(chan []byte, 1024)
		k.got[dev] = got
		must(t, d.Start(func(_ int, batch []*packet.Packet) {
			for _, p := range batch {
				p.CompleteChecksum()
				p.Linearize()
				got <- bytes.Clone(p.Head())
				p.Release()
			}
		}))
		l := netns.Link{Name: dev, Up: true}
		for _, a := range addresses[dev] {
			l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
		}
		cfg.Links = append(cfg.Links, l)
		must(t, ns.Do(func() error {
			l, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			return netlink.LinkSetHardwareAddr(l, mac)
		}))
	}
	must(t, ns.Configure(cfg))
	must(t, ns.Do(func() error {
		for _, n := range neighbours {
			l, err := netlink.LinkByName(n.dev)
			if err != nil {
				return err
			}
			if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(n.ip), HardwareAddr: n.mac, State: netlink.NUD_PERMANENT}); err != nil {
				return err
			}
		}
		return nil
	}))
	return k
}

func (k *kernels) attach(t *testing.T, object string, at []attachment) {
	must(t, rlimit.RemoveMemlock())
	spec, err := ebpf.LoadCollectionSpec(object)
	must(t, err)
	k.coll, err = ebpf.NewCollection(spec)
	must(t, err)
	t.Cleanup(k.coll.Close)
	for _, a := range at {
		prog := k.coll.Programs[a.program]
		must(t, k.ns.Do(func() error {
			if a.pf != 0 {
				l, err := link.AttachNetfilter(link.NetfilterOptions{Program: prog, ProtocolFamily: link.NetfilterProtocolFamily(a.pf), Hook: link.NetfilterInetForward})
				if err == nil {
					t.Cleanup(func() { _ = l.Close() })
				}
				return err
			}
			dev, err := netlink.LinkByName(a.dev)
			if err != nil {
				return err
			}
			if a.clsact {
				return clsact(dev.Attrs().Index, prog, a.egress)
			}
			o := link.TCXOptions{Interface: dev.Attrs().Index, Program: prog, Attach: ebpf.AttachTCXIngress}
			if a.egress {
				o.Attach = ebpf.AttachTCXEgress
			}
			l, err := link.AttachTCX(o)
			if err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
			return err
		}))
	}
}

func clsact(index int, prog *ebpf.Program, egress bool) error {
	_ = netlink.QdiscAdd(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if egress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          prog.FD(), Name: "same", DirectAction: true,
	})
}

func (k *kernels) send(dev string, p *packet.Packet) {
	k.taps[dev].Write(0, []*packet.Packet{p})
}

// received waits until the kernel has been silent for a while.
func (k *kernels) received(dev string) (out [][]byte) {
	for {
		select {
		case f := <-k.got[dev]:
			out = append(out, f)
		case <-time.After(100 * time.Millisecond):
			return out
		}
	}
}

func (k *kernels) dump(t *testing.T, name string) []string {
	m := k.coll.Maps[name]
	var out []string
	var key, next []byte
	next, err := m.NextKeyBytes(nil)
	for ; err == nil && next != nil; next, err = m.NextKeyBytes(key) {
		key = next
		v, err := m.LookupBytes(key)
		must(t, err)
		out = append(out, entry(name, key, v))
	}
	sort.Strings(out)
	return out
}
