package cm

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"testing"
	"time"

	"taproom/rdma/internal/replay"
	"taproom/rdma/roce"
)

// world is two managers and a wire between them, in virtual time.
type world struct {
	now   time.Duration
	queue []event
	drop  func(to *Manager, b MAD) bool
	peers map[*Manager]*Manager
	log   []Attribute
}

type event struct {
	at  time.Duration
	run func()
	off *bool
}

func (w *world) after(d time.Duration, f func()) func() {
	off := new(bool)
	w.queue = append(w.queue, event{w.now + d, f, off})
	return func() { *off = true }
}

// run goes on until nothing is left to happen, or for a limited time.
func (w *world) run(limit time.Duration) {
	for end := w.now + limit; len(w.queue) > 0; {
		sort.SliceStable(w.queue, func(i, j int) bool { return w.queue[i].at < w.queue[j].at })
		e := w.queue[0]
		if e.at > end {
			return
		}
		w.queue, w.now = w.queue[1:], e.at
		if !*e.off {
			e.run()
		}
	}
}

// end is the transport of one of the managers.
type end struct {
	w    *world
	self **Manager
}

func (e end) SendMAD(p Path, b MAD) error {
	to := e.w.peers[*e.self]
	e.w.log = append(e.w.log, b.Attribute())
	if e.w.drop != nil && e.w.drop(to, b) {
		return nil
	}
	b = slices.Clone(b)
	e.w.after(time.Millisecond, func() { to.Receive(Path{p.Remote, p.Local}, b) })
	return nil
}

var (
	addrA = netip.MustParseAddr("10.9.0.1")
	addrB = netip.MustParseAddr("10.9.0.2")
)

func newWorld() (w *world, client, server *Manager) {
	w = &world{peers: map[*Manager]*Manager{}}
	client = NewManager(end{w, &client}, Options{GUID: 2, AfterFunc: w.after, ResponseTimeout: 14, MaxRetries: 5})
	server = NewManager(end{w, &server}, Options{GUID: 1, AfterFunc: w.after, ResponseTimeout: 14, MaxRetries: 5})
	w.peers[client], w.peers[server] = server, client
	return w, client, server
}

// recorder notes events, and goes on with a connection as a program would.
type recorder struct{ events []Event }

func (r *recorder) handle(c *Conn, e Event) {
	r.events = append(r.events, e)
	if e.Type == RepliedTo {
		if err := c.Ready(nil); err != nil {
			panic(err)
		}
	}
}

func (r *recorder) types() (t []EventType) {
	for _, e := range r.events {
		t = append(t, e.Type)
	}
	return t
}

var service = SpaceTCP.Service(7174)

func params(qpn uint32) Params {
	return Params{QPN: qpn, MTU: roce.MTU1024, RecvPSN: 7, Private: []byte("hi")}
}

