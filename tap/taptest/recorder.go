package taptest

import (
	"context"
	"slices"
	"sync"

	"taproom/stack/packet"
	"taproom/tap"
)

// Frame is a copy of what arrived.
type Frame struct {
	Queue int
	Bytes []byte
	Meta  packet.Meta // as delivered
	// CsumStart and CsumOffset say where Meta.CsumPartial is to be completed.
	CsumStart, CsumOffset int
}

// Recorder keeps what a device delivers, for tests; its Receive is a
// tap.Receiver. With Finish it keeps what would be on the wire instead:
// super-frames cut, checksums complete. The zero value is ready.
type Recorder struct {
	Finish bool

	mu     sync.Mutex
	frames []Frame
	more   chan struct{} // closed when frames grows
}

// Receive records and releases the packets.
func (r *Recorder) Receive(queue int, batch []*packet.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := func(p *packet.Packet) {
		f := Frame{Queue: queue, Bytes: make([]byte, p.Len()), Meta: p.Meta}
		p.CopyTo(f.Bytes, 0)
		f.CsumStart, f.CsumOffset, _ = p.PartialChecksum()
		r.frames = append(r.frames, f)
		p.Release()
	}
	for _, p := range batch {
		if r.Finish {
			tap.Emit(p, tap.Offloads{}, keep, func(p *packet.Packet, _ packet.Reason) { p.Release() })
		} else {
			keep(p)
		}
	}
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
}

// Frames returns what has been recorded.
func (r *Recorder) Frames() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

// Take returns what has been recorded and forgets it.
func (r *Recorder) Take() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.frames
	r.frames = nil
	return f
}

// Wait returns the recorded frames once enough says they suffice, or with the
// error of ctx.
func (r *Recorder) Wait(ctx context.Context, enough func([]Frame) bool) ([]Frame, error) {
	for {
		r.mu.Lock()
		f := slices.Clone(r.frames)
		if r.more == nil {
			r.more = make(chan struct{})
		}
		more := r.more
		r.mu.Unlock()
		if enough(f) {
			return f, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
}
