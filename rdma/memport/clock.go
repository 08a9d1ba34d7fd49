package memport

import (
	"container/heap"
	"math"
	"sync"
	"time"

	"taproom/rdma"
)

// Clock is virtual time. What is due happens on the goroutine that advances it,
// in order, each event at its own time.
type Clock struct {
	mu     sync.Mutex
	now    int64
	serial uint64
	events events
}

type event struct {
	at     int64
	serial uint64 // events of one time happen in the order they were made
	run    func()
	alarm  *alarm // nil, or whose this is
	gen    uint64
}

type events []event

func (l events) Len() int      { return len(l) }
func (l events) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l events) Less(i, j int) bool {
	return l[i].at < l[j].at || l[i].at == l[j].at && l[i].serial < l[j].serial
}
func (l *events) Push(x any) { *l = append(*l, x.(event)) }
func (l *events) Pop() any {
	old := *l
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*l = old[:len(old)-1]
	return e
}

// NewClock returns a clock that shows one second: 0 is no time to an alarm.
func NewClock() *Clock { return &Clock{now: int64(time.Second)} }

// Now implements rdma.Clock.
func (c *Clock) Now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After runs f when d has passed.
func (c *Clock) After(d time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(event{at: c.now + int64(d), run: f})
}

func (c *Clock) addLocked(e event) {
	c.serial++
	e.serial = c.serial
	heap.Push(&c.events, e)
}

// Step goes to the next event and lets it happen; false if there is none.
func (c *Clock) Step() bool { return c.step(math.MaxInt64) }

// Advance lets d pass, with all that falls into it.
func (c *Clock) Advance(d time.Duration) {
	end := c.Now() + int64(d)
	for c.step(end) {
	}
	c.mu.Lock()
	c.now = max(c.now, end)
	c.mu.Unlock()
}

// step lets the next event happen, unless it is later than end.
func (c *Clock) step(end int64) bool {
	c.mu.Lock()
	for len(c.events) > 0 && c.events[0].at <= end {
		e := heap.Pop(&c.events).(event)
		if e.alarm != nil && e.alarm.gen != e.gen {
			continue // set anew, or closed
		}
		c.now = max(c.now, e.at)
		c.mu.Unlock()
		e.run()
		return true
	}
	c.mu.Unlock()
	return false
}

// NewAlarm implements rdma.Clock.
func (c *Clock) NewAlarm(ring func()) rdma.Alarm { return &alarm{clock: c, ring: ring} }

type alarm struct {
	clock *Clock
	ring  func()
	gen   uint64 // guarded by clock.mu
}

func (a *alarm) Set(at int64) {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	a.gen++
	a.clock.addLocked(event{at: at, run: a.ring, alarm: a, gen: a.gen})
}

func (a *alarm) Close() {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	a.gen++
}
