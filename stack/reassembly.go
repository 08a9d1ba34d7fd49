package stack

import (
	"encoding/binary"
	"sync"

	"taproom/stack/packet"
)

// reassembler makes IPv4 packets whole before Input (RFC 791 3.2, RFC 815).
// Fragments that overlap end the packet, as on Linux since RFC 5722; exact
// repetitions are ignored. Memory and time are bounded.
type reassembler struct {
	node *Node

	mu     sync.Mutex
	memory int
	queues map[fragKey]*fragQueue
	oldest []*fragQueue // in order of arrival, for eviction
}

type fragKey struct {
	src, dst [4]byte
	id       uint16
	proto    uint8
	in       int
}

type fragQueue struct {
	key    fragKey
	parts  []fragPart // by offset
	have   int        // bytes of payload
	total  int        // of the whole, -1 unknown
	memory int
	timer  Timer
	first  *packet.Packet // the part with offset 0
}

type fragPart struct {
	at, end int
	p       *packet.Packet
}

// overhead is what a waiting fragment costs beside its bytes.
const overhead = 256

func (r *reassembler) init(n *Node) {
	r.node = n
	r.queues = make(map[fragKey]*fragQueue)
}

// add takes a fragment and returns the whole packet when it is the last one
// that was missing, else nil. It takes the packet over.
func (r *reassembler) add(i *Interface, p *packet.Packet) *packet.Packet {
	h := p.Head()
	ihl := int(h[0]&15) * 4
	word := binary.BigEndian.Uint16(h[6:])
	at := int(word&0x1fff) * 8
	end := at + p.Len() - ihl
	more := word&0x2000 != 0
	if end+ihl > 65535 || more && (end-at)%8 != 0 || end == at {
		i.dropIn(p, packet.BadHeader)
		return nil
	}
	k := fragKey{src: [4]byte(h[12:]), dst: [4]byte(h[16:]), id: binary.BigEndian.Uint16(h[4:]), proto: h[9], in: p.In}
	r.mu.Lock()
	q := r.queues[k]
	if q == nil {
		q = r.newQueueLocked(k)
	}
	ok, dup := q.insert(fragPart{at, end, p}, more)
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
	cost := p.Len() + overhead
	q.memory += cost
	r.memory += cost
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
	if q.total >= 0 && f.end > q.total {
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
	if q.total >= 0 && len(q.parts) > 0 && q.parts[len(q.parts)-1].end > q.total {
		return false, false
	}
	q.parts = append(q.parts, fragPart{})
	copy(q.parts[k+1:], q.parts[k:])
	q.parts[k] = f
	q.have += f.end - f.at
	if f.at == 0 {
		q.first = f.p
	}
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
// come (RFC 792).
func (r *reassembler) expire(q *fragQueue) {
	r.mu.Lock()
	parts := r.removeLocked(q)
	r.mu.Unlock()
	n := r.node
	if q.first != nil && len(parts) > 0 {
		if i := n.byIndex(q.first.In); i != nil {
			n.icmp4Error(i, q.first, icmp4TimeExceeded, 1, 0)
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
	first := parts[0].p
	ihl := int(first.Head()[0]&15) * 4
	p := packet.Alloc(ihl + total)
	p.Meta = first.Meta
	p.SetL3(0)
	p.SetL4(ihl)
	b := p.Head()
	copy(b, first.Head()[:ihl])
	for _, f := range parts {
		fi := int(f.p.Head()[0]&15) * 4
		f.p.CopyTo(b[ihl+f.at:], fi)
		f.p.Release()
	}
	binary.BigEndian.PutUint16(b[2:], uint16(ihl+total))
	b[6], b[7] = b[6]&0x40, 0
	setIPv4Checksum(b)
	p.CsumPartial, p.CsumValid = false, false
	p.GSO = packet.GSO{}
	p.Proto = packet.EtherIPv4
	return p
}
