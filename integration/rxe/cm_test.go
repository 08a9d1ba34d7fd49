package rxe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/cm"
)

// pingSize is the size of rping's data (-S).
const pingSize = 64

// ping is one side of rping: a queue pair, a buffer for data and two small ones
// for messages, each of which names a buffer: address, rkey, size.
type ping struct {
	t    *testing.T
	e    *cm.Endpoint
	pd   *rdma.PD
	cq   *rdma.CQ
	mr   *rdma.MR
	buf  []byte
	qp   *rdma.QP
	recv [][]byte // messages that came
}

const (
	pingRecvOff = 1024 // messages that come
	pingSendOff = 2048 // messages that go
	pingMsgLen  = 16
)

func newPing(t *testing.T, r *rig) *ping {
	t.Helper()
	dev, _ := r.device(t, rdma.Options{}, nil, 0)
	p := &ping{t: t, buf: make([]byte, 4096)}
	p.e = must[*cm.Endpoint](t)(cm.Open(dev, cm.Options{}))
	p.pd = must[*rdma.PD](t)(dev.AllocPD())
	p.cq = must[*rdma.CQ](t)(dev.CreateCQ(64, nil))
	p.mr = must[*rdma.MR](t)(p.pd.RegMR(p.buf, rdma.LocalWrite|rdma.RemoteRead|rdma.RemoteWrite))
	p.qp = must[*rdma.QP](t)(p.pd.CreateQP(rdma.QPInit{Type: rdma.RC, SendCQ: p.cq, RecvCQ: p.cq, Cap: rdma.QPCap{MaxSendWR: 16, MaxRecvWR: 16, MaxSendSGE: 1, MaxRecvSGE: 1}}))
	t.Cleanup(func() {
		if err := errors.Join(p.qp.Destroy(), p.mr.Dereg(), p.cq.Destroy(), p.pd.Dealloc(), p.e.Close()); err != nil {
			t.Error(err)
		}
	})
	p.prepare()
	return p
}

func (p *ping) prepare() {
	if err := cm.Prepare(p.qp, rdma.RemoteRead|rdma.RemoteWrite); err != nil {
		p.t.Fatal(err)
	}
	for range 4 {
		p.postRecv()
	}
}

func (p *ping) postRecv() {
	if _, err := p.qp.PostRecv(rdma.RecvWR{SGList: []rdma.SGE{p.mr.SGE(pingRecvOff, pingMsgLen)}}); err != nil {
		p.t.Fatal(err)
	}
}

// do posts a work request and waits for its completion; messages that come
// meanwhile are kept.
func (p *ping) do(w rdma.SendWR) {
	p.t.Helper()
	w.ID, w.Flags = 1, rdma.Signaled
	if _, err := p.qp.PostSend(w); err != nil {
		p.t.Fatal(err)
	}
	for !p.poll() {
	}
}

