package agent

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func pair(t *testing.T) *Client {
	a, b := net.Pipe()
	go func() { _ = Serve(b) }()
	c := NewClient(a)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRun(t *testing.T) {
	c := pair(t)
	for _, k := range []struct {
		command, out string
		status       int
	}{
		{"", "", 0},
		{"echo one; echo two >&2", "one\ntwo\n", 0},
		{"exit 3", "", 3},
		{"kill -TERM $$", "", 143},
		{"sleep 100 >/dev/null 2>&1 & echo left", "left\n", 0},
	} {
		r, err := c.Run(k.command, 10*time.Second)
		if err != nil || r.Status != k.status || r.Output != k.out {
			t.Errorf("%q: %+v, %v", k.command, r, err)
		}
	}
}

func TestTimeout(t *testing.T) {
	c := pair(t)
	if _, err := c.Run("sleep 60 | cat", 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("sleep: %v", err)
	}
	if r, err := c.Run("echo still here", time.Second); err != nil || !strings.HasPrefix(r.Output, "still") {
		t.Errorf("after it: %+v, %v", r, err)
	}
}

// TestStale: answers and halves of lines that another client left are skipped.
func TestStale(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		buf := make([]byte, 4096)
		n, _ := b.Read(buf)
		_, _ = b.Write([]byte("put\":\"old\"}\n{\"id\":1,\"output\":\"old\"}\n"))
		_ = Serve(replayer{strings.NewReader(string(buf[:n])), b})
	}()
	c := NewClient(a)
	if r, err := c.Run("echo new", time.Second); err != nil || r.Output != "new\n" {
		t.Errorf("%+v, %v", r, err)
	}
}

// replayer reads what was read before, and writes to the connection.
type replayer struct {
	io.Reader
	io.Writer
}
