package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Op is an operation that can be carried out in another namespace, perhaps by
// another process: its arguments and its reply are JSON, and it may return
// files, which become the caller's. It runs on a thread that is in the
// namespace, and must not count on variables of the program.
type Op func(args json.RawMessage) (reply any, files []*os.File, err error)

var ops = map[string]Op{}

// Register makes an operation known under a name. It is for package
// initialisation only: an agent knows what was registered then.
func Register(name string, op Op) {
	if _, twice := ops[name]; twice {
		panic("netns: operation registered twice: " + name)
	}
	ops[name] = op
}

// RemoteError is an error of an operation. Errors lose their type on the way
// out of an agent; the errno is kept, and found by errors.Is.
type RemoteError struct {
	Message string
	Errno   syscall.Errno // 0 if there was none
}

func (e *RemoteError) Error() string { return e.Message }

// Unwrap is the errno.
func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Call carries out a registered operation in the namespace. Reply may be nil;
// the files are the caller's.
func (n *Namespace) Call(op string, args, reply any) ([]*os.File, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("netns: arguments of %s: %w", op, err)
	}
	a, err := n.agentIfNeeded()
	if err != nil {
		return nil, err
	}
	var answer any
	var files []*os.File
	if a != nil {
		var out json.RawMessage
		out, files, err = a.call(op, raw)
		answer = out
	} else {
		err = n.Do(func() (err error) {
			answer, files, err = run(op, raw)
			return err
		})
	}
	if err != nil || reply == nil {
		return files, err
	}
	b, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(b, reply)
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("netns: reply of %s: %w", op, err)
	}
	return files, nil
}

func run(op string, args json.RawMessage) (any, []*os.File, error) {
	f, ok := ops[op]
	if !ok {
		return nil, nil, fmt.Errorf("netns: no operation %q", op)
	}
	return f(args)
}

// agentIfNeeded decides, at the first use, how the namespace is worked in.
func (n *Namespace) agentIfNeeded() (*agent, error) {
	if n == nil {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.probe {
		return n.agent, nil
	}
	err := n.Do(func() error { return nil })
	if errors.Is(err, ErrThreadOnly) {
		n.agent, err = enterWithAgent(n)
	}
	n.probe = err == nil
	return n.agent, err
}
