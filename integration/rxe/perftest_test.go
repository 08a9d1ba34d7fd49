package rxe

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/perftest"
	"taproom/rdma/roce"
)

// TestPerftest: real perftest on either side of ours.
func TestPerftest(t *testing.T) {
	for _, c := range []struct {
		tool string
		test perftest.Test
		more string
	}{
		{"ib_send_bw", perftest.Test{Kind: perftest.Send, Sizes: []int{3000}}, ""},
		{"ib_write_bw", perftest.Test{Kind: perftest.Write, Sizes: []int{5000}}, ""},
		{"ib_write_bw", perftest.Test{Kind: perftest.Write, Sizes: []int{2000}, QPs: 8}, "-q 8"},
		{"ib_read_bw", perftest.Test{Kind: perftest.Read, Sizes: []int{5000}}, ""},
		{"ib_atomic_bw", perftest.Test{Kind: perftest.Atomic}, "-A FETCH_AND_ADD"},
		{"ib_send_bw", perftest.Test{Kind: perftest.Send, Type: rdma.UC, Sizes: []int{100}}, "-c UC"},
		{"ib_send_lat", perftest.Test{Kind: perftest.Send, Latency: true, Sizes: []int{64}}, ""},
		{"ib_send_lat", perftest.Test{Kind: perftest.Send, Latency: true, Type: rdma.UD, Sizes: []int{64}}, "-c UD"},
		{"ib_write_lat", perftest.Test{Kind: perftest.Write, Latency: true, Sizes: []int{64}}, ""},
		{"ib_read_lat", perftest.Test{Kind: perftest.Read, Latency: true, Sizes: []int{64}}, ""},
		{"ib_atomic_lat", perftest.Test{Kind: perftest.Atomic, Latency: true}, "-A FETCH_AND_ADD"},
	} {
		for _, role := range []string{"client", "server"} {
			t.Run(strings.TrimSpace(c.tool+" "+c.more)+" "+role, func(t *testing.T) {
				r := getRig(t)
				dev, _ := r.device(t, rdma.Options{}, nil, 0)
				test := c.test
				test.Iterations, test.MTU, test.Timeout = 50, roce.MTU1024, 17
				test.GIDIndex = must[int](t)(dev.FindGID(rdma.GIDOf(HostIP)))
				size := ""
				if test.Kind != perftest.Atomic {
					size = fmt.Sprintf("-s %d", test.Sizes[0])
				}
				command := fmt.Sprintf("%s -d rxe0 -x 1 -F -n %d -m 1024 -u 17 %s %s", c.tool, test.Iterations, size, c.more)
				var out strings.Builder
				test.Out = &out
				var results []perftest.Result
				var err error
				var said string
				if role == "client" {
					wait := r.g.Go(command, 30*time.Second)
					results, err = test.Client(r.dial(t, perftest.DefaultPort), dev)
					a, werr := wait()
					if said = a.Output; werr != nil || a.Status != 0 {
						t.Errorf("%s: %v, status %d", c.tool, werr, a.Status)
					}
				} else {
					l, lerr := r.lab.Listen(strconv.Itoa(perftest.DefaultPort))
					if lerr != nil {
						t.Fatal(lerr)
					}
					defer l.Close()
					wait := r.g.Go(command+" "+BridgeAddr, 30*time.Second)
					results, err = test.Server(r.accept(t, l), dev)
					a, werr := wait()
					if said = a.Output; werr != nil || a.Status != 0 {
						t.Errorf("%s: %v, status %d", c.tool, werr, a.Status)
					}
				}
				if err != nil || !strings.Contains(said, "remote address: LID 0000 QPN") || strings.Contains(said, "rror") {
					t.Fatalf("%v; %s said\n%s", err, c.tool, said)
				}
				if role == "client" && len(results) == 0 {
					t.Error("no result")
				}
				if n := strings.Count(out.String(), "\n"); n < 15 {
					t.Errorf("we said\n%s", out.String())
				}
				if testing.Verbose() {
					t.Log(strings.TrimSpace(lastRow(out.String())))
				}
			})
		}
	}
}

