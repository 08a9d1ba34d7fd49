package rxe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/cm"
	"taproom/rdma/roce"
)

// datagrams is a UD queue pair of rdma_cm's kind on our side.
type datagrams struct {
	t   *testing.T
	dev *rdma.Device
	e   *cm.Endpoint
	pd  *rdma.PD
	cq  *rdma.CQ
	mr  *rdma.MR
	buf []byte
	qp  *rdma.QP
}

const (
	dgramLen   = 64                     // of the programs' messages (-S)
	dgramSlot  = roce.GRHLen + dgramLen // of a receive
	dgramRecvs = 16
)

func newDatagrams(t *testing.T, r *rig) *datagrams {
	t.Helper()
	d := &datagrams{t: t, buf: make([]byte, 4096)}
	d.dev, _ = r.device(t, rdma.Options{}, nil, 0)
	d.e = must[*cm.Endpoint](t)(cm.Open(d.dev, cm.Options{}))
	d.pd = must[*rdma.PD](t)(d.dev.AllocPD())
	d.cq = must[*rdma.CQ](t)(d.dev.CreateCQ(64, nil))
	d.mr = must[*rdma.MR](t)(d.pd.RegMR(d.buf, rdma.LocalWrite))
	d.qp = must[*rdma.QP](t)(d.pd.CreateQP(rdma.QPInit{Type: rdma.UD, SendCQ: d.cq, RecvCQ: d.cq, Cap: rdma.QPCap{MaxSendWR: 16, MaxRecvWR: dgramRecvs, MaxSendSGE: 1, MaxRecvSGE: 1}}))
	t.Cleanup(func() { _, _, _, _, _ = d.qp.Destroy(), d.mr.Dereg(), d.cq.Destroy(), d.pd.Dealloc(), d.e.Close() })
	if err := d.qp.Activate(cm.UDPQKey, 0); err != nil {
		t.Fatal(err)
	}
	for i := range dgramRecvs {
		if _, err := d.qp.PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{d.mr.SGE(1024+i*dgramSlot, dgramSlot)}}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// send sends a datagram with our queue pair's number as immediate data, as
// udaddy and mckey do.
func (d *datagrams) send(ah *rdma.AH, qpn uint32) {
	d.t.Helper()
	_, err := d.qp.PostSend(rdma.SendWR{
		Opcode: rdma.WRSendImm, Imm: d.qp.Num(), SGList: []rdma.SGE{d.mr.SGE(0, dgramLen)}, AH: ah, RemoteQPN: qpn, RemoteQKey: cm.UDPQKey,
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// recv waits for n datagrams.
func (d *datagrams) recv(n int) (got []rdma.WC) {
	d.t.Helper()
	var wcs [8]rdma.WC
	for end := time.Now().Add(10 * time.Second); len(got) < n && time.Now().Before(end); {
		k, err := d.cq.Poll(wcs[:])
		if err != nil {
			d.t.Fatal(err)
		}
		for _, wc := range wcs[:k] {
			if err := wc.Err(); err != nil {
				d.t.Error(err)
			}
			if wc.Opcode == rdma.WCRecv {
				got = append(got, wc)
			}
		}
		if k == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if len(got) < n {
		d.t.Errorf("%d of %d datagrams came", len(got), n)
	}
	return got
}

// answerTo makes the address handle for the sender of a datagram.
func (d *datagrams) answerTo(wc *rdma.WC) *rdma.AH {
	d.t.Helper()
	a := must[rdma.AHAttr](d.t)(d.dev.AHFromWC(wc, d.buf[1024+int(wc.ID)*dgramSlot:][:roce.GRHLen]))
	return d.handle(a)
}

func (d *datagrams) handle(a rdma.AHAttr) *rdma.AH {
	ah := must[*rdma.AH](d.t)(d.pd.CreateAH(a))
	d.t.Cleanup(func() { _ = ah.Destroy() })
	return ah
}

// TestUDaddy: udaddy on either side of a datagram service that SIDR resolves.
func TestUDaddy(t *testing.T) {
	const n, port = 4, 7174
	t.Run("client", func(t *testing.T) {
		r := getRig(t)
		wait := r.g.Go(fmt.Sprintf("udaddy -b 10.9.0.1 -C %d -S %d", n, dgramLen), 15*time.Second)
		d := newDatagrams(t, r)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		to := netip.MustParseAddr("10.9.0.1")
		var rep *cm.SIDRRep
		for { // it may not listen yet
			var err error
			if rep, err = d.e.LookupUDP(ctx, netip.AddrPortFrom(to, port), nil); err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		gid := must[int](t)(d.dev.FindGID(rdma.GIDOf(HostIP)))
		ah := d.handle(rdma.AHAttr{DGID: rdma.GIDOf(to), SGIDIndex: gid})
		for range n {
			d.send(ah, rep.QPN)
		}
		d.recv(n)
		if out, err := wait(); err != nil || out.Status != 0 || !strings.Contains(out.Output, "data transfers complete") {
			t.Errorf("udaddy: %v, %d\n%s", err, out.Status, out.Output)
		}
	})
	t.Run("server", func(t *testing.T) {
		r := getRig(t)
		d := newDatagrams(t, r)
		if _, err := d.e.ServeUDP(port, d.qp, cm.UDPQKey); err != nil {
			t.Fatal(err)
		}
		wait := r.g.Go(fmt.Sprintf("udaddy -s %v -C %d -S %d", HostIP, n, dgramLen), 15*time.Second)
		got := d.recv(n)
		if len(got) == n {
			ah := d.answerTo(&got[0])
			for range n {
				d.send(ah, got[0].Imm)
			}
		}
		if out, err := wait(); err != nil || out.Status != 0 || !strings.Contains(out.Output, "data transfers complete") {
			t.Errorf("udaddy: %v, %d\n%s", err, out.Status, out.Output)
		}
	})
}

// TestMulticast: mckey sends to a group of ours, and receives from us.
func TestMulticast(t *testing.T) {
	const n = 5
	group := rdma.GIDOf(netip.MustParseAddr("239.1.1.1"))
	t.Run("receive", func(t *testing.T) {
		r := getRig(t)
		d := newDatagrams(t, r)
		if err := d.qp.AttachMcast(group); err != nil {
			t.Fatal(err)
		}
		out := r.g.MustRun(t, fmt.Sprintf("mckey -m 239.1.1.1 -b 10.9.0.1 -s -C %d -S %d", n, dgramLen), 15*time.Second)
		for _, wc := range d.recv(n) {
			ip := roce.GRHIP(d.buf[1024+int(wc.ID)*dgramSlot:][:roce.GRHLen])
			if dst := binary.BigEndian.Uint32(ip[16:]); dst != 0xef010101 || wc.ByteLen != dgramSlot {
				t.Errorf("a datagram to %#x of %d bytes\n%s", dst, wc.ByteLen, out)
			}
		}
		if err := d.qp.DetachMcast(group); err != nil {
			t.Error(err)
		}
	})
	t.Run("send", func(t *testing.T) {
		r := getRig(t)
		d := newDatagrams(t, r)
		wait := r.g.Go(fmt.Sprintf("mckey -m 239.1.1.1 -b 10.9.0.1 -C %d -S %d", n, dgramLen), 15*time.Second)
		gid := must[int](t)(d.dev.FindGID(rdma.GIDOf(HostIP)))
		ah := d.handle(rdma.AHAttr{DGID: group, SGIDIndex: gid})
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			out, err := wait()
			if err != nil || out.Status != 0 || !strings.Contains(out.Output, "data transfers complete") {
				t.Errorf("mckey: %v, %d\n%s", err, out.Status, out.Output)
			}
		}()
		for { // it takes a while to join, and what comes before is lost
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				d.send(ah, 0xffffff)
			}
		}
	})
}
