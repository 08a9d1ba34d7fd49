package rdma

import (
	"sync"
	"time"
)

// SystemClock is the machine's monotonic clock.
var SystemClock Clock = systemClock{}

type systemClock struct{}

var clockStart = time.Now()

func (systemClock) Now() int64 { return int64(time.Since(clockStart)) }

func (systemClock) NewAlarm(ring func()) Alarm {
	a := &systemAlarm{}
	a.t = time.AfterFunc(time.Hour, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		ring()
	})
	a.t.Stop()
	return a
}

type systemAlarm struct {
	mu sync.Mutex // one ring at a time
	t  *time.Timer
}

func (a *systemAlarm) Set(at int64) { a.t.Reset(time.Duration(at - SystemClock.Now())) }
func (a *systemAlarm) Close()       { a.t.Stop() }
