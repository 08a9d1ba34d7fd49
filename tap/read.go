package tap

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"taproom/stack/packet"
)

// How a frame comes in: the reader takes a small packet from the pool and
// reads the virtio-net header into the bytes in front of it, the start of the
// frame into its linear part and the rest, if there is any, into a tail. A
// frame of an ordinary MTU thus costs a small packet only, and the tail stays
// with the reader. Reading goes on until the device has nothing more or the
// batch is full; the batch then goes up, on this goroutine, and what the
// Receiver does with it happens before the next read: that is the
// backpressure towards the kernel, which drops when its queue is full.

const (
	maxBatch      = 64
	maxBatchBytes = 128 << 10 // two or three super-frames stay in the cache
)

// reader is the state of a queue's reading goroutine.
type reader struct {
	q     *queue
	tail  *packet.Tail
	iov   [2][]byte
	batch []*packet.Packet
	err   error
}

// read runs until the file is closed or reading fails.
func (q *queue) read(recv Receiver) error {
	r := &reader{q: q, tail: packet.NewTail(), batch: make([]*packet.Packet, 0, maxBatch)}
	defer func() { packet.FreeTail(r.tail) }()
	conn, err := q.file.SyscallConn()
	if err != nil {
		return err
	}
	var gro packet.GRO
	fill := r.fill
	for {
		err := conn.Read(fill)
		if len(r.batch) > 0 {
			q.account(r.batch)
			batch := r.batch
			if q.dev.gro {
				batch = gro.Coalesce(batch)
			}
			recv(q.index, batch)
			clear(r.batch)
			r.batch = r.batch[:0]
		}
		if err == nil {
			err = r.err
		}
		if err != nil {
			return err
		}
	}
}

// fill reads a batch and reports false if there was nothing to read: the
// poller then calls again when there is.
func (r *reader) fill(fd uintptr) (done bool) {
	size := 0
	for len(r.batch) < maxBatch && size < maxBatchBytes {
		p, err := r.readOne(int(fd))
		switch err {
		case nil:
		case unix.EAGAIN:
			return len(r.batch) > 0
		case unix.EINTR:
			continue
		default:
			r.err = os.NewSyscallError("read", err)
			return true
		}
		if p != nil {
			size += p.Len()
			r.batch = append(r.batch, p)
		}
	}
	return true
}

// readOne reads one frame. It is nil for one that was dropped.
func (r *reader) readOne(fd int) (*packet.Packet, error) {
	hdr := r.q.hdr
	p := packet.Alloc(0)
	p.Push(hdr)
	r.iov[0] = p.Space()
	linear := len(r.iov[0])
	r.iov[1] = r.tail[:]
	n, err := readv(fd, &r.iov)
	if err != nil {
		p.Release()
		return nil, err
	}
	if n <= linear {
		p.SetLinear(n)
	} else {
		p.SetLinear(linear)
		p.AttachTail(r.tail, n-linear)
		r.tail = packet.NewTail()
	}
	if reason := r.open(p, n); reason != packet.NoReason {
		r.q.rx.drop(reason)
		p.Release()
		return nil, nil
	}
	return p, nil
}

// open takes the virtio-net header off and says why p cannot be used, if so.
func (r *reader) open(p *packet.Packet, n int) packet.Reason {
	hdr := r.q.hdr
	if n < hdr {
		return packet.TooShort
	}
	vnet := p.Head()[:hdr]
	p.Trim(hdr)
	p.Queue = uint16(r.q.index + 1)
	if !ParseFrame(p, r.q.dev.info.Kind) {
		return packet.TooShort
	}
	if hdr > 0 && !decodeVnet(vnet, p) {
		return packet.DeviceBadHeader
	}
	return packet.NoReason
}

// account counts and stamps a batch. The time is the batch's: it was read in
// one go.
func (q *queue) account(batch []*packet.Packet) {
	now := time.Now().UnixNano()
	var d Direction
	for _, p := range batch {
		p.Time = now
		d.Count(p)
	}
	q.rx.add(&d)
}