// lastRow returns the last row of a table.
func lastRow(out string) string {
	row := ""
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "-") {
			row = line
		}
	}
	return row
}

// TestPingpong: the pingpong programs on either side of ours.
func TestPingpong(t *testing.T) {
	const rounds, size = 20, 2000
	for _, c := range []struct {
		tool string
		typ  rdma.QPType
		size int
	}{{"ibv_rc_pingpong", rdma.RC, size}, {"ibv_uc_pingpong", rdma.UC, size}, {"ibv_ud_pingpong", rdma.UD, 500}} {
		for _, role := range []string{"client", "server"} {
			t.Run(c.tool+" "+role, func(t *testing.T) {
				r := getRig(t)
				dev, _ := r.device(t, rdma.Options{}, nil, 0)
				x := xCase{typ: c.typ, mtu: 1024}
				s := newXSide(t, &x, dev, make([]byte, xMemory), true)
				local := perftest.PingpongAddr{QPN: s.qp.Num(), PSN: xPSN, GID: s.me.GID}
				connect := func(p perftest.PingpongAddr) error {
					s.peer = xInfo{QPN: p.QPN, PSN: uint32(p.PSN), GID: p.GID}
					s.connect(role == "server")
					for i := range rounds {
						if _, err := s.qp.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{s.mr.SGE(xRecv(i, xRecvSz), xRecvSz)}}); err != nil {
							return err
						}
					}
					return nil
				}
				mtu := ""
				if c.typ != rdma.UD {
					mtu = "-m 1024"
				}
				command := fmt.Sprintf("%s -d rxe0 -g 1 -n %d -s %d %s", c.tool, rounds, c.size, mtu)
				var wait func() (string, error)
				if role == "client" {
					w := r.g.Go(command, 20*time.Second)
					wait = func() (string, error) { a, err := w(); return a.Output, err }
					conn := r.dial(t, perftest.DefaultPort)
					p, err := perftest.PingpongClient(conn, local)
					if err == nil {
						err = connect(p)
					}
					if err != nil {
						t.Fatal(err)
					}
				} else {
					l, err := r.lab.Listen(strconv.Itoa(perftest.DefaultPort))
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					w := r.g.Go(command+" "+BridgeAddr, 20*time.Second)
					wait = func() (string, error) { a, err := w(); return a.Output, err }
					if err := perftest.PingpongServer(r.accept(t, l), local, connect); err != nil {
						t.Fatal(err)
					}
				}
				s.pingpong(rounds, c.size, role == "client")
				out, err := wait()
				if err != nil || !strings.Contains(out, fmt.Sprintf("%d iters in ", rounds)) {
					t.Errorf("%v; %s said\n%s", err, c.tool, out)
				}
			})
		}
	}
}

// pingpong takes turns with the peer, the client first.
func (s *xSide) pingpong(rounds, n int, client bool) {
	s.t.Helper()
	send := func(i int) {
		w := rdma.SendWR{ID: 1000 + uint64(i), Opcode: rdma.WRSend, Flags: rdma.Signaled, SGList: []rdma.SGE{s.mr.SGE(xLocal(i), n)}}
		if s.c.typ == rdma.UD {
			w.AH, w.RemoteQPN, w.RemoteQKey = s.ah, s.peer.QPN, xQKey
		}
		if _, err := s.qp.PostSend(w); err != nil {
			s.t.Fatal(err)
		}
	}
	received, sent := 0, 0
	if client {
		send(0)
		sent = 1
	}
	var wcs [16]rdma.WC
	for end := time.Now().Add(15 * time.Second); received < rounds; {
		k, err := s.cq.Poll(wcs[:])
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range wcs[:k] {
			if err := wcs[i].Err(); err != nil {
				s.t.Fatal(err)
			}
			if wcs[i].Opcode == rdma.WCRecv {
				if received++; sent < rounds {
					send(sent)
					sent++
				}
			}
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d of %d rounds", received, rounds)
		}
		if k == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	time.Sleep(50 * time.Millisecond) // the last answer is still to be acknowledged
}
