package packet

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// roundTrip coalesces the frames and cuts the result again; it also returns
// how many packets there were in between.
func roundTrip(t testing.TB, frames [][]byte) (packets int, out [][]byte) {
	t.Helper()
	var batch []*Packet
	for _, f := range frames {
		batch = append(batch, packetOf(f))
	}
	var g GRO
	batch = g.Coalesce(batch)
	for _, p := range batch {
		out = append(out, cut(t, p)...)
	}
	return len(batch), out
}

func TestCoalesce(t *testing.T) {
	for name, f := range flows {
		live := Live()
		frames := f.segments(payloadOf(20001), 1000)
		n, got := roundTrip(t, frames)
		if !same(got, frames) {
			t.Errorf("%s: %s", name, cmp.Diff(frames, got))
		}
		if n != 1 {
			t.Errorf("%s: %d packets, want one", name, n)
		}
		if n := Live() - live; n != 0 {
			t.Errorf("%s: %d packets have not been released", name, n)
		}
	}
}

// TestCoalesceMetadata wants a GRO super-frame to look like one of a device.
func TestCoalesceMetadata(t *testing.T) {
	for name, f := range flows {
		var batch []*Packet
		for _, b := range f.segments(payloadOf(9500), 1000) {
			batch = append(batch, packetOf(b))
		}
		var g GRO
		got := g.Coalesce(batch)[0]
		want := f.super(payloadOf(9500), 1000)
		if err := want.PrepareGSO(); err != nil {
			t.Fatal(err)
		}
		if got.Meta != want.Meta {
			t.Errorf("%s: %s", name, cmp.Diff(want.Meta, got.Meta))
		}
		s1, o1, _ := got.PartialChecksum()
		s2, o2, _ := want.PartialChecksum()
		if s1 != s2 || o1 != o2 {
			t.Errorf("%s: checksum at %d+%d, want %d+%d", name, s1, o1, s2, o2)
		}
		if a, b := contents([]*Packet{got}), contents([]*Packet{want}); !same(a, b) {
			t.Errorf("%s: %s", name, cmp.Diff(b, a))
		}
	}
}

// TestNotCoalesced changes the second of three frames; how many packets are
// left shows what was joined, and the bytes must be the same in any case.
func TestNotCoalesced(t *testing.T) {
	const ip, tcp = 14, 34
	fix := func(b []byte) { // what the change did to the checksums
		b[ip+10], b[ip+11] = 0, 0
		c := ^naiveSum(b[ip : ip+20])
		b[ip+10], b[ip+11] = byte(c>>8), byte(c)
		b[tcp+16], b[tcp+17] = 0, 0
		l := len(b) - tcp
		c = ^naiveSum(b[ip+12:ip+20], []byte{0, 6, byte(l >> 8), byte(l)}, b[tcp:])
		b[tcp+16], b[tcp+17] = byte(c>>8), byte(c)
	}
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
		want   int
	}{
		{"nothing", func(b []byte) []byte { return b }, 1},
		{"payload, wrong checksum", func(b []byte) []byte { b[100]++; return b }, 3},
		{"IP checksum wrong", func(b []byte) []byte { b[ip+10]++; return b }, 3},
		{"TOS", func(b []byte) []byte { b[ip+1] = 4; fix(b); return b }, 3},
		{"TTL", func(b []byte) []byte { b[ip+8]--; fix(b); return b }, 3},
		{"IPv4 identification", func(b []byte) []byte { b[ip+5]++; fix(b); return b }, 3},
		{"don't fragment", func(b []byte) []byte { b[ip+6] ^= 0x40; fix(b); return b }, 3},
		{"more fragments", func(b []byte) []byte { b[ip+6] |= 0x20; fix(b); return b }, 3},
		{"sequence", func(b []byte) []byte { b[tcp+7]++; fix(b); return b }, 3},
		{"acknowledgement", func(b []byte) []byte { b[tcp+11]++; fix(b); return b }, 3},
		{"window", func(b []byte) []byte { b[tcp+15]--; fix(b); return b }, 3},
		{"urgent pointer", func(b []byte) []byte { b[tcp+19]++; fix(b); return b }, 3},
		{"PSH", func(b []byte) []byte { b[tcp+13] |= tcpPSH; fix(b); return b }, 2},
		{"FIN", func(b []byte) []byte { b[tcp+13] |= tcpFIN; fix(b); return b }, 2},
		{"CWR", func(b []byte) []byte { b[tcp+13] |= tcpCWR; fix(b); return b }, 2},
		{"ECE", func(b []byte) []byte { b[tcp+13] |= tcpECE; fix(b); return b }, 3},
		{"RST", func(b []byte) []byte { b[tcp+13] |= tcpRST; fix(b); return b }, 3},
		{"SYN", func(b []byte) []byte { b[tcp+13] |= tcpSYN; fix(b); return b }, 3},
		{"padding", func(b []byte) []byte { return append(b, 0) }, 3},
		{"source MAC", func(b []byte) []byte { b[6] ^= 4; return b }, 3},
		{"other flow", func(b []byte) []byte { b[tcp] ^= 1; fix(b); return b }, 3},
	} {
		f := flow{seq: 100, flags: tcpACK, df: true, id: 5}
		frames := f.segments(payloadOf(3000), 1000)
		frames[1] = tt.change(frames[1])
		n, got := roundTrip(t, frames)
		if !same(got, frames) {
			t.Errorf("%s: %s", tt.name, cmp.Diff(frames, got))
		}
		if n != tt.want {
			t.Errorf("%s: %d packets, want %d", tt.name, n, tt.want)
		}
	}
}

