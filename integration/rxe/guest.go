package rxe

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"taproom/integration/rxe/agent"
)

// Options say what guest to boot. The zero value is the usual one.
type Options struct {
	Name string // host name; "a" if empty
	// Addresses with prefix length; 10.9.0.1/24 and fd09::1/64 if empty.
	IP, IP6 string
	MTU     int // of its card; 1500 if zero. Path MTU 4096 takes 4176 or more.
	// TAP is a TAP device without IFF_VNET_HDR to use instead of a socket. Boot
	// does not close it; the guest keeps a descriptor of its own.
	TAP *os.File
}

const (
	channels    = 4 // control channels
	guestMemory = "384"
	bootTimeout = 90 * time.Second
	guestMAC    = "52:54:00:00:00:01"
)

// Guest is a running guest. Its methods are safe for concurrent use.
type Guest struct {
	opts    Options
	dir     string
	cmd     *exec.Cmd
	exited  chan struct{}
	console *syncBuffer
	verbx   bool
	boot    time.Duration

	next    atomic.Uint32
	clients [channels]*agent.Client

	mu   sync.Mutex
	link *Link
}

// Boot builds the image if need be, boots it and waits until the guest answers.
// The caller must Close it. ctx limits the build and the boot, not the guest's
// life.
func Boot(ctx context.Context, o Options) (*Guest, error) {
	if o.Name == "" {
		o.Name = "a"
	}
	if o.IP == "" {
		o.IP = "10.9.0.1/24"
	}
	if o.IP6 == "" {
		o.IP6 = "fd09::1/64"
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	img, err := buildImage(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rxe")
	if err != nil {
		return nil, err
	}
	g := &Guest{opts: o, dir: dir, exited: make(chan struct{}), console: &syncBuffer{}, verbx: img.verbx}
	g.cmd = exec.Command("qemu-system-x86_64", g.args(img)...)
	g.cmd.Stdout, g.cmd.Stderr = g.console, g.console
	if o.TAP != nil {
		g.cmd.ExtraFiles = []*os.File{o.TAP}
	}
	start := time.Now()
	if err := g.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	go func() { _ = g.cmd.Wait(); close(g.exited) }()
	if err := g.connect(ctx); err != nil {
		g.Close()
		return nil, fmt.Errorf("%w; the console said:\n%s", err, g.console.tail(2000))
	}
	g.boot = time.Since(start)
	return g, nil
}

// args is QEMU's command line.
func (g *Guest) args(img *image) []string {
	o := g.opts
	a := []string{
		"-accel", "tcg", "-cpu", "max", "-M", "pc", "-smp", "1", "-m", guestMemory,
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", img.kernel, "-initrd", img.initrd,
		"-append", fmt.Sprintf("console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check rxe.host=%s rxe.ip=%s rxe.ip6=%s rxe.mtu=%d", o.Name, o.IP, o.IP6, o.MTU),
	}
	if o.TAP != nil {
		a = append(a, "-netdev", "tap,id=n,fd=3")
	} else {
		a = append(a, "-netdev", "stream,id=n,server=on,addr.type=unix,addr.path="+filepath.Join(g.dir, "net"))
	}
	// Whole frames, every checksum in place: our side need not know of offloads.
	a = append(a, "-device", "virtio-net-pci,netdev=n,mac="+guestMAC+",host_mtu="+fmt.Sprint(o.MTU)+
		",csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off",
		"-device", "virtio-serial-pci")
	for i := range channels {
		a = append(a, "-chardev", fmt.Sprintf("socket,id=c%d,server=on,wait=off,path=%s", i, g.channel(i)),
			"-device", fmt.Sprintf("virtserialport,chardev=c%d,name=rxe.%d", i, i))
	}
	return a
}

func (g *Guest) channel(i int) string { return filepath.Join(g.dir, fmt.Sprintf("channel%d", i)) }

// connect dials the channels and waits for the first answer on each.
func (g *Guest) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	for i := range g.clients {
		conn, err := g.dial(ctx, g.channel(i))
		if err != nil {
			return err
		}
		g.clients[i] = agent.NewClient(conn)
	}
	done := make(chan error, 1)
	go func() {
		for _, c := range g.clients {
			if _, err := c.Run("", bootTimeout); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil && !g.Alive() {
			err = fmt.Errorf("rxe: QEMU ended while the guest booted: %v", g.cmd.ProcessState)
		}
		return err
	case <-g.exited:
		return fmt.Errorf("rxe: QEMU ended while the guest booted: %v", g.cmd.ProcessState)
	case <-ctx.Done():
		return fmt.Errorf("rxe: the guest did not answer: %w", ctx.Err())
	}
}

// dial connects to a unix socket of QEMU's, which may not exist yet.
func (g *Guest) dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c, nil
		}
		select {
		case <-g.exited:
			return nil, fmt.Errorf("rxe: QEMU ended at its start")
		case <-ctx.Done():
			return nil, fmt.Errorf("rxe: %w: %w", ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Close ends the guest and removes its sockets. It may be called twice.
func (g *Guest) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.cmd.Process.Kill()
	<-g.exited
	for _, c := range g.clients {
		if c != nil {
			c.Close()
		}
	}
	if g.link != nil {
		g.link.Close()
	}
	return os.RemoveAll(g.dir)
}

// Alive tells whether QEMU still runs; a guest that panics does not.
func (g *Guest) Alive() bool {
	select {
	case <-g.exited:
		return false
	default:
		return true
	}
}

// BootTime is how long the boot took.
func (g *Guest) BootTime() time.Duration { return g.boot }

// HasVerbx tells whether the guest has verbx; that takes a C compiler here.
func (g *Guest) HasVerbx() bool { return g.verbx }

// Console returns the end of what the guest's kernel printed.
func (g *Guest) Console() string { return g.console.tail(4000) }

// Run runs a shell command in the guest, on the next of its four channels: as
// many commands may run at once, and a fifth waits.
func (g *Guest) Run(command string, timeout time.Duration) (agent.Response, error) {
	r, err := g.clients[g.next.Add(1)%channels].Run(command, timeout)
	if err != nil && !g.Alive() {
		err = fmt.Errorf("%w; the guest is gone, its console said:\n%s", err, g.Console())
	}
	return r, err
}

// Go starts a command and returns a function that waits for its end.
func (g *Guest) Go(command string, timeout time.Duration) (wait func() (agent.Response, error)) {
	var r agent.Response
	var err error
	done := make(chan struct{})
	go func() { defer close(done); r, err = g.Run(command, timeout) }()
	return func() (agent.Response, error) { <-done; return r, err }
}

// Counters returns rxe's counters, as "rdma statistic" prints them.
func (g *Guest) Counters() (map[string]uint64, error) {
	r, err := g.Run("rdma statistic show link rxe0/1", 10*time.Second)
	if err != nil || r.Status != 0 {
		return nil, fmt.Errorf("rxe: counters: %w: %s", err, r.Output)
	}
	m := map[string]uint64{}
	f := strings.Fields(r.Output)
	for i := 2; i+1 < len(f); i += 2 {
		var v uint64
		if _, err := fmt.Sscan(f[i+1], &v); err == nil {
			m[f[i]] = v
		}
	}
	return m, nil
}

// syncBuffer keeps what the console printed.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.b.String()
	return t[max(0, len(t)-n):]
}
