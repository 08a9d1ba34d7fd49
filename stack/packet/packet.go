package packet

// Headroom is what a fresh packet has in front of its first byte: enough for
// an outer IPv6 header, the largest hop-by-hop trace in common use and a
// link-layer header.
const Headroom = 256

// Packet is one frame or super-frame. The zero value is not usable: packets
// come from Alloc, New or Clone.
type Packet struct {
	Meta

	buf      []byte // storage of the linear part, headroom included
	off, end int    // the linear part is buf[off:end]
	frags    [][]byte
	fragsLen int

	// Positions in buf, -1 if unknown: they stay true when headers in front
	// of them come and go.
	mac, l3, l4 int
	csumStart   int
	fragStore   [4][]byte
	tail        *Tail
	batch       [1]*Packet
	ref         Ref
	class       class
	live        bool
	csumOffset  uint16
}

// Head is the linear part. It may be read and written, and is valid until the
// packet grows, is pulled or released.
func (p *Packet) Head() []byte { return p.buf[p.off:p.end:p.end] }

// Frags are the parts behind the linear one. The bytes may be written unless
// Shared says otherwise.
func (p *Packet) Frags() [][]byte { return p.frags }

// Len is the length of the whole packet in bytes.
func (p *Packet) Len() int { return p.end - p.off + p.fragsLen }

// Headroom is how many bytes Push can add without moving the linear part.
func (p *Packet) Headroom() int { return p.off }

// Push grows the packet by n bytes at its head and returns the new linear
// part. The new bytes are not cleared.
func (p *Packet) Push(n int) []byte {
	if n > p.off {
		p.relocate(n+Headroom, cap(p.buf)-p.end)
	}
	p.off -= n
	return p.Head()
}

// Trim removes n bytes at the head, which stay in front of the packet until
// something is pushed over them. It panics if the linear part is shorter.
func (p *Packet) Trim(n int) []byte {
	if n < 0 || n > p.end-p.off {
		panic("packet: Trim beyond the linear part")
	}
	p.off += n
	return p.Head()
}

// Extend grows the packet by n zero bytes at its tail and returns them. The
// packet is linear afterwards.
func (p *Packet) Extend(n int) []byte {
	p.Linearize()
	if p.end+n > len(p.buf) {
		p.relocate(p.off, n)
	}
	b := p.buf[p.end : p.end+n]
	clear(b)
	p.end += n
	return b
}

// Truncate shortens the packet to n bytes, counted from the start of Head. A
// longer n changes nothing.
func (p *Packet) Truncate(n int) {
	linear := p.end - p.off
	if n <= linear {
		p.end = p.off + max(n, 0)
		p.frags, p.fragsLen = p.frags[:0], 0
		return
	}
	left := n - linear
	for i, f := range p.frags {
		if len(f) >= left {
			p.frags[i] = f[:left]
			p.frags = p.frags[:i+1]
			break
		}
		left -= len(f)
	}
	p.fragsLen = 0
	for _, f := range p.frags {
		p.fragsLen += len(f)
	}
}

// Pull makes the first n bytes of the packet linear and reports whether it
// has that many. Offsets stay valid; slices taken from Head do not.
func (p *Packet) Pull(n int) bool {
	linear := p.end - p.off
	if n <= linear {
		return true
	}
	if n > p.Len() {
		return false
	}
	need := n - linear
	if p.end+need > len(p.buf) {
		p.relocate(p.off, need)
	}
	for need > 0 {
		f := p.frags[0]
		k := copy(p.buf[p.end:p.end+min(need, len(f))], f)
		p.end += k
		p.fragsLen -= k
		need -= k
		if k == len(f) {
			p.frags = p.frags[1:]
		} else {
			p.frags[0] = f[k:]
		}
	}
	return true
}

// Linearize makes the whole packet linear.
func (p *Packet) Linearize() { p.Pull(p.Len()) }

// CopyTo copies bytes from offset off (counted from the start of Head) into
// dst, across fragments, and returns how many there were.
func (p *Packet) CopyTo(dst []byte, off int) int {
	n := 0
	head := p.Head()
	if off < len(head) {
		n = copy(dst, head[off:])
		off = 0
	} else {
		off -= len(head)
	}
	for _, f := range p.frags {
		if n == len(dst) {
			break
		}
		if off >= len(f) {
			off -= len(f)
			continue
		}
		n += copy(dst[n:], f[off:])
		off = 0
	}
	return n
}

