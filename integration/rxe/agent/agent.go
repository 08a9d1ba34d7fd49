// Package agent is the control channel between a test and a guest: the test asks
// the guest to run a shell command and gets its output and exit status.
//
// Both ends are here, so that the protocol is tested without a guest. It is one
// JSON object a line, over anything that carries bytes: in a guest a
// virtio-serial port, on the host the unix socket behind it. One command runs at
// a time on a channel; a guest has several channels.
//
// A channel outlives its clients. One that left early may have left an answer
// behind, so a client skips answers with numbers it did not give.
package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Request asks for a command; an empty one only for an answer.
type Request struct {
	ID      uint64        `json:"id"`
	Command string        `json:"command"` // for sh -c
	Timeout time.Duration `json:"timeout"` // then its process group is killed; 0 means none
}

// Response is the answer.
type Response struct {
	ID     uint64        `json:"id"`
	Status int           `json:"status"` // exit status; 128+n if signal n ended it
	Output string        `json:"output"` // standard output and error, as they came
	Took   time.Duration `json:"took"`
}

// ErrTimeout is wrapped by the error of a command that was killed at its time-out.
var ErrTimeout = errors.New("agent: command timed out")

// maxLine bounds a line of the protocol.
const maxLine = 16 << 20

// Serve answers requests until rw ends or fails. It is the guest's end.
func Serve(rw io.ReadWriter) error {
	in := bufio.NewScanner(rw)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		var q Request
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			continue // half a line of a client that left
		}
		b, err := json.Marshal(run(q))
		if err != nil {
			return err
		}
		if _, err := rw.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return in.Err()
}

// run runs one command in a process group of its own.
func run(q Request) Response {
	start := time.Now()
	r := Response{ID: q.ID}
	if q.Command == "" {
		return r
	}
	c := exec.Command("/bin/sh", "-c", q.Command)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.CreateTemp("", "out") // a file, not a pipe: a child in the background cannot hold up the answer
	if err != nil {
		r.Status, r.Output = 127, err.Error()
		return r
	}
	defer os.Remove(out.Name())
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		r.Status, r.Output = 127, err.Error()
		return r
	}
	if q.Timeout > 0 {
		t := time.AfterFunc(q.Timeout, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
		defer t.Stop()
	}
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if r.Status = exit.ExitCode(); r.Status < 0 {
			r.Status = 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
		}
	}
	b, _ := os.ReadFile(out.Name())
	r.Output, r.Took = string(b), time.Since(start)
	return r
}

// Client is the host's end of one channel. It is safe for concurrent use;
// commands run one after the other.
type Client struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	next uint64
}

// NewClient takes over conn.
func NewClient(conn net.Conn) *Client {
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), next: rand.Uint64() >> 1}
}

// Close closes the connection; a command that runs goes on in the guest until
// its time-out.
func (c *Client) Close() error { return c.conn.Close() }

// grace is how much longer than the command's time-out an answer may take: a
// guest without hardware virtualisation stalls now and then.
const grace = 15 * time.Second

// Run runs a command and returns its answer. A command that ran and failed is no
// error: look at Status. The error is ErrTimeout if it was killed, or that of
// the channel.
func (c *Client) Run(command string, timeout time.Duration) (Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	b, err := json.Marshal(Request{ID: c.next, Command: command, Timeout: timeout})
	if err != nil {
		return Response{}, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(timeout + grace)); err != nil {
		return Response{}, err
	}
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		return Response{}, fmt.Errorf("agent: %q: %w", command, err)
	}
	for {
		line, err := c.in.ReadBytes('\n')
		if err != nil {
			return Response{}, fmt.Errorf("agent: %q: %w", command, err)
		}
		var r Response
		if json.Unmarshal(line, &r) != nil || r.ID != c.next {
			continue
		}
		if r.Status == 128+int(syscall.SIGKILL) && timeout > 0 && r.Took >= timeout {
			return r, fmt.Errorf("%w after %v: %q", ErrTimeout, timeout, command)
		}
		return r, nil
	}
}
