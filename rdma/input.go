package rdma

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// rxPacket is a received packet whose ICRC has been found right.
type rxPacket struct {
	roce.Body
	ip  []byte // IP header; of a run, the first packet's
	src netip.Addr
	dst netip.Addr
	ce  bool // marked by a congested router
	id  uint16
}

// scratchLen holds the longest packet of ours: BTH, extension, 4096 bytes, ICRC.
const scratchLen = roce.BTHLen + roce.AtomicETHLen + 4096 + 3 + roce.ICRCLen

// runReader takes the packets of a received frame one after the other. The
// frame's parts need not be contiguous: only a packet that lies across the end
// of one is copied.
type runReader struct {
	head  []byte // what is left of the present part
	frags [][]byte
	left  int // bytes of all
	size  int // of each packet but the last
	flow  roce.Flow
	id    uint16
	v6    bool
	// scratch is where packets across a border are put together.
	scratch [scratchLen]byte
}

// reader is what Receive works with. It lives in a pool because its parts are
// passed by pointer to what the compiler cannot follow.
type reader struct {
	x rxPacket
	r runReader
}

var reading = sync.Pool{New: func() any { return new(reader) }}

// Receive implements Receiver.
func (d *Device) Receive(p *packet.Packet) {
	rd := reading.Get().(*reader)
	defer reading.Put(rd)
	x, r := &rd.x, &rd.r
	if !r.open(p, x) {
		d.unseen.malformed.Add(1)
		return
	}
	var q *QP
	var now int64
	for r.left > 0 {
		b, ok := r.next()
		if !ok {
			d.unseen.malformed.Add(1)
			break
		}
		f := r.flow.Length(len(b))
		tail := len(b) - roce.ICRCLen
		x.id = r.id
		r.id++
		if !f.Sum(roce.BTH(b), x.id).Add(b[roce.BTHLen:tail]).Matches(b[tail:]) {
			d.unseen.icrc.Add(1)
			continue
		}
		var err error
		if x.Body, err = roce.ParseBody(b); err != nil {
			d.unseen.malformed.Add(1)
			continue
		}
		qpn := x.BTH.DestQP()
		if qpn == MulticastQPN {
			d.multicast(x)
			continue
		}
		if q == nil || q.num != qpn {
			if q != nil {
				q.mu.Unlock()
				q.kick()
			}
			if q = d.qps.get(int(qpn)); q == nil {
				d.unseen.noQP.Add(1)
				continue
			}
			q.mu.Lock()
			if now == 0 {
				now = d.clock.Now()
			}
		}
		q.input(x, now)
	}
	if q != nil {
		q.mu.Unlock()
		q.kick()
	}
}

// open reads the headers of a frame: false for anything but UDP to port 4791.
func (r *runReader) open(p *packet.Packet, x *rxPacket) bool {
	h := p.Head()
	l := roce.IPv4Len
	r.v6 = len(h) > 0 && h[0]>>4 == 6
	if r.v6 {
		l = roce.IPv6Len
	}
	if len(h) < l+roce.UDPLen {
		if !p.Pull(l + roce.UDPLen) {
			return false
		}
		h = p.Head()
	}
	total := 0
	if r.v6 {
		if h[6] != 17 {
			return false
		}
		total = roce.IPv6Len + int(binary.BigEndian.Uint16(h[4:]))
		x.src, x.dst = netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
		x.ce = h[1]>>4&3 == 3
	} else {
		if h[0] != 0x45 || h[9] != 17 || binary.BigEndian.Uint16(h[6:])&0x3fff != 0 {
			return false
		}
		total = int(binary.BigEndian.Uint16(h[2:]))
		r.id = binary.BigEndian.Uint16(h[4:])
		x.src, x.dst = netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
		x.ce = h[1]&3 == 3
	}
	udp := h[l : l+roce.UDPLen]
	if binary.BigEndian.Uint16(udp[2:]) != roce.Port || total > p.Len() || total < l+roce.UDPLen ||
		int(binary.BigEndian.Uint16(udp[4:])) != total-l {
		return false
	}
	x.ip = h[:l]
	r.flow = roce.NewFlow(x.ip, udp)
	r.left = total - l - roce.UDPLen
	r.size = r.left
	if p.GSO.Type == packet.GSOUDP && p.GSO.Size > 0 {
		r.size = int(p.GSO.Size)
	}
	r.head, r.frags = h[l+roce.UDPLen:], p.Frags()
	return true
}

// next returns the bytes of the next packet, BTH to ICRC.
func (r *runReader) next() ([]byte, bool) {
	n := min(r.size, r.left)
	if n < roce.BTHLen+roce.ICRCLen {
		return nil, false
	}
	r.left -= n
	for len(r.head) == 0 && len(r.frags) > 0 {
		r.head, r.frags = r.frags[0], r.frags[1:]
	}
	if len(r.head) >= n {
		b := r.head[:n:n]
		r.head = r.head[n:]
		return b, true
	}
	if n > len(r.scratch) {
		return nil, false
	}
	b := r.scratch[:0]
	for len(b) < n {
		if len(r.head) == 0 {
			if len(r.frags) == 0 {
				return nil, false
			}
			r.head, r.frags = r.frags[0], r.frags[1:]
			continue
		}
		k := min(n-len(b), len(r.head))
		b = append(b, r.head[:k]...)
		r.head = r.head[k:]
	}
	return b, true
}

// multicast gives a datagram to the members of its group.
func (d *Device) multicast(x *rxPacket) {
	groups := d.mcast.Load()
	if groups == nil || x.DETH() == nil {
		d.unseen.noQP.Add(1)
		return
	}
	members := (*groups)[x.dst]
	if len(members) == 0 {
		d.unseen.noQP.Add(1)
		return
	}
	for _, q := range members {
		if q.num == x.DETH().SrcQP() && d.isLocal(x.src) {
			continue // its own
		}
		q.mu.Lock()
		q.input(x, d.clock.Now())
		q.mu.Unlock()
	}
}

// input takes a packet for the queue pair. q.mu is held.
func (q *QP) input(x *rxPacket, now int64) {
	info := x.Info()
	q.now = now
	q.count.RcvdPkts++
	q.count.RcvdBytes += uint64(len(x.BTH) + roce.ICRCLen)
	q.trace.add(now, false, x.BTH, len(x.Payload))
	if q.dead || q.state < RTR || q.state == Err || !q.service(info.Service) {
		q.count.Dropped++
		return
	}
	if !pkeyMatch(q.pkey, x.BTH.PKey()) {
		q.dev.unseen.pkey.Add(1)
		q.count.Dropped++
		return
	}
	if q.connected() && x.src != q.ep.path.Dst {
		q.count.Dropped++ // not from our peer
		return
	}
	if info.Op == roce.OpCNP {
		q.cnpReceived(now)
		return
	}
	if x.ce && q.connected() {
		q.marked(now)
	}
	if q.state == RTR && !q.commEst {
		q.commEst = true
		q.dev.event(Event{Type: CommEst, QP: q})
	}
	switch {
	case q.typ == UD || q.typ == GSI:
		q.datagram(x)
	case q.typ == UC:
		q.respondUC(x)
	case info.Request:
		q.respond(x)
	default:
		q.answered(x, now)
	}
}

func (q *QP) service(s roce.Service) bool {
	switch q.typ {
	case RC:
		return s == roce.ServiceRC || s == roce.ServiceCNP
	case UC:
		return s == roce.ServiceUC || s == roce.ServiceCNP
	}
	return s == roce.ServiceUD
}
