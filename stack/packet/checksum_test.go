package packet

import (
	"math/rand/v2"
	"testing"
)

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 3000)
	for range 3000 {
		n, off := r.IntN(300), r.IntN(64)
		for i := range b[:n+off] {
			b[i] = byte(r.Uint32())
			if r.IntN(3) == 0 {
				b[i] = 0xff
			}
		}
		start := r.Uint32()
		want := naiveSum([]byte{byte(start >> 24), byte(start >> 16), byte(start >> 8), byte(start)}, b[off:off+n])
		if got := Fold(Sum(start, b[off:off+n])); got != want {
			t.Fatalf("sum of %d bytes on top of %#x is %#x, want %#x", n, start, got, want)
		}
	}
}

func TestUpdate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 64)
	for range 2000 {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		before := Checksum(b)
		at := r.IntN(28) * 2
		old := append([]byte(nil), b[at:at+8]...)
		for i := at; i < at+8; i++ {
			b[i] = byte(r.Uint32())
		}
		want := Checksum(b)
		if got := UpdateBytes(before, old, b[at:at+8]); got != want {
			t.Fatalf("UpdateBytes: %#x, want %#x", got, want)
		}
		u16 := func(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }
		u32 := func(b []byte) uint32 { return uint32(u16(b))<<16 | uint32(u16(b[2:])) }
		got := Update32(before, u32(old), u32(b[at:]))
		got = Update16(got, u16(old[4:]), u16(b[at+4:]))
		if got = Update16(got, u16(old[6:]), u16(b[at+6:])); got != want {
			t.Fatalf("Update32 and Update16: %#x, want %#x", got, want)
		}
	}
}

// TestCompleteChecksum covers fragments of odd lengths and the two zeros.
func TestCompleteChecksum(t *testing.T) {
	whole := payloadOf(4001)
	p := New(whole[:35])
	p.AppendShared(whole[35:1000], nil)
	p.AppendShared(whole[1000:1001], nil)
	p.AppendShared(whole[1001:], nil)
	p.SetPartialChecksum(3, 10)
	want := ^naiveSum(whole[3:])
	if !p.CompleteChecksum() || p.CsumPartial {
		t.Error("not completed")
	}
	if got := uint16(p.Head()[13])<<8 | uint16(p.Head()[14]); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
	p.Release()

	p = New([]byte{0xff, 0xff, 0, 0})
	p.SetPartialChecksum(0, 2)
	p.CompleteChecksum()
	if h := p.Head(); h[2] != 0xff || h[3] != 0xff {
		t.Errorf("a checksum of zero was written as %x", h[2:])
	}
	for _, bad := range [][2]int{{-1, 0}, {0, 3}, {4, 0}, {100, 100}} {
		p.SetPartialChecksum(bad[0], bad[1])
		if p.CompleteChecksum() {
			t.Errorf("completed a checksum at %v of 4 bytes", bad)
		}
	}
	p.Release()
}

func BenchmarkSum(b *testing.B) {
	buf := make([]byte, 1500)
	b.SetBytes(1500)
	for b.Loop() {
		Sum(0, buf)
	}
}
