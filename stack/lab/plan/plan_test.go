package plan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"taproom/stack/lab/spec"
)

func resolve(t *testing.T, text string, old *Resolved) *Resolved {
	t.Helper()
	file, err := spec.Parse("test.yaml", []byte("version: 1\nname: x\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Resolve(file, old)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func at(s string) (e spec.Endpoint) {
	if err := e.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return e
}

func routes(r *Resolved, room string) (out []string) {
	for _, res := range r.Resources {
		if rt, ok := res.(Route); ok && rt.Room == room {
			out = append(out, strings.TrimPrefix(rt.String(), room+" route "))
		}
	}
	return out
}

const chain = `
rooms: {a: namespace, r: router, s: {kind: router, addresses: [192.0.2.1/32]}, b: namespace}
links:
  - ends: [a:e, r:a]
  - {ends: [{at: r:s, addresses: [10.1.0.5/24, fd01::5/64]}, s:r]}
  - {ends: [s:b, b:e], subnets: [172.16.9.0/30, fd09::/64]}
`

func TestAddresses(t *testing.T) {
	r := resolve(t, chain, nil)
	for where, want := range map[string]string{
		"a:e": "[10.77.0.1/24 fd77::1/64]",
		"r:a": "[10.77.0.2/24 fd77::2/64]",
		"s:r": "[10.1.0.1/24 fd01::1/64]", // beside the one that is given
		"s:b": "[172.16.9.1/30 fd09::1/64]",
		"b:e": "[172.16.9.2/30 fd09::2/64]",
	} {
		if got := fmt.Sprint(r.Addresses[at(where)]); got != want {
			t.Errorf("%s has %s, want %s", where, got, want)
		}
	}
	if r.Owner(netip.MustParseAddr("192.0.2.1")) != "s" || r.Owner(netip.MustParseAddr("192.0.2.2")) != "" {
		t.Error("owner of 192.0.2.1 or .2")
	}
	// A link before the others does not renumber them.
	again := resolve(t, strings.Replace(chain, "links:\n", "links:\n  - ends: [r:new, s:new]\n", 1), r)
	if diff := cmp.Diff(r.Addresses[at("a:e")], again.Addresses[at("a:e")], cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("a:e was renumbered: %s", diff)
	}
	if got := fmt.Sprint(again.Addresses[at("r:new")]); got != "[10.77.1.1/24 fd77:0:0:1::1/64]" {
		t.Errorf("r:new has %s", got)
	}
}

func TestRoutes(t *testing.T) {
	r := resolve(t, chain, nil)
	for room, want := range map[string][]string{
		"a": {"0.0.0.0/0 via 10.77.0.2 dev e", "::/0 via fd77::2 dev e"},
		"r": {"172.16.9.0/30 via 10.1.0.1 dev s", "192.0.2.1/32 via 10.1.0.1 dev s", "fd09::/64 via fd01::1 dev s"},
		"s": {"10.77.0.0/24 via 10.1.0.5 dev r", "fd77::/64 via fd01::5 dev r"},
		"b": {"0.0.0.0/0 via 172.16.9.1 dev e", "::/0 via fd09::1 dev e"},
	} {
		if diff := cmp.Diff(want, routes(r, room)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", room, diff)
		}
	}
	static := resolve(t, strings.Replace(chain, "r: router", "r: {kind: router, routes: [{to: default, via: 10.1.0.1}, {to: 10.9.0.0/16, kind: blackhole}]}", 1), nil)
	if diff := cmp.Diff([]string{"0.0.0.0/0 via 10.1.0.1 dev s", "10.9.0.0/16 blackhole"}, routes(static, "r")); diff != "" {
		t.Errorf("static (-want +got):\n%s", diff)
	}
	if got := routes(resolve(t, "routing: static\n"+chain, nil), "a"); got != nil {
		t.Errorf("routing static computed %v", got)
	}
}

// Hosts are not passed through, costs count, and cut links do not.
func TestShortestPaths(t *testing.T) {
	const diamond = `
rooms: {a: router, b: router, c: router, h: namespace, d: {kind: router, addresses: [192.0.2.4/32]}}
links:
  - {ends: [a:h, h:a]}
  - {ends: [h:d, d:h]}
  - {ends: [a:b, b:a]}
  - {ends: [b:d, d:b]}
  - {ends: [a:c, c:a], cost: 2}
  - {ends: [c:d, d:c], cost: 2}
`
	to := func(text string) string {
		for _, s := range routes(resolve(t, text, nil), "a") {
			if strings.HasPrefix(s, "192.0.2.4/32") {
				return s[strings.LastIndex(s, " ")+1:]
			}
		}
		return "none"
	}
	for _, c := range []struct{ old, new, want string }{
		{"x", "x", "b"},
		{"h: namespace", "h: router", "h"},
		{"[a:b, b:a]}", "[a:b, b:a], cost: 9}", "c"},
		{"[b:d, d:b]}", "[b:d, d:b], backward: {state: down}}", "c"},
	} {
		if got := to(strings.Replace(diamond, c.old, c.new, 1)); got != c.want {
			t.Errorf("with %s a reaches d through %s, want %s", c.new, got, c.want)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	for want, text := range map[string]string{
		"at both ends":  "rooms: {a: router, b: router}\nlinks: [{ends: [{at: 'a:e', addresses: [10.0.0.1/24]}, {at: 'b:e', addresses: [10.0.0.1/24]}]}]",
		"at both a:":    "rooms: {a: {kind: router, addresses: [10.0.0.1/32]}, b: router}\nlinks: [{ends: [{at: 'a:e', addresses: [10.0.0.1/24]}, 'b:e']}]",
		"in no network": "rooms: {a: {kind: router, routes: [{to: default, via: 10.9.9.9}]}}",
		"no free":       "rooms: {a: router, b: router}\nlinks: [{ends: [{at: 'a:e', addresses: [10.0.0.1/31]}, 'b:e']}, {ends: [{at: 'a:f', addresses: [10.0.0.0/31]}, 'b:f']}]",
	} {
		file, err := spec.Parse("test.yaml", []byte("version: 1\nname: x\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Resolve(file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// world is a Driver that remembers what there is, and fails where it is told.
type world struct {
	have map[string]string
	fail string // key
	log  []string
}

func (w *world) do(op string, r Resource, state string) error {
	if r.Key() == w.fail {
		return errors.New("told to")
	}
	for _, n := range r.Needs() {
		if _, ok := w.have[n]; !ok {
			return fmt.Errorf("%s needs %s", r.Key(), n)
		}
	}
	w.log = append(w.log, op+r.Key())
	if state == "" {
		delete(w.have, r.Key())
	} else {
		w.have[r.Key()] = state
	}
	return nil
}

func (w *world) Add(_ context.Context, r Resource) error       { return w.do("+", r, r.String()) }
func (w *world) Change(_ context.Context, _, r Resource) error { return w.do("~", r, r.String()) }
func (w *world) Remove(_ context.Context, r Resource) error    { return w.do("-", r, "") }

// Whatever the step that fails, what was there before is there again.
func TestFailureTakesBack(t *testing.T) {
	before := resolve(t, chain, nil)
	after := resolve(t, strings.NewReplacer("e, r:a]", "e, r:a]\n    delay: 1ms\n    mtu: 1400", "b: namespace", "b: {kind: namespace, pid: 7}, c: router").Replace(chain), before)
	ctx := context.Background()
	w := &world{have: map[string]string{}}
	if err := Run(ctx, w, Diff(nil, before.Resources)); err != nil {
		t.Fatal(err)
	}
	was := fmt.Sprint(w.have)
	steps := Diff(before.Resources, after.Resources)
	if len(steps) < 10 {
		t.Fatalf("only %d steps: %v", len(steps), steps)
	}
	for _, s := range steps {
		r := s.New
		if s.Op == Remove {
			continue // it would fail again when it is added back
		}
		w.fail = r.Key()
		if _, there := w.have[w.fail]; there && s.Op == Add {
			continue
		}
		err := Run(ctx, w, steps)
		if err == nil || !strings.Contains(err.Error(), "told to") {
			t.Fatalf("failing %v: %v", s, err)
		}
		if now := fmt.Sprint(w.have); now != was {
			t.Fatalf("failing %v left\n%s\nwant\n%s", s, now, was)
		}
	}
	w.fail = ""
	if err := Run(ctx, w, steps); err != nil {
		t.Fatal(err)
	}
	if len(w.have) != len(after.Resources) {
		t.Errorf("%d things, want %d", len(w.have), len(after.Resources))
	}
	if err := RunAll(ctx, w, Diff(after.Resources, nil)); err != nil || len(w.have) != 0 {
		t.Errorf("down: %v, left %v", err, w.have)
	}
}

func TestCancelledRunTakesBack(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := &world{have: map[string]string{}}
	if err := Run(ctx, w, Diff(nil, resolve(t, chain, nil).Resources)); !errors.Is(err, context.Canceled) || len(w.have) != 0 {
		t.Errorf("%v, left %v", err, w.have)
	}
}

func TestDiffTouchesOnlyTheDifference(t *testing.T) {
	r := resolve(t, chain, nil)
	if s := Diff(r.Resources, resolve(t, chain, r).Resources); len(s) != 0 {
		t.Errorf("the same file gives %v", s)
	}
	s := Diff(r.Resources, resolve(t, strings.Replace(chain, "a:e, r:a]", "a:e, r:a]\n    loss: 1%", 1), r).Resources)
	if len(s) != 2 || s[0].String() != "~ a:e → r:a: loss 1%" {
		t.Errorf("a loss gives %v", s)
	}
	// A link that goes takes addresses and routes with it, and nothing else.
	s = Diff(r.Resources, resolve(t, strings.Replace(chain, "  - ends: [a:e, r:a]\n", "", 1), r).Resources)
	if i := slices.IndexFunc(s, func(s Step) bool { return s.Op != Remove }); i >= 0 {
		t.Errorf("removing a link does %v", s[i])
	}
	if last := s[len(s)-1].String(); last != "- link a:e -- r:a" {
		t.Errorf("the last step is %s", last)
	}
}

// FuzzResolve lets any lab file that parses become a plan.
func FuzzResolve(f *testing.F) {
	f.Add([]byte("version: 1\nname: x\n" + chain))
	f.Add([]byte("version: 1\nname: x\naddressing: {v4: 10.0.0.0/24, v6: '::/0'}\nrooms: {a: router, b: router}\nlinks: [{ends: ['a:e', 'b:e']}, {ends: ['a:f', 'b:f'], subnets: [10.0.0.0/30]}, {ends: [{at: 'a:g', addresses: ['::1/0', 0.0.0.1/0]}, 'b:g']}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := spec.Parse("fuzz", data)
		if err != nil {
			return
		}
		r, err := Resolve(file, nil)
		if err != nil {
			return
		}
		if again, err := Resolve(file, r); err != nil || len(Diff(r.Resources, again.Resources)) != 0 {
			t.Fatalf("the same file again: %v, %v", err, Diff(r.Resources, again.Resources))
		}
	})
}
