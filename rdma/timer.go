package rdma

import (
	"container/heap"
	"slices"
	"sync"
)

// timerHeap wakes queue pairs when something is due: a retransmission, the end
// of an RNR wait, the next packet of a paced one. One alarm serves the device.
//
// A queue pair's deadline moves with every acknowledgement, its entry here does
// not: it stays where it is, finds at its time that the deadline is later, and
// goes back in. So a stream of packets never touches the heap.
type timerHeap struct {
	dev   *Device
	alarm Alarm

	mu     sync.Mutex // guards what follows; taken after QP.mu
	list   timerList
	set    int64 // what the alarm is set to, 0 if it is not
	closed bool
}

type timerEntry struct {
	at int64
	qp *QP
}

type timerList []timerEntry

func (l timerList) Len() int           { return len(l) }
func (l timerList) Less(i, j int) bool { return l[i].at < l[j].at }
func (l timerList) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *timerList) Push(x any)        { *l = append(*l, x.(timerEntry)) }
func (l *timerList) Pop() any {
	old := *l
	e := old[len(old)-1]
	old[len(old)-1] = timerEntry{}
	*l = old[:len(old)-1]
	return e
}

func (t *timerHeap) init(d *Device) {
	t.dev = d
	t.alarm = d.clock.NewAlarm(func() { d.Progress() })
}

func (t *timerHeap) close() {
	t.mu.Lock()
	t.closed, t.list = true, nil
	t.mu.Unlock()
	t.alarm.Close()
}

// add wakes q at a time. q.mu is held.
func (t *timerHeap) add(q *QP, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	heap.Push(&t.list, timerEntry{at, q})
	t.setLocked()
}

// remove forgets a queue pair that is destroyed.
func (t *timerHeap) remove(q *QP) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(e timerEntry) bool { return e.qp == q })
	heap.Init(&t.list)
}

func (t *timerHeap) setLocked() {
	if len(t.list) > 0 && (t.set == 0 || t.list[0].at < t.set) {
		t.set = t.list[0].at
		t.alarm.Set(t.set)
	}
}

// Progress carries out what time has made due. The device's alarm calls it; a
// program that polls may as well. It never waits.
func (d *Device) Progress() {
	t := &d.timers
	now := d.clock.Now()
	for {
		t.mu.Lock()
		if len(t.list) == 0 || t.list[0].at > now {
			t.set = 0
			t.setLocked()
			t.mu.Unlock()
			return
		}
		e := heap.Pop(&t.list).(timerEntry)
		t.mu.Unlock()
		e.qp.wake(e.at, now)
	}
}

// arm makes sure that the queue pair is woken not later than at. q.mu is held.
func (q *QP) arm(at int64) {
	if q.armedAt != 0 && q.armedAt <= at {
		return
	}
	q.armedAt = at
	q.dev.timers.add(q, at)
}
