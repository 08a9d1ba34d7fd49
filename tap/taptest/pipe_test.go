package taptest_test

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"taproom/stack/packet"
	"taproom/tap"
	"taproom/tap/taptest"
)

// superFrame is a UDP super-frame over IPv4 of three datagrams.
func superFrame() *packet.Packet {
	b := make([]byte, 14+20+8+2500)
	b[12], b[14], b[22], b[23] = 8, 0x45, 64, 17
	b[16], b[17] = 0x09, 0xe0
	b[38], b[39] = 0x09, 0xcc
	p := packet.New(b)
	p.ParseLink()
	p.GSO = packet.GSO{Type: packet.GSOUDP, Size: 1000}
	sum := packet.Fold(packet.PseudoSum(b[14:], 17, 2508))
	p.Head()[40], p.Head()[41] = byte(sum>>8), byte(sum)
	p.SetPartialChecksum(34, 6)
	return p
}

func TestPipeOffloads(t *testing.T) {
	for _, tt := range []struct {
		name     string
		offloads *tap.Offloads
		frames   int
		partial  bool
	}{
		{"all", nil, 1, true},
		{"none", &tap.Offloads{}, 3, false},
		{"checksum", &tap.Offloads{Checksum: true}, 3, true},
	} {
		live := packet.Live()
		a, b := taptest.Pipe(taptest.Options{Offloads: tt.offloads, Now: func() int64 { return 42 }})
		var rec taptest.Recorder
		if err := b.Start(rec.Receive); err != nil {
			t.Fatal(err)
		}
		a.Write(tap.AnyQueue, superFrame().Batch())
		f := rec.Frames()
		if len(f) != tt.frames || f[0].Meta.CsumPartial != tt.partial || f[0].Meta.Time != 42 {
			t.Errorf("%s: %d frames, want %d; the first with %+v", tt.name, len(f), tt.frames, f[0].Meta)
		}
		if s := a.Stats().Tx; s.Segments != 3 || s.Packets != uint64(tt.frames) {
			t.Errorf("%s: counters %+v", tt.name, s)
		}
		if packet.Live() != live {
			t.Errorf("%s: packets have not been released", tt.name)
		}
	}
}

// TestPipeAnswers lets both ends answer each other for a while: no recursion,
// and everything has happened when Write returns.
func TestPipeAnswers(t *testing.T) {
	a, b := taptest.Pipe(taptest.Options{})
	const rounds = 100000
	n := 0
	answer := func(e *taptest.End) tap.Receiver {
		return func(q int, batch []*packet.Packet) {
			if n++; n == rounds {
				batch[0].Release()
				return
			}
			e.Write(q, batch)
		}
	}
	a.Start(answer(a))
	b.Start(answer(b))
	a.Write(0, packet.New(bytes.Repeat([]byte{1}, 60)).Batch())
	if n != rounds {
		t.Errorf("%d deliveries, want %d", n, rounds)
	}
}

func TestPipeEnds(t *testing.T) {
	live := packet.Live()
	macs := [2]net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
	a, b := taptest.Pipe(taptest.Options{Name: "x", MTU: 1400, Addrs: macs})
	if i := a.Info(); i.Addr.String() != macs[1].String() || i.MTU != 1400 || i.Name != "x" {
		t.Errorf("info is %+v", i)
	}
	frame := func() []*packet.Packet { return packet.New(make([]byte, 60)).Batch() }
	a.Write(0, frame()) // nobody listens
	b.Start(new(taptest.Recorder).Receive)
	if err := b.Start(nil); !errors.Is(err, tap.ErrStarted) {
		t.Errorf("second Start: %v", err)
	}
	a.Write(0, packet.New([]byte{1, 2, 3}).Batch())
	b.SetMTU(1300)
	if a.Info().MTU != 1300 {
		t.Error("the MTU did not change at both ends")
	}
	b.Close()
	a.Write(0, frame())
	if s := a.Stats().Tx; s.Drops[packet.DeviceDown] != 2 {
		t.Errorf("%+v, want two drops", s)
	}
	if s := b.Stats().Rx; s.Drops[packet.TooShort] != 1 {
		t.Errorf("%+v, want one drop", s)
	}
	if err := b.Close(); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if packet.Live() != live {
		t.Error("packets have not been released")
	}
}