// connect makes a connection whose passive side accepts.
func connect(t *testing.T, w *world, client, server *Manager) (c, s *Conn, cr, sr *recorder) {
	t.Helper()
	cr, sr = &recorder{}, &recorder{}
	if _, err := server.Listen(service, func(n *Conn) {
		s = n
		if err := n.Accept(params(0x21), sr.handle); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(Path{addrB, addrA}, service, params(0x22), cr.handle)
	if err != nil {
		t.Fatal(err)
	}
	return c, s, cr, sr
}

func TestConnect(t *testing.T) {
	w, client, server := newWorld()
	c, _, cr, sr := connect(t, w, client, server)
	w.run(time.Minute)
	if c.State() != Established || !slices.Equal(cr.types(), []EventType{RepliedTo}) || !slices.Equal(sr.types(), []EventType{Connected}) {
		t.Fatalf("%v, client %v, server %v", c.State(), cr.events, sr.events)
	}
	if !bytes.HasPrefix(cr.events[0].Private, []byte("hi")) || c.Reply().LocalQPN != 0x21 {
		t.Errorf("reply %+v", c.Reply())
	}
	if err := c.Disconnect(nil); err != nil {
		t.Fatal(err)
	}
	w.run(time.Minute)
	if !slices.Equal(cr.types(), []EventType{RepliedTo, Disconnected}) || !slices.Equal(sr.types(), []EventType{Connected, Disconnected}) {
		t.Errorf("client %v, server %v", cr.events, sr.events)
	}
	if want := []Attribute{AttrREQ, AttrREP, AttrRTU, AttrDREQ, AttrDREP}; !slices.Equal(w.log, want) {
		t.Errorf("messages %v, want %v", w.log, want)
	}
	if len(client.conns)+len(server.conns)+len(client.remote)+len(server.remote)+server.pending != 0 {
		t.Error("something is left of the connection")
	}
}

// TestLostOnce loses each message of a connection's life once; it is repeated,
// and nothing else changes.
func TestLostOnce(t *testing.T) {
	for _, lost := range []Attribute{AttrREQ, AttrREP, AttrRTU, AttrDREQ, AttrDREP} {
		w, client, server := newWorld()
		gone := false
		w.drop = func(_ *Manager, b MAD) bool {
			if b.Attribute() == lost && !gone {
				gone = true
				return true
			}
			return false
		}
		c, _, cr, sr := connect(t, w, client, server)
		w.run(time.Second)
		_ = c.Disconnect(nil)
		w.run(time.Second)
		if !slices.Equal(cr.types(), []EventType{RepliedTo, Disconnected}) || !slices.Equal(sr.types(), []EventType{Connected, Disconnected}) {
			t.Errorf("%v lost: client %v, server %v, messages %v", lost, cr.types(), sr.types(), w.log)
		}
	}
}

// TestAlwaysEnds loses messages at random, up to all of them: every connection
// ends within its bound, and no state is left.
func TestAlwaysEnds(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, client, server := newWorld()
		p := r.Float64()
		w.drop = func(*Manager, MAD) bool { return r.Float64() < p }
		c, _, cr, _ := connect(t, w, client, server)
		w.run(5 * time.Second) // 2 * (5+1) * 67 ms, and the same for REP
		if s := c.State(); s != Established && s != Closed {
			t.Fatalf("seed %d: %v after %v", seed, s, w.now)
		}
		_ = c.Disconnect(nil)
		w.run(5 * time.Second)
		if c.State() != Closed || len(client.conns) != 0 || len(client.remote) != 0 {
			t.Fatalf("seed %d: client %v, %d left", seed, cr.types(), len(client.conns))
		}
		for _, s := range server.conns { // one that missed every DREQ waits for its program
			if s.state != Established {
				t.Fatalf("seed %d: server still %v", seed, s.state)
			}
		}
	}
}

func TestReject(t *testing.T) {
	w, client, server := newWorld()
	var r recorder
	if _, err := client.Connect(Path{addrB, addrA}, service, params(1), r.handle); err != nil {
		t.Fatal(err)
	}
	w.run(time.Minute)
	if len(r.events) != 1 || r.events[0].Type != Rejected || r.events[0].Reason != ReasonInvalidServiceID {
		t.Errorf("nobody listens: %+v", r.events)
	}
	r = recorder{}
	stop, _ := server.Listen(service, func(c *Conn) { _ = c.Reject(ReasonConsumer, []byte("no")) })
	if _, err := server.Listen(service, nil); err == nil {
		t.Error("two listen for one service")
	}
	_, _ = client.Connect(Path{addrB, addrA}, service, params(1), r.handle)
	w.run(time.Minute)
	if len(r.events) != 1 || r.events[0].Reason != ReasonConsumer || !bytes.HasPrefix(r.events[0].Private, []byte("no")) {
		t.Errorf("refused: %+v", r.events)
	}
	stop()
	if len(client.conns)+len(server.conns)+server.pending != 0 {
		t.Error("something is left")
	}
}

// TestDelay: an MRA makes the active side wait longer than its retries would.
func TestDelay(t *testing.T) {
	w, client, server := newWorld()
	var r, sr recorder
	_, _ = server.Listen(service, func(c *Conn) {
		if err := c.Delay(20); err != nil { // 4.3 s
			t.Error(err)
		}
		w.after(3*time.Second, func() { _ = c.Accept(params(1), sr.handle) })
	})
	c, _ := client.Connect(Path{addrB, addrA}, service, params(1), r.handle)
	w.run(time.Minute)
	if c.State() != Established || w.log[1] != AttrMRA || len(w.log) != 4 {
		t.Errorf("%v, messages %v", c.State(), w.log)
	}
}

// TestStale: a peer that restarted reuses its queue pair number; the old
// connection ends.
func TestStale(t *testing.T) {
	w, client, server := newWorld()
	_, _, _, sr := connect(t, w, client, server)
	w.run(time.Minute)
	client.Close()
	reborn := NewManager(nil, Options{GUID: 2, AfterFunc: w.after, ResponseTimeout: 14})
	reborn.transport = end{w, &reborn}
	w.peers[reborn], w.peers[server] = server, reborn
	var r recorder
	_, _ = reborn.Connect(Path{addrB, addrA}, service, params(0x22), r.handle)
	w.run(time.Minute)
	if len(r.events) != 1 || r.events[0].Reason != ReasonStale || sr.events[len(sr.events)-1].Type != Disconnected {
		t.Errorf("new %+v, old %v", r.events, sr.types())
	}
}

func TestSIDR(t *testing.T) {
	w, client, server := newWorld()
	udp := SpaceUDP.Service(7174)
	stop, err := server.Serve(udp, func(_ Path, r *SIDRReq) *SIDRRep { return &SIDRRep{QPN: 0x18, QKey: UDPQKey} })
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	w.drop = func(*Manager, MAD) bool { gone++; return gone < 3 }
	var got []*SIDRRep
	ask := func() {
		_ = client.Resolve(Path{addrB, addrA}, udp, nil, func(r *SIDRRep) { got = append(got, r) })
		w.run(time.Minute)
	}
	ask()
	stop()
	ask()
	w.drop = func(*Manager, MAD) bool { return true }
	ask()
	if len(got) != 3 || got[0].QPN != 0x18 || got[0].QKey != UDPQKey || got[1].Status != SIDRUnsupported || got[2] != nil {
		t.Errorf("%+v", got)
	}
}

// tape is a transport that keeps what is sent.
type tape struct{ sent []MAD }

func (t *tape) SendMAD(_ Path, b MAD) error { t.sent = append(t.sent, slices.Clone(b)); return nil }

// TestVectorsConversations plays one side of each recorded conversation against
// the messages the other side sent; it must send what was recorded.
func TestVectorsConversations(t *testing.T) {
	ok, total := 0, 0
	for _, s := range replay.Load(t) {
		all := mads(s)
		if len(all) == 0 {
			continue
		}
		for _, who := range []replay.Who{replay.Client, replay.Server} {
			total++
			var want []MAD
			for _, p := range all {
				if p.From == who {
					want = append(want, MAD(p.Payload))
				}
			}
			got := converse(t, all, who)
			if !slices.EqualFunc(got, want, func(a, b MAD) bool { return bytes.Equal(a, b) }) {
				t.Errorf("%s, %v: sent %d messages, recorded are %d\n%x\n%x", s.Name, who, len(got), len(want), got, want)
				continue
			}
			ok++
		}
	}
	t.Logf("conversations: %d of %d", ok, total)
}

// converse lets a manager do what the recorded program did on one side, and
// gives it the other side's messages.
func converse(t *testing.T, all []replay.Packet, who replay.Who) []MAD {
	t.Helper()
	var own, peer []Message
	var paths []Path
	var id uint32
	var tid, guid uint64
	for _, p := range all {
		msg, err := Decode(MAD(p.Payload))
		if err != nil {
			t.Fatal(err)
		}
		if p.From != who {
			peer = append(peer, msg)
			continue
		}
		own, paths = append(own, msg), append(paths, Path{p.Src(), p.Dst()})
		if id == 0 {
			id, tid = u32(MAD(p.Payload).body(), 0), MAD(p.Payload).TID()
		}
		switch v := msg.(type) {
		case *REQ:
			guid = v.LocalGUID
		case *REP:
			guid = v.LocalGUID
		}
	}
	if id == 0 {
		id = 1 // a side that only rejects has none
	}
	var tp tape
	m := NewManager(&tp, Options{
		GUID: guid, AfterFunc: func(time.Duration, func()) func() { return func() {} },
		NewID: func() (uint32, uint64) { return id, tid },
	})
	handler := func(c *Conn, e Event) {
		if e.Type == RepliedTo {
			_ = c.Ready(nil)
		}
	}
	var conn *Conn
	for _, msg := range own { // a server listens before anything comes
		switch v := msg.(type) {
		case *REP:
			_, _ = m.Listen(peer[0].(*REQ).Service, func(c *Conn) {
				_ = c.Accept(Params{
					QPN: v.LocalQPN, RecvPSN: v.StartingPSN, RespResources: v.RespResources, InitiatorDepth: v.InitiatorDepth,
					TargetAckDelay: v.TargetAckDelay, RNRRetry: v.RNRRetry, Private: v.Private,
				}, handler)
			})
		case *SIDRRep:
			_, _ = m.Serve(v.Service, func(Path, *SIDRReq) *SIDRRep { return &SIDRRep{QPN: v.QPN, QKey: v.QKey, Private: v.Private} })
		}
	}
	for _, p := range all {
		if p.From != who {
			m.Receive(Path{p.Dst(), p.Src()}, MAD(p.Payload))
			continue
		}
		msg, err := Decode(MAD(p.Payload))
		if err != nil {
			t.Fatal(err)
		}
		switch v := msg.(type) {
		case *REQ:
			conn, err = m.Connect(paths[0], v.Service, Params{
				QPN: v.LocalQPN, RecvPSN: v.StartingPSN, RespResources: v.RespResources, InitiatorDepth: v.InitiatorDepth,
				RetryCount: v.RetryCount, RNRRetry: v.RNRRetry, MTU: v.MTU, AckTimeout: v.LocalAckTimeout, FlowLabel: v.FlowLabel,
				Private: v.Private,
			}, handler)
		case *DREQ:
			err = conn.Disconnect(nil)
		case *SIDRReq:
			err = m.Resolve(paths[0], v.Service, v.Private, func(*SIDRRep) {})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return tp.sent
}
