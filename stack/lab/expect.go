package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"taproom/stack"
	"taproom/stack/lab/probe"
	"taproom/stack/lab/spec"
)

// Result is the outcome of one expectation.
type Result struct {
	Name  string        `json:"name"`
	OK    bool          `json:"ok"`
	Error string        `json:"error,omitempty"` // what was found instead
	Took  time.Duration `json:"took"`
}

// Expect checks the expectations of the lab file in order, and reports each
// when it is known. The end of ctx fails those that are left.
func (l *Lab) Expect(ctx context.Context, report func(Result)) {
	file := l.File()
	for i := range file.Expect {
		x := &file.Expect[i]
		start := time.Now()
		err := l.expectWithin(ctx, x)
		r := Result{Name: expectationName(x), OK: err == nil, Took: time.Since(start)}
		if err != nil {
			r.Error = err.Error()
		}
		report(r)
	}
}

func expectationName(x *spec.Expectation) string {
	switch {
	case x.Name != "":
		return x.Name
	case x.Ping != nil && x.Ping.Fails:
		return fmt.Sprintf("no ping %s → %s", x.Ping.From, x.Ping.To)
	case x.Ping != nil:
		return fmt.Sprintf("ping %s → %s", x.Ping.From, x.Ping.To)
	case x.Path != nil:
		return fmt.Sprintf("path %s → %s", x.Path.From, strings.Join(x.Path.Hops, " → "))
	case x.Exec != nil:
		return fmt.Sprintf("exec %s: %s", x.Exec.Room, strings.Join(x.Exec.Command, " "))
	case x.Counter != nil:
		return fmt.Sprintf("counter %s %s", x.Counter.At, x.Counter.Name)
	}
	return "expectation"
}

// expectEvery is the pause between tries of an expectation with "within".
const expectEvery = 200 * time.Millisecond

func (l *Lab) expectWithin(ctx context.Context, x *spec.Expectation) error {
	if x.Within <= 0 {
		return l.expect(ctx, x)
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(x.Within))
	defer cancel()
	for {
		err := l.expect(ctx, x)
		if err == nil {
			return nil
		}
		select {
		case <-limited.Done():
			return err
		case <-time.After(expectEvery):
		}
	}
}

func (l *Lab) expect(ctx context.Context, x *spec.Expectation) error {
	switch {
	case x.Ping != nil:
		return l.expectPing(ctx, x.Ping)
	case x.Path != nil:
		return l.expectPath(ctx, x.Path)
	case x.Exec != nil:
		return l.expectExec(ctx, x.Exec)
	case x.Counter != nil:
		return l.expectCounter(x.Counter)
	}
	return fmt.Errorf("lab: an empty expectation")
}

// targets are the addresses to try for a target, one of each IP version.
func (l *Lab) targets(to string, ip int) ([]netip.Addr, error) {
	resolved := l.Resolved()
	all := spec.Target(to, func(room, iface string) []netip.Prefix {
		if iface != "" {
			return resolved.Addresses[spec.Endpoint{Room: room, Interface: iface}]
		}
		return resolved.Room(room)
	})
	var out []netip.Addr
	seen := map[bool]bool{}
	for _, a := range all {
		is4 := a.Is4()
		if !seen[is4] && (ip == 0 || is4 == (ip == 4)) {
			seen[is4] = true
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no such address", to)
	}
	return out, nil
}

func (l *Lab) tool(ctx context.Context, room string, argv ...string) (Exit, string, error) {
	r, err := l.room(room)
	if err != nil {
		return Exit{}, "", err
	}
	return r.run(ctx, Command{Argv: argv, Env: []string{"LC_ALL=C"}}, 1<<20)
}

var transmitted = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

func (l *Lab) expectPing(ctx context.Context, p *spec.PingExpect) error {
	to, err := l.targets(p.To, p.IP)
	if err != nil {
		return err
	}
	for _, a := range to {
		sent, got, err := l.ping(ctx, p, a)
		switch {
		case err != nil && !p.Fails:
			return fmt.Errorf("ping %v: %w", a, err)
		case err != nil:
			continue // "network is unreachable" is a failure, too
		case p.Fails && got > 0:
			return fmt.Errorf("ping %v: %d of %d answered, and none should be", a, got, sent)
		case !p.Fails && float64(sent-got) > float64(p.Loss)*float64(sent):
			return fmt.Errorf("ping %v: %d of %d answered", a, got, sent)
		}
	}
	return nil
}

// ping sends echo requests: with ping(8) from a namespace, with a prober from
// a router. It returns how many were sent and answered.
func (l *Lab) ping(ctx context.Context, p *spec.PingExpect, to netip.Addr) (sent, got int, err error) {
	r, err := l.room(p.From)
	if err != nil {
		return 0, 0, err
	}
	count, size := max(p.Count, 1), p.Size
	if size == 0 {
		size = 56
	}
	if r.node != nil {
		return pingFromNode(ctx, r.node, to, count, size)
	}
	_, out, err := l.tool(ctx, p.From, "ping", "-n", "-c", strconv.Itoa(count), "-i", "0.2", "-W", "2", "-s", strconv.Itoa(size), to.String())
	if err != nil {
		return 0, 0, err
	}
	m := transmitted.FindStringSubmatch(out)
	if m == nil {
		return 0, 0, errors.New(lastLine(out))
	}
	sent, _ = strconv.Atoi(m[1])
	got, _ = strconv.Atoi(m[2])
	return sent, got, nil
}

func pingFromNode(ctx context.Context, n *stack.Node, to netip.Addr, count, size int) (sent, got int, err error) {
	p, err := probe.New(n)
	if err != nil {
		return 0, 0, err
	}
	defer p.Close()
	for range count {
		a, err := p.Echo(ctx, to, probe.Options{Size: size})
		switch {
		case err == nil && a.Kind == probe.Reply:
			got++
		case err != nil && !errors.Is(err, probe.ErrNoAnswer):
			return sent, got, err
		}
		sent++
	}
	return sent, got, nil
}

func (l *Lab) expectPath(ctx context.Context, p *spec.PathExpect) error {
	to, err := l.targets(p.To, p.IP)
	if err != nil {
		return err
	}
	for _, a := range to {
		hops, err := l.trace(ctx, p.From, a)
		if err == nil {
			err = l.comparePath(hops, p.Hops)
		}
		if err != nil {
			return fmt.Errorf("path to %v: %w", a, err)
		}
	}
	return nil
}

// maxHops is where the search for a path ends.
const maxHops = 32

// trace finds the hops to an address, "*" for those that do not answer.
func (l *Lab) trace(ctx context.Context, from string, to netip.Addr) ([]string, error) {
	r, err := l.room(from)
	if err != nil {
		return nil, err
	}
	if r.node == nil {
		// One probe at a time: Linux answers only six at once for a closed port.
		_, out, err := l.tool(ctx, from, "traceroute", "-n", "-q", "1", "-N", "1", "-w", "2", "-m", strconv.Itoa(maxHops), to.String())
		if err != nil {
			return nil, err
		}
		hops := parseTraceroute(out)
		if len(hops) == 0 {
			return nil, errors.New(lastLine(out))
		}
		return hops, nil
	}
	p, err := probe.New(r.node)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	found, err := p.Trace(ctx, to, maxHops)
	hops := make([]string, len(found))
	for i, h := range found {
		if hops[i] = "*"; h.IsValid() {
			hops[i] = h.String()
		}
	}
	return hops, err
}

// parseTraceroute reads the answering address of each hop, "*" for none.
func parseTraceroute(out string) []string {
	var hops []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if _, err := strconv.Atoi(f[0]); err == nil {
			hops = append(hops, f[1])
		}
	}
	return hops
}

