package tap

import (
	"golang.org/x/sys/unix"

	"taproom/stack/packet"
)

// writeWait is how long a write waits for a device that refuses for the
// moment, in milliseconds.
const writeWait = 5

// write sends a batch on this queue. Several goroutines may do so at once.
func (q *queue) write(batch []*packet.Packet) {
	var d Direction
	send := func(p *packet.Packet) {
		if reason := q.writeOne(p); reason != packet.NoReason {
			q.tx.drop(reason)
		} else {
			d.Count(p)
		}
		p.Release()
	}
	drop := func(p *packet.Packet, r packet.Reason) {
		q.tx.drop(r)
		p.Release()
	}
	for _, p := range batch {
		if q.dev.info.Kind == Ethernet {
			if len(p.Head()) < packet.EthernetLen && !p.Pull(packet.EthernetLen) {
				drop(p, packet.TooShort)
				continue
			}
			p.SetMAC(0)
		} else {
			p.ClearMAC()
		}
		Emit(p, q.dev.info.Offloads, send, drop)
	}
	q.tx.add(&d)
}

// writeOne sends one frame that the device takes as it is.
func (q *queue) writeOne(p *packet.Packet) packet.Reason {
	if q.hdr > 0 {
		var h [vnetLen]byte
		if !encodeVnet(h[:], p) {
			return packet.BadHeader
		}
		copy(p.Push(q.hdr), h[:])
	}
	for try := 0; ; try++ {
		err := q.writeBytes(p)
		switch err {
		case nil:
			if q.hdr > 0 {
				p.Trim(q.hdr)
			}
			return packet.NoReason
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			if try == 2 {
				return packet.DeviceFull
			}
			unix.Poll([]unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLOUT}}, writeWait)
		case unix.EIO: // the interface is down, or gone
			return packet.DeviceDown
		default:
			return packet.DeviceError
		}
	}
}

func (q *queue) writeBytes(p *packet.Packet) error {
	frags := p.Frags()
	if len(frags) == 0 {
		return write(q.fd, p.Head())
	}
	var iov [8][]byte
	if len(frags)+1 > len(iov) {
		p.Linearize()
		return write(q.fd, p.Head())
	}
	iov[0] = p.Head()
	copy(iov[1:], frags)
	return writev(q.fd, iov[:len(frags)+1])
}
