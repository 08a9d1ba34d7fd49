// Package tap moves frames between this process and the kernel through TAP and
// TUN devices, at the speed of super-frames.
//
// A device is opened with /dev/net/tun, here or in another network namespace,
// or comes as file descriptors that somebody else opened:
//
//	d, err := tap.Open(tap.Options{Name: "tap0", Namespace: room})
//	...
//	err = d.Start(func(queue int, batch []*packet.Packet) {
//		other.Write(queue, batch) // a bridge of two devices
//	})
//
// # Offloads
//
// The fast backend ("vnet") exchanges a virtio-net header with each frame: the
// kernel hands over TCP and UDP super-frames of up to 64 KiB whole, with
// checksums that are still partial, and takes the same. What the device on the
// other side lacks is done in software on Write: segmentation, checksums.
// The plain backends have no such header; Options.GRO builds super-frames out
// of what they read.
//
// # Ownership and concurrency
//
// Packets belong to the Receiver from the call on, and to the device from
// Write on. Each queue has one reading goroutine, which calls the Receiver;
// so the Receiver runs once per queue at a time. Write may be called from any
// goroutine, also from a Receiver, and keeps the order of packets that one
// goroutine writes to one queue. Close must not be called from a Receiver:
// it waits for the last call to return.
package tap
