package tracing

import (
	"math"
	"sync/atomic"

	"taproom/stack/wire"
)

// queued is a device that knows how much waits in it for the line.
type queued interface{ Queue() wire.Depth }

// backlog tells the length of the queues behind a node's interfaces, link
// headers included: those of wires with a rate, which are what a qdisc is to
// a kernel. A device without a queue of its own has nothing waiting.
type backlog struct {
	byIndex atomic.Pointer[map[int]queued]
}

func (b *backlog) octets(ifindex int) uint32 {
	q := (*b.byIndex.Load())[ifindex]
	if q == nil {
		return 0
	}
	return uint32(min(q.Queue().Bytes, math.MaxInt32))
}
