package wire

import (
	"fmt"

	"taproom/stack/packet"
	"taproom/tap"
)

var _ tap.Device = (*End)(nil)

// Info describes the end as a device that takes everything unfinished:
// checksums are only completed where a frame is corrupted or cut.
func (e *End) Info() tap.Info {
	return tap.Info{
		Name: e.name, Kind: tap.Ethernet, MTU: int(e.mtu.Load()), Queues: 1,
		Offloads: tap.AllOffloads, Backend: "wire",
	}
}

// Start lets frames arrive. Those that came before were dropped.
func (e *End) Start(recv tap.Receiver) error {
	if e.state.closed.Load() {
		return tap.ErrClosed
	}
	if !e.receiver.CompareAndSwap(nil, &recv) {
		return tap.ErrStarted
	}
	return nil
}

// Write sends frames to the other end. There is one queue.
func (e *End) Write(_ int, batch []*packet.Packet) {
	e.observer.see(true, batch)
	e.out.write(batch)
}

// SetMTU changes what this end offers as its MTU.
func (e *End) SetMTU(mtu int) error {
	if mtu < 68 || mtu > MaxMTU {
		return fmt.Errorf("wire: %s: mtu %d: %w: 68 to %d", e.name, mtu, ErrInvalid, MaxMTU)
	}
	e.mtu.Store(int32(mtu))
	return nil
}

// Stats are the counters of this end as a device. Drops on the way are the
// sender's.
func (e *End) Stats() tap.Stats {
	in, out := e.peer.Sent(), e.Sent()
	return tap.Stats{
		Rx: tap.Direction{Packets: in.Delivered.Packets, Segments: in.Segments, Bytes: in.Delivered.Bytes, Calls: in.Calls},
		Tx: tap.Direction{Packets: out.Delivered.Packets, Segments: out.Segments, Bytes: out.Delivered.Bytes, Calls: out.Calls, Drops: out.Dropped},
	}
}

// Close takes the wire away, with what is on it, and returns after the last
// call of either Receiver has.
func (e *End) Close() error {
	e.state.closed.Store(true)
	e.out.close()
	e.peer.out.close()
	return nil
}
