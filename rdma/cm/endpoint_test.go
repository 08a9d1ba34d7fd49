package cm

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/memport"
)

// node is a device with an endpoint and what a queue pair takes.
type node struct {
	e  *Endpoint
	pd *rdma.PD
	cq *rdma.CQ
	mr *rdma.MR
	b  []byte
}

func newNode(t *testing.T, p rdma.Port) *node {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	dev, err := rdma.OpenDevice(p, rdma.Options{})
	check(err)
	n := &node{b: make([]byte, 4096)}
	n.e, err = Open(dev, Options{ResponseTimeout: 14})
	check(err)
	n.pd, err = dev.AllocPD()
	check(err)
	n.cq, err = dev.CreateCQ(64, nil)
	check(err)
	n.mr, err = n.pd.RegMR(n.b, rdma.LocalWrite|rdma.RemoteWrite)
	check(err)
	t.Cleanup(func() {
		if err := errors.Join(n.mr.Dereg(), n.cq.Destroy(), n.pd.Dealloc(), n.e.Close(), dev.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) qp(t *testing.T, typ rdma.QPType) *rdma.QP {
	t.Helper()
	q, err := n.pd.CreateQP(rdma.QPInit{Type: typ, SendCQ: n.cq, RecvCQ: n.cq, Cap: rdma.QPCap{MaxSendWR: 8, MaxRecvWR: 8, MaxSendSGE: 1, MaxRecvSGE: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Destroy() })
	return q
}

func pair(t *testing.T, c memport.Config) (a, b *node) {
	pa, pb := memport.NewPair(c)
	return newNode(t, pa), newNode(t, pb)
}

func TestDial(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, addr := range []string{"10.9.0.1", "fd09::1"} {
		a, b := pair(t, memport.Config{})
		l, err := a.e.ListenPort(7174)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan *Link, 1)
		qa, qb := a.qp(t, rdma.RC), b.qp(t, rdma.RC)
		go func() {
			in, err := l.Accept(ctx)
			if err != nil || !bytes.HasPrefix(in.Private, []byte("hello")) {
				t.Errorf("%+v, %v", in, err)
				return
			}
			link, err := in.Accept(ctx, qa, ConnOptions{Private: []byte("welcome")})
			if err != nil {
				t.Error(err)
			}
			served <- link
		}()
		link, err := b.e.Dial(ctx, qb, netip.AddrPortFrom(netip.MustParseAddr(addr), 7174), ConnOptions{Private: []byte("hello")})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(link.Private, []byte("welcome")) || qb.State() != rdma.RTS || qa.State() != rdma.RTS {
			t.Errorf("%q, %v, %v", link.Private[:8], qa.State(), qb.State())
		}
		other := <-served
		copy(b.b, "ping")
		_, err = qb.PostSend(rdma.SendWR{Opcode: rdma.WRWrite, Flags: rdma.Signaled, SGList: []rdma.SGE{b.mr.SGE(0, 4)}, RemoteAddr: a.mr.Addr(), RKey: a.mr.RKey()})
		if err != nil {
			t.Fatal(err)
		}
		wc := make([]rdma.WC, 1)
		for n := 0; n == 0; {
			if n, err = b.cq.Poll(wc); err != nil {
				t.Fatal(err)
			}
		}
		if wc[0].Status != rdma.Success || string(a.b[:4]) != "ping" {
			t.Errorf("%v, %q", wc[0].Err(), a.b[:4])
		}
		if err := link.Disconnect(ctx); err != nil {
			t.Fatal(err)
		}
		<-other.Done()
		if qa.State() != rdma.Err || qb.State() != rdma.Err {
			t.Errorf("after the end: %v, %v", qa.State(), qb.State())
		}
		l.Close()
	}
}

func TestDialRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, b := pair(t, memport.Config{})
	var no *RejectedError
	if _, err := b.e.Dial(ctx, b.qp(t, rdma.RC), netip.MustParseAddrPort("10.9.0.1:1"), ConnOptions{}); !errors.As(err, &no) || no.Reason != ReasonInvalidServiceID {
		t.Errorf("nobody there: %v", err)
	}
	l, err := a.e.ListenPort(1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if in, err := l.Accept(ctx); err == nil {
			_ = in.Reject([]byte("busy"))
		}
	}()
	if _, err := b.e.Dial(ctx, b.qp(t, rdma.RC), netip.MustParseAddrPort("10.9.0.1:1"), ConnOptions{}); !errors.As(err, &no) || !bytes.HasPrefix(no.Private, []byte("busy")) {
		t.Errorf("refused: %v", err)
	}
}

func TestLookupUDP(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, b := pair(t, memport.Config{})
	q := a.qp(t, rdma.UD)
	if _, err := a.e.ServeUDP(7174, q, UDPQKey); err != nil {
		t.Fatal(err)
	}
	r, err := b.e.LookupUDP(ctx, netip.MustParseAddrPort("10.9.0.1:7174"), nil)
	if err != nil || r.QPN != q.Num() || r.QKey != UDPQKey {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := b.e.LookupUDP(ctx, netip.MustParseAddrPort("10.9.0.1:7175"), nil); err == nil {
		t.Error("a service was found where there is none")
	}
}
