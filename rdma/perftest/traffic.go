package perftest

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"taproom/rdma"
)

// spinFor is how long poll looks for completions before it sleeps. Sleeping
// costs some 30 us, but who looks for longer takes the processor from those that
// bring completions, where these are few.
const spinFor = 50 * time.Microsecond

// poll takes completions of a queue into b.wcs. It fails on a failed completion
// and when nothing comes for long.
func (b *bench) poll(cq *rdma.CQ) (int, error) {
	var since time.Time
	armed := false
	for spins := 1; ; spins++ {
		n, err := cq.Poll(b.wcs[:])
		if err != nil {
			return 0, err
		}
		for i := range b.wcs[:n] {
			if err := b.wcs[i].Err(); err != nil {
				return 0, err
			}
		}
		if n > 0 {
			return n, nil
		}
		if !armed && spins%64 != 0 {
			continue
		}
		runtime.Gosched()
		waited := time.Duration(0)
		if since.IsZero() {
			since = time.Now()
		} else {
			waited = time.Since(since)
		}
		switch {
		case waited > stalled:
			return 0, fmt.Errorf("perftest: %v: no completion for %v", b.Kind, stalled)
		case waited < spinFor:
		case !armed: // and look once more: one may have come before
			for b.events.TryGet() != nil { // of an earlier time
			}
			if err := cq.ReqNotify(false); err != nil {
				return 0, err
			}
			armed = true
		default:
			armed = false
			select {
			case <-b.events.Ready():
				b.events.TryGet()
			case <-time.After(stalled - waited):
			}
		}
	}
}

var wrOpcodes = [...]rdma.WROpcode{Send: rdma.WRSend, Write: rdma.WRWrite, Read: rdma.WRRead, Atomic: rdma.WRFetchAdd}

// request makes the work request of queue pair i for messages of n bytes. sge is
// the caller's to keep until the post.
func (b *bench) request(i, n int, sge []rdma.SGE) rdma.SendWR {
	sge[0] = b.mr.SGE(b.sendAt(i), n)
	w := rdma.SendWR{
		ID: uint64(i), Opcode: wrOpcodes[b.Kind], SGList: sge, RemoteAddr: b.remote[i].VAddr, RKey: b.remote[i].RKey, CompareAdd: 1,
	}
	if b.Type == rdma.UD {
		w.AH, w.RemoteQPN, w.RemoteQKey = b.ahs[i], b.remote[i].QPN, qkey
	}
	if n <= b.Inline && (b.Kind == Send || b.Kind == Write) {
		w.Flags |= rdma.Inline
	}
	return w
}

// bandwidth keeps Depth work requests under way on each queue pair until all
// have completed. Every Moderation-th is signalled, and completes those before.
func (b *bench) bandwidth(n int) (Report, error) {
	total := b.Iterations * b.QPs
	posted, completed := make([]time.Duration, 0, total), make([]time.Duration, 0, total)
	sent, done := make([]int, b.QPs), make([]int, b.QPs)
	wrs := make([]rdma.SendWR, b.QPs)
	for i := range wrs {
		wrs[i] = b.request(i, n, make([]rdma.SGE, 1))
	}
	batch := make([]rdma.SendWR, 0, b.Moderation)
	start := time.Now()
	for len(completed) < total {
		for i, q := range b.qps {
			for sent[i] < b.Iterations && sent[i]-done[i]+b.Moderation <= max(b.Depth, b.Moderation) {
				k := min(b.Moderation, b.Iterations-sent[i])
				batch = batch[:0]
				for j := range k {
					w := wrs[i]
					if j == k-1 {
						w.Flags |= rdma.Signaled
						w.ID = uint64(i) | uint64(k)<<32
					}
					batch = append(batch, w)
				}
				at := time.Since(start)
				if _, err := q.PostSend(batch...); err != nil {
					return Report{}, err
				}
				for range k {
					posted = append(posted, at)
				}
				sent[i] += k
			}
		}
		c, err := b.poll(b.cq)
		if err != nil {
			return Report{}, err
		}
		at := time.Since(start)
		for _, wc := range b.wcs[:c] {
			k := int(wc.ID >> 32)
			done[uint32(wc.ID)] += k
			for range k {
				completed = append(completed, at)
			}
		}
	}
	return Bandwidth(n, posted, completed), nil
}

// receive counts messages of n bytes until all have come.
func (b *bench) receive(n int) (Report, error) {
	total := b.Iterations * b.QPs
	posted, completed := make([]time.Duration, total), make([]time.Duration, 0, total)
	var start time.Time
	for len(completed) < total {
		c, err := b.poll(b.rcq)
		if err != nil {
			return Report{}, err
		}
		if start.IsZero() {
			start = time.Now()
		}
		at := time.Since(start)
		for _, wc := range b.wcs[:c] {
			completed = append(completed, at)
			if err := b.postRecv(int(wc.ID)); err != nil {
				return Report{}, err
			}
		}
	}
	r := Bandwidth(n, posted, completed)
	r.Peak = 0 // perftest's receiver shows none
	return r, nil
}

// latency does one operation after the other. With SEND and WRITE the two sides
// take turns, and half of a round trip is what counts. The client begins with
// SEND, the server with WRITE, as perftest has it.
func (b *bench) latency(n int) (Latency, error) {
	w := b.request(0, n, make([]rdma.SGE, 1))
	w.Flags |= rdma.Signaled
	turns := b.Kind == Send || b.Kind == Write
	second := b.server == (b.Kind == Send)
	samples := make([]time.Duration, 0, b.Iterations)
	last := time.Now()
	for i := range b.Iterations {
		if turns && second {
			if err := b.turn(i+1, n); err != nil {
				return Latency{}, err
			}
		}
		if b.Kind == Write { // what the peer waits for
			b.buf[b.sendAt(0)+n-1] = byte(i + 1)
		}
		if _, err := b.qps[0].PostSend(w); err != nil {
			return Latency{}, err
		}
		if turns && !second {
			if err := b.turn(i+1, n); err != nil {
				return Latency{}, err
			}
		}
		if _, err := b.poll(b.cq); err != nil {
			return Latency{}, err
		}
		now := time.Now()
		if i > 0 { // the first resolves addresses and warms caches
			samples = append(samples, now.Sub(last))
		}
		last = now
	}
	if len(samples) == 0 {
		samples = append(samples, time.Since(last))
	}
	l := NewLatency(n, samples, turns)
	l.Iterations = b.Iterations
	return l, nil
}

// turn waits for the peer's i-th message.
func (b *bench) turn(i, n int) error {
	if b.Kind == Send {
		c, err := b.poll(b.rcq)
		for range c {
			if err := b.postRecv(0); err != nil {
				return err
			}
		}
		return err
	}
	// The last byte of a WRITE is the last to arrive. It is read as part of an
	// aligned word, atomically, because the device writes it meanwhile.
	at := b.recvAt(0) + n - 1
	word := (*uint32)(unsafe.Pointer(&b.buf[at&^3]))
	shift := 8 * (at & 3)
	start := time.Time{}
	for spins := 1; byte(atomic.LoadUint32(word)>>shift) != byte(i); spins++ {
		if spins%64 != 0 {
			continue
		}
		runtime.Gosched()
		if start.IsZero() {
			start = time.Now()
			continue
		}
		switch waited := time.Since(start); {
		case waited > stalled:
			return fmt.Errorf("perftest: WRITE %d of the peer does not come", i)
		case waited > spinFor: // nothing wakes us
			time.Sleep(spinFor)
		}
	}
	return nil
}
