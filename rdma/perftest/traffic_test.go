package perftest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
)

// TestTraffic runs each test between two devices.
func TestTraffic(t *testing.T) {
	for _, c := range []Test{
		{Kind: Send}, {Kind: Write, QPs: 3}, {Kind: Read, Sizes: []int{1, 4096, 100000}}, {Kind: Atomic},
		{Kind: Send, Type: rdma.UC, Sizes: []int{64}, Inline: 64}, {Kind: Write, Type: rdma.UC}, {Kind: Send, Type: rdma.UD, Sizes: []int{2, 1000}, Iterations: 100},
		{Kind: Send, Latency: true}, {Kind: Write, Latency: true, Sizes: []int{1, 3, 64, 5000}}, {Kind: Read, Latency: true}, {Kind: Atomic, Latency: true},
		{Kind: Send, Latency: true, Type: rdma.UD},
	} {
		if raceEnabled && c.Kind == Write && c.Latency {
			continue
		}
		t.Run(fmt.Sprintf("%v-%v-latency=%v", c.Kind, c.Type, c.Latency), func(t *testing.T) {
			if c.Iterations == 0 {
				c.Iterations = 300
			}
			c.GIDIndex = -1
			pa, pb := memport.NewPair(memport.Config{})
			conn := tcpPair(t)
			type outcome struct {
				r   []Result
				out string
				err error
			}
			done := make(chan outcome, 1)
			run := func(side int, p rdma.Port) (o outcome) {
				dev, err := rdma.OpenDevice(p, rdma.Options{})
				if err != nil {
					return outcome{err: err}
				}
				var b strings.Builder
				me := c
				me.Out = &b
				_ = conn[side].SetDeadline(time.Now().Add(time.Minute))
				if side == 0 {
					o.r, o.err = me.Server(conn[0], dev)
				} else {
					o.r, o.err = me.Client(conn[1], dev)
				}
				o.out = b.String()
				if err := dev.Close(); o.err == nil {
					o.err = err
				}
				return o
			}
			go func() { done <- run(0, pa) }()
			client := run(1, pb)
			server := <-done
			if client.err != nil || server.err != nil {
				t.Fatalf("client %v, server %v", client.err, server.err)
			}
			if len(client.r) == 0 || !strings.Contains(client.out, " Test\n") || !strings.Contains(client.out, " local address: LID 0000") {
				t.Errorf("client said\n%s", client.out)
			}
			for _, r := range client.r {
				if c.Latency && (r.Latency.Min <= 0 || r.Latency.P999 < r.Latency.Typical) || !c.Latency && r.Report.Average <= 0 {
					t.Errorf("%+v", r)
				}
			}
			if c.Kind != Send && !c.Latency && (len(server.r) != 1 || server.r[0].Report != client.r[len(client.r)-1].Report) {
				t.Errorf("the server was told %+v", server.r)
			}
		})
	}
}

// tcpPair returns the two ends of a connection: a pipe without buffers would not
// do, where both sides speak first.
func tcpPair(t *testing.T) (c [2]net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c[1], err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if c[0], err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c[0].Close(); c[1].Close() })
	return c
}
