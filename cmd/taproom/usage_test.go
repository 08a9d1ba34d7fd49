package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
)

func TestWrongCommandLines(t *testing.T) {
	for _, x := range []struct{ line, want string }{
		{"dwon", "do you mean down?"},
		{"help dwon", "do you mean down?"},
		{"nosuch", "'taproom --help' lists them"},
		{"link stE", "do you mean set?"},
		{"help link foo", "taproom link has no command \"foo\""},
		{"bpf prog laod", "do you mean load?"},
		{"completion foo", "'taproom completion --help' lists them"},
		{"rdma foo", "'taproom rdma --help' lists them"},
		{"up", "write: taproom up FILE"},
		{"up a b", "write: taproom up FILE"},
		{"link set r1:eth1 delay -3ms", "'taproom link set --help' lists"},
		{"capture -c -1 r1", "--count and --snap"},
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(x.line))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("taproom %s: %v, want %q", x.line, err, x.want)
		}
	}
}

// Help has to exist for every command, in whatever way it is asked for.
func TestHelpOfEverything(t *testing.T) {
	for _, line := range []string{"", "help", "help help", "help filter", "help link set", "link", "bpf", "bpf map", "help bpf prog load", "rdma --help"} {
		root := newRoot()
		var out strings.Builder
		root.SetOut(&out)
		root.SetArgs(strings.Fields(line))
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("taproom %s: %v, %q", line, err, out.String())
		}
	}
}

func TestFilesAsJSON(t *testing.T) {
	for _, line := range []string{"check", "check --plan", "graph", "graph -f dot"} {
		root := newRoot()
		var out strings.Builder
		root.SetOut(&out)
		root.SetArgs(append(strings.Fields(line), "-j", "../../examples/two-rooms.yaml"))
		if err := root.Execute(); err != nil || !json.Valid([]byte(out.String())) {
			t.Errorf("taproom %s -j: %v, %q", line, err, out.String())
		}
	}
}
