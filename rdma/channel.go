package rdma

import (
	"context"
	"sync"
)

// CompChannel collects the events of completion queues. An event stays until it
// is taken: the channel is level-triggered, like the file descriptor of verbs'.
type CompChannel struct {
	mu    sync.Mutex
	queue []*CQ
	ready chan struct{} // holds one token while queue is not empty
	// wake, if set, is told of every event as well: for a descriptor that
	// programs poll.
	wake func()
}

// NewCompChannel makes a channel. wake may be nil; it is called for every event,
// on the goroutine that brought the completion, with locks of the queue pair held:
// it must not wait, and not call verbs. Writing to an eventfd is what it is for.
func NewCompChannel(wake func()) *CompChannel {
	return &CompChannel{ready: make(chan struct{}, 1), wake: wake}
}

func (c *CompChannel) post(cq *CQ) {
	c.mu.Lock()
	c.queue = append(c.queue, cq)
	c.signalLocked()
	c.mu.Unlock()
	if c.wake != nil {
		c.wake()
	}
}

func (c *CompChannel) signalLocked() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// Ready can be received from while there is an event. TryGet must follow; it
// may find that another goroutine was faster.
func (c *CompChannel) Ready() <-chan struct{} { return c.ready }

// TryGet takes an event: the completion queue it is of, nil if there is none.
func (c *CompChannel) TryGet() *CQ {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil
	}
	cq := c.queue[0]
	c.queue[0] = nil
	if c.queue = c.queue[1:]; len(c.queue) > 0 {
		c.signalLocked()
	}
	return cq
}

// Get waits for an event and takes it.
func (c *CompChannel) Get(ctx context.Context) (*CQ, error) {
	for {
		if cq := c.TryGet(); cq != nil {
			return cq, nil
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
