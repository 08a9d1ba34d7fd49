package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"taproom/stack/lab"
	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
)

// Handler answers one endpoint of a subsystem. What it returns is sent as
// JSON; an error with lab.ErrNoSuch becomes 404, others 400.
type Handler func(l *lab.Lab, r *http.Request) (any, error)

var extra = map[string]Handler{}

// Register adds an endpoint, as "POST /v1/filter/{room}". It is for package
// initialisation only.
func Register(pattern string, h Handler) {
	if extra[pattern] != nil {
		panic("control: " + pattern + " registered twice")
	}
	extra[pattern] = h
}

// Server serves one lab.
type Server struct {
	lab  *lab.Lab
	http http.Server
	down chan struct{} // closed when a client asked for the end
	once sync.Once
}

// NewServer makes a server for a lab.
func NewServer(l *lab.Lab) *Server {
	s := &Server{lab: l, down: make(chan struct{})}
	s.http = http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	return s
}

// Serve answers until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// Down is closed when a client has taken the lab down.
func (s *Server) Down() <-chan struct{} { return s.down }

// Close lets answers under way end, for a moment.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}

// Handler is the server without the socket, for tests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, h Handler) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := h(s.lab, r)
			if err != nil {
				fail(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("GET /v1/version", func(*lab.Lab, *http.Request) (any, error) { return versionAnswer{Version}, nil })
	answer("GET /v1/lab", func(l *lab.Lab, _ *http.Request) (any, error) { return l.Status(), nil })
	answer("GET /v1/rooms/{room}", func(l *lab.Lab, r *http.Request) (any, error) { return l.Room(r.PathValue("room")) })
	answer("POST /v1/plan", planned)
	answer("POST /v1/impair", impaired)
	mux.HandleFunc("POST /v1/apply", s.apply)
	mux.HandleFunc("POST /v1/down", s.takeDown)
	mux.HandleFunc("GET /v1/capture", s.capture)
	mux.HandleFunc("POST /v1/expect", s.expect)
	mux.HandleFunc("GET /v1/exec", s.exec)
	for pattern, h := range extra {
		answer(pattern, h)
	}
	for pattern, h := range streams {
		mux.HandleFunc(pattern, s.stream(h))
	}
	return mux
}

func fail(w http.ResponseWriter, err error) {
	code := http.StatusBadRequest
	switch {
	case errors.Is(err, lab.ErrNoSuch):
		code = http.StatusNotFound
	case errors.Is(err, lab.ErrClosed):
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(failure{err.Error()})
}

// Body reads the JSON body of a request.
func Body(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("control: body: %w", err)
	}
	return nil
}

func parseApply(r *http.Request) (*spec.Lab, error) {
	var a Apply
	if err := Body(r, &a); err != nil {
		return nil, err
	}
	file, err := spec.Parse(a.File, []byte(a.Text))
	if err != nil {
		return nil, err
	}
	file.Resolve(a.Dir)
	return file, nil
}

func planned(l *lab.Lab, r *http.Request) (any, error) {
	file, err := parseApply(r)
	if err != nil {
		return nil, err
	}
	steps, err := l.Plan(file)
	p := Plan{Steps: []string{}}
	for _, s := range steps {
		p.Steps = append(p.Steps, s.String())
	}
	return p, err
}

func impaired(l *lab.Lab, r *http.Request) (any, error) {
	var i Impair
	if err := Body(r, &i); err != nil {
		return nil, err
	}
	change, err := spec.ParseWords(i.Settings)
	if err != nil {
		return nil, err
	}
	now, err := l.Impair(r.Context(), i.What, change)
	if err != nil {
		return nil, err
	}
	out := Impaired{}
	for at, imp := range now {
		e := out[at]
		e.Settings, e.Impairment = spec.Words(imp), imp
		out[at] = e
	}
	return out, nil
}

// lines writes JSON values as they come.
type lines struct {
	w http.ResponseWriter
	e *json.Encoder
}

func newLines(w http.ResponseWriter) lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return lines{w, json.NewEncoder(w)}
}

func (l lines) send(v any) {
	_ = l.e.Encode(v)
	_ = http.NewResponseController(l.w).Flush()
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	file, err := parseApply(r)
	if err == nil && file.Name != s.lab.Name() && s.lab.Name() != "" {
		err = fmt.Errorf("control: the file is of lab %q, and this is %q", file.Name, s.lab.Name())
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := newLines(w)
	err = s.lab.Apply(r.Context(), file, func(st plan.Step) { out.send(Event{Step: st.String()}) })
	if err != nil {
		out.send(Event{Error: err.Error()})
		return
	}
	out.send(Event{Done: true})
}

func (s *Server) takeDown(w http.ResponseWriter, _ *http.Request) {
	err := s.lab.Close()
	if err != nil {
		fail(w, err)
	} else {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}\n")
	}
	s.once.Do(func() { close(s.down) })
}

func (s *Server) expect(w http.ResponseWriter, r *http.Request) {
	out := newLines(w)
	s.lab.Expect(r.Context(), func(res lab.Result) { out.send(res) })
}

// flushing sends what was written at once.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := lab.CaptureOptions{}
	for key, to := range map[string]*int{"snap": &o.Snap, "count": &o.Count} {
		if v := q.Get(key); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				fail(w, fmt.Errorf("control: capture: %s is %q, want a number", key, v))
				return
			}
			*to = n
		}
	}
	if err := s.lab.CanCapture(q["at"]); err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// A lab that goes down ends its captures.
	go func() {
		select {
		case <-s.down:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, _ = s.lab.Capture(ctx, q["at"], flushing{w}, o) // the client has hung up
}
