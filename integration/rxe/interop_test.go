package rxe

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
)

const (
	xSends  = "send:1,send:1024,send:3000,send:0,send_sol:18,send_imm:7,send_imm:2500"
	xWrites = "write:1,write:1024,write:3001,write:0,write_imm:9,write_imm:2050,write_imm:0"
	xReads  = "read:1,read:1024,read:2500,read:5001,read:0"
	xAtoms  = "cas,cas,faa,faa"
)

// TestOperations: every operation of RC, UC and UD, both ways, at every path MTU,
// over IPv4 and IPv6.
func TestOperations(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, mtu := range []int{256, 512, 1024, 2048, 4096} {
			if v6 && mtu != 256 && mtu != 4096 {
				continue // enough: the headers differ, not the cutting
			}
			t.Run(fmt.Sprintf("RC-v6=%v-%d", v6, mtu), func(t *testing.T) {
				xCase{typ: rdma.RC, v6: v6, mtu: mtu, ops: xSends + "," + xWrites + "," + xReads + "," + xAtoms}.run(t)
			})
		}
		t.Run(fmt.Sprintf("UC-v6=%v", v6), func(t *testing.T) {
			xCase{typ: rdma.UC, v6: v6, ops: "send:5,send:3000,send_imm:6,send_imm:2100,write:7,write:3000,write_imm:3,write_imm:2100"}.run(t)
		})
		t.Run(fmt.Sprintf("UD-v6=%v", v6), func(t *testing.T) {
			xCase{typ: rdma.UD, v6: v6, ops: "send:1,send:1000,send_imm:33,send:0"}.run(t)
		})
	}
}

// TestBatches: many work requests at once, long messages.
func TestBatches(t *testing.T) {
	for name, c := range map[string]xCase{
		"sends":       {ops: "40*send:100"},
		"long writes": {ops: "4*write:60000", mtu: 4096},
		"long sends":  {ops: "8*send:8000", mtu: 256},
		"reads":       {ops: "16*read:4000", rd: 8, opts: "-q 8"},
		"one read":    {ops: "6*read:3000", rd: 1, opts: "-q 1"},
		"mixed":       {ops: "write:3000,read:3000,send:4000,faa,write:10,read:10,faa,send_imm:30", rd: 4, opts: "-q 4"},
	} {
		c.typ, c.batch = rdma.RC, true
		t.Run(name, func(t *testing.T) { c.run(t) })
	}
}

// TestErrors: what must fail fails with the status rxe gives, on both sides.
func TestErrors(t *testing.T) {
	const ok = rdma.Success
	for name, c := range map[string]xCase{
		"write wrong rkey":   {ops: "write:10,write:10@bad", status: []rdma.Status{ok, rdma.RemAccessErr}},
		"read wrong rkey":    {ops: "read:10@bad", status: []rdma.Status{rdma.RemAccessErr}},
		"write out of range": {ops: "write:100@oob", status: []rdma.Status{rdma.RemAccessErr}},
		"read out of range":  {ops: "read:3000@oob", status: []rdma.Status{rdma.RemAccessErr}},
		"no right to write":  {ops: "write:10", server: "-A 1", access: rdma.LocalWrite, status: []rdma.Status{rdma.RemInvReqErr}},
		"receive too small":  {ops: "send:10,send:3000", server: "-B 1000", recvSize: 1000, status: []rdma.Status{ok, rdma.RemOpErr}},
		"window invalidated": {ops: "write_mw:20,send_inv:8,write_mw:20", status: []rdma.Status{ok, ok, rdma.RemAccessErr}},
		"more after error":   {ops: "write:10@bad,send:5,read:7", batch: true, status: []rdma.Status{rdma.RemAccessErr, rdma.WRFlushErr, rdma.WRFlushErr}},
	} {
		c.typ = rdma.RC
		t.Run(name, func(t *testing.T) { c.run(t) })
	}
	t.Run("datagram wrong Q_Key", func(t *testing.T) { xCase{typ: rdma.UD, ops: "send:10@bad,send:11"}.run(t) })
}

