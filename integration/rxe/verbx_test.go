package rxe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/roce"
)

// xSide is our side of a scenario.
type xSide struct {
	t    *testing.T
	c    *xCase
	dev  *rdma.Device
	pd   *rdma.PD
	cq   *rdma.CQ
	mr   *rdma.MR
	mw   *rdma.MW
	qp   *rdma.QP
	mem  []byte
	me   xInfo
	peer xInfo
	srq  *rdma.SRQ
	ah   *rdma.AH
	conn net.Conn
	got  []rdma.WC
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newXSide(t *testing.T, c *xCase, dev *rdma.Device, mem []byte, server bool) *xSide {
	t.Helper()
	s := &xSide{t: t, c: c, dev: dev, mem: mem}
	s.pd = must[*rdma.PD](t)(dev.AllocPD())
	s.cq = must[*rdma.CQ](t)(dev.CreateCQ(512, nil))
	access := rdma.LocalWrite | rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic
	if server && c.access != 0 {
		access = c.access
	}
	s.mr = must[*rdma.MR](t)(s.pd.RegMR(mem, access|rdma.BindMW))
	if c.srq {
		s.srq = must[*rdma.SRQ](t)(s.pd.CreateSRQ(rdma.SRQInit{MaxWR: xRecvs, MaxSGE: 1}))
	}
	s.qp = must[*rdma.QP](t)(s.pd.CreateQP(rdma.QPInit{Type: c.typ, SendCQ: s.cq, RecvCQ: s.cq, SRQ: s.srq, Cap: rdma.QPCap{MaxSendWR: 256, MaxRecvWR: 256, MaxSendSGE: 2, MaxRecvSGE: 2, MaxInline: 64}}))
	t.Cleanup(func() {
		_ = s.qp.Destroy()
		if s.srq != nil {
			_ = s.srq.Destroy()
		}
		if s.mw != nil {
			_ = s.mw.Dealloc()
		}
		_, _, _ = s.mr.Dereg(), s.cq.Destroy(), s.pd.Dealloc()
	})
	gid := s.gid()
	s.me = xInfo{QPN: s.qp.Num(), PSN: xPSN, RKey: s.mr.RKey(), Addr: s.mr.Addr(), Len: xMemory, GID: must[rdma.GID](t)(dev.QueryGID(gid))}
	if c.misfit != nil {
		c.misfit(&s.me)
	}
	return s
}

// gid returns the index of our address.
func (s *xSide) gid() int {
	a := HostIP
	if s.c.v6 {
		a = HostIP6
	}
	return must[int](s.t)(s.dev.FindGID(rdma.GIDOf(a)))
}

// exchange tells the other side what it must know, and back.
func (s *xSide) exchange() {
	s.t.Helper()
	if err := binary.Write(s.conn, binary.LittleEndian, &s.me); err != nil {
		s.t.Fatal(err)
	}
	if err := binary.Read(s.conn, binary.LittleEndian, &s.peer); err != nil {
		s.t.Fatal(err)
	}
}

func (s *xSide) barrier(ch byte) {
	s.t.Helper()
	b := []byte{ch}
	if _, err := s.conn.Write(b); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(s.conn, b); err != nil || b[0] != ch {
		s.t.Fatalf("barrier %c: %q, %v", ch, b, err)
	}
}

// connect moves the queue pair to RTS.
func (s *xSide) connect(server bool) {
	s.t.Helper()
	c := s.c
	ah := rdma.AHAttr{SGIDIndex: s.gid(), DGID: s.peer.GID}
	var err error
	if c.typ == rdma.UD {
		err = s.qp.Activate(xQKey, xPSN)
		s.ah = must[*rdma.AH](s.t)(s.pd.CreateAH(ah))
		s.t.Cleanup(func() { _ = s.ah.Destroy() })
	} else {
		mtu := must[roce.MTU](s.t)(roce.MTUOf(c.mtu))
		a := rdma.QPAttr{PathMTU: mtu, SQPSN: xPSN, AH: ah, Timeout: 17, MaxRdAtomic: max(c.rd, 1), MinRNRTimer: 12, RNRRetry: 7}
		if c.damage != nil || c.misfit != nil {
			a.Timeout = 14
		}
		if c.rnrRetry != 0 {
			a.RNRRetry = c.rnrRetry
		}
		if c.timer != 0 {
			a.MinRNRTimer = c.timer
		}
		if server && c.access != 0 {
			a.Access = c.access & (rdma.RemoteWrite | rdma.RemoteRead | rdma.RemoteAtomic)
			if a.Access == 0 {
				a.Access = rdma.LocalWrite // no remote right, but not the default
			}
		}
		err = s.qp.Connect(rdma.Remote{QPN: s.peer.QPN, PSN: roce.PSN(s.peer.PSN), GID: s.peer.GID}, a)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// poll collects completions until there are n, or time is over.
func (s *xSide) poll(n int) {
	s.t.Helper()
	end := time.Now().Add(max(s.c.long, 8*time.Second))
	var wcs [16]rdma.WC
	for len(s.got) < n && time.Now().Before(end) {
		k, err := s.cq.Poll(wcs[:])
		if err != nil {
			s.t.Fatal(err)
		}
		s.got = append(s.got, wcs[:k]...)
		if k == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	if len(s.got) < n {
		s.t.Errorf("%d of %d completions", len(s.got), n)
	}
}

// request makes operation k as a work request.
func (s *xSide) request(k int, op xOp) rdma.SendWR {
	w := rdma.SendWR{ID: 0x100 + uint64(k), Flags: rdma.Signaled, RemoteAddr: s.peer.Addr + 64, RKey: s.peer.RKey}
	if op.n > 0 {
		w.SGList = []rdma.SGE{s.mr.SGE(xLocal(k), op.n)}
	}
	switch op.kind {
	case "send":
		w.Opcode = rdma.WRSend
	case "send_sol":
		w.Opcode, w.Flags = rdma.WRSend, w.Flags|rdma.Solicited
	case "send_imm":
		w.Opcode, w.Imm = rdma.WRSendImm, 0xcafe0000+uint32(k)
	case "send_inv":
		w.Opcode, w.InvKey = rdma.WRSendInv, s.peer.MWKey
	case "write":
		w.Opcode = rdma.WRWrite
	case "write_imm":
		w.Opcode, w.Imm = rdma.WRWriteImm, 0xbeef0000+uint32(k)
	case "write_mw":
		w.Opcode, w.RKey = rdma.WRWrite, s.peer.MWKey
	case "read":
		w.Opcode = rdma.WRRead
	case "cas":
		w.Opcode, w.RemoteAddr, w.CompareAdd, w.Swap = rdma.WRCompareSwap, s.peer.Addr, 42, 0x1122334455667788
	case "faa":
		w.Opcode, w.RemoteAddr, w.CompareAdd = rdma.WRFetchAdd, s.peer.Addr, 0x100
	}
	switch op.suffix {
	case "bad":
		w.RKey ^= 0x5500
	case "oob":
		w.RemoteAddr = s.peer.Addr + s.peer.Len - 8
	}
	if s.c.typ == rdma.UD {
		w.AH, w.RemoteQPN, w.RemoteQKey = s.ah, s.peer.QPN, xQKey
		if op.suffix == "bad" {
			w.RemoteQKey = 0x22222222
		}
	}
	return w
}

func (c *xCase) device(t *testing.T, r *rig, seed uint64) (*rdma.Device, *Wire) {
	t.Helper()
	if c.node != nil {
		return r.nodeDevice(t, c.node), nil
	}
	return r.device(t, rdma.Options{}, c.damage, seed)
}

// runClient is our engine against verbx as the server in the guest.
func (c *xCase) runClient(t *testing.T, r *rig) {
	dev, wire := c.device(t, r, 1)
	wait := r.g.Go(fmt.Sprintf("verbx -s -t %v -g %d -m %d -o %s %s %s", c.typ, c.guestGID(), c.mtu, c.ops, c.opts, c.server), 20*time.Second)
	s := newXSide(t, c, dev, xClientMemory(), false)
	s.conn = r.dial(t, xPort)
	s.exchange()
	s.connect(false)
	s.barrier('r')
	s.exchange()
	for k, op := range xOps(c.ops) {
		if _, err := s.qp.PostSend(s.request(k, op)); err != nil {
			t.Fatal(err)
		}
		if !c.batch {
			s.poll(k + 1)
		}
	}
	s.poll(len(xOps(c.ops)))
	s.barrier('D')
	out, err := wait()
	if err != nil {
		t.Fatal(err)
	}
	s.checkStatus()
	server, client := c.model()
	if !bytes.Equal(s.mem, client) {
		t.Errorf("our memory differs from the model at %d", firstDiff(s.mem, client))
	}
	if c.typ != rdma.UD && c.misfit == nil && !strings.Contains(out.Output, xServerSum(server)) {
		t.Errorf("rxe's memory is not\n%s, but\n%s", xServerSum(server), out.Output)
	}
	if wire != nil {
		t.Log(wire.Stats())
	}
	if t.Failed() {
		t.Logf("rxe said:\n%s", out.Output)
	}
}

// checkStatus compares our completions with what the case wants.
func (s *xSide) checkStatus() {
	s.t.Helper()
	for k, wc := range s.got {
		want := rdma.Success
		if s.c.status != nil {
			want = rdma.WRFlushErr
			if k < len(s.c.status) {
				want = s.c.status[k]
			}
		}
		if wc.Status != want {
			s.t.Errorf("completion %d: %v, want %v (%v)", k, wc.Status, want, wc.Err())
		}
	}
}

func (c *xCase) guestGID() int {
	if c.v6 {
		return 2
	}
	return 1
}

func firstDiff(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// runServer is our engine as the server of verbx in the guest.
func (c *xCase) runServer(t *testing.T, r *rig) {
	dev, wire := c.device(t, r, 2)
	l, err := r.lab.Listen(strconv.Itoa(xPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	timeout := ""
	if c.damage != nil {
		timeout = "-T 14"
	}
	batch := ""
	if c.batch {
		batch = "-d"
	}
	wait := r.g.Go(fmt.Sprintf("verbx -c %s -t %v -g %d -m %d -o %s %s %s %s %s", BridgeAddr, c.typ, c.guestGID(), c.mtu, c.ops, c.opts, c.client, timeout, batch), 20*time.Second)
	s := newXSide(t, c, dev, xServerMemory(), true)
	s.conn = r.accept(t, l)
	s.exchange()
	s.connect(true)
	s.bindWindow()
	ready := func() { s.barrier('r'); s.exchange() }
	if c.delay > 0 {
		ready()
		time.Sleep(c.delay)
	}
	size := c.recvSize
	if size == 0 {
		size = xRecvSz
	}
	for i := range xRecvs {
		w := rdma.RecvWR{ID: uint64(i), SGList: []rdma.SGE{s.mr.SGE(xRecv(i, size), size)}}
		post := s.qp.PostRecv
		if s.srq != nil {
			post = s.srq.PostRecv
		}
		if _, err := post(w); err != nil && s.qp.State() != rdma.Err {
			t.Fatal(err)
		}
	}
	if c.delay == 0 {
		ready()
	}
	done := make([]byte, 1)
	_ = s.conn.SetReadDeadline(time.Now().Add(max(c.long, 15*time.Second)))
	if _, err := io.ReadFull(s.conn, done); err != nil {
		t.Errorf("verbx does not come to an end: %v", err)
	}
	_, _ = s.conn.Write([]byte{'D'})
	out, err := wait()
	if err != nil {
		t.Fatal(err)
	}
	c.checkOutput(t, out.Output)
	server, client := c.model()
	if c.typ == rdma.UD {
		s.checkDatagrams()
	} else if !bytes.Equal(s.mem, server) {
		t.Errorf("our memory differs from the model at %d", firstDiff(s.mem, server))
	}
	if !strings.Contains(out.Output, xClientSum(client)) {
		t.Errorf("rxe's memory is not\n%s, but\n%s", xClientSum(client), out.Output)
	}
	if wire != nil {
		t.Log(wire.Stats())
	}
	if t.Failed() {
		t.Logf("rxe said:\n%s", out.Output)
	}
}

// bindWindow binds a memory window over the region, if the case uses one.
func (s *xSide) bindWindow() {
	if !strings.Contains(s.c.ops, "send_inv") {
		return
	}
	s.mw = must[*rdma.MW](s.t)(s.pd.AllocMW(rdma.MWType2))
	key := rdma.IncRKey(s.mw.RKey())
	_, err := s.qp.PostSend(rdma.SendWR{
		ID: 0xb1, Opcode: rdma.WRBindMW, Flags: rdma.Signaled, MW: s.mw, NewRKey: key,
		Bind: rdma.BindInfo{MR: s.mr, Addr: s.mr.Addr(), Length: xMemory, Access: rdma.RemoteWrite | rdma.RemoteRead},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.poll(1)
	if s.got[0].Status != rdma.Success {
		s.t.Fatal(s.got[0].Err())
	}
	s.got, s.me.MWKey = nil, key
}

// checkOutput compares the completions verbx printed with what the case wants.
func (c *xCase) checkOutput(t *testing.T, out string) {
	t.Helper()
	k := 0
	for line := range strings.Lines(out) {
		_, rest, ok := strings.Cut(line, " status=")
		if !ok {
			continue
		}
		num, _, _ := strings.Cut(rest, "(")
		got, _ := strconv.Atoi(num)
		want := rdma.Success
		if c.status != nil {
			want = rdma.WRFlushErr
			if k < len(c.status) {
				want = c.status[k]
			}
		}
		if rdma.Status(got) != want {
			t.Errorf("rxe's completion %d: %v, want %v", k, rdma.Status(got), want)
		}
		k++
	}
	if n := len(xOps(c.ops)); k != n {
		t.Errorf("rxe printed %d completions, want %d", k, n)
	}
}

// checkDatagrams looks for each datagram in its receive buffer.
func (s *xSide) checkDatagrams() {
	s.t.Helper()
	client := xClientMemory()
	recv := 0
	for k, op := range xOps(s.c.ops) {
		if op.suffix == "bad" {
			continue
		}
		got := s.mem[xRecv(recv, xRecvSz)+roce.GRHLen:][:op.n]
		if !bytes.Equal(got, client[xLocal(k):][:op.n]) {
			s.t.Errorf("datagram %d differs", k)
		}
		recv++
	}
}

// run runs the case with our side as client, server or both.
func (c xCase) run(t *testing.T, roles ...string) {
	r := getRig(t)
	if c.mtu == 0 {
		c.mtu = 1024
	}
	for _, role := range []string{"client", "server"} {
		if len(roles) > 0 && !slices.Contains(roles, role) {
			continue
		}
		t.Run(role, func(t *testing.T) {
			if role == "client" {
				c.runClient(t, r)
			} else {
				c.runServer(t, r)
			}
		})
	}
}
