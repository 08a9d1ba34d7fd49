package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"taproom/stack/packet"
)

// TestThinned sends the same traffic over a wire with loss as super-frames and
// as frames: what arrives must be the same bytes in the same order, and of
// the super-frames most must still be together.
func TestThinned(t *testing.T) {
	const supers, segments, size = 50, 40, 1000
	make := func(n int) *packet.Packet {
		b := make([]byte, 14+20+8+segments*size)
		b[12], b[13] = 8, 0
		copy(b[14:], []byte{0x45, 0, 0, 0, byte(n), 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 0})
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
		binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
		for k := range segments {
			binary.BigEndian.PutUint32(b[42+k*size:], uint32(n*segments+k))
		}
		binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34]))
		binary.BigEndian.PutUint16(b[40:], packet.Fold(packet.PseudoSum(b[14:], 17, len(b)-34)))
		p := packet.New(b)
		p.ParseLink()
		p.SetPartialChecksum(34, 6)
		p.GSO = packet.GSO{Type: packet.GSOUDP, Size: size}
		must(t, p.PrepareGSO())
		return p
	}
	run := func(cut bool) (bytesOf [][]byte, frames int, s Stats) {
		clock := new(Virtual)
		a, b, err := New(Config{AtoB: Impairment{Loss: 0.01, Burst: Burst{Enter: 0.001, Leave: 0.5}}, Seed: 3, Clock: clock})
		must(t, err)
		defer b.Close()
		must(t, b.Start(func(_ int, batch []*packet.Packet) {
			for _, p := range batch {
				frames++
				for q := range p.Segments() {
					q.CompleteChecksum()
					q.Linearize()
					bytesOf = append(bytesOf, bytes.Clone(q.Head()))
					q.Release()
				}
				p.Release()
			}
		}))
		for n := range supers {
			p := make(n)
			if !cut {
				a.Write(0, []*packet.Packet{p})
				continue
			}
			for q := range p.Segments() {
				a.Write(0, []*packet.Packet{q})
			}
			p.Release()
		}
		return bytesOf, frames, a.Sent()
	}
	whole, frames, s := run(false)
	single, n, s1 := run(true)
	if len(whole) != len(single) || s.Dropped != s1.Dropped || s.Dropped.Total() == 0 {
		t.Fatalf("%d segments arrived, %d as frames; dropped %v and %v", len(whole), len(single), s.Dropped.Map(), s1.Dropped.Map())
	}
	for k := range whole {
		if !bytes.Equal(whole[k], single[k]) {
			t.Fatalf("segment %d is\n%x, as a frame\n%x", k, whole[k], single[k])
		}
	}
	if most := supers + int(s.Dropped.Total()); frames > most || n != len(single) {
		t.Errorf("%d frames, want at most %d for %d super-frames that lost %d segments", frames, most, supers, s.Dropped.Total())
	}
	if s.Offered.Packets != s.Delivered.Packets+s.Dropped.Total() {
		t.Errorf("the books do not balance: %+v", s)
	}
}