// poll takes a completion; it reports whether that was a send's.
func (p *ping) poll() bool {
	p.t.Helper()
	var wc [1]rdma.WC
	for end := time.Now().Add(10 * time.Second); ; {
		n, err := p.cq.Poll(wc[:])
		if err == nil && n == 1 {
			err = wc[0].Err()
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 1 {
			break
		}
		if time.Now().After(end) {
			p.t.Fatal("no completion")
		}
		time.Sleep(50 * time.Microsecond)
	}
	if wc[0].Opcode != rdma.WCRecv {
		return true
	}
	p.recv = append(p.recv, bytes.Clone(p.buf[pingRecvOff:][:pingMsgLen]))
	p.postRecv()
	return false
}

func (p *ping) message() (addr uint64, rkey uint32) {
	p.t.Helper()
	for len(p.recv) == 0 {
		p.poll()
	}
	m := p.recv[0]
	p.recv = p.recv[1:]
	return binary.BigEndian.Uint64(m), binary.BigEndian.Uint32(m[8:])
}

// send tells the peer of the data buffer.
func (p *ping) send() {
	m := p.buf[pingSendOff:][:pingMsgLen]
	binary.BigEndian.PutUint64(m, p.mr.Addr())
	binary.BigEndian.PutUint32(m[8:], p.mr.RKey())
	binary.BigEndian.PutUint32(m[12:], pingSize)
	p.do(rdma.SendWR{Opcode: rdma.WRSend, SGList: []rdma.SGE{p.mr.SGE(pingSendOff, pingMsgLen)}})
}

// fill makes the data of round i as rping does.
func (p *ping) fill(i int) []byte {
	d := p.buf[:pingSize]
	n := copy(d, fmt.Sprintf("rdma-ping-%d: ", i))
	c := byte(65 + i)
	for ; n < pingSize; n++ {
		d[n] = c
		if c++; c > 122 {
			c = 65
		}
	}
	d[pingSize-1] = 0
	return bytes.Clone(d)
}

// TestRPing: real rping on either side of a connection made by the connection
// manager, and the end of it.
func TestRPing(t *testing.T) {
	const rounds = 3
	for _, v6 := range []bool{false, true} {
		guest, us := "10.9.0.1", HostIP.String()
		if v6 {
			guest, us = "fd09::1", HostIP6.String()
		}
		t.Run("client "+guest, func(t *testing.T) {
			r := getRig(t)
			wait := r.g.Go(fmt.Sprintf("rping -s -a %s -C %d -v -S %d", guest, rounds, pingSize), 20*time.Second)
			p := newPing(t, r)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			link := p.dial(ctx, netip.AddrPortFrom(netip.MustParseAddr(guest), 7174))
			for i := range rounds {
				want := p.fill(i)
				p.send() // the server READs it
				p.message()
				clear(p.buf[:pingSize])
				p.send() // the server WRITEs it back
				p.message()
				if !bytes.Equal(p.buf[:pingSize], want) {
					t.Errorf("round %d: %q came back", i, p.buf[:pingSize])
				}
			}
			if err := link.Disconnect(ctx); err != nil {
				t.Error(err)
			}
			out, err := wait()
			if err != nil || out.Status != 0 && !strings.Contains(out.Output, "DISCONNECT EVENT") || strings.Count(out.Output, "server ping data: rdma-ping-") != rounds {
				t.Errorf("rping: %v, %d\n%s", err, out.Status, out.Output)
			}
		})
		t.Run("server "+us, func(t *testing.T) {
			r := getRig(t)
			p := newPing(t, r)
			l, err := p.e.ListenPort(7174)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			wait := r.g.Go(fmt.Sprintf("rping -c -a %s -C %d -v -V -S %d", us, rounds, pingSize), 20*time.Second)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			in, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			link, err := in.Accept(ctx, p.qp, cm.ConnOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for range rounds {
				addr, key := p.message()
				p.do(rdma.SendWR{Opcode: rdma.WRRead, SGList: []rdma.SGE{p.mr.SGE(0, pingSize)}, RemoteAddr: addr, RKey: key})
				p.send() // go on
				addr, key = p.message()
				p.do(rdma.SendWR{Opcode: rdma.WRWrite, SGList: []rdma.SGE{p.mr.SGE(0, pingSize)}, RemoteAddr: addr, RKey: key})
				p.send()
			}
			select {
			case <-link.Done():
			case <-ctx.Done():
				t.Error("rping does not disconnect")
			}
			out, err := wait()
			if err != nil || out.Status != 0 || strings.Count(out.Output, "ping data: rdma-ping-") != rounds {
				t.Errorf("rping: %v, %d\n%s", err, out.Status, out.Output)
			}
		})
	}
}

// dial tries until the program in the guest listens.
func (p *ping) dial(ctx context.Context, to netip.AddrPort) *cm.Link {
	p.t.Helper()
	for {
		link, err := p.e.Dial(ctx, p.qp, to, cm.ConnOptions{})
		var no *cm.RejectedError
		switch {
		case err == nil:
			return link
		case errors.As(err, &no) && no.Reason == cm.ReasonInvalidServiceID:
			if err := p.qp.Modify(&rdma.QPAttr{State: rdma.Reset}, rdma.AttrState); err != nil {
				p.t.Fatal(err)
			}
			p.prepare()
			time.Sleep(20 * time.Millisecond)
		default:
			p.t.Fatal(err)
		}
	}
}
