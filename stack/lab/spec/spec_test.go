package spec

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taproom/stack/wire"
)

const good = `
version: 1
name: two-rooms
rooms:
  alice: namespace
  r1: {kind: router, addresses: [192.0.2.1/32]}
  bob:
    kind: namespace
    sysctl: {net.ipv4.ip_forward: 0}
    run:
      - python3 -m http.server 8080
      - name: echo
        command: [socat, TCP-LISTEN:7,fork, EXEC:cat]
        ready: {tcp: 7, within: 2s}
    routes:
      - {to: default, via: 10.0.2.1}
links:
  - ends: [alice:eth0, {at: r1:eth0, addresses: [10.0.1.1/24], mac: 02-00-00-00-00-01}]
    delay: 10ms
    loss: 0.5%
    backward: {rate: 1.5Gbit/s, loss: 0, burst: {enter: 1%, leave: 0.3}}
  - name: right
    ends: [r1:eth1, bob:eth0]
    mtu: 9000
expect:
  - ping: {from: alice, to: bob}
  - {path: {from: alice, to: "192.0.2.1", hops: [r1]}, within: 5s}
`

func parse(t *testing.T, data string) *Lab {
	t.Helper()
	l, err := Parse("lab.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParse(t *testing.T) {
	l := parse(t, good)
	if l.Rooms["alice"].Kind != Namespace || !l.Rooms["r1"].Forwards() || l.Rooms["bob"].Forwards() {
		t.Errorf("rooms: %+v", l.Rooms)
	}
	bob := l.Rooms["bob"]
	if bob.Sysctl["net.ipv4.ip_forward"] != "0" || bob.Run[0].Name != "python3" || bob.Run[0].Command[0] != "/bin/sh" {
		t.Errorf("bob: %+v", bob)
	}
	if r := bob.Run[1].Ready; r.TCP != 7 || r.Within != Duration(2*time.Second) {
		t.Errorf("ready: %+v", r)
	}
	k := l.Links[0]
	if k.Name != "alice:eth0--r1:eth0" || k.Ends[1].MAC != "02:00:00:00:00:01" || l.Links[1].Ends[0].MTU != 9000 {
		t.Errorf("links: %+v", l.Links)
	}
	want := [2]wire.Impairment{
		{Delay: 10 * time.Millisecond, Loss: 0.005},
		{Delay: 10 * time.Millisecond, Rate: 1_500_000_000, Burst: wire.Burst{Enter: 0.01, Leave: 0.3}},
	}
	if diff := cmp.Diff(want, k.Impairments()); diff != "" {
		t.Errorf("impairments (-want +got):\n%s", diff)
	}
}

// Each row is a change of the good file, and the error it must give.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"version", "version: 1", "version: 2", `lab.yaml:2:1: version: version 2 is not known, this taproom reads 1`},
		{"unknown key", "    delay: 10ms", "    dealy: 10ms", `lab.yaml:19:5: links[0].dealy: unknown key, do you mean "delay"?`},
		{"unknown room", "bob:eth0]", "bobb:eth0]", `lab.yaml:23:21: links[1].ends[1]: no room "bobb", do you mean "bob"?`},
		{"kind", "alice: namespace", "alice: namespac", `lab.yaml:5:3: rooms.alice: unknown value "namespac", do you mean "namespace"?`},
		{"duration", "delay: 10ms", "delay: 10", `links[0].delay: "10" is no duration`},
		{"percent", "loss: 0.5%", "loss: 5", `links[0].loss: 5 is more than certain: do you mean 5%?`},
		{"rate", "1.5Gbit/s", "10mbps", `links[0].backward.rate: "10mbps" is no rate`},
		{"mac", "02-00-00-00-00-01", "'03:00:00:00:00:01'", "is a group address"},
		{"endpoint", "[alice:eth0,", "[alice,", `links[0].ends[0]: "alice" is no interface: write room:interface`},
		{"three ends", "ends: [r1:eth1, bob:eth0]", "ends: [r1:eth1, bob:eth0, r1:eth2]", "a link has two ends, not 3"},
		{"interface twice", "ends: [r1:eth1,", "ends: [r1:eth0,", "r1:eth0 has a link already"},
		{"router runs", "addresses: [192.0.2.1/32]", "run: [x]", "rooms.r1.run: a router has none"},
		{"host bits", "to: default", "to: 10.1.2.3/8", "do you mean 10.0.0.0/8?"},
		{"regexp", "ready: {tcp: 7,", "ready: {output: '(',", "missing closing )"},
		{"two conditions", "ready: {tcp: 7,", "ready: {tcp: 7, output: x,", "give one of tcp, output and command"},
		{"expectation", "ping: {from: alice, to: bob}", "ping: {from: alise, to: bob}", `no room "alise", do you mean "alice"?`},
		{"expectation kind", "ping: {from: alice, to: bob}", "exec: {room: r1, command: x}", `room "r1" is a router, not a namespace`},
		{"missing key", "ping: {from: alice, to: bob}", "ping: {to: bob}", `expect[0].ping: key "from" is missing`},
		{"not a map", "  alice: namespace", "  alice: [1]", "rooms.alice: want keys and values, not a list"},
		{"not a list", "ends: [r1:eth1, bob:eth0]", "ends: r1:eth1", "links[1].ends: want a list"},
		{"reorder", "    delay: 10ms", "    reorder: 1%", "needs a delay"},
		{"syntax", "rooms:", "rooms: [", "not valid YAML"},
		{"duplicate room", "  bob:\n", "  alice:\n", "alice"},
		{"alias", "delay: 10ms", "delay: *x", "no anchor &x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.new, 1)
			if changed == good {
				t.Fatal("the row changes nothing")
			}
			_, err := Parse("lab.yaml", []byte(changed))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), c.want) || e.Line == 0 {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Parse("lab.yaml", []byte("version: 1\nname: x\nrooms: {a: router, b: ruter}\nlinks:\n- {ends: [a:e, b:e], los: 1%}\n- {ends: [a:f, b:f], delay: 3}\n"))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 3 {
		t.Errorf("%v", err)
	}
}