// TestRNR: a peer without receives is waited for, as often as rnr_retry says.
func TestRNR(t *testing.T) {
	t.Run("late receives", func(t *testing.T) {
		xCase{typ: rdma.RC, ops: "send:10,send:10", server: "-R 100 -Z 12", delay: 100 * time.Millisecond}.run(t)
	})
	t.Run("no receives", func(t *testing.T) {
		xCase{
			typ: rdma.RC, ops: "send:10", server: "-R 1500 -Z 20", client: "-y 3", rnrRetry: 3, timer: 20, delay: 1500 * time.Millisecond,
			status: []rdma.Status{rdma.RNRRetryExcErr},
		}.run(t)
	})
}

// TestLossyWire: whatever the wire does, the data is right in the end.
func TestLossyWire(t *testing.T) {
	for _, p := range []float64{0.001, 0.01, 0.05} {
		d := Damage{Drop: p, Duplicate: p, Reorder: p, Corrupt: p}
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			xCase{typ: rdma.RC, ops: "8*send:8000,4*write:30000,4*read:20000,4*faa,2*send_imm:4000", rd: 4, opts: "-q 4", batch: true, damage: &d, long: 9 * time.Second}.run(t)
		})
	}
}

// TestMisfits: a peer that was told a wrong number does not answer to the point,
// and the requester gives up after its retries. (A wrong PSN of a server's does
// no harm: the server sends no requests.)
func TestMisfits(t *testing.T) {
	c := xCase{typ: rdma.RC, ops: "send:10", client: "-T 14 -r 2", status: []rdma.Status{rdma.RetryExcErr}}
	t.Run("QPN", func(t *testing.T) {
		c := c
		c.misfit = func(i *xInfo) { i.QPN += 100 }
		c.run(t)
	})
	t.Run("PSN", func(t *testing.T) {
		c := c
		c.misfit = func(i *xInfo) { i.PSN += 1000 }
		c.run(t, "client")
	})
}

// TestSRQ: rxe's messages land in a shared receive queue.
func TestSRQ(t *testing.T) {
	xCase{typ: rdma.RC, ops: xSends + ",write_imm:9", srq: true}.run(t, "server")
}

// TestContention: two programs in the guest add to one counter of ours, while
// each has several atomics under way.
func TestContention(t *testing.T) {
	r := getRig(t)
	const each = 60
	dev, _ := r.device(t, rdma.Options{}, nil, 0)
	mem := xServerMemory()
	c := xCase{typ: rdma.RC, mtu: 1024, rd: 4}
	var sides []*xSide
	var waits []func() string
	for i := range 2 {
		port := xPort + i
		l, err := r.lab.Listen(strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		wait := r.g.Go(fmt.Sprintf("verbx -c %s -P %d -o %d*faa -d -q 4", BridgeAddr, port, each), 20*time.Second)
		waits = append(waits, func() string { a, _ := wait(); return a.Output })
		s := newXSide(t, &c, dev, mem, true)
		s.conn = r.accept(t, l)
		sides = append(sides, s)
	}
	for _, s := range sides {
		s.exchange()
		s.connect(true)
	}
	for _, s := range sides {
		s.barrier('r')
		s.exchange()
	}
	for i, s := range sides {
		if _, err := io.ReadFull(s.conn, make([]byte, 1)); err != nil {
			t.Errorf("program %d: %v", i, err)
		}
		_, _ = s.conn.Write([]byte{'D'})
		if out := waits[i](); strings.Count(out, "status=0(success)") != each {
			t.Errorf("program %d said\n%s", i, out)
		}
	}
	if got, want := binary.LittleEndian.Uint64(mem), uint64(42+2*each*0x100); got != want {
		t.Errorf("the counter is %#x, want %#x", got, want)
	}
}
