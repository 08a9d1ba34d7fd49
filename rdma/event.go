package rdma

import (
	"context"
	"fmt"
	"sync"
)

// EventType is the kind of an asynchronous event (enum ibv_event_type).
type EventType uint8

// Asynchronous events.
const (
	CQErr            EventType = 0  // a completion queue has overflowed
	QPFatal          EventType = 1  // a queue pair went to error by a fault here
	QPReqErr         EventType = 2  // by a request that makes no sense
	QPAccessErr      EventType = 3  // by a request without the right
	CommEst          EventType = 4  // a packet came for a queue pair in RTR
	SQDrained        EventType = 5  // a queue pair in SQD has nothing under way
	DeviceFatal      EventType = 8  //
	PortActiveEvent  EventType = 9  //
	PortErr          EventType = 10 //
	SRQErr           EventType = 14 //
	SRQLimitReached  EventType = 15 //
	QPLastWQEReached EventType = 16 // a queue pair with an SRQ, in error, takes no more receives
	GIDChange        EventType = 18 //
)

var eventNames = map[EventType]string{
	CQErr: "CQ error", QPFatal: "local work queue catastrophic error", QPReqErr: "invalid request local work queue error",
	QPAccessErr: "local access violation work queue error", CommEst: "communication established", SQDrained: "send queue drained",
	DeviceFatal: "local catastrophic error", PortActiveEvent: "port active", PortErr: "port error", SRQErr: "SRQ catastrophic error",
	SRQLimitReached: "SRQ limit reached", QPLastWQEReached: "last WQE reached", GIDChange: "GID table change",
}

// String returns the words ibv_event_type_str uses.
func (t EventType) String() string {
	if n, ok := eventNames[t]; ok {
		return n
	}
	return fmt.Sprintf("event-%d", uint8(t))
}

// Event is an asynchronous event. The pointer its type is about is set.
type Event struct {
	Type EventType
	QP   *QP
	CQ   *CQ
	SRQ  *SRQ
}

// String names the event and its object.
func (e Event) String() string {
	switch {
	case e.QP != nil:
		return fmt.Sprintf("%v (qp %#x)", e.Type, e.QP.num)
	case e.CQ != nil:
		return fmt.Sprintf("%v (cq %d)", e.Type, e.CQ.id)
	case e.SRQ != nil:
		return fmt.Sprintf("%v (srq %d)", e.Type, e.SRQ.id)
	}
	return e.Type.String()
}

// maxEvents bounds the events nobody reads; the oldest go first.
const maxEvents = 4096

type eventQueue struct {
	mu    sync.Mutex
	list  []Event
	ready chan struct{}
	lost  uint64
}

// event queues an event. It takes no lock but the queue's own, and may be called
// with any other held.
func (d *Device) event(e Event) {
	q := &d.events
	q.mu.Lock()
	q.initLocked()
	if len(q.list) >= maxEvents {
		q.list = q.list[1:]
		q.lost++
	}
	q.list = append(q.list, e)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	q.mu.Unlock()
}

func (q *eventQueue) initLocked() {
	if q.ready == nil {
		q.ready = make(chan struct{}, 1)
	}
}

// PollEvent takes an asynchronous event, if there is one.
func (d *Device) PollEvent() (Event, bool) {
	q := &d.events
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return Event{}, false
	}
	e := q.list[0]
	q.list = q.list[1:]
	return e, true
}

// GetEvent waits for an asynchronous event and takes it.
func (d *Device) GetEvent(ctx context.Context) (Event, error) {
	d.events.mu.Lock()
	d.events.initLocked()
	ready := d.events.ready
	d.events.mu.Unlock()
	for {
		if e, ok := d.PollEvent(); ok {
			return e, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}
