package packet

import (
	"sync"
	"sync/atomic"
)

// A packet's own storage comes in two sizes: one that holds any frame of a
// normal MTU, and one for whatever else must be linear. Readers of devices
// use the small one with a Tail.
type class uint8

const (
	small class = iota
	large
	odd // not pooled
)

const (
	// SmallSize is the linear room of a pooled packet.
	SmallSize = 1792
	largeSize = 65536 + 256
)

// TailSize is what a tail holds. With the linear part of a small packet it
// has room for the largest frame a device delivers (14 + 65535 bytes).
const TailSize = 65536

// Tail is pooled storage for the end of a super-frame.
type Tail [TailSize]byte

var (
	pools = [2]sync.Pool{
		{New: func() any { return newPacket(SmallSize, small) }},
		{New: func() any { return newPacket(largeSize, large) }},
	}
	tails = sync.Pool{New: func() any { return new(Tail) }}
	live  atomic.Int64
)

func newPacket(n int, c class) *Packet {
	return &Packet{buf: make([]byte, Headroom+n), class: c}
}

// NewTail takes a tail from the pool. It goes to a packet with AttachTail, or
// back with FreeTail.
func NewTail() *Tail { return tails.Get().(*Tail) }

// FreeTail gives back a tail that no packet took.
func FreeTail(t *Tail) { tails.Put(t) }

// Alloc returns a packet with a linear part of n bytes, whose content is
// undefined, Headroom bytes in front of it and everything unknown.
func Alloc(n int) *Packet {
	c := odd
	switch {
	case n <= SmallSize:
		c = small
	case n <= largeSize:
		c = large
	}
	var p *Packet
	if c == odd {
		p = newPacket(n, odd)
	} else {
		p = pools[c].Get().(*Packet)
	}
	p.reset()
	p.end = p.off + n
	p.live = true
	live.Add(1)
	return p
}

// New returns a packet with a copy of b.
func New(b []byte) *Packet {
	p := Alloc(len(b))
	copy(p.Head(), b)
	return p
}

func (p *Packet) reset() {
	p.Meta = Meta{}
	p.off, p.end = Headroom, Headroom
	p.mac, p.l3, p.l4, p.csumStart = -1, -1, -1, -1
	p.csumOffset = 0
	p.fragStore = [4][]byte{}
	p.frags, p.fragsLen = p.fragStore[:0], 0
}

// Release gives the packet back. It panics if that has been done before: the
// owner's books are wrong, and memory would be shared by two packets.
func (p *Packet) Release() {
	if !p.live {
		panic("packet: released twice")
	}
	p.live = false
	live.Add(-1)
	if p.tail != nil {
		tails.Put(p.tail)
		p.tail = nil
	}
	if p.ref != nil {
		p.ref.DecRef()
		p.ref = nil
	}
	p.frags = nil
	p.fragStore = [4][]byte{}
	if p.class != odd {
		pools[p.class].Put(p)
	}
}

// Clone returns a packet with a copy of all bytes, those in front of the
// linear part that hold known headers included, and the same metadata.
func (p *Packet) Clone() *Packet {
	front := 0
	for _, pos := range [...]int{p.mac, p.l3, p.l4} {
		if pos >= 0 && p.off-pos > front {
			front = p.off - pos
		}
	}
	front = min(front, Headroom)
	c := Alloc(p.Len())
	copy(c.buf[c.off-front:], p.buf[p.off-front:p.end])
	n := p.end - p.off
	for _, f := range p.frags {
		n += copy(c.buf[c.off+n:], f)
	}
	shift := c.off - p.off
	c.Meta = p.Meta
	for _, m := range [...]struct{ dst, src *int }{
		{&c.mac, &p.mac}, {&c.l3, &p.l3}, {&c.l4, &p.l4}, {&c.csumStart, &p.csumStart},
	} {
		if *m.src >= 0 {
			*m.dst = *m.src + shift
		}
	}
	c.csumOffset = p.csumOffset
	return c
}

// Live is the number of packets that have been allocated and not released.
func Live() int64 { return live.Load() }
