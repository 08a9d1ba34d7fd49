package ioam_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taproom/ioam"
	"taproom/ioam/ioamtest"
)

// bare is a node with one interface in0 and nothing configured.
func bare(t *testing.T, c ioam.Config) (*ioamtest.Node, *ioam.Node) {
	t.Helper()
	h := ioamtest.NewNode("R", func() time.Time { return time.Unix(1795212969, 568786000) })
	h.AddIface("in0", net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParsePrefix("2001:db8:a::2/64"))
	n, err := ioam.Attach(h, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return h, n
}

func wantErrno(t *testing.T, what string, err error, want syscall.Errno) {
	t.Helper()
	if want == 0 && err != nil || want != 0 && !errors.Is(err, want) {
		t.Errorf("%s: %v, want errno %v", what, err, want)
	}
}

func TestNamespaces(t *testing.T) {
	_, n := bare(t, ioam.Config{})
	steps := []struct {
		what string
		err  error
		want syscall.Errno
	}{
		{"add 123", n.AddNamespace(ioam.Namespace{ID: 123}), 0},
		{"add 123 again", n.AddNamespace(ioam.Namespace{ID: 123}), syscall.EEXIST},
		{"add 0 with data 0", n.AddNamespace(ioam.Namespace{ID: 0, Data: ioam.ID(0), Wide: ioam.ID64(0)}), 0},
		{"add 65535, all ones", n.AddNamespace(ioam.Namespace{ID: 65535, Data: ioam.ID(0xffffffff), Wide: ioam.ID64(1<<64 - 1)}), 0},
		{"del 999", n.DelNamespace(999), syscall.ENOENT},
		{"schema without data", n.AddSchema(ioam.Schema{ID: 1}), syscall.EINVAL},
		{"schema 1", n.AddSchema(ioam.Schema{ID: 1, Data: []byte("abc")}), 0},
		{"schema 1 again", n.AddSchema(ioam.Schema{ID: 1, Data: []byte("abc")}), syscall.EEXIST},
		{"schema 2, empty", n.AddSchema(ioam.Schema{ID: 2, Data: []byte{}}), 0},
		{"schema 3, 1020 octets", n.AddSchema(ioam.Schema{ID: 3, Data: make([]byte, 1020)}), 0},
		{"schema 4, 1021 octets", n.AddSchema(ioam.Schema{ID: 4, Data: make([]byte, 1021)}), syscall.ERANGE},
		{"schema ffffffff", n.AddSchema(ioam.Schema{ID: 0xffffffff, Data: []byte("wide")}), 0},
		{"set unknown namespace", n.SetSchema(4, ioam.ID(1)), syscall.ENOENT},
		{"set unknown schema", n.SetSchema(123, ioam.ID(9)), syscall.ENOENT},
		{"set 123 schema 1", n.SetSchema(123, ioam.ID(1)), 0},
		{"set 0 schema 1 (moves)", n.SetSchema(0, ioam.ID(1)), 0},
		{"del schema 9", n.DelSchema(9), syscall.ENOENT},
	}
	for _, s := range steps {
		wantErrno(t, s.what, s.err, s.want)
	}
	want := []ioam.Namespace{{ID: 0, Data: ioam.ID(0), Wide: ioam.ID64(0), Schema: ioam.ID(1)}, {ID: 123}, {ID: 65535}}
	if d := cmp.Diff(want, n.Namespaces()); d != "" {
		t.Errorf("namespaces after the move (-want +got):\n%s", d)
	}
	wantErrno(t, "set 0 schema 2", n.SetSchema(0, ioam.ID(2)), 0)
	wantBindings(t, n, map[uint32]int{1: -1, 2: 0, 3: -1, 0xffffffff: -1})
	wantErrno(t, "set 0 none", n.SetSchema(0, nil), 0)
	wantErrno(t, "set 0 none again", n.SetSchema(0, nil), 0)
	wantBindings(t, n, map[uint32]int{1: -1, 2: -1, 3: -1, 0xffffffff: -1})
	wantErrno(t, "set 123 schema 1", n.SetSchema(123, ioam.ID(1)), 0)
	wantErrno(t, "del schema 1, bound", n.DelSchema(1), 0)
	if ns := n.Namespaces()[1]; ns.Schema != nil {
		t.Errorf("namespace 123 keeps schema %d", *ns.Schema)
	}
	wantErrno(t, "set 123 schema 2", n.SetSchema(123, ioam.ID(2)), 0)
	wantErrno(t, "del namespace 123, bound", n.DelNamespace(123), 0)
	wantBindings(t, n, map[uint32]int{2: -1, 3: -1, 0xffffffff: -1})
	if err := n.AddSchema(ioam.Schema{ID: 5, Data: []byte("abc")}); err != nil {
		t.Error(err)
	}
	for _, s := range n.Schemas() {
		if s.ID == 5 && hex.EncodeToString(s.Data) != "61626300" {
			t.Errorf("schema 5 is %x, want it padded", s.Data)
		}
	}
}

// wantBindings checks which namespace has each schema, -1 for none.
func wantBindings(t *testing.T, n *ioam.Node, want map[uint32]int) {
	t.Helper()
	got := map[uint32]int{}
	for _, s := range n.Schemas() {
		got[s.ID] = -1
		if s.Namespace != nil {
			got[s.ID] = int(*s.Namespace)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("schemas' namespaces (-want +got):\n%s", d)
	}
}

// TestSysctl writes what the recording wrote.
func TestSysctl(t *testing.T) {
	for _, file := range ioamtest.VectorFiles(t, vectors, "extras.json") {
		var f struct {
			Sysctl []struct {
				Key     string     `json:"key"`
				Default string     `json:"default"`
				Write   jsonNumber `json:"write"`
				Result  string     `json:"result"`
			} `json:"sysctl"`
		}
		ioamtest.ReadJSON(t, file, &f)
		for _, c := range f.Sysctl {
			_, n := bare(t, ioam.Config{})
			if got, err := n.Sysctl(c.Key); err != nil || got != c.Default {
				t.Errorf("%s is %s, %v, want %s", c.Key, got, err, c.Default)
			}
			err := n.SetSysctl(c.Key, string(c.Write))
			wantErrno(t, fmt.Sprintf("%s = %s", c.Key, c.Write), err, map[string]syscall.Errno{"EINVAL": syscall.EINVAL}[c.Result])
			if got, _ := n.Sysctl(c.Key); err == nil && got != string(c.Write) {
				t.Errorf("%s is %s after writing %s", c.Key, got, c.Write)
			}
		}
	}
	_, n := bare(t, ioam.Config{})
	for _, key := range []string{"net/ipv6/ioam7_id", "net/ipv6/conf/none/ioam6_enabled", "net/ipv4/ioam6_id", ""} {
		wantErrno(t, key, n.SetSysctl(key, "1"), syscall.ENOENT)
	}
	wantErrno(t, "dots", n.SetSysctl("net.ipv6.conf.in0.ioam6_enabled", "1"), 0)
	wantErrno(t, "words", n.SetSysctl("net/ipv6/ioam6_id", "x"), syscall.EINVAL)
}

// jsonNumber is a number kept as its digits.
type jsonNumber string

func (n *jsonNumber) UnmarshalJSON(b []byte) error {
	*n = jsonNumber(strings.TrimSpace(string(b)))
	return nil
}

func TestConfigRefused(t *testing.T) {
	h := ioamtest.NewNode("R", time.Now)
	for name, c := range map[string]ioam.Config{
		"node id of 25 bits":      {NodeID: ioam.ID(1 << 24)},
		"wide node id of 57 bits": {NodeIDWide: ioam.ID64(1 << 56)},
		"interface 0":             {Interfaces: map[int]ioam.Interface{0: {}}},
		"interface 65536":         {Interfaces: map[int]ioam.Interface{1 << 16: {}}},
		"namespace twice":         {Namespaces: []ioam.Namespace{{ID: 1}, {ID: 1}}},
		"missing schema":          {Namespaces: []ioam.Namespace{{ID: 1, Schema: ioam.ID(5)}}},
		"tunnel without prefix":   {Tunnels: []ioam.Tunnel{{Type: 0xc00000, Size: 8}}},
	} {
		if _, err := ioam.Attach(h, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClosed(t *testing.T) {
	h, n := bare(t, ioam.Config{})
	n.Close()
	n.Close()
	if err := n.AddNamespace(ioam.Namespace{ID: 1}); !errors.Is(err, ioam.ErrClosed) {
		t.Errorf("a closed node answers %v", err)
	}
	h.Input(1, make([]byte, 60)) // meets no handler
}
