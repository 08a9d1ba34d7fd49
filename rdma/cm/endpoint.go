package cm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"taproom/rdma"
	"taproom/rdma/roce"
)

// Endpoint is a manager on a device's QP 1. A device can have one.
type Endpoint struct {
	*Manager
	dev *rdma.Device
	pd  *rdma.PD
	cq  *rdma.CQ
	ch  *rdma.CompChannel
	qp  *rdma.QP
	mr  *rdma.MR
	buf []byte

	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex // guards what follows
	ahs  map[Path]*rdma.AH
	port uint16 // the last one given to a Dial
}

const (
	recvSlots = 128                  // datagrams that may wait to be looked at
	slotLen   = roce.GRHLen + MADLen //
	sendSlots = 128
	maxAHs    = 256 // then all are made anew
)

// Open takes QP 1 of a device. Options.GUID is the device's if zero.
func Open(dev *rdma.Device, o Options) (e *Endpoint, err error) {
	if o.GUID == 0 {
		g := dev.GUID()
		o.GUID = u64(g[:], 0)
	}
	e = &Endpoint{dev: dev, ahs: map[Path]*rdma.AH{}, done: make(chan struct{}), buf: make([]byte, recvSlots*slotLen)}
	e.Manager = NewManager(e, o)
	e.ch = rdma.NewCompChannel(nil)
	defer func() {
		if err != nil {
			e.release()
		}
	}()
	if e.pd, err = dev.AllocPD(); err != nil {
		return nil, err
	}
	if e.cq, err = dev.CreateCQ(recvSlots+sendSlots, e.ch); err != nil {
		return nil, err
	}
	if e.mr, err = e.pd.RegMR(e.buf, rdma.LocalWrite); err != nil {
		return nil, err
	}
	e.qp, err = e.pd.CreateQP(rdma.QPInit{
		Type: rdma.GSI, SendCQ: e.cq, RecvCQ: e.cq, SigAll: true,
		Cap: rdma.QPCap{MaxSendWR: sendSlots, MaxRecvWR: recvSlots, MaxSendSGE: 1, MaxRecvSGE: 1, MaxInline: MADLen},
	})
	if err != nil {
		return nil, err
	}
	if err = e.qp.Activate(rdma.GSIQKey, 0); err != nil {
		return nil, err
	}
	for i := range recvSlots {
		if err = e.postRecv(uint64(i)); err != nil {
			return nil, err
		}
	}
	var ctx context.Context
	ctx, e.cancel = context.WithCancel(context.Background())
	go e.serve(ctx)
	return e, nil
}

func (e *Endpoint) postRecv(slot uint64) error {
	_, err := e.qp.PostRecv(rdma.RecvWR{ID: slot, SGList: []rdma.SGE{e.mr.SGE(int(slot)*slotLen, slotLen)}})
	return err
}

// Close forgets all connections and gives QP 1 back.
func (e *Endpoint) Close() error {
	e.Manager.Close()
	e.cancel()
	<-e.done
	return e.release()
}

func (e *Endpoint) release() (err error) {
	if e.qp != nil {
		err = errors.Join(err, e.qp.Destroy())
	}
	for _, ah := range e.ahs {
		err = errors.Join(err, ah.Destroy())
	}
	if e.mr != nil {
		err = errors.Join(err, e.mr.Dereg())
	}
	if e.cq != nil {
		err = errors.Join(err, e.cq.Destroy())
	}
	if e.pd != nil {
		err = errors.Join(err, e.pd.Dealloc())
	}
	return err
}

// serve hands datagrams that arrive to the manager.
func (e *Endpoint) serve(ctx context.Context) {
	defer close(e.done)
	var wcs [32]rdma.WC
	for {
		_ = e.cq.ReqNotify(false)
		for {
			n, err := e.cq.Poll(wcs[:])
			if n == 0 || err != nil {
				break
			}
			for i := range wcs[:n] {
				if wcs[i].Opcode == rdma.WCRecv && wcs[i].Status == rdma.Success {
					e.arrived(&wcs[i])
				}
			}
		}
		if _, err := e.ch.Get(ctx); err != nil {
			return
		}
	}
}

func (e *Endpoint) arrived(wc *rdma.WC) {
	slot := e.buf[wc.ID*slotLen:][:slotLen]
	if wc.ByteLen == slotLen {
		if a, err := e.dev.AHFromWC(wc, slot[:roce.GRHLen]); err == nil {
			local, err := e.dev.QueryGID(a.SGIDIndex)
			if err == nil {
				b := append(MAD(nil), slot[roce.GRHLen:]...)
				e.Receive(Path{local.Addr(), a.DGID.Addr()}, b)
			}
		}
	}
	_ = e.postRecv(wc.ID)
}

// SendMAD implements [Transport].
func (e *Endpoint) SendMAD(p Path, b MAD) error {
	ah, err := e.ah(p)
	if err != nil {
		return err
	}
	_, err = e.qp.PostSend(rdma.SendWR{Opcode: rdma.WRSend, Flags: rdma.Inline, Inline: b, AH: ah, RemoteQPN: 1, RemoteQKey: rdma.GSIQKey})
	return err
}

func (e *Endpoint) ah(p Path) (*rdma.AH, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ah := e.ahs[p]; ah != nil {
		return ah, nil
	}
	index, err := e.dev.FindGID(rdma.GIDOf(p.Local))
	if err != nil {
		return nil, fmt.Errorf("cm: %v is not an address of %s: %w", p.Local, e.dev.Name(), err)
	}
	ah, err := e.pd.CreateAH(rdma.AHAttr{DGID: rdma.GIDOf(p.Remote), SGIDIndex: index, HopLimit: roce.DefaultTTL})
	if err != nil {
		return nil, err
	}
	if len(e.ahs) >= maxAHs {
		for k, old := range e.ahs {
			_ = old.Destroy()
			delete(e.ahs, k)
		}
	}
	e.ahs[p] = ah
	return ah, nil
}
