package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"taproom/stack/lab"
	"taproom/stack/lab/spec"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	os.Exit(m.Run())
}

const small = "version: 1\nname: small\nrooms: {a: router, b: router}\nlinks: [{name: k, ends: ['a:e', 'b:e']}]\n"

func newLab(t testing.TB) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	file, err := spec.Parse("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(context.Background(), file, nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs a server on a claimed socket.
func serve(t *testing.T) (*Client, *Server, *Claim) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	claim, err := NewClaim("small")
	if err != nil {
		t.Fatal(err)
	}
	l, err := claim.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(newLab(t))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		claim.Release()
	})
	c, err := Find("")
	if err != nil {
		t.Fatal(err)
	}
	return c, s, claim
}

func TestClient(t *testing.T) {
	c, s, claim := serve(t)
	ctx := t.Context()
	status, err := c.Status(ctx)
	if err != nil || status.Name != "small" || len(status.Rooms) != 2 {
		t.Errorf("status %+v, %v", status, err)
	}
	if diff := cmp.Diff(s.lab.Status().Links, status.Links); diff != "" {
		t.Errorf("links lost something on the way (-server +client):\n%s", diff)
	}
	if _, err := c.Room(ctx, "none"); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("no room: %v", err)
	}
	now, err := c.Impair(ctx, Impair{What: "k", Settings: []string{"delay", "3ms"}})
	if err != nil || now["a:e"].Settings != "delay 3ms" || now["b:e"].Settings != "delay 3ms" {
		t.Errorf("impair: %v, %v", now, err)
	}
	a := Apply{File: "small.yaml", Text: strings.Replace(small, "b: router", "b: router, c: router", 1)}
	p, err := c.Plan(ctx, a)
	if err != nil || len(p.Steps) != 4 {
		t.Errorf("plan: %v, %v", p, err)
	}
	var steps []string
	if err := c.Apply(ctx, a, func(s string) { steps = append(steps, s) }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(p.Steps, steps); diff != "" {
		t.Errorf("plan and apply differ:\n%s", diff)
	}
	a.Text = strings.Replace(small, "name: small", "name: other", 1)
	if err := c.Apply(ctx, a, nil); err == nil {
		t.Error("the file of another lab was applied")
	}
	if err := c.Capture(ctx, []string{"nowhere"}, lab.CaptureOptions{}, io.Discard); err == nil {
		t.Error("captured nowhere")
	}
	if _, err := c.Exec(ctx, "a", lab.Command{Argv: []string{"true"}}, Stdio{Out: io.Discard, Err: io.Discard}); err == nil || !strings.Contains(err.Error(), "router") {
		t.Errorf("exec in a router: %v", err)
	}
	if st, err := os.Stat(claim.Socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if _, err := NewClaim("small"); !errors.Is(err, ErrRunning) {
		t.Errorf("second claim: %v", err)
	}
	if err := c.Down(ctx); err != nil {
		t.Error(err)
	}
	<-s.Down()
	if _, err := c.Plan(ctx, a); err == nil {
		t.Error("a lab that is down makes plans")
	}
}

func TestExec(t *testing.T) {
	ns, err := netns.New(netns.Options{})
	if err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	ns.Close()
	c, _, _ := serve(t)
	ctx := t.Context()
	err = c.Apply(ctx, Apply{File: "x", Text: "version: 1\nname: small\nrooms: {n: namespace}\n"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	exit, err := c.Exec(ctx, "n", lab.Command{Argv: []string{"sh", "-c", "cat; echo e >&2; exit 3"}},
		Stdio{In: strings.NewReader(strings.Repeat("x", 100_000)), Out: &out, Err: &errOut})
	if err != nil || exit.Code != 3 || out.Len() != 100_000 || errOut.String() != "e\n" {
		t.Errorf("exec: %v, %v, %d bytes, %q", exit, err, out.Len(), errOut.String())
	}
	signals := make(chan byte, 1)
	signals <- 15
	exit, err = c.Exec(ctx, "n", lab.Command{Argv: []string{"sleep", "1000"}}, Stdio{Out: io.Discard, Err: io.Discard, Signals: signals})
	if err != nil || exit.Signal != 15 || exit.Code != 143 {
		t.Errorf("signal: %v, %v", exit, err)
	}
	limited, cancel := context.WithCancel(ctx)
	_, err = c.Exec(limited, "n", lab.Command{Argv: []string{"sh", "-c", "echo go; sleep 1000"}},
		Stdio{Out: writerFunc(func(b []byte) { cancel() }), Err: io.Discard})
	if err == nil {
		t.Error("a cancelled exec succeeded")
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	w := &frameWriter{w: &b}
	for _, f := range []Frame{{FrameStdin, nil}, {FrameStdout, []byte("hello")}} {
		if err := w.write(f.Kind, f.Data); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFrame(&b)
		if err != nil || got.Kind != f.Kind || string(got.Data) != string(f.Data) {
			t.Errorf("%v became %v, %v", f, got, err)
		}
	}
	for _, bad := range []string{"", "0", "0\xff\xff\xff\xff", "0\x00\x00\x00\x05abc"} {
		if _, err := ReadFrame(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestOwnFolderOnly(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.Symlink("/tmp", dir+"/taproom"); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClaim("x"); err == nil {
		t.Error("a folder behind a symbolic link was taken")
	}
	for _, name := range []string{"", "../x", "a/b", ".hidden"} {
		if _, err := NewClaim(name); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
}

// FuzzAPI sends anything to every endpoint of a lab of routers. It may be
// refused, but must neither panic nor take the lab down.
func FuzzAPI(f *testing.F) {
	l := newLab(f)
	h := NewServer(l).Handler()
	apply, _ := json.Marshal(Apply{File: "f", Text: small})
	f.Add("GET", "/v1/lab", []byte(nil))
	f.Add("GET", "/v1/rooms/a", []byte(nil))
	f.Add("POST", "/v1/plan", apply)
	f.Add("POST", "/v1/apply", apply)
	f.Add("POST", "/v1/impair", []byte(`{"what":"k","settings":["delay","1ms","burst","1%/2%","down"]}`))
	f.Add("GET", "/v1/capture?at=k&count=1&snap=7", []byte(nil))
	f.Add("GET", "/v1/exec?room=a", []byte("c\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		if strings.Contains(path, "down") || bytes.Contains(body, []byte("namespace")) || bytes.Contains(body, []byte("pid")) || bytes.Contains(body, []byte("path")) {
			t.Skip("would leave the lab, or reach for the machine")
		}
		req, err := http.NewRequest(method, "http://x/", bytes.NewReader(body))
		if err != nil {
			t.Skip()
		}
		u, err := req.URL.Parse(path)
		if err != nil {
			t.Skip()
		}
		ctx, cancel := context.WithCancel(context.Background())
		if strings.Contains(u.Path, "capture") {
			cancel() // it would wait for frames
		}
		defer cancel()
		req.URL = u
		h.ServeHTTP(httptest.NewRecorder(), req.WithContext(ctx))
		if l.Name() != "small" {
			t.Fatalf("the lab is now %q", l.Name())
		}
	})
}

// A killed daemon holds its lock until the kernel has taken its devices down;
// an up that comes in between waits for it.
func TestClaimAfterKill(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	d, err := makeDir()
	if err != nil {
		t.Fatal(err)
	}
	dying, err := os.Create(filepath.Join(d, "small.pid"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(dying, "999999999 small-999999999-1")
	if err := unix.Flock(int(dying.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { dying.Close() })
	c, err := NewClaim("small")
	if err != nil {
		t.Fatal(err)
	}
	c.Release()
}
