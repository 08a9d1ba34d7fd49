package tc

import (
	"strings"
	"testing"
)

func TestUnits(t *testing.T) {
	for s, want := range map[string]uint64{
		"1gbit": 125_000_000, "10mbit": 1_250_000, "100kbit": 12_500, "8": 1, "100kbps": 100_000, "1.5mbit": 187_500, "1mibit": 131_072,
	} {
		if got, err := rate(s); err != nil || got != want {
			t.Errorf("rate %s: %d %v", s, got, err)
		}
	}
	for s, want := range map[string]uint64{"1500": 1500, "15k": 15360, "1mb": 1 << 20, "8kbit": 1024} {
		if got, err := size(s); err != nil || got != want {
			t.Errorf("size %s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "fast", "10parsec", "-1mbit", "."} {
		if _, err := rate(s); err == nil {
			t.Errorf("rate %q was taken", s)
		}
	}
	for n, want := range map[uint64]string{125_000_000: "1Gbit", 1_250_000: "10Mbit", 12_500: "100Kbit", 1: "8bit", 187_500: "1500Kbit"} {
		if got := showRate(n); got != want {
			t.Errorf("%d bytes a second: %s, want %s", n, got, want)
		}
	}
}

func TestHandles(t *testing.T) {
	for s, want := range map[string]uint32{"1:10": 1<<16 | 0x10, "1:": 1 << 16, ":5": 5, "ffff:fff1": 0xfffffff1} {
		got, err := handle(s)
		if err != nil || got != want {
			t.Errorf("%s: %x %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1", "x:1", "1:10000", "1:2:3"} {
		if _, err := handle(s); err == nil {
			t.Errorf("%q was taken for a handle", s)
		}
	}
}

// What is wrong with a line is named in the error.
func TestErrorsNameTheWord(t *testing.T) {
	for line, word := range map[string]string{
		"frobnicate":                   "frobnicate",
		"-x filter show":               "-x",
		"qdisc add clsact":             "dev",
		"qdisc add frob":               "frob",
		"class add frob":               "frob",
		"filter add prio x":            `"x"`,
		"filter add protocol klingon":  "klingon",
		"filter add handle":            "handle",
		"filter add bpf frob":          "frob",
		"filter add bpf action frob":   "frob",
		"filter add bpf action goto 5": `"5"`,
		"filter show ingress":          "dev",
		"chain add":                    "add",
	} {
		_, err := Command{}.Run(strings.Fields(line)...)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func FuzzCommand(f *testing.F) {
	f.Add("filter add prio 10 handle 1 bpf da bytecode 1,6_0_0_0 flowid 1:1 action mirred egress")
	f.Add("class add parent 1: classid 1:10 htb rate 1gbit burst 15k")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "dev") || strings.Contains(line, "obj") || strings.Contains(line, "pin") || strings.Contains(line, "byte") {
			t.Skip("needs a node and a loader")
		}
		_, _ = Command{}.Run(strings.Fields(line)...)
	})
}