// TestCoalesceFlows interleaves more flows than are looked at together.
func TestCoalesceFlows(t *testing.T) {
	const n = groFlows + 3
	var in [n][][]byte
	var frames [][]byte
	for i := range 5 {
		for k := range n {
			f := flow{seq: 1, flags: tcpACK, v6: true}
			if k%2 == 1 {
				f = flow{udp: true}
			}
			if in[k] == nil {
				in[k] = f.segments(payloadOf(5000), 1000)
				for _, b := range in[k] { // another pair of addresses, same sum
					off := 14 + 12
					if f.v6 {
						off = 14 + 8
					}
					b[off+1] += byte(k)
					b[off+3] -= byte(k)
				}
			}
			frames = append(frames, in[k][i])
		}
	}
	_, got := roundTrip(t, frames)
	for k := range n {
		var mine [][]byte
		for _, b := range got {
			if slices.ContainsFunc(in[k], func(c []byte) bool { return bytes.Equal(b, c) }) {
				mine = append(mine, b)
			}
		}
		if !same(mine, in[k]) {
			t.Errorf("flow %d is not what it was", k)
		}
	}
	if len(got) != len(frames) {
		t.Errorf("%d frames, want %d", len(got), len(frames))
	}
}

// FuzzIdentity: super-frame, segments, GRO, segments again, where one byte of
// one segment may have been damaged.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("\x00\x00\x10abcd\x00\x7f\x00\x20\x00"), 0, 0, uint8(0))
	f.Add([]byte("\x3c\x00\x10abcd\x03abcdefghijkl\x7f\x00\x20\x00"), 2, 40, uint8(1))
	f.Add([]byte("\x25\x00\x99abcd\x03abcdefghijkl\x01\x00\x01\x00"), 3, 60, uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, which, where int, damage uint8) {
		fl, mss, payload := decodeFlow(b)
		if len(payload) == 0 {
			return
		}
		live := Live()
		want := fl.segments(payload, mss)
		p := fl.super(payload, mss)
		if got := cut(t, p); !same(got, want) {
			t.Fatalf("segments: %s", cmp.Diff(want, got))
		}
		var odd []byte
		if which >= 0 && where >= 0 {
			odd = want[which%len(want)]
			odd[where%len(odd)] ^= damage
		}
		_, got := roundTrip(t, want)
		if !same(got, want) {
			// The damage may have made another flow of it, which the others
			// may overtake; nothing else may change.
			is := func(b []byte) bool { return bytes.Equal(b, odd) }
			i := slices.IndexFunc(got, is)
			j := slices.IndexFunc(want, is)
			if i < 0 || !same(slices.Delete(got, i, i+1), slices.Delete(want, j, j+1)) {
				t.Fatalf("after GRO: %s", cmp.Diff(want, got))
			}
		}
		if n := Live() - live; n != 0 {
			t.Fatalf("%d packets have not been released", n)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	f := flows["TCPv4"]
	frames := f.segments(payloadOf(20000), 1448)
	var g GRO
	batch := make([]*Packet, 0, 64)
	n := testing.AllocsPerRun(200, func() {
		batch = batch[:0]
		for _, b := range frames {
			batch = append(batch, packetOf(b))
		}
		for _, p := range g.Coalesce(batch) {
			if p.GSO.Type != GSONone {
				s, err := p.Segmenter(true)
				if err != nil {
					t.Fatal(err)
				}
				for q := s.Next(); q != nil; q = s.Next() {
					q.Release()
				}
			}
			p.Release()
		}
	})
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations for joining and cutting %d frames, want none", n, len(frames))
	}
}

func BenchmarkCoalesce(b *testing.B) {
	frames := flows["TCPv4 with timestamps"].segments(payloadOf(60000), 1448)
	var g GRO
	batch := make([]*Packet, 0, 64)
	b.SetBytes(60000)
	b.ReportAllocs()
	for b.Loop() {
		batch = batch[:0]
		for _, f := range frames {
			batch = append(batch, packetOf(f))
		}
		for _, p := range g.Coalesce(batch) {
			p.Release()
		}
	}
}
