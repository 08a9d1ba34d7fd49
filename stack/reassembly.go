package stack

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"taproom/stack/packet"
)

// reassembler makes packets whole: those of IPv4 before Input (RFC 791 3.2,
// RFC 815), and those of both versions for handlers that ask. Fragments that
// overlap end the packet (RFC 5722, and Linux for IPv4 too); exact repetitions
// are ignored. Memory and time are bounded.
type reassembler struct {
	node *Node

	mu     sync.Mutex
	memory int
	queues map[fragKey]*fragQueue
	oldest []*fragQueue // in order of arrival, for eviction
}

type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4 only
	in       int
}

type fragQueue struct {
	key    fragKey
	parts  []fragPart // by offset
	have   int        // bytes of payload
	total  int        // of the whole, -1 unknown
	memory int
	timer  Timer
}

// fragPart is one fragment: its bytes from head on are those from at to end of
// the whole.
type fragPart struct {
	at, end int
	head    int
	p       *packet.Packet
}

// overhead is what a waiting fragment costs beside its bytes.
const overhead = 256

func (r *reassembler) init(n *Node) {
	r.node = n
	r.queues = make(map[fragKey]*fragQueue)
}

func isFragment(p *packet.Packet) bool {
	h := p.Head()
	switch {
	case len(h) >= 20 && h[0]>>4 == 4:
		return h[6]&0x3f != 0 || h[7] != 0
	case len(h) >= 48 && h[0]>>4 == 6:
		t, ok := packet.ParseTransport(h)
		return ok && t.Fragment
	}
	return false
}

// parseFragment says which packet a fragment is of, and which part.
func parseFragment(p *packet.Packet) (k fragKey, f fragPart, more, ok bool) {
	h := p.Head()
	f.p = p
	if h[0]>>4 == 4 {
		f.head = int(h[0]&15) * 4
		word := binary.BigEndian.Uint16(h[6:])
		f.at, more = int(word&0x1fff)*8, word&0x2000 != 0
		k = fragKey{src: netip.AddrFrom4([4]byte(h[12:])), dst: netip.AddrFrom4([4]byte(h[16:])), id: uint32(binary.BigEndian.Uint16(h[4:])), proto: h[9], in: p.In}
	} else {
		at, _ := unfragmentable(h)
		if len(h) < at+8 {
			return k, f, false, false
		}
		f.head = at + 8
		word := binary.BigEndian.Uint16(h[at+2:])
		f.at, more = int(word&0xfff8), word&1 != 0
		k = fragKey{src: netip.AddrFrom16([16]byte(h[8:])), dst: netip.AddrFrom16([16]byte(h[24:])), id: binary.BigEndian.Uint32(h[at+4:]), in: p.In}
	}
	f.end = f.at + p.Len() - f.head
	ok = f.end+f.head <= 65535 && f.end > f.at && (!more || (f.end-f.at)%8 == 0)
	return k, f, more, ok
}

// add takes a fragment and returns the whole packet when it is the last one
// that was missing, else nil. It takes the packet over.
func (r *reassembler) add(i *Interface, p *packet.Packet) *packet.Packet {
	k, part, more, ok := parseFragment(p)
	if !ok {
		i.dropIn(p, packet.BadHeader)
		return nil
	}
	r.mu.Lock()
	q := r.queues[k]
	if q == nil {
		q = r.newQueueLocked(k)
	}
	ok, dup := q.insert(part, more)
	switch {
	case dup:
		r.mu.Unlock()
		p.Release()
		return nil
	case !ok:
		parts := r.removeLocked(q)
		r.mu.Unlock()
		release(parts)
		i.dropIn(p, packet.BadHeader)
		return nil
	}
	c := p.Len() + overhead
	q.memory += c
	r.memory += c
	if q.total < 0 || q.have < q.total {
		victims := r.evictLocked(q)
		r.mu.Unlock()
		for _, v := range victims {
			i.dropIn(v, packet.ReassemblyLimit)
		}
		return nil
	}
	parts := r.removeLocked(q)
	r.mu.Unlock()
	r.node.counters.reassembled.Add(1)
	return join(parts, q.total)
}

