package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Clock is a node's source of time. Tests inject one that they turn by hand.
type Clock interface {
	// Now is the time of day, with a monotonic reading where there is one.
	Now() time.Time
	// AfterFunc calls f after d, on a goroutine of its own.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending call of AfterFunc. *time.Timer is one.
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

type systemClock struct{}

func (systemClock) Now() time.Time                            { return time.Now() }
func (systemClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// netstackClock shows a Clock to netstack.
type netstackClock struct {
	Clock
	start time.Time
}

func (c netstackClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(c.Now().Sub(c.start))
}

func (c netstackClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return netstackTimer{c.Clock.AfterFunc(d, f)}
}

type netstackTimer struct{ Timer }

func (t netstackTimer) Reset(d time.Duration) { t.Timer.Reset(d) }
