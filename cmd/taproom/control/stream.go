package control

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"

	"taproom/stack/lab"
)

// Stream answers an endpoint with one JSON value a line, until the request's
// context ends, the client hangs up (send fails then) or there is no more. An
// error before the first value is the answer.
type Stream func(l *lab.Lab, r *http.Request, send func(v any) error) error

var streams = map[string]Stream{}

// RegisterStream adds an endpoint that streams. It is for package
// initialisation only.
func RegisterStream(pattern string, s Stream) {
	if streams[pattern] != nil {
		panic("control: " + pattern + " registered twice")
	}
	streams[pattern] = s
}

// stream makes a handler of a Stream. A lab that goes down ends it.
func (s *Server) stream(f Stream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			select {
			case <-s.down:
				cancel()
			case <-ctx.Done():
			}
		}()
		out := flushing{w}
		started := false
		err := f(s.lab, r.WithContext(ctx), func(v any) error {
			if !started {
				w.Header().Set("Content-Type", "application/jsonl")
				started = true
			}
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			_, err = out.Write(append(b, '\n'))
			return err
		})
		if err != nil && !started {
			fail(w, err)
		}
	}
}

// Lines reads a stream and gives each line to f, until f fails or the stream
// ends.
func (c *Client) Lines(ctx context.Context, path string, f func(line []byte) error) error {
	res, err := c.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if err := f(in.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // the reader has had enough
	}
	return in.Err()
}