func TestAnchorsAndMerge(t *testing.T) {
	l := parse(t, `
version: 1
name: x
rooms: {a: router, b: router}
links:
  - &wan {ends: [a:e0, b:e0], delay: 20ms, loss: 1%}
  - {<<: *wan, ends: [a:e1, b:e1], name: second}
`)
	if i := l.Links[1].Impairments()[0]; i.Delay != 20*time.Millisecond || i.Loss != 0.01 {
		t.Errorf("%+v", i)
	}
}

func TestTextRoundTrip(t *testing.T) {
	for _, s := range []string{"10ms", "1m30s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if b, _ := d.MarshalText(); string(b) != s {
			t.Errorf("%s became %s", s, b)
		}
	}
	for in, want := range map[string]string{"10mbit": "10mbit", "1.5Gbit/s": "1500mbit", "0bit": "0bit", "9600bit": "9600bit"} {
		var r Rate
		if err := r.UnmarshalText([]byte(in)); err != nil {
			t.Fatal(err)
		}
		if b, _ := r.MarshalText(); string(b) != want {
			t.Errorf("%s became %s", in, b)
		}
	}
	for in, want := range map[string]string{"1%": "1%", "0.015": "1.5%", "100%": "100%"} {
		var p Percent
		if err := p.UnmarshalText([]byte(in)); err != nil {
			t.Fatal(err)
		}
		if b, _ := p.MarshalText(); string(b) != want {
			t.Errorf("%s became %s", in, b)
		}
	}
	for in, want := range map[string]Size{"1500": 1500, "64kB": 64000, "1MiB": 1 << 20, "7b": 7} {
		var z Size
		if err := z.UnmarshalText([]byte(in)); err != nil || z != want {
			t.Errorf("%s: %d, %v", in, z, err)
		}
	}
	for _, bad := range []string{"-1", "1xB", "99999999999999"} {
		if new(Size).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("size %q passed", bad)
		}
	}
}

// The schema knows every key that is read, short forms included. That the
// published one is current is tested with the command, which knows all
// sections.
func TestSchema(t *testing.T) {
	var s struct {
		Properties map[string]any
		Required   []string
		Defs       map[string]struct {
			Properties map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for _, f := range fieldsOf(reflect.TypeFor[Lab]()) {
		if s.Properties[f.key] == nil {
			t.Errorf("no key %s", f.key)
		}
	}
	for name, def := range s.Defs {
		for key, p := range def.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", name, key)
			}
		}
	}
	if s.Defs["Link"].Properties["delay"].Description == "" || len(s.Required) != 3 {
		t.Errorf("links have no delay, or required is %v", s.Required)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("version: 1\n<<: {name: x}\nrooms: {a: {<<: {kind: router}}}"))
	f.Add([]byte("{{{{[[[["))
	f.Add([]byte("x: !!binary y\n--- \n? [a]\n: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse("fuzz", data)
		if (l == nil) == (err == nil) {
			t.Fatalf("lab %v, error %v", l, err)
		}
		var errs Errors
		if err != nil && (!errors.As(err, &errs) || len(errs) == 0) {
			t.Fatalf("error without content: %T %v", err, err)
		}
	})
}