// Store writes src at offset off (counted from the start of Head), across
// fragments, and reports whether the packet is long enough; if it is not,
// nothing is written.
func (p *Packet) Store(src []byte, off int) bool {
	if off < 0 || off+len(src) > p.Len() {
		return false
	}
	p.Unshare()
	head := p.Head()
	if off < len(head) {
		n := copy(head[off:], src)
		src, off = src[n:], 0
	} else {
		off -= len(head)
	}
	for _, f := range p.frags {
		if len(src) == 0 {
			break
		}
		if off >= len(f) {
			off -= len(f)
			continue
		}
		n := copy(f[off:], src)
		src, off = src[n:], 0
	}
	return true
}

// Ref is a hold on memory that belongs to somebody else (a netstack packet
// buffer is one). DecRef is called once.
type Ref interface{ DecRef() }

// Shared reports whether the fragments belong to somebody else, who must not
// see them change.
func (p *Packet) Shared() bool { return p.ref != nil }

// Unshare makes the fragments this packet's own, by copying them if they are
// shared.
func (p *Packet) Unshare() {
	if p.ref != nil && len(p.frags) > 0 {
		p.Linearize()
	}
}

// AppendShared adds a fragment that belongs to somebody else. Nobody writes
// to it. A packet holds one Ref for all of them, given with any of the calls.
func (p *Packet) AppendShared(b []byte, ref Ref) {
	if len(b) > 0 {
		p.frags = append(p.frags, b)
		p.fragsLen += len(b)
	}
	if ref != nil {
		p.ref = ref
	}
}

// Batch returns the packet as a batch of one, without allocating. It is valid
// until the next call.
func (p *Packet) Batch() []*Packet {
	p.batch[0] = p
	return p.batch[:]
}

// AttachTail adds the first n bytes of t as a fragment; t is the packet's
// from now on. A packet has at most one tail.
func (p *Packet) AttachTail(t *Tail, n int) {
	p.tail = t
	p.frags = append(p.frags, t[:n])
	p.fragsLen += n
}

// SetLinear says that the linear part is the n bytes that begin where it
// begins now: for readers that filled Space.
func (p *Packet) SetLinear(n int) { p.end = p.off + n }

// Space is the storage behind the start of the linear part, for a reader to
// fill; SetLinear tells how much it used.
func (p *Packet) Space() []byte { return p.buf[p.off:] }

// relocate moves the linear part to storage with at least front bytes before
// and back bytes behind it.
func (p *Packet) relocate(front, back int) {
	linear := p.end - p.off
	old, oldOff := p.buf, p.off
	if p.class == small && front+linear+back <= Headroom+largeSize {
		// Swap storage with a large packet, so that both go back to a pool.
		q := pools[large].Get().(*Packet)
		p.buf, q.buf = q.buf, p.buf
		p.class, q.class = large, small
		defer pools[small].Put(q)
	} else {
		p.buf, p.class = make([]byte, front+linear+back), odd
	}
	// What is in front of the linear part is kept: link-layer headers live there.
	keep := min(oldOff, front)
	copy(p.buf[front-keep:], old[oldOff-keep:p.end])
	shift := front - oldOff
	for _, pos := range [...]*int{&p.mac, &p.l3, &p.l4, &p.csumStart} {
		if *pos >= 0 {
			*pos += shift
		}
	}
	p.off, p.end = front, front+linear
}

// Swap exchanges all that two packets are. Owners keep their packets, and find
// the other's bytes in them.
func (p *Packet) Swap(q *Packet) {
	*p, *q = *q, *p
	p.rebase(q)
	q.rebase(p)
}

// rebase mends the fragment list of a packet that was copied from another: it
// may point into the other's own store.
func (p *Packet) rebase(from *Packet) {
	if cap(p.frags) == len(from.fragStore) && len(p.frags) > 0 && &p.frags[:1][0] == &from.fragStore[0] {
		n := len(p.frags)
		p.frags = p.fragStore[:n]
	} else if len(p.frags) == 0 {
		p.frags = p.fragStore[:0]
	}
}
