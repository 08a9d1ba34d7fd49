package rxe

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// FrameLink is one end of an Ethernet segment.
type FrameLink interface {
	// Read waits for a frame and copies it to b; a longer one is cut.
	Read(b []byte) (int, error)
	// Write sends a frame; it does not keep b.
	Write(b []byte) (int, error)
	Close() error
}

// Link is the segment of a guest that was booted without a TAP: QEMU's stream
// socket, where each frame stands behind its length in four bytes.
type Link struct {
	conn net.Conn
	in   *bufio.Reader

	mu  sync.Mutex
	out []byte
}

// Link connects to the guest's card. One connection can exist at a time; after
// its Close another one can be made, without a reboot.
func (g *Guest) Link() (*Link, error) {
	if g.opts.TAP != nil {
		return nil, fmt.Errorf("rxe: the guest's card is a TAP")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := g.dial(ctx, filepath.Join(g.dir, "net"))
	if err != nil {
		return nil, err
	}
	l := &Link{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	g.mu.Lock()
	g.link = l
	g.mu.Unlock()
	return l, nil
}

// Read waits for a frame from the guest.
func (l *Link) Read(b []byte) (int, error) {
	var h [4]byte
	if _, err := io.ReadFull(l.in, h[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint32(h[:]))
	k := min(n, len(b))
	if _, err := io.ReadFull(l.in, b[:k]); err != nil {
		return 0, err
	}
	_, err := l.in.Discard(n - k)
	return k, err
}

// Write sends a frame to the guest.
func (l *Link) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = binary.BigEndian.AppendUint32(l.out[:0], uint32(len(b)))
	l.out = append(l.out, b...)
	if _, err := l.conn.Write(l.out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close ends the connection; a Read that waits returns.
func (l *Link) Close() error { return l.conn.Close() }