func (l *Lab) comparePath(got, want []string) error {
	resolved := l.Resolved()
	names := make([]string, len(got))
	for i, g := range got {
		names[i] = g
		if a, err := netip.ParseAddr(g); err == nil {
			if room := resolved.Owner(a); room != "" {
				names[i] = room
			}
		}
	}
	same := len(got) == len(want)
	for i := 0; same && i < len(want); i++ {
		same = want[i] == names[i] || want[i] == got[i]
	}
	if !same {
		return fmt.Errorf("went %s, not %s", strings.Join(names, " → "), strings.Join(want, " → "))
	}
	return nil
}

func (l *Lab) expectExec(ctx context.Context, e *spec.ExecExpect) error {
	timeout := time.Duration(e.Timeout)
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	exit, out, err := l.tool(limited, e.Room, e.Command...)
	switch {
	case limited.Err() != nil:
		return fmt.Errorf("still running after %v", timeout)
	case err != nil:
		return err
	case exit.Code != e.Exit:
		return fmt.Errorf("%v, not %d: %s", exit, e.Exit, lastLine(out))
	case e.Output != "" && !regexp.MustCompile(string(e.Output)).MatchString(out): // checked by spec
		return fmt.Errorf("its output does not match %q: %s", e.Output, lastLine(out))
	}
	return nil
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it printed nothing"
}

func (l *Lab) expectCounter(c *spec.CounterExpect) error {
	name, iface, _ := strings.Cut(c.At, ":")
	r, err := l.Room(name)
	if err != nil {
		return err
	}
	var counters any = r.Counters
	if iface != "" {
		counters = nil
		for _, i := range r.Interfaces {
			if i.Name == iface {
				counters = i.Counters
			}
		}
		if counters == nil {
			return fmt.Errorf("%w: interface %s", ErrNoSuch, c.At)
		}
	}
	n, err := lookCounter(counters, c.Name)
	switch {
	case err != nil:
		return err
	case c.Min != nil && n < *c.Min:
		return fmt.Errorf("%d is less than %d", n, *c.Min)
	case c.Max != nil && n > *c.Max:
		return fmt.Errorf("%d is more than %d", n, *c.Max)
	}
	return nil
}

// lookCounter finds a counter by the name it has in JSON, with dots between
// levels. A drop reason that did not occur is zero.
func lookCounter(counters any, name string) (uint64, error) {
	b, err := json.Marshal(counters)
	if err != nil {
		return 0, err
	}
	var tree map[string]json.RawMessage
	if err := json.Unmarshal(b, &tree); err != nil {
		return 0, err
	}
	first, rest, nested := strings.Cut(name, ".")
	raw, ok := tree[first]
	if !ok {
		return 0, fmt.Errorf("%w: counter %q", ErrNoSuch, name)
	}
	if nested {
		var sub map[string]uint64
		if err := json.Unmarshal(raw, &sub); err != nil {
			return 0, fmt.Errorf("%w: counter %q", ErrNoSuch, name)
		}
		return sub[rest], nil
	}
	var n uint64
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, fmt.Errorf("%w: %q is no counter", ErrNoSuch, name)
	}
	return n, nil
}
