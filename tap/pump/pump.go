// Package pump copies frames from one device to another and back, and does
// nothing else: what is left when everything that taproom does to a packet is
// taken away. It is the ceiling that benchmarks compare a router with, and a
// patch cable between two devices.
package pump

import (
	"fmt"

	"taproom/stack/packet"
	"taproom/tap"
)

// Join starts both devices and passes to each what the other receives, until
// they are closed. Queue i of one goes to queue i of the other.
func Join(a, b tap.Device) error {
	if err := a.Start(func(q int, batch []*packet.Packet) { b.Write(q, batch) }); err != nil {
		return fmt.Errorf("pump: %s: %w", a.Info().Name, err)
	}
	if err := b.Start(func(q int, batch []*packet.Packet) { a.Write(q, batch) }); err != nil {
		return fmt.Errorf("pump: %s: %w", b.Info().Name, err)
	}
	return nil
}
