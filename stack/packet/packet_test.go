package packet

import (
	"bytes"
	"testing"
)

func bytesOf(p *Packet) []byte {
	b := make([]byte, p.Len())
	p.CopyTo(b, 0)
	return b
}

func count(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// build makes a packet of a linear part, a tail and shared memory.
func build(linear, tail, shared int) (*Packet, []byte) {
	all := count(linear + tail + shared)
	p := Alloc(linear)
	copy(p.Head(), all)
	if tail > 0 {
		t := NewTail()
		copy(t[:], all[linear:])
		p.AttachTail(t, tail)
	}
	if shared > 0 {
		p.AppendShared(all[linear+tail:], new(ref))
	}
	return p, all
}

type ref struct{ n int }

func (r *ref) DecRef() { r.n++ }

func TestShapes(t *testing.T) {
	live := Live()
	for _, c := range []struct{ linear, tail, shared int }{
		{0, 0, 0}, {60, 0, 0}, {1792, 0, 0}, {1793, 0, 0}, {54, 40000, 0}, {54, 0, 30000}, {100, 100, 100}, {70000, 0, 0},
	} {
		p, want := build(c.linear, c.tail, c.shared)
		if p.Len() != len(want) || !bytes.Equal(bytesOf(p), want) {
			t.Fatalf("%v: not what was put in", c)
		}
		q := p.Clone()
		if !bytes.Equal(bytesOf(q), want) || q.Shared() {
			t.Errorf("%v: the clone differs", c)
		}
		q.Release()
		for _, off := range []int{0, c.linear - 1, c.linear, c.linear + c.tail, len(want) - 1} {
			if off < 0 || off >= len(want) {
				continue
			}
			var b [3]byte
			if n := p.CopyTo(b[:], off); !bytes.Equal(b[:n], want[off:min(off+3, len(want))]) {
				t.Errorf("%v: CopyTo %d: %x", c, off, b[:n])
			}
		}
		p.SetL3(0)
		if !p.Pull(len(want)) || len(p.Head()) != len(want) || len(p.Frags()) != 0 || !bytes.Equal(p.Head(), want) {
			t.Errorf("%v: not linear after Pull", c)
		}
		if p.Pull(len(want) + 1) {
			t.Errorf("%v: pulled more than there is", c)
		}
		if off, ok := p.L3(); !ok || off != 0 {
			t.Errorf("%v: network offset %d %v", c, off, ok)
		}
		p.Release()
	}
	if Live() != live {
		t.Errorf("%d packets leaked", Live()-live)
	}
}

func TestPushTrim(t *testing.T) {
	p := New(count(100))
	defer p.Release()
	p.SetL3(0)
	p.SetL4(20)
	for _, n := range []int{14, 40, 300, 1000} { // the last two exceed the headroom
		want := bytesOf(p)
		h := p.Push(n)
		copy(h, bytes.Repeat([]byte{0xee}, n))
		if !bytes.Equal(bytesOf(p)[n:], want) {
			t.Fatalf("push %d moved the bytes", n)
		}
		if off, _ := p.L3(); off != n {
			t.Errorf("push %d: network offset %d", n, off)
		}
		p.Trim(n)
		if off, _ := p.L4(); off != 20 || !bytes.Equal(bytesOf(p), want) {
			t.Errorf("trim %d: transport offset %d", n, off)
		}
	}
}

func TestTruncateExtend(t *testing.T) {
	for _, n := range []int{0, 10, 54, 55, 20000, 40053} {
		p, want := build(54, 40000, 0)
		p.Truncate(n)
		if !bytes.Equal(bytesOf(p), want[:n]) {
			t.Errorf("truncated to %d: %d bytes", n, p.Len())
		}
		copy(p.Extend(4), "tail")
		if got := bytesOf(p); !bytes.Equal(got[:n], want[:n]) || string(got[n:]) != "tail" {
			t.Errorf("extended from %d: %d bytes", n, len(got))
		}
		p.Release()
	}
}

func TestStore(t *testing.T) {
	p, want := build(54, 100, 100)
	r := p.ref.(*ref)
	shared := p.frags[len(p.frags)-1]
	before := bytes.Clone(shared)
	if p.Store([]byte("xyz"), len(want)-2) {
		t.Error("stored beyond the end")
	}
	for _, off := range []int{0, 52, 152, len(want) - 3} {
		if !p.Store([]byte("xyz"), off) {
			t.Fatalf("not stored at %d", off)
		}
		copy(want[off:], "xyz")
	}
	if !bytes.Equal(bytesOf(p), want) {
		t.Error("not what was stored")
	}
	_ = before
	p.Release()
	if r.n != 1 {
		t.Errorf("shared memory was released %d times", r.n)
	}
}

func TestSwap(t *testing.T) {
	a, wantA := build(54, 3000, 0)
	b, wantB := build(20, 0, 50)
	a.Mark, b.Mark = 1, 2
	a.Swap(b)
	if !bytes.Equal(bytesOf(a), wantB) || !bytes.Equal(bytesOf(b), wantA) || a.Mark != 2 || b.Mark != 1 {
		t.Error("not exchanged")
	}
	a.AppendShared([]byte{1}, nil) // must not touch the other's list
	if !bytes.Equal(bytesOf(b), wantA) {
		t.Error("the packets share a list")
	}
	a.Release()
	b.Release()
}

func TestReleaseTwice(t *testing.T) {
	p := Alloc(70001) // of a size that is not pooled
	p.Release()
	defer func() {
		if recover() == nil {
			t.Error("a second Release went unnoticed")
		}
	}()
	p.Release()
}

func TestVLAN(t *testing.T) {
	frame := append(count(12), 0x81, 0x00, 0x60, 0x07, 0x08, 0x00, 1, 2, 3)
	p := New(frame)
	defer p.Release()
	if !p.ParseLink() || p.Proto != EtherVLAN || !p.PullVLAN() || p.Proto != EtherIPv4 || p.VLAN != (VLAN{true, 0x8100, 0x6007}) {
		t.Fatalf("%+v", p.Meta)
	}
	if want := append(count(12), 0x08, 0x00, 1, 2, 3); !bytes.Equal(p.Head(), want) {
		t.Errorf("without the tag: %x", p.Head())
	}
	p.PushVLAN()
	if !bytes.Equal(p.Head(), frame) || p.VLAN.Present {
		t.Errorf("with it again: %x", p.Head())
	}
}

func FuzzParseTransport(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0x20, 0, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 16, 0, 64}, append(make([]byte, 32), 60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, ok := ParseTransport(b)
		if ok && tr.Offset > len(b) {
			t.Errorf("offset %d of %d bytes", tr.Offset, len(b))
		}
		p := New(b)
		p.SetL3(0)
		p.FlowHash()
		p.Release()
	})
}
