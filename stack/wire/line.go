package wire

import "math/bits"

// line is a transmitter of a certain speed with a queue in front of it. Times
// are exact: what a division leaves is carried over, so that the speed holds
// over any number of frames.
type line struct {
	free      int64  // when the transmitter has sent all it was given, ns
	remainder uint64 // of the last division, in units of 1/rate ns
	waiting   []departure
	first     int // index of the oldest in waiting
	bytes     int // of those waiting
}

// departure is when a frame has left the transmitter.
type departure struct {
	at    int64
	bytes int
}

// retire forgets the frames that have left by now.
func (l *line) retire(now int64) {
	for l.first < len(l.waiting) && l.waiting[l.first].at <= now {
		l.bytes -= l.waiting[l.first].bytes
		l.first++
	}
	if l.first == len(l.waiting) {
		l.waiting, l.first = l.waiting[:0], 0
	} else if l.first > 64 && l.first*2 > len(l.waiting) {
		n := copy(l.waiting, l.waiting[l.first:])
		l.waiting, l.first = l.waiting[:n], 0
	}
}

// packets is how many frames wait or are being sent, as of the last retire.
func (l *line) packets() int { return len(l.waiting) - l.first }

// full reports whether a frame of n bytes does not fit into the queue. An
// empty queue takes any frame.
func (l *line) full(i *Impairment, n int) bool {
	limit := i.QueuePackets
	if limit == 0 {
		limit = DefaultQueue
	}
	waiting := l.packets()
	return waiting >= limit || waiting > 0 && i.QueueBytes > 0 && l.bytes+n > i.QueueBytes
}

// transmit queues a frame of n bytes and returns when its last bit has left.
func (l *line) transmit(now int64, rate uint64, n int) int64 {
	if l.free < now {
		l.free, l.remainder = now, 0
	}
	// n*8 bits at rate bit/s are n*8e9/rate ns; the product needs 128 bits
	// only for frames no device makes, but costs nothing.
	hi, lo := bits.Mul64(uint64(n)*8, 1e9)
	lo, carry := bits.Add64(lo, l.remainder, 0)
	ns, rem := bits.Div64((hi+carry)%rate, lo, rate)
	l.free, l.remainder = l.free+int64(ns), rem
	l.waiting = append(l.waiting, departure{l.free, n})
	l.bytes += n
	return l.free
}
