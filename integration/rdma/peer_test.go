package rdma

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
	"taproom/rdma/nodeport"
	"taproom/rdma/perftest"
	"taproom/stack"
	"taproom/stack/wire"
	"taproom/tap"
	"taproom/tap/netns"
)

// peerEnv makes the test program the other process of a benchmark; its value is
// the path of the namespace with the bridge.
const peerEnv = "TAPROOM_RDMA_PEER"

// run is one measurement, as the parent asks the peer for it.
type run struct {
	Addr string // where the server listens
	Test perftest.Test
}

// rig is a pair of devices to measure between.
type rig struct {
	client *rdma.Device
	serve  func(run) error // begins to serve one run
	served func() (cpu time.Duration, err error)
}

// measure runs a test, and returns its result, the time that both processes
// spent on the processors, and the time that passed.
func (r *rig) measure(t perftest.Test) (perftest.Result, time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return perftest.Result{}, 0, err
	}
	defer l.Close()
	cpu := cpuTime()
	if err := r.serve(run{l.Addr().String(), t}); err != nil {
		return perftest.Result{}, 0, err
	}
	c, err := l.Accept()
	if err != nil {
		return perftest.Result{}, 0, err
	}
	defer c.Close()
	res, err := t.Client(c, r.client)
	if err != nil {
		return perftest.Result{}, 0, err
	}
	cpu = cpuTime() - cpu
	other, err := r.served()
	if err != nil {
		return perftest.Result{}, 0, err
	}
	return res[0], cpu + other, nil
}

// local serves with a device of this process, whose time counts already.
func local(client, server *rdma.Device) *rig {
	done := make(chan error, 1)
	return &rig{client,
		func(q run) error { go func() { done <- serve(q, server) }(); return nil },
		func() (time.Duration, error) { return 0, <-done },
	}
}

func serve(q run, dev *rdma.Device) error {
	c, err := net.Dial("tcp", q.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = q.Test.Server(c, dev)
	return err
}

func memoryRig(b *testing.B) *rig {
	x, y := memport.NewPair(memport.Config{})
	return local(device(b, x), device(b, y))
}

func device(b *testing.B, p rdma.Port) *rdma.Device {
	d, err := rdma.OpenDevice(p, rdma.Options{})
	must(b, err)
	b.Cleanup(func() { _ = d.Close() })
	return d
}

func wireRig(b *testing.B) *rig {
	x, y, err := wire.New(wire.Config{Name: "w", MTU: linkMTU})
	must(b, err)
	devs := [2]*rdma.Device{}
	for i, d := range []tap.Device{x, y} {
		node, iface := newNode(b, byte(i+1), d)
		port, err := nodeport.New(nodeport.Config{Host: node, Interface: iface.Index()})
		must(b, err)
		devs[i] = device(b, port)
	}
	return local(devs[0], devs[1])
}

// answer is what the peer says after a run.
type answer struct {
	CPU   time.Duration
	Error string
}

// bridgeRig has the server in another process, on a TAP of the same bridge.
func bridgeRig(b *testing.B) *rig {
	ns := bridge(b)
	node, iface := newNode(b, 1, openTAP(b, ns, "t1"))
	port, err := nodeport.New(nodeport.Config{Host: node, Interface: iface.Index()})
	must(b, err)
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), peerEnv+"="+ns.Path())
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	must(b, err)
	out, err := c.StdoutPipe()
	must(b, err)
	must(b, c.Start())
	b.Cleanup(func() { _, _ = in.Close(), c.Wait() })
	ask, told := json.NewEncoder(in), json.NewDecoder(out)
	return &rig{device(b, port),
		func(q run) error { return ask.Encode(q) },
		func() (time.Duration, error) {
			var a answer
			if err := told.Decode(&a); err != nil {
				return 0, fmt.Errorf("the other process: %w", err)
			}
			if a.Error != "" {
				return 0, errors.New("the other process: " + a.Error)
			}
			return a.CPU, nil
		},
	}
}

// bePeer serves the runs that come on standard input, until it ends.
func bePeer() int {
	dev, closeAll, err := peerDevice(os.Getenv(peerEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		return 1
	}
	defer closeAll()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q run
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return 0
			}
			fmt.Fprintln(os.Stderr, "peer:", err)
			return 1
		}
		cpu := cpuTime()
		a := answer{}
		if err := serve(q, dev); err != nil {
			a.Error = err.Error()
		}
		a.CPU = cpuTime() - cpu
		if err := out.Encode(a); err != nil {
			return 1
		}
	}
}

func peerDevice(path string) (_ *rdma.Device, closeAll func(), err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, nil, err
	}
	d, err := tap.Open(tap.Options{Name: "t2", Namespace: ns, MTU: linkMTU, Up: true})
	if err != nil {
		return nil, nil, err
	}
	node, err := stack.New(stack.Options{Name: "peer"})
	if err != nil {
		return nil, nil, err
	}
	i, err := node.AddInterface(d, stack.InterfaceConfig{Name: "eth0", Addr: net.HardwareAddr{2, 0, 0, 0, 1, 2}, Addresses: addresses(2)})
	if err != nil {
		return nil, nil, err
	}
	port, err := nodeport.New(nodeport.Config{Host: node, Interface: i.Index()})
	if err != nil {
		return nil, nil, err
	}
	dev, err := rdma.OpenDevice(port, rdma.Options{})
	return dev, func() { _ = dev.Close(); node.Close(); _ = ns.Close() }, err
}

// cpuTime is what this process has spent on the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
