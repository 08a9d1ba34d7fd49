package rdma

import "runtime"

// burst is how many packets are built under the lock before they are sent: enough
// to fill super-frames, few enough to be in the cache still when the other side
// of an in-memory port reads them. One that is open then is filled, up to twice
// as many: it would go with 2 packets of the 62 it has room for.
const burst = 64

// kick transmits all that may go. Exactly one goroutine transmits for a queue
// pair; others that come meanwhile leave a note and go. That keeps packets in
// order without holding the lock while they are sent, and lets an answer come
// back on the same stack (in-memory ports, loopback) without recursion: the
// inner kick finds the outer one busy.
func (q *QP) kick() {
	if q.work.Add(1) != 1 {
		return
	}
	for {
		seen := q.work.Load()
		for q.transmit() {
		}
		if q.work.CompareAndSwap(seen, 0) {
			return
		}
	}
}

// transmit sends one burst, and tells whether there may be more.
func (q *QP) transmit() bool {
	q.mu.Lock()
	var now int64
	n := 0
	more := true
	for ; n < burst || n < 2*burst && q.out.open(); n++ {
		if now == 0 && (!q.resp.idle() || q.sq.next != q.sq.tail) {
			now = q.dev.clock.Now()
			q.now = now
		}
		if !q.answerOne(now) && !q.requestOne(now) {
			more = false
			break
		}
	}
	q.out.close()
	q.count.SentRuns += q.out.runs
	q.out.runs = 0
	done := q.out.done
	q.mu.Unlock()
	if len(done) == 0 {
		return more
	}
	var failed uint64
	for i := range done {
		f := done[i]
		done[i] = frame{}
		if err := q.dev.send(f); err != nil {
			failed++
		}
	}
	q.out.done = done[:0]
	if failed > 0 {
		q.dev.unseen.sendErr.Add(failed)
	}
	return more
}

// settle lets answers go that are queued already: a program that has seen a
// completion may end the queue pair at once, and the ACK or NAK that belongs to
// it must not be lost. It waits, not for long, for a goroutine that is
// transmitting just now.
func (q *QP) settle() {
	q.kick()
	for range 1000 {
		if q.work.Load() == 0 {
			return
		}
		runtime.Gosched()
	}
}

// send hands a frame to the port, or to this device where it is for itself.
func (d *Device) send(f frame) error {
	if f.ep.local {
		d.Receive(f.p)
		f.p.Release()
		return nil
	}
	if f.ep.mcast {
		d.Receive(f.p) // members on this device; the sender does not hear itself
	}
	return d.port.Send(f.p)
}
