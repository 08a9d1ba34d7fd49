package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The conversation with an agent: over a sequenced-packet socket, one request
// and one answer at a time, each one packet of JSON; files travel beside the
// answer (SCM_RIGHTS). The agent says hello first, with its namespace. When
// the socket closes the agent exits.
type (
	request struct {
		Op   string
		Args json.RawMessage
	}
	answer struct {
		Reply json.RawMessage `json:",omitempty"`
		Error string          `json:",omitempty"`
		Errno int             `json:",omitempty"`
	}
)

const (
	maxMessage = 128 << 10
	maxFiles   = 253 // SCM_MAX_FD
)

// agent is this side of an agent process.
type agent struct {
	mu   sync.Mutex // one call at a time
	conn *net.UnixConn
	wait func() // reaps the process
}

// socketPair returns the two ends: ours for package net, the other as it will
// be the child's.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("netns: socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("netns: socketpair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

// hello reads the agent's first message: its namespace.
func (a *agent) hello() (*os.File, error) {
	b, files, err := receive(a.conn)
	if err != nil {
		return nil, fmt.Errorf("netns: agent did not start: %w", err)
	}
	if len(b) == 2 && len(files) == 0 { // it did not even get to exec
		return nil, childFailure(b, "the agent")
	}
	ans, err := decode(b)
	if err != nil {
		closeAll(files)
		return nil, fmt.Errorf("netns: agent did not start: %w", err)
	}
	if err := ans.err(); err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, errors.New("netns: agent did not send its namespace")
	}
	return files[0], nil
}

func (a *agent) call(op string, args json.RawMessage) (json.RawMessage, []*os.File, error) {
	b, err := json.Marshal(request{op, args})
	if err != nil {
		return nil, nil, fmt.Errorf("netns: %s: %w", op, err)
	}
	if len(b) > maxMessage {
		return nil, nil, fmt.Errorf("netns: %s: request of %d bytes is too long", op, len(b))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.conn.Write(b); err != nil {
		return nil, nil, fmt.Errorf("netns: agent is gone: %w", err)
	}
	ans, files, err := a.receive()
	if err != nil {
		return nil, nil, fmt.Errorf("netns: agent is gone: %w", err)
	}
	return ans.Reply, files, ans.err()
}

func (a *agent) receive() (answer, []*os.File, error) {
	b, files, err := receive(a.conn)
	if err != nil {
		return answer{}, nil, err
	}
	ans, err := decode(b)
	if err != nil {
		closeAll(files)
		return ans, nil, err
	}
	return ans, files, nil
}

func decode(b []byte) (ans answer, err error) {
	if err := json.Unmarshal(b, &ans); err != nil {
		return ans, fmt.Errorf("netns: answer: %w", err)
	}
	return ans, nil
}

func (a *agent) close() {
	a.conn.Close()
	a.wait()
}

func (ans answer) err() error {
	if ans.Error == "" {
		return nil
	}
	return &RemoteError{ans.Error, syscall.Errno(ans.Errno)}
}

// receive reads one message with the files beside it.
func receive(c *net.UnixConn) ([]byte, []*os.File, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, err
	}
	files, err := ParseRights(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("netns: message too long")
	}
	if err == nil && n == 0 {
		err = errors.New("netns: agent closed its socket")
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return b[:n], files, nil
}

// ParseRights returns the files in the control messages of a unix socket
// (SCM_RIGHTS). They are close-on-exec only if the message was received so,
// as package net does.
func ParseRights(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("netns: control message: %w", err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials and the like
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// serve is the agent's life: it answers requests until the socket closes.
func serve(c *net.UnixConn) error {
	ns, err := os.OpenFile("/proc/thread-self/ns/net", os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return reply(c, nil, nil, fmt.Errorf("netns: agent cannot open its namespace: %w", err))
	}
	if err := reply(c, struct{}{}, []*os.File{ns}, nil); err != nil {
		return err
	}
	for {
		b, files, err := receive(c)
		closeAll(files)
		if err != nil {
			return nil // the parent is gone, or wants us gone
		}
		var req request
		if err := json.Unmarshal(b, &req); err != nil {
			return fmt.Errorf("netns: bad request: %w", err)
		}
		out, files, err := run(req.Op, req.Args)
		if err := reply(c, out, files, err); err != nil {
			return err
		}
	}
}

// reply sends an answer and closes the files.
func reply(c *net.UnixConn, out any, files []*os.File, err error) error {
	defer closeAll(files)
	var ans answer
	if err != nil {
		ans.Error = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			ans.Errno = int(errno)
		}
	} else if ans.Reply, err = json.Marshal(out); err != nil {
		ans.Error = "netns: reply: " + err.Error()
	}
	b, err := json.Marshal(ans)
	if err != nil {
		return err
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}
