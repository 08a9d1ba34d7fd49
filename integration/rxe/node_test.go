package rxe

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"taproom/rdma"
	"taproom/rdma/nodeport"
	"taproom/rdma/roce"
	"taproom/stack"
	"taproom/stack/hook"
	"taproom/tap"
	"taproom/tap/netns"
)

// nodeDevice makes an RDMA device on a node of package stack, whose interface is
// a TAP with every offload on the bridge.
func (r *rig) nodeDevice(t *testing.T, configure func(*stack.Node)) *rdma.Device {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(r.lab.Namespace()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ns := must[*netns.Namespace](t)(netns.FromFile(os.NewFile(uintptr(fd), "lab")))
	t.Cleanup(func() { ns.Close() })
	dev := must[tap.Device](t)(tap.Open(tap.Options{Name: "t-node", Namespace: ns, MTU: rigMTU, Up: true}))
	node := must[*stack.Node](t)(stack.New(stack.Options{Name: "peer"}))
	t.Cleanup(node.Close)
	ifc, err := node.AddInterface(dev, stack.InterfaceConfig{
		Addr:      net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2},
		Addresses: []netip.Prefix{netip.PrefixFrom(HostIP, 24), netip.PrefixFrom(HostIP6, 64)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.lab.Enslave("t-node", rigMTU); err != nil {
		t.Fatal(err)
	}
	configure(node)
	port := must[*nodeport.Port](t)(nodeport.New(nodeport.Config{Host: node, Interface: ifc.Index()}))
	d := must[*rdma.Device](t)(rdma.OpenDevice(port, rdma.Options{}))
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestNode: the engine on a node, over a TAP with super-frames, against rxe.
func TestNode(t *testing.T) {
	plain := func(*stack.Node) {}
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("RC-v6=%v", v6), func(t *testing.T) {
			xCase{typ: rdma.RC, v6: v6, ops: xSends + "," + xWrites + "," + xReads + "," + xAtoms, node: plain}.run(t)
		})
		t.Run(fmt.Sprintf("UD-v6=%v", v6), func(t *testing.T) {
			xCase{typ: rdma.UD, v6: v6, ops: "send:1,send:1000,send_imm:33,send:0", node: plain}.run(t)
		})
		t.Run(fmt.Sprintf("long-v6=%v", v6), func(t *testing.T) {
			xCase{typ: rdma.RC, v6: v6, ops: "4*write:60000,4*send:8000,4*read:60000", rd: 4, opts: "-q 4", batch: true, node: plain}.run(t)
		})
	}
}

// TestNodeHook: a handler on the node sees RoCE packets like any others. This one
// drops some at Output and at Input, and the transport makes up for it.
func TestNodeHook(t *testing.T) {
	var seen, dropped atomic.Int64
	lossy := func(n *stack.Node) {
		for _, pt := range []hook.Point{hook.Output, hook.Input} {
			_, err := n.Attach(pt, hook.HandlerFunc(func(_ hook.Point, p *hook.Packet) hook.Verdict {
				if _, err := roce.Parse(p.Head()); err != nil {
					return hook.Continue
				}
				seen.Add(1)
				if rand.IntN(20) == 0 {
					dropped.Add(1)
					return hook.Drop
				}
				return hook.Continue
			}), hook.Options{Name: "lossy", Priority: -100, NoGSO: true})
			if err != nil {
				t.Error(err)
			}
		}
	}
	xCase{typ: rdma.RC, ops: "6*send:8000,4*write:9000,4*read:9000", batch: true, damage: &Damage{}, node: lossy, long: 9 * time.Second}.run(t)
	if seen.Load() == 0 || dropped.Load() == 0 {
		t.Errorf("the hook saw %d packets, dropped %d", seen.Load(), dropped.Load())
	}
	t.Logf("the hook saw %d packets, dropped %d", seen.Load(), dropped.Load())
}
