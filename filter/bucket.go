package filter

import "time"

// This file is the arithmetic of HTB's buckets. tc gives the kernel times in
// ticks of 64 ns and computes them in whole microseconds, which shows in every
// listing; the same roundings are made here.

const (
	tick       = 64 * time.Nanosecond
	defaultMTU = 1600 // tc's, for the size of a burst
)

// ticksFor is tc's time to send n bytes: whole microseconds, then ticks.
func ticksFor(rate uint64, n uint32) int64 {
	us := uint64(float64(n) * 1e6 / float64(rate))
	return int64(float64(us) * 15.625)
}

// bytesIn is the reverse, as tc prints a burst.
func bytesIn(rate uint64, ticks int64) uint64 {
	us := uint64(float64(ticks) / 15.625)
	return rate * us / 1e6
}

// bucket is the depth of a bucket in ns, for a burst in bytes or the default.
func bucket(rate uint64, burst uint32) int64 {
	if burst == 0 {
		burst = uint32(min(rate/1e9, 1<<30)) + defaultMTU
	}
	return ticksFor(rate, burst) * int64(tick)
}

// cost is the time n bytes take at a rate.
func cost(rate uint64, n int) int64 { return int64(uint64(n) * uint64(time.Second) / rate) }

// filled is what a bucket holds now.
func (k *class) filled(now time.Time) (tokens, ctokens int64) {
	diff := min(max(int64(now.Sub(k.checked)), 0), maxDebt)
	return min(k.tokens+diff, k.buffer), min(k.ctokens+diff, k.cbuffer)
}

// lender is the class whose tokens pay for a packet of leaf k: itself, or the
// nearest ancestor that has some, if nobody up to there is over its ceiling.
func (k *class) lender(now time.Time) *class {
	for c := k; c != nil; c = c.parent {
		t, ct := c.filled(now)
		if ct < 0 {
			return nil
		}
		if t >= 0 {
			return c
		}
	}
	return nil
}

// wait is how long until k may send, at most.
func (k *class) wait(now time.Time) time.Duration {
	t, ct := k.filled(now)
	own := max(-t, -ct, 0)
	if ct < 0 || k.parent == nil {
		return time.Duration(own)
	}
	return min(time.Duration(own), max(k.parent.wait(now), 0))
}

// charge pays for n bytes of leaf k with from's tokens: whoever stands below
// the lender has only borrowed, and pays with its ceiling.
func (k *class) charge(n int, from *class, now time.Time) {
	for c := k; c != nil; c = c.parent {
		t, ct := c.filled(now)
		if c.level >= from.level {
			if c == from {
				c.lends++
			}
			t -= cost(c.Rate, n)
		} else {
			c.borrows++
		}
		c.tokens = max(t, 1-maxDebt)
		c.ctokens = max(ct-cost(c.Ceil, n), 1-maxDebt)
		c.checked = now
		c.bytes += uint64(n)
		c.packets++
	}
}

// schedule sends what may go now and sets the timer for the rest. q.mu is
// held.
func (q *HTB) schedule(now time.Time) {
	if q.closed {
		return
	}
	next := time.Duration(-1)
	for _, k := range q.order {
		if len(k.queue) == 0 {
			continue
		}
		if w := max(k.wait(now), 20*time.Microsecond); next < 0 || w < next {
			next = w
		}
	}
	if next < 0 {
		return
	}
	if q.timer == nil {
		q.timer = time.AfterFunc(next, q.dequeue)
		return
	}
	q.timer.Reset(next)
}

// dequeue sends what has become affordable: smaller priorities first, and
// within one in turn, a packet a class.
func (q *HTB) dequeue() {
	q.mu.Lock()
	now := q.now()
	for {
		k := q.pick(now)
		if k == nil {
			break
		}
		p := k.queue[0]
		k.queue[0] = nil
		k.queue = k.queue[1:]
		k.queued -= p.Len()
		k.charge(p.Len(), k.lender(now), now)
		q.mu.Unlock()
		_ = q.dev.fs.host.ToDevice(q.dev.index, p)
		q.mu.Lock()
	}
	q.schedule(now)
	q.mu.Unlock()
}

// pick chooses the next class that has a packet and may send it.
func (q *HTB) pick(now time.Time) *class {
	var best *class
	at := 0
	for i := range q.order {
		j := (q.next + i) % len(q.order)
		k := q.order[j]
		if len(k.queue) == 0 || best != nil && k.Prio >= best.Prio || k.lender(now) == nil {
			continue
		}
		best, at = k, j
	}
	if best != nil {
		q.next = at + 1
	}
	return best
}

// ClassInfo is a class in a listing. Tokens are in ticks of 64 ns.
type ClassInfo struct {
	ClassConfig
	Level                                               int
	Bytes, Packets, Dropped, Overlimits, Lends, Borrows uint64
	Backlog, BacklogBytes                               int
	Tokens, CTokens                                     int64
	Burst, CBurst                                       uint64 // bytes, as tc computes them back
}

// Classes lists the classes in order of creation.
func (q *HTB) Classes() []ClassInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]ClassInfo, 0, len(q.order))
	for _, k := range q.order {
		out = append(out, ClassInfo{
			ClassConfig: k.ClassConfig, Level: k.level, Bytes: k.bytes, Packets: k.packets, Dropped: k.dropped,
			Overlimits: k.overlimits, Lends: k.lends, Borrows: k.borrows, Backlog: len(k.queue), BacklogBytes: k.queued,
			Tokens: k.tokens / int64(tick), CTokens: k.ctokens / int64(tick),
			Burst: bytesIn(k.Rate, k.buffer/int64(tick)), CBurst: bytesIn(k.Ceil, k.cbuffer/int64(tick)),
		})
	}
	return out
}

// Handle and Default are the root's numbers; Direct counts packets of no
// class.
func (q *HTB) Handle() uint16 { return uint16(q.major >> 16) }

// Default is the minor number of the class of packets nobody classified.
func (q *HTB) Default() uint16 { return uint16(q.defcls) }

// Direct is how many packets went past all classes.
func (q *HTB) Direct() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.direct
}
