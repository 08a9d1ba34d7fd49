package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"taproom/stack/lab"
)

// The errors of Find.
var (
	ErrNoLab    = errors.New("control: no lab is up")
	ErrManyLabs = errors.New("control: several labs are up")
)

// Client speaks to one lab. It is safe for concurrent use.
type Client struct {
	Name   string
	socket string
	http   http.Client
}

// NewClient is a client of the socket at a path.
func NewClient(socket string) *Client {
	c := &Client{Name: strings.TrimSuffix(filepath.Base(socket), ".sock"), socket: socket}
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.dial(ctx)
	}}
	return c
}

// Find is a client of the lab of a name; the only one that is up if the name
// is empty.
func Find(name string) (*Client, error) {
	all, err := List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range all {
		if i.Name == name || name == "" && len(all) == 1 {
			return NewClient(i.Socket), nil
		}
		names = append(names, i.Name)
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%w (taproom up -d FILE)", ErrNoLab)
	case name == "":
		return nil, fmt.Errorf("%w: choose one with --lab: %s", ErrManyLabs, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("%w by the name %q: there are %s", ErrNoLab, name, strings.Join(names, ", "))
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, fmt.Errorf("control: lab %s does not answer: %w", c.Name, err)
	}
	return conn, nil
}

// Do sends a request with a JSON body (nil for none) and returns the answer,
// whose body is the caller's. A status that is an error becomes one.
func (c *Client) Do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://taproom"+path, r)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the made-up address says nothing
		}
		return nil, err
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		var f failure
		if json.Unmarshal(b, &f) == nil && f.Error != "" {
			return nil, errors.New(f.Error)
		}
		return nil, fmt.Errorf("control: %s %s: %s", method, path, res.Status)
	}
	return res, nil
}

// Call sends a request and reads the JSON answer into reply, unless that is
// nil.
func (c *Client) Call(ctx context.Context, method, path string, body, reply any) error {
	res, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if reply == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(reply); err != nil {
		return fmt.Errorf("control: answer of %s: %w", path, err)
	}
	return nil
}

// Status is the whole lab.
func (c *Client) Status(ctx context.Context) (s lab.Status, err error) {
	err = c.Call(ctx, http.MethodGet, "/v1/lab", nil, &s)
	return s, err
}

// Room is one room.
func (c *Client) Room(ctx context.Context, name string) (s lab.RoomStatus, err error) {
	err = c.Call(ctx, http.MethodGet, "/v1/rooms/"+url.PathEscape(name), nil, &s)
	return s, err
}

// Plan is what Apply would do.
func (c *Client) Plan(ctx context.Context, a Apply) (p Plan, err error) {
	err = c.Call(ctx, http.MethodPost, "/v1/plan", a, &p)
	return p, err
}

// Apply changes the lab to a file; each step is reported as it is made.
func (c *Client) Apply(ctx context.Context, a Apply, report func(step string)) error {
	res, err := c.Do(ctx, http.MethodPost, "/v1/apply", a)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for d := json.NewDecoder(res.Body); ; {
		var e Event
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("control: the answer broke off: %w", err)
		}
		switch {
		case e.Error != "":
			return errors.New(e.Error)
		case e.Done:
			return nil
		}
		report(e.Step)
	}
}

// Down takes the lab down and returns when it is gone.
func (c *Client) Down(ctx context.Context) error {
	return c.Call(ctx, http.MethodPost, "/v1/down", nil, nil)
}

// Impair changes settings of a link or of one direction.
func (c *Client) Impair(ctx context.Context, i Impair) (now Impaired, err error) {
	err = c.Call(ctx, http.MethodPost, "/v1/impair", i, &now)
	return now, err
}

// Expect checks the expectations of the lab file.
func (c *Client) Expect(ctx context.Context, report func(lab.Result)) error {
	res, err := c.Do(ctx, http.MethodPost, "/v1/expect", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for d := json.NewDecoder(res.Body); ; {
		var r lab.Result
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("control: the answer broke off: %w", err)
		}
		report(r)
	}
}

// Capture copies pcapng to w until ctx ends, which is no error, or w fails,
// which is.
func (c *Client) Capture(ctx context.Context, where []string, o lab.CaptureOptions, w io.Writer) error {
	q := url.Values{"at": where, "snap": {strconv.Itoa(o.Snap)}, "count": {strconv.Itoa(o.Count)}}
	res, err := c.Do(ctx, http.MethodGet, "/v1/capture?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(w, res.Body)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Stdio is what a program in a room is connected to.
type Stdio struct {
	In       io.Reader // nil is no input
	Out, Err io.Writer
	Signals  <-chan byte           // passed on; may be nil
	Sizes    <-chan lab.WindowSize // of the terminal; may be nil
}

// Exec runs a program in a room and returns how it ended. When ctx ends, so
// does the program.
func (c *Client) Exec(ctx context.Context, room string, cmd lab.Command, std Stdio) (lab.Exit, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return lab.Exit{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	req := "GET /v1/exec?room=" + url.QueryEscape(room) + " HTTP/1.1\r\nHost: taproom\r\nConnection: Upgrade\r\nUpgrade: " + execProtocol + "\r\n\r\n"
	if _, err := conn.Write([]byte(req)); err != nil {
		return lab.Exit{}, fmt.Errorf("control: exec: %w", err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return lab.Exit{}, fmt.Errorf("control: exec: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return lab.Exit{}, fmt.Errorf("control: exec: %s", res.Status)
	}
	out := &frameWriter{w: conn}
	b, err := json.Marshal(cmd)
	if err != nil {
		return lab.Exit{}, fmt.Errorf("control: exec: %w", err)
	}
	if err := out.write(FrameCommand, b); err != nil {
		return lab.Exit{}, fmt.Errorf("control: exec: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go std.send(out, done)
	return std.receive(in)
}

// send passes on input, signals and sizes. A reader of a terminal cannot be
// interrupted; its goroutine is left behind when the program has ended.
func (s Stdio) send(out *frameWriter, done <-chan struct{}) {
	go func() {
		if s.In != nil {
			out.copy(FrameStdin, s.In)
		}
		_ = out.write(FrameStdin, nil)
	}()
	for {
		select {
		case n := <-s.Signals:
			_ = out.write(FrameSignal, []byte{n})
		case w := <-s.Sizes:
			b, _ := json.Marshal(w)
			_ = out.write(FrameSize, b)
		case <-done:
			return
		}
	}
}

func (s Stdio) receive(in io.Reader) (exit lab.Exit, err error) {
	for {
		f, err := ReadFrame(in)
		if err != nil {
			return exit, fmt.Errorf("control: exec: the lab went away: %w", err)
		}
		switch f.Kind {
		case FrameStdout:
			_, err = s.Out.Write(f.Data)
		case FrameStderr:
			_, err = s.Err.Write(f.Data)
		case FrameError:
			return exit, errors.New(string(f.Data))
		case FrameExit:
			return exit, json.Unmarshal(f.Data, &exit)
		}
		if err != nil {
			return exit, err
		}
	}
}
