package perftest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"taproom/rdma"
	"taproom/rdma/roce"
)

// Test describes a benchmark: what ib_{send,write,read,atomic}_{bw,lat} take as
// options. Both sides must be given the same. The zero value of a field is
// perftest's default.
type Test struct {
	Kind       Kind
	Latency    bool
	Type       rdma.QPType // RC if zero
	Sizes      []int       // bytes, in turn; {65536}, for latency {2}; atomics have 8
	Iterations int         // of each size and queue pair; 1000, SEND and WRITE bandwidth 5000
	QPs        int         // 1; latency tests have one
	Depth      int         // work requests under way per queue pair; 128, READ and atomics 16
	Moderation int         // bandwidth: one completion per this many; 100, at most Depth
	MTU        roce.MTU    // the port's
	GIDIndex   int         // -1: the device's default
	RdAtomic   int         // READs and atomics at once; what the device takes
	Inline     int         // bytes that are sent inline
	Timeout    uint8       // local ACK timeout code; 14
	Out        io.Writer   // headings and tables, as perftest prints them; nil: none
}

// Result is the outcome for one size. Latency tests have Latency, bandwidth
// tests Report.
type Result struct {
	Report  Report
	Latency Latency
}

// qkey of perftest's datagram queue pairs.
const qkey = 0x11111111

// maxRdAtomic is what perftest offers at most.
const maxRdAtomic = 128

func (t Test) withDefaults(d *rdma.Device) (Test, error) {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if t.Type == 0 {
		t.Type = rdma.RC
	}
	switch {
	case t.Kind == Atomic:
		t.Sizes = []int{roce.AtomicLen}
	case len(t.Sizes) == 0 && t.Latency:
		t.Sizes = []int{2}
	case len(t.Sizes) == 0:
		t.Sizes = []int{65536}
	}
	oneSided := t.Kind == Read || t.Kind == Atomic
	if t.Latency || oneSided {
		def(&t.Iterations, 1000)
	}
	def(&t.Iterations, 5000)
	def(&t.QPs, 1)
	if oneSided {
		def(&t.Depth, 16)
	}
	def(&t.Depth, 128)
	if t.Latency {
		t.Depth, t.QPs = 1, 1
	}
	t.Depth = min(t.Depth, t.Iterations)
	def(&t.Moderation, 100)
	t.Moderation = min(t.Moderation, t.Depth)
	if t.MTU == 0 {
		t.MTU = d.QueryPort().ActiveMTU
	}
	if t.GIDIndex < 0 {
		t.GIDIndex = d.DefaultGID()
	}
	def(&t.RdAtomic, min(maxRdAtomic, d.Limits().MaxRdAtomic))
	if t.Timeout == 0 {
		t.Timeout = 14
	}
	switch {
	case oneSided && t.Type != rdma.RC || t.Kind == Write && t.Type == rdma.UD || t.Type == rdma.GSI:
		return t, fmt.Errorf("perftest: no %v over %v", t.Kind, t.Type)
	case t.Iterations < 1 || t.QPs < 1 || t.QPs > 1024 || t.RdAtomic > maxRdAtomic:
		return t, errors.New("perftest: iterations, queue pairs and outstanding READs must be positive, at most 1024 pairs and 128 READs")
	}
	for _, n := range t.Sizes {
		if n < 1 || n > d.Limits().MaxMsgSize || t.Type == rdma.UD && n > t.MTU.Bytes() || t.Kind == Write && t.Latency && n < 1 {
			return t, fmt.Errorf("perftest: size %d", n)
		}
	}
	return t, nil
}

func (t *Test) maxSize() (n int) {
	for _, s := range t.Sizes {
		n = max(n, s)
	}
	return n
}

// bench is one side of a running test.
type bench struct {
	Test
	dev    *rdma.Device
	server bool
	pd     *rdma.PD
	cq     *rdma.CQ // sends
	rcq    *rdma.CQ // receives
	events *rdma.CompChannel
	mr     *rdma.MR
	buf    []byte
	qps    []*rdma.QP
	ahs    []*rdma.AH
	local  []Dest
	remote []Dest
	s      *Session
	wcs    [64]rdma.WC

	stride, recvLen int
}

