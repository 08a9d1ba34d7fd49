package cm

import (
	"slices"
	"testing"
	"time"

	"taproom/rdma/internal/replay"
)

// FuzzReceive gives a manager any datagrams, while it listens, connects, and has
// connections in every state: it must not panic, and at the end of all timers
// nothing that it began may be left but what is established.
func FuzzReceive(f *testing.F) {
	for _, name := range []string{"rping-v4", "cm-reject-v4", "cm-udaddy-sidr-v4"} {
		var all []byte
		for _, p := range mads(replay.Get(f, name)) {
			all = append(all, p.Payload...)
		}
		f.Add(all)
	}
	for id := range uint32(4) {
		var all []byte
		for _, m := range []Message{
			&MRA{LocalCommID: 9, RemoteCommID: id}, &REP{LocalCommID: 9, RemoteCommID: id}, &REQ{LocalCommID: 9, Service: service, MTU: 3},
			&RTU{LocalCommID: 9, RemoteCommID: id}, &REP{LocalCommID: 9, RemoteCommID: id}, &DREQ{LocalCommID: 9, RemoteCommID: id}, &REJ{RemoteCommID: id},
		} {
			all = append(all, Encode(1, m)...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &world{}
		next := uint32(0)
		var tp tape
		m := NewManager(&tp, Options{
			AfterFunc: w.after, ResponseTimeout: 10, MaxRetries: 2, MaxPending: 4,
			NewID: func() (uint32, uint64) { next++; return next, uint64(next) },
		})
		handler := func(c *Conn, e Event) {
			if e.Type == RepliedTo {
				_ = c.Ready(nil)
			}
		}
		_, _ = m.Listen(service, func(c *Conn) {
			switch c.localID % 3 {
			case 0:
				_ = c.Reject(ReasonConsumer, nil)
			case 1:
				_ = c.Delay(3)
				fallthrough
			default:
				_ = c.Accept(params(5), handler)
			}
		})
		path := Path{addrB, addrA}
		for range 2 {
			_, _ = m.Connect(path, service, params(1), handler)
		}
		_ = m.Resolve(path, service, nil, func(*SIDRRep) {})
		for chunk := range slices.Chunk(b, MADLen) {
			m.Receive(path, MAD(chunk))
			w.run(time.Millisecond)
		}
		w.run(time.Hour)
		for _, c := range m.conns {
			if c.state != Established {
				t.Fatalf("a connection is left: %v", c.state)
			}
		}
		if len(m.lookups) != 0 || m.pending != 0 {
			t.Fatalf("%d lookups and %d pending connections are left", len(m.lookups), m.pending)
		}
	})
}
