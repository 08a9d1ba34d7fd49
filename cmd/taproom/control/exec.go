package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"taproom/stack/lab"
)

const execProtocol = "taproom-exec"

// lastWords is how long output is read after a program has ended, while
// children of it hold it open.
const lastWords = 200 * time.Millisecond

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != execProtocol {
		fail(w, fmt.Errorf("control: exec: want Upgrade: %s", execProtocol))
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, fmt.Errorf("control: exec: %w", err))
		return
	}
	defer conn.Close()
	_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + execProtocol + "\r\n\r\n")
	if buf.Flush() != nil {
		return
	}
	out := &frameWriter{w: conn}
	p, err := s.startFor(r.URL.Query().Get("room"), buf)
	if err != nil {
		_ = out.write(FrameError, []byte(err.Error()))
		return
	}
	defer p.Close()
	go func() {
		if err := feed(p, buf); err != nil {
			// The client is gone: what nobody watches any more ends, as under
			// a terminal that was closed.
			_ = p.Signal(syscall.SIGHUP)
			_ = p.Signal(syscall.SIGTERM)
		}
	}()
	var readers sync.WaitGroup
	readers.Go(func() { out.copy(FrameStdout, p.Stdout) })
	if p.Stderr != nil {
		readers.Go(func() { out.copy(FrameStderr, p.Stderr) })
	}
	exit := p.Exit()
	// What it left running may hold its output open: read what is there.
	soon := time.Now().Add(lastWords)
	_ = p.Stdout.SetReadDeadline(soon)
	if p.Stderr != nil {
		_ = p.Stderr.SetReadDeadline(soon)
	}
	readers.Wait()
	b, _ := json.Marshal(exit)
	_ = out.write(FrameExit, b)
}

// reader is what frames are read from.
type reader interface{ Read([]byte) (int, error) }

func (s *Server) startFor(room string, in reader) (*lab.Process, error) {
	f, err := ReadFrame(in)
	if err != nil {
		return nil, err
	}
	var c lab.Command
	if f.Kind != FrameCommand {
		return nil, errors.New("control: exec: the first frame is no command")
	}
	if err := json.Unmarshal(f.Data, &c); err != nil {
		return nil, fmt.Errorf("control: exec: command: %w", err)
	}
	return s.lab.Start(room, c)
}

// feed passes on what the client sends until it hangs up or the program ends.
func feed(p *lab.Process, in reader) error {
	for {
		f, err := ReadFrame(in)
		if err != nil {
			select {
			case <-p.Done():
				return nil
			default:
				return err
			}
		}
		switch {
		case f.Kind == FrameStdin && len(f.Data) == 0:
			if p.Stderr != nil {
				p.Stdin.Close()
			}
		case f.Kind == FrameStdin:
			_, _ = p.Stdin.Write(f.Data) // a program that closed its input is its own affair
		case f.Kind == FrameSignal && len(f.Data) == 1:
			_ = p.Signal(syscall.Signal(f.Data[0]))
		case f.Kind == FrameSize:
			var w lab.WindowSize
			if json.Unmarshal(f.Data, &w) == nil {
				_ = p.Resize(w)
			}
		}
	}
}