// Client runs the test against a server, which may be ours or perftest's, at the
// other end of conn. conn's deadline bounds the talking, not the traffic.
func (t Test) Client(conn net.Conn, dev *rdma.Device) ([]Result, error) {
	return t.run(conn, dev, false)
}

// Server is the other side of Client. Of one-sided tests the result is what the
// client reported, if it did.
func (t Test) Server(conn net.Conn, dev *rdma.Device) ([]Result, error) {
	return t.run(conn, dev, true)
}

func (t Test) run(conn net.Conn, dev *rdma.Device, server bool) (results []Result, err error) {
	t, err = t.withDefaults(dev)
	if err != nil {
		return nil, err
	}
	b := &bench{Test: t, dev: dev, server: server, s: NewSession(conn, server), events: rdma.NewCompChannel(nil)}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(); err != nil {
		return nil, err
	}
	p := DefaultPreface
	p.MTU = t.MTU
	if _, err := b.s.Open(p); err != nil {
		return nil, err
	}
	if b.remote, err = b.s.Exchange(b.local); err != nil {
		return nil, err
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	if err := b.s.Sync(); err != nil {
		return nil, err
	}
	b.heading()
	if server && (t.Kind != Send && !(t.Kind == Write && t.Latency)) {
		r, err := b.s.Follow()
		if r == nil || err != nil {
			return nil, err
		}
		results = []Result{{Report: *r}}
		b.rows(results)
		return results, nil
	}
	if results, err = b.traffic(); err != nil {
		return results, err
	}
	if err := b.s.Close(); err != nil && !(t.Latency && t.Kind == Write) {
		return results, err // ib_write_lat hangs up without a word
	}
	return results, nil
}

// traffic runs all sizes, with the points between them.
func (b *bench) traffic() (results []Result, err error) {
	perSize := b.Kind == Send && !b.Latency
	for i, n := range b.Sizes {
		if i == 0 || perSize {
			for range Points {
				if err := b.s.Point(); err != nil {
					return results, err
				}
			}
		}
		var r Result
		if b.Latency {
			r.Latency, err = b.latency(n)
		} else if b.server {
			r.Report, err = b.receive(n)
		} else {
			r.Report, err = b.bandwidth(n)
		}
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	b.rows(results)
	if Reports(b.Kind, b.Latency) {
		_, err = b.s.Report(results[len(results)-1].Report)
	}
	return results, err
}

// cycle is the part of a buffer over which perftest moves its addresses.
const cycle = 4096

// open makes the objects. Each queue pair has two parts of the one region: the
// first is sent from, the second written to, read from, or received in.
func (b *bench) open() (err error) {
	b.recvLen = b.maxSize()
	if b.Type == rdma.UD {
		b.recvLen += roce.GRHLen
	}
	b.stride = 2 * ((max(b.recvLen, cycle) + cycle - 1) / cycle * cycle)
	b.buf = make([]byte, 2*b.stride*b.QPs)
	if b.pd, err = b.dev.AllocPD(); err != nil {
		return err
	}
	entries := (b.Depth + 2) * b.QPs
	if b.cq, err = b.dev.CreateCQ(entries, b.events); err != nil {
		return err
	}
	if b.rcq, err = b.dev.CreateCQ(max(b.recvDepth()*b.QPs, 1), b.events); err != nil {
		return err
	}
	if b.mr, err = b.pd.RegMR(b.buf, rdma.LocalWrite|rdma.RemoteWrite|rdma.RemoteRead|rdma.RemoteAtomic); err != nil {
		return err
	}
	for i := range b.QPs {
		qp, err := b.pd.CreateQP(rdma.QPInit{
			Type: b.Type, SendCQ: b.cq, RecvCQ: b.rcq,
			Cap: rdma.QPCap{MaxSendWR: b.Depth + 1, MaxRecvWR: max(b.recvDepth(), 1), MaxSendSGE: 1, MaxRecvSGE: 1, MaxInline: b.Inline},
		})
		if err != nil {
			return err
		}
		b.qps = append(b.qps, qp)
		gid, err := b.dev.QueryGID(b.GIDIndex)
		if err != nil {
			return err
		}
		d := Dest{OutReads: 1, QPN: qp.Num(), PSN: roce.PSN(rand.Uint32() & roce.PSNMask), VAddr: b.mr.Addr() + uint64(b.recvAt(i)), GID: gid}
		if b.Kind != Send {
			d.RKey = b.mr.RKey()
		}
		if b.Kind == Read || b.Kind == Atomic {
			d.OutReads = uint16(b.RdAtomic)
		}
		b.local = append(b.local, d)
	}
	return nil
}

func (b *bench) sendAt(i int) int { return 2 * i * b.stride }
func (b *bench) recvAt(i int) int { return (2*i + 1) * b.stride }

// recvDepth is how many receives each queue pair has posted.
func (b *bench) recvDepth() int {
	if b.Kind != Send {
		return 0
	}
	return min(512, max(b.Iterations, 2))
}

func (b *bench) close() (err error) {
	for _, ah := range b.ahs {
		err = errors.Join(err, ah.Destroy())
	}
	for _, q := range b.qps {
		err = errors.Join(err, q.Destroy())
	}
	if b.mr != nil {
		err = errors.Join(err, b.mr.Dereg())
	}
	for _, cq := range []*rdma.CQ{b.cq, b.rcq} {
		if cq != nil {
			err = errors.Join(err, cq.Destroy())
		}
	}
	if b.pd != nil {
		err = errors.Join(err, b.pd.Dealloc())
	}
	return err
}

// connect moves the queue pairs to RTS and posts the receives.
func (b *bench) connect() error {
	for i, q := range b.qps {
		l, r := b.local[i], b.remote[i]
		ah := rdma.AHAttr{SGIDIndex: b.GIDIndex, DGID: r.GID}
		if b.Type == rdma.UD {
			if err := q.Activate(qkey, l.PSN); err != nil {
				return err
			}
			h, err := b.pd.CreateAH(ah)
			if err != nil {
				return err
			}
			b.ahs = append(b.ahs, h)
		} else {
			err := q.Connect(rdma.Remote{QPN: r.QPN, PSN: r.PSN, GID: r.GID}, rdma.QPAttr{
				PathMTU: b.MTU, SQPSN: l.PSN, Timeout: b.Timeout, AH: ah,
				MaxRdAtomic: uint8(max(min(int(r.OutReads), b.RdAtomic), 1)), MaxDestRdAtomic: uint8(max(l.OutReads, 1)),
			})
			if err != nil {
				return err
			}
		}
		for range b.recvDepth() {
			if err := b.postRecv(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) postRecv(i int) error {
	_, err := b.qps[i].PostRecv(rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{b.mr.SGE(b.recvAt(i), b.recvLen)}})
	return err
}

func (b *bench) heading() {
	if b.Out == nil {
		return
	}
	h := Heading{
		Kind: b.Kind, Latency: b.Latency, Device: b.dev.Name(), QPs: b.QPs, Connection: b.Type.String(), Depth: b.Depth,
		Receiver: b.server && b.Kind == Send, Moderation: b.Moderation, MTU: b.MTU.Bytes(), GIDIndex: b.GIDIndex, Inline: b.Inline, Outstanding: b.RdAtomic,
	}
	if h.Receiver {
		h.Depth = b.recvDepth()
	}
	_, _ = h.WriteTo(b.Out)
	for i := range b.local {
		fmt.Fprint(b.Out, b.local[i].Line("local", b.Kind), b.remote[i].Line("remote", b.Kind))
	}
	fmt.Fprint(b.Out, rule)
}

func (b *bench) rows(rs []Result) {
	if b.Out == nil {
		return
	}
	head := BandwidthHeader
	if b.Latency {
		head = LatencyHeader
	}
	fmt.Fprint(b.Out, head)
	for _, r := range rs {
		if b.Latency {
			fmt.Fprint(b.Out, r.Latency.Row())
		} else {
			fmt.Fprint(b.Out, r.Report.Row())
		}
	}
	fmt.Fprint(b.Out, rule)
}

// stalled is how long traffic may stand still before the test fails. It is above
// what RC takes to give up.
const stalled = 20 * time.Second