// insert places a part and says whether it fits, and whether it was there
// already.
func (q *fragQueue) insert(f fragPart, more bool) (ok, dup bool) {
	if !more {
		if q.total >= 0 && q.total != f.end {
			return false, false
		}
		q.total = f.end
	}
	if n := len(q.parts); q.total >= 0 && (f.end > q.total || n > 0 && q.parts[n-1].end > q.total) {
		return false, false
	}
	k := 0
	for k < len(q.parts) && q.parts[k].at < f.at {
		k++
	}
	if k < len(q.parts) && q.parts[k].at == f.at && q.parts[k].end == f.end {
		return true, true
	}
	if k > 0 && q.parts[k-1].end > f.at || k < len(q.parts) && q.parts[k].at < f.end {
		return false, false
	}
	q.parts = append(q.parts, fragPart{})
	copy(q.parts[k+1:], q.parts[k:])
	q.parts[k] = f
	q.have += f.end - f.at
	return true, false
}

func (r *reassembler) newQueueLocked(k fragKey) *fragQueue {
	q := &fragQueue{key: k, total: -1}
	r.queues[k] = q
	r.oldest = append(r.oldest, q)
	q.timer = r.node.opts.Clock.AfterFunc(r.node.opts.ReassemblyTimeout, func() { r.expire(q) })
	return q
}

func (r *reassembler) removeLocked(q *fragQueue) []fragPart {
	if r.queues[q.key] != q {
		return nil
	}
	delete(r.queues, q.key)
	for k, o := range r.oldest {
		if o == q {
			r.oldest = append(r.oldest[:k], r.oldest[k+1:]...)
			break
		}
	}
	q.timer.Stop()
	r.memory -= q.memory
	parts := q.parts
	q.parts = nil
	return parts
}

// evictLocked makes room by giving up the oldest packets, but for keep.
func (r *reassembler) evictLocked(keep *fragQueue) (victims []*packet.Packet) {
	for r.memory > r.node.opts.ReassemblyMemory && len(r.oldest) > 0 {
		q := r.oldest[0]
		if q == keep && len(r.oldest) > 1 {
			q = r.oldest[1]
		}
		for _, f := range r.removeLocked(q) {
			victims = append(victims, f.p)
		}
	}
	return victims
}

// expire gives up on a packet, and tells its sender if the first fragment has
// come (RFC 792, RFC 8200 4.5).
func (r *reassembler) expire(q *fragQueue) {
	r.mu.Lock()
	parts := r.removeLocked(q)
	r.mu.Unlock()
	n := r.node
	if len(parts) > 0 && parts[0].at == 0 {
		first := parts[0].p
		if i := n.byIndex(first.In); i != nil {
			if first.Head()[0]>>4 == 4 {
				n.icmp4Error(i, first, icmp4TimeExceeded, 1, 0)
			} else {
				n.icmp6Error(i, first, icmp6TimeExceeded, 1, 0)
			}
		}
	}
	for _, f := range parts {
		n.drop(f.p, packet.ReassemblyTimeout)
	}
}

func (r *reassembler) close() {
	r.mu.Lock()
	var all []fragPart
	for len(r.oldest) > 0 {
		all = append(all, r.removeLocked(r.oldest[0])...)
	}
	r.mu.Unlock()
	release(all)
}

func release(parts []fragPart) {
	for _, f := range parts {
		f.p.Release()
	}
}

// join makes the whole packet, with the header of the first fragment.
func join(parts []fragPart, total int) *packet.Packet {
	first := parts[0]
	h := first.p.Head()
	v6 := h[0]>>4 == 6
	hlen := first.head
	if v6 {
		hlen -= 8 // the fragment header goes
	}
	p := packet.Alloc(hlen + total)
	p.Meta = first.p.Meta
	p.CsumPartial, p.CsumValid, p.GSO = false, false, packet.GSO{}
	p.SetL3(0)
	p.SetL4(hlen)
	b := p.Head()
	copy(b, h[:hlen])
	if v6 {
		_, nextAt := unfragmentable(h)
		b[nextAt] = h[hlen]
		binary.BigEndian.PutUint16(b[4:], uint16(hlen-40+total))
		p.ClearL4()
		defer func() {
			if t, ok := packet.ParseTransport(b); ok {
				p.SetL4(t.Offset)
			}
		}()
	} else {
		binary.BigEndian.PutUint16(b[2:], uint16(hlen+total))
		b[6], b[7] = b[6]&0x40, 0
		setIPv4Checksum(b)
	}
	for _, f := range parts {
		f.p.CopyTo(b[hlen+f.at:], f.head)
		p.FragMax = max(p.FragMax, uint16(f.p.Len()))
		f.p.Release()
	}
	return p
}
