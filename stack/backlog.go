package stack

import (
	"sync"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// backlog is where a packet changes goroutines on its way to netstack.
// Netstack calls out with locks held (a TCP segment, a membership report), so
// nothing that its own packets cause may call in again on the same goroutine:
// what comes over the loopback interface, or over a device that delivers on
// the sender's goroutine, waits here for the node's one worker. Packets from
// a TAP's reader never do.
type backlog struct {
	node *Node
	done chan struct{}

	mu     sync.Mutex
	wake   sync.Cond
	queue  []backlogItem
	closed bool
}

type backlogItem struct {
	p     *packet.Packet
	ifc   *Interface
	owner *Interface // nil: the packet enters at ifc, else it is delivered at owner
	f     hook.Family
}

// maxBacklog is Linux's netdev_max_backlog.
const maxBacklog = 1000

func (b *backlog) init(n *Node) {
	b.node = n
	b.done = make(chan struct{})
	b.wake.L = &b.mu
	go b.run()
}

// put queues a packet, or drops it if too many wait.
func (b *backlog) put(it backlogItem) {
	b.mu.Lock()
	r := packet.NoReason
	switch {
	case b.closed:
		r = packet.NodeClosed
	case len(b.queue) >= maxBacklog:
		r = packet.Backpressure
	default:
		b.queue = append(b.queue, it)
		if len(b.queue) == 1 {
			b.wake.Signal()
		}
	}
	b.mu.Unlock()
	if r != packet.NoReason {
		it.ifc.dropIn(it.p, r)
	}
}

func (b *backlog) run() {
	defer close(b.done)
	var batch []backlogItem
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.closed {
			b.wake.Wait()
		}
		if len(b.queue) == 0 {
			b.mu.Unlock()
			return
		}
		b.queue, batch = batch[:0], b.queue
		b.mu.Unlock()
		for k, it := range batch {
			batch[k] = backlogItem{}
			if it.owner == nil {
				it.ifc.ingress(it.p)
			} else {
				it.ifc.intoNetstack(it.p, it.f, it.owner)
			}
		}
	}
}

// close lets what is queued go through, and ends the worker.
func (b *backlog) close() {
	b.mu.Lock()
	b.closed = true
	b.wake.Signal()
	b.mu.Unlock()
	<-b.done
}
