package rxe

import (
	"os"
	"sync"

	"taproom/rdma/roce"
)

// TAPLink is a TAP device with virtio-net headers as a link. It writes RoCE
// super-frames whole, for the kernel to split where it has to, and reads single
// frames.
type TAPLink struct {
	f *os.File

	in []byte // of the one reader

	mu  sync.Mutex // guards out
	out []byte
}

// Virtio-net header (virtio 1.2, 5.1.6), little endian, as TAP devices have it.
const (
	vnetLen       = 10
	vnetNeedsCsum = 1
	vnetUDPL4     = 5

	ethernetLen = 14
)

// NewTAPLink takes over a file that [Lab.TAP] made with vnet.
func NewTAPLink(f *os.File) *TAPLink { return &TAPLink{f: f, in: make([]byte, vnetLen+65536)} }

// Read waits for a frame.
func (l *TAPLink) Read(b []byte) (int, error) {
	n, err := l.f.Read(l.in)
	if err != nil || n < vnetLen {
		return 0, err
	}
	return copy(b, l.in[vnetLen:n]), nil
}

// Write sends a single frame.
func (l *TAPLink) Write(b []byte) (int, error) { return l.WriteRun(b, 0) }

// WriteRun sends a super-frame of IP packets with size bytes of UDP payload each;
// 0 means that it is a single one. The UDP checksum of a super-frame must hold
// the pseudo-header sum.
func (l *TAPLink) WriteRun(b []byte, size int) (int, error) {
	var h [vnetLen]byte
	if size > 0 {
		ip := roce.IPv4Len
		if b[ethernetLen]>>4 == 6 {
			ip = roce.IPv6Len
		}
		h[0], h[1] = vnetNeedsCsum, vnetUDPL4
		put := func(off, v int) { h[off], h[off+1] = byte(v), byte(v>>8) }
		put(2, ethernetLen+ip+roce.UDPLen)
		put(4, size)
		put(6, ethernetLen+ip)
		put(8, 6) // of the checksum in the UDP header
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = append(append(l.out[:0], h[:]...), b...)
	n, err := l.f.Write(l.out)
	return max(0, n-vnetLen), err
}

// Close removes the device.
func (l *TAPLink) Close() error { return l.f.Close() }
