package ioam

import "sync/atomic"

// limiter lets a number of things a second happen, and a burst at once: the
// generic cell rate algorithm, whose whole state is one time.
type limiter struct {
	interval int64 // nanoseconds between two; 0 is no limit
	slack    int64 // how far ahead of its time one may be
	next     atomic.Int64
}

// set gives the rate per second, 0 standing for the default and a negative
// one for no limit.
func (l *limiter) set(rate, def, burst int) {
	if rate == 0 {
		rate = def
	}
	if rate > 0 {
		l.interval = 1e9 / int64(rate)
		l.slack = l.interval * int64(burst-1)
	}
}

func (l *limiter) allow(now int64) bool {
	if l.interval == 0 {
		return true
	}
	for {
		next := l.next.Load()
		if now < next-l.slack {
			return false
		}
		if l.next.CompareAndSwap(next, max(next, now)+l.interval) {
			return true
		}
	}
}
