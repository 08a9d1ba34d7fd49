package perftest

import (
	"bufio"
	"fmt"
	"io"
)

// Session is one side of a perftest talk over a TCP connection. In every test
// the order is
//
//	Open       preface
//	Exchange   queue pairs; then move them to RTS
//	Sync       both are ready (one Dest for each queue pair again)
//	Point ...  before the traffic of each size
//	Report     one-sided bandwidth tests
//	Close      the last point, and "done"
//
// A client keeps the order itself. A server that does nothing of its own, as in READ, WRITE and
// atomic tests, can answer whatever comes with [Session.Follow].
//
// The other side's messages are read in full before ours of the same kind is
// sent by a server, and the other way round by a client. A Session is not safe
// for concurrent use.
type Session struct {
	conn   io.ReadWriter
	in     *bufio.Reader
	server bool
	local  []Dest
	remote []Dest
}

// NewSession starts a talk over conn.
func NewSession(conn io.ReadWriter, server bool) *Session {
	return &Session{conn: conn, in: bufio.NewReader(conn), server: server}
}

// both sends one message and reads one of n bytes, in the order of the role.
func (s *Session) both(what string, out []byte, n int) ([]byte, error) {
	in := make([]byte, n)
	send := func() error { _, err := s.conn.Write(out); return err }
	read := func() error { _, err := io.ReadFull(s.in, in); return err }
	steps := []func() error{send, read}
	if s.server {
		steps[0], steps[1] = read, send
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return nil, fmt.Errorf("perftest: %s: %w", what, err)
		}
	}
	return in, nil
}

// fields exchanges a message of several fields. perftest's client waits for the
// answer to each before it sends the next; its server does not mind.
func (s *Session) fields(what string, out []byte, sizes ...int) (in []byte, err error) {
	if !s.server {
		return s.both(what, out, len(out))
	}
	for _, n := range sizes {
		b, err := s.both(what, out[:n], n)
		if err != nil {
			return nil, err
		}
		in, out = append(in, b...), out[n:]
	}
	return in, nil
}

// Open exchanges prefaces. The MTUs must be equal.
func (s *Session) Open(local Preface) (remote Preface, err error) {
	in, err := s.fields("preface", local.Append(nil), versionLen, 4, 4, 2)
	if err != nil {
		return remote, err
	}
	if remote, err = ParsePreface(in); err == nil && remote.MTU != local.MTU {
		err = fmt.Errorf("perftest: path MTU %v here, %v there", local.MTU, remote.MTU)
	}
	return remote, err
}

// Exchange tells the other side of our queue pairs and returns its own, in the
// same order. The caller then moves them to RTS, and calls Sync.
func (s *Session) Exchange(local []Dest) (remote []Dest, err error) {
	s.local = local
	for _, d := range local {
		b, err := s.both("queue pair", d.Append(nil), destLen)
		if err != nil {
			return nil, err
		}
		r, err := ParseDest(b)
		if err != nil {
			return nil, err
		}
		remote = append(remote, r)
	}
	s.remote = remote
	return remote, nil
}

// Sync waits until both sides' queue pairs can receive.
func (s *Session) Sync() error {
	_, err := s.Exchange(s.local)
	return err
}

// Point waits until the other side gets to the same point.
func (s *Session) Point() error {
	if len(s.local) == 0 {
		return fmt.Errorf("perftest: a point before the exchange of queue pairs")
	}
	b, err := s.both("point", s.local[0].Append(nil), destLen)
	if err != nil {
		return err
	}
	_, err = ParseDest(b)
	return err
}

// Report exchanges reports.
func (s *Session) Report(local Report) (remote Report, err error) {
	b, err := s.fields("report", local.Append(nil), 8, 8, 8, 8, 8)
	if err != nil {
		return remote, err
	}
	return ParseReport(b)
}

// Close takes the last point and says "done". It does not wait for the other
// side's, which may be gone already, and does not close the connection.
func (s *Session) Close() error {
	if err := s.Point(); err != nil {
		return err
	}
	_, _ = io.WriteString(s.conn, doneMark)
	return nil
}

// Follow answers point for point until the other side is done, and returns its
// report, if it gave one. It is all a server of READ, WRITE or atomics does
// after Sync: its queue pairs answer by themselves.
func (s *Session) Follow() (report *Report, err error) {
	for {
		head, err := s.in.Peek(len(doneMark))
		if err != nil {
			return report, fmt.Errorf("perftest: waiting for the client: %w", err)
		}
		switch {
		case string(head) == doneMark:
			_, err := io.WriteString(s.conn, doneMark)
			return report, err
		case head[4] == ':': // a Dest starts with four digits and a colon
			if err := s.Point(); err != nil {
				return report, err
			}
		default:
			r, err := s.Report(Report{})
			if err != nil {
				return report, err
			}
			report = &r
		}
	}
}

// Kind is what a test does.
type Kind uint8

// Kinds of tests.
const (
	Send Kind = iota
	Write
	Read
	Atomic
)

// String returns the name in the headings of perftest.
func (k Kind) String() string {
	return [...]string{"Send", "RDMA_Write", "RDMA_Read", "Atomic"}[k]
}

// Points is how often perftest synchronises between Sync and the traffic. After
// the traffic only Close does. A bandwidth test of SENDs of several sizes does so
// before each; there perftest's -a has one point more somewhere, so such a test
// is for two of ours only.
const Points = 2

// Reports tells whether the client tells the server its figures before Close: in
// bandwidth tests of which a server sees nothing.
func Reports(k Kind, latency bool) bool { return !latency && k != Send }
