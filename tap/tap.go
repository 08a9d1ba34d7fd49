package tap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/stack/packet"
	"taproom/tap/netns"
)

// TAP is a Device on the kernel's TUN/TAP driver.
type TAP struct {
	info Info // all but MTU is constant
	mtu  atomic.Int64
	ns   *netns.Namespace
	gro  bool

	queues []*queue
	// users counts the calls of Write that are under way, with closedBit on
	// top once Close has begun: descriptors are closed when it comes down to
	// that bit alone, so that no write hits a number that was given out again.
	users   atomic.Int64
	drained chan struct{}

	mu      sync.Mutex
	started bool
	closed  bool
	readers sync.WaitGroup
	failed  chan struct{} // closed when a reader ends before Close
	failure error         // why; set before failed is closed
	failing sync.Once
}

const closedBit = 1 << 40

// queue is one descriptor of a device.
type queue struct {
	dev   *TAP
	index int
	file  *os.File // for the poller
	fd    int
	hdr   int // length of the virtio-net header, 0 without
	rx    counters
	tx    counters
}

var _ Device = (*TAP)(nil)

// newTAP makes a device of opened files, which it takes over in any case.
func newTAP(files []*os.File, info Info, o Options) (*TAP, error) {
	d := &TAP{info: info, ns: o.Namespace, gro: o.GRO, drained: make(chan struct{}, 1), failed: make(chan struct{})}
	d.mtu.Store(int64(info.MTU))
	hdr := 0
	if info.Offloads != (Offloads{}) || info.Backend == BackendVnet {
		hdr = vnetLen
	}
	for i, f := range files {
		g, fd, err := pollable(f, info.Name)
		if err != nil {
			closeAll(files[i:])
			for _, q := range d.queues {
				q.file.Close()
			}
			return nil, fmt.Errorf("tap: %s: %w", info.Name, err)
		}
		d.queues = append(d.queues, &queue{dev: d, index: i, file: g, fd: fd, hdr: hdr})
	}
	return d, nil
}

// pollable turns f, which may have come from another process, into a
// non-blocking file that the runtime polls. It closes f if it succeeds.
func pollable(f *os.File, name string) (*os.File, int, error) {
	fd := -1
	err := control(f, func(old int) (err error) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, -1, err
	}
	f.Close()
	return os.NewFile(uintptr(fd), name), fd, nil
}

// Info describes the device.
func (d *TAP) Info() Info {
	i := d.info
	i.MTU = int(d.mtu.Load())
	return i
}

// Start begins to read.
func (d *TAP) Start(recv Receiver) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return ErrClosed
	case d.started:
		return ErrStarted
	}
	d.started = true
	for _, q := range d.queues {
		d.readers.Go(func() {
			if err := q.read(recv); err != nil && !errors.Is(err, os.ErrClosed) {
				d.failing.Do(func() {
					d.failure = fmt.Errorf("tap: %s: reading stopped: %w", d.info.Name, err)
					close(d.failed)
				})
			}
		})
	}
	return nil
}

// Failed is closed when reading has ended before Close: the interface, or its
// namespace, was deleted under the device. Err then says why.
func (d *TAP) Failed() <-chan struct{} { return d.failed }

// Err is why reading ended by itself, or nil.
func (d *TAP) Err() error {
	select {
	case <-d.failed:
		return d.failure
	default:
		return nil
	}
}

// SetMTU changes the interface's MTU.
func (d *TAP) SetMTU(mtu int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	err := d.ns.Configure(netns.Config{Links: []netns.Link{{Name: d.info.Name, MTU: mtu}}})
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	d.mtu.Store(int64(mtu))
	return nil
}

// SetCarrier pulls the interface's cable out, or plugs it in again, as the
// kernel sees it: NO-CARRIER, routes dead, IPv6 addresses tentative after the
// return (TUNSETCARRIER, Linux 4.20). A device begins with a carrier. It says
// nothing to this side: frames may still be written, and are received.
func (d *TAP) SetCarrier(up bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	value := 0
	if up {
		value = 1
	}
	err := control(d.queues[0].file, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, value) })
	if err != nil {
		return fmt.Errorf("tap: %s: cannot set the carrier (TUNSETCARRIER): %w", d.info.Name, err)
	}
	return nil
}

// Stats are the counters of all queues.
func (d *TAP) Stats() (s Stats) {
	for i := range d.queues {
		q := d.QueueStats(i)
		s.Rx.Add(q.Rx)
		s.Tx.Add(q.Tx)
	}
	return s
}

// QueueStats are the counters of one queue.
func (d *TAP) QueueStats(i int) Stats {
	q := d.queues[i]
	return Stats{Rx: q.rx.load(), Tx: q.tx.load()}
}

// KernelCounters are the counters of the interface on the kernel's side. Its
// TxDropped are frames for which this process was too slow: the only loss
// that Stats cannot show.
func (d *TAP) KernelCounters() (netns.Counters, error) {
	l, err := d.ns.Link(d.info.Name)
	if err != nil {
		return netns.Counters{}, fmt.Errorf("tap: %w", err)
	}
	return l.Counters, nil
}

// Close ends reading and writing and closes the descriptors; the interface
// goes with them unless it is persistent.
func (d *TAP) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.closed = true
	d.mu.Unlock()
	if d.users.Add(closedBit) != closedBit {
		<-d.drained
	}
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.file.Close())
	}
	d.readers.Wait()
	return errors.Join(errs...)
}

// Write sends packets.
func (d *TAP) Write(queue int, batch []*packet.Packet) {
	if d.users.Add(1) >= closedBit {
		q := d.queues[0]
		for _, p := range batch {
			q.tx.drop(packet.DeviceDown)
			p.Release()
		}
	} else if queue >= 0 || len(d.queues) == 1 {
		d.queues[max(queue, 0)%len(d.queues)].write(batch)
	} else {
		d.steer(batch)
	}
	if d.users.Add(-1) == closedBit {
		select { // Close waits for one of these at most; later ones may come
		case d.drained <- struct{}{}:
		default:
		}
	}
}

// steer writes each packet to the queue of its flow, runs of one queue
// together.
func (d *TAP) steer(batch []*packet.Packet) {
	for len(batch) > 0 {
		q, run := d.queueOf(batch[0]), 1
		for run < len(batch) && d.queueOf(batch[run]) == q {
			run++
		}
		d.queues[q].write(batch[:run])
		batch = batch[run:]
	}
}

// queueOf scales the flow's hash to the number of queues, which uses its upper
// bits.
func (d *TAP) queueOf(p *packet.Packet) int {
	return int(uint64(p.FlowHash()) * uint64(len(d.queues)) >> 32)
}
