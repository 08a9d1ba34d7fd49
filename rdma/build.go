package rdma

import (
	"encoding/binary"

	"taproom/rdma/roce"
	"taproom/stack/packet"
)

// builder writes packets of a queue pair, and puts those that may go together
// into one super-frame: same endpoint, same size, the last one perhaps shorter.
// It belongs to the goroutine that transmits.
type builder struct {
	p     *packet.Packet // the open frame, nil if there is none
	ep    *endpoint
	size  int // of each packet in it, BTH to ICRC
	n     int // bytes of all
	count int
	limit int    // packets it may hold
	id    uint16 // IPv4 identification of the next packet
	first uint16 // and of the frame's first

	// The ICRC seed of the last destination and size, for the next of the kind.
	flow     roce.Flow
	flowEp   *endpoint
	flowSize int
	flowQPN  uint32

	done []frame
	runs uint64
}

type frame struct {
	p     *packet.Packet
	ep    *endpoint
	count int
}

// begin returns the bytes of a new packet, BTH to ICRC, with the BTH in place.
// more tells that another of this size is likely to follow.
func (q *QP) begin(ep *endpoint, op roce.Opcode, qpn uint32, psn roce.PSN, ackReq, solicited bool, payload int, more bool) []byte {
	o := &q.out
	pad := roce.PadFor(payload)
	size := op.HeaderLen() + payload + pad + roce.ICRCLen
	b := o.reserve(q.dev, ep, size, more)
	b[0], b[1] = byte(op), byte(pad<<4)
	if solicited {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], q.pkey)
	binary.BigEndian.PutUint32(b[4:], qpn)
	v := uint32(psn)
	if ackReq {
		v |= 1 << 31
	}
	binary.BigEndian.PutUint32(b[8:], v)
	if pad > 0 {
		clear(b[size-roce.ICRCLen-pad : size-roce.ICRCLen])
	}
	return b
}

// seed starts the ICRC of the packet that begin returned, over its BTH and the
// ext bytes behind it.
func (q *QP) seed(b []byte, ext int) roce.Sum {
	o := &q.out
	bth := roce.BTH(b)
	if qpn := bth.DestQP(); o.flowEp != o.ep || o.flowSize != len(b) || o.flowQPN != qpn {
		o.flow = o.ep.flow.Dest(q.pkey, qpn).Length(len(b))
		o.flowEp, o.flowSize, o.flowQPN = o.ep, len(b), qpn
	}
	s := o.flow.SumTo(bth, o.id)
	if ext > 0 {
		s = s.Add(b[roce.BTHLen : roce.BTHLen+ext])
	}
	return s
}

// end finishes a packet: s covers all up to the pad.
func (q *QP) end(b []byte, s roce.Sum, now int64) {
	o := &q.out
	tail := len(b) - roce.ICRCLen
	if pad := roce.BTH(b).Pad(); pad > 0 {
		s = s.Add(b[tail-pad : tail])
	}
	s.Put(b[tail:])
	o.id++
	q.count.SentPkts++
	q.count.SentBytes += uint64(len(b))
	if len(q.trace.ring) > 0 {
		op := roce.BTH(b).Opcode()
		q.trace.add(now, true, b, len(b)-op.HeaderLen()-roce.BTH(b).Pad()-roce.ICRCLen)
	}
}

// abandon takes back the packet that begin has just returned.
func (o *builder) abandon(size int) {
	o.n -= size
	if o.count--; o.count == 0 {
		o.p.Release()
		o.p = nil
	}
}

// reserve finds room for a packet in the open frame, or opens another.
func (o *builder) reserve(d *Device, ep *endpoint, size int, more bool) []byte {
	if o.p != nil && (o.ep != ep || size > o.size || o.count >= o.limit || o.n != o.count*o.size) {
		o.close()
	}
	if o.p == nil {
		o.limit = 1
		if more {
			o.limit = d.maxRun(size, ep.v6)
		}
		o.p = packet.Alloc(ep.path.HeaderLen() + size*o.limit)
		o.ep, o.size, o.n, o.count, o.first = ep, size, 0, 0, o.id
	}
	h := ep.path.HeaderLen()
	b := o.p.Head()[h+o.n : h+o.n+size]
	o.n += size
	o.count++
	return b[:size:size]
}

// open tells whether a frame has room for more.
func (o *builder) open() bool { return o.p != nil && o.count < o.limit }

// close writes the headers of the open frame and puts it with those to be sent.
func (o *builder) close() {
	p := o.p
	if p == nil {
		return
	}
	o.p = nil
	if o.count > 1 {
		o.runs++
	}
	h := o.ep.path.HeaderLen()
	p.Truncate(h + o.n)
	p.Proto = 0x0800
	if o.ep.v6 {
		p.Proto = 0x86dd
	}
	p.SetL3(0)
	p.SetL4(h - roce.UDPLen)
	p.Local = true
	if o.count > 1 {
		o.ep.path.PutRun(p.Head(), o.n, o.first)
		p.GSO = packet.GSO{Type: packet.GSOUDP, Size: uint16(o.size), Segs: uint16(o.count)}
		p.SetPartialChecksum(h-roce.UDPLen, 6)
	} else {
		o.ep.path.Put(p.Head(), o.n, o.first)
	}
	o.done = append(o.done, frame{p, o.ep, o.count})
}
