package wire

import (
	"sync"
	"time"
)

// Clock is the time a wire lives in, in nanoseconds from any fixed point; it
// never goes back.
type Clock interface {
	Now() int64
	// NewAlarm makes an alarm that is not set. When it goes off, ring is
	// called, never twice at a time and not before its time.
	NewAlarm(ring func()) Alarm
}

// Alarm goes off once for every Set.
type Alarm interface {
	// Set lets the alarm go off at the given time, or as soon as it can if
	// that has passed. An earlier Set is forgotten.
	Set(at int64)
	// Close ends the alarm and whatever it runs on. It does not wait for
	// ring, which may be the caller.
	Close()
}

// System is the machine's clock. Its alarms are kernel timers on a goroutine
// of their own: the timers of package time are up to a millisecond late in an
// otherwise idle process, because the runtime waits in whole milliseconds.
var System Clock = systemClock{}

type systemClock struct{}

var epoch = time.Now()

func (systemClock) Now() int64 { return int64(time.Since(epoch)) }

func (c systemClock) NewAlarm(ring func()) Alarm {
	if a, err := newTimerFD(c, ring); err == nil {
		return a
	}
	return newTimer(c, ring) // no descriptor left, or not Linux: late, but right
}

// timer is an alarm on package time.
type timer struct {
	clock Clock
	mu    sync.Mutex // one ring at a time
	t     *time.Timer
}

func newTimer(c Clock, ring func()) *timer {
	a := &timer{clock: c}
	a.t = time.AfterFunc(time.Hour, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		ring()
	})
	a.t.Stop()
	return a
}

func (a *timer) Set(at int64) { a.t.Reset(time.Duration(at - a.clock.Now())) }
func (a *timer) Close()       { a.t.Stop() }

// Virtual is a clock that stands still until it is advanced, for tests. The
// zero value is ready to use.
type Virtual struct {
	mu     sync.Mutex
	now    int64
	alarms []*virtualAlarm // those that are set, unordered: tests have few
}

type virtualAlarm struct {
	clock *Virtual
	ring  func()
	at    int64
}

// Now is how far the clock was advanced.
func (v *Virtual) Now() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// NewAlarm makes an alarm that goes off within Advance.
func (v *Virtual) NewAlarm(ring func()) Alarm { return &virtualAlarm{clock: v, ring: ring} }

// Advance lets d pass. All alarms that fall into it go off on the caller's
// goroutine, in order, each at its own time.
func (v *Virtual) Advance(d time.Duration) {
	v.mu.Lock()
	end := v.now + int64(d)
	for {
		var next *virtualAlarm
		for _, a := range v.alarms {
			if a.at <= end && (next == nil || a.at < next.at) {
				next = a
			}
		}
		if next == nil {
			break
		}
		v.now = max(v.now, next.at)
		v.removeLocked(next)
		v.mu.Unlock()
		next.ring()
		v.mu.Lock()
	}
	v.now = end
	v.mu.Unlock()
}

// Next is when the next alarm goes off, and whether one is set.
func (v *Virtual) Next() (at int64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.alarms {
		if !ok || a.at < at {
			at, ok = a.at, true
		}
	}
	return at, ok
}

func (v *Virtual) removeLocked(a *virtualAlarm) {
	for i, b := range v.alarms {
		if a == b {
			v.alarms = append(v.alarms[:i], v.alarms[i+1:]...)
			return
		}
	}
}

func (a *virtualAlarm) Set(at int64) {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	a.clock.removeLocked(a)
	a.at = at
	a.clock.alarms = append(a.clock.alarms, a)
}

func (a *virtualAlarm) Close() {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	a.clock.removeLocked(a)
}
