package control

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Frame is a message of the exec protocol, which a connection to /v1/exec
// speaks after its upgrade ("Upgrade: taproom-exec"): a byte that says what it
// is, a length of four bytes (big endian), and that many bytes.
//
// The client begins with FrameCommand, a lab.Command in JSON. Then it sends
// input, signals and sizes until the server sends FrameExit or FrameError,
// which are the last.
type Frame struct {
	Kind FrameKind
	Data []byte
}

// FrameKind says what a frame is.
type FrameKind byte

// The kinds of frames.
const (
	FrameCommand FrameKind = 'c' // lab.Command
	FrameStdin   FrameKind = '0' // input; empty is its end
	FrameSignal  FrameKind = 's' // one byte: the number
	FrameSize    FrameKind = 'w' // lab.WindowSize
	FrameStdout  FrameKind = '1' // output
	FrameStderr  FrameKind = '2' // error output
	FrameExit    FrameKind = 'x' // lab.Exit
	FrameError   FrameKind = '!' // text: it could not be started
)

// maxFrame is the largest frame that is read.
const maxFrame = 256 << 10

// ReadFrame reads one frame. The data is the caller's.
func ReadFrame(r io.Reader) (Frame, error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > maxFrame {
		return Frame{}, fmt.Errorf("control: frame of %d bytes, at most %d are allowed", n, maxFrame)
	}
	f := Frame{FrameKind(h[0]), make([]byte, n)}
	_, err := io.ReadFull(r, f.Data)
	return f, err
}

// frameWriter writes frames of several goroutines to one connection.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(kind FrameKind, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := make([]byte, 0, 5+len(data))
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := f.w.Write(append(b, data...))
	return err
}

// copy sends what r yields until it ends.
func (f *frameWriter) copy(kind FrameKind, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && f.write(kind, buf[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
