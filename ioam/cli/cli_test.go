package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"taproom/ioam"
	"taproom/ioam/cli"
	"taproom/ioam/ioamtest"
)

func node(t *testing.T) *ioam.Node {
	t.Helper()
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(r cli.Registry, line string, o cli.Options) (out, text string, code int) {
	var b bytes.Buffer
	err := cli.Run(r, strings.Fields(line), o, &b)
	var e *cli.Error
	if errors.As(err, &e) {
		return b.String(), e.Text, e.Code
	}
	return b.String(), "", 0
}

// TestShow: the texts are those of ip, Linux 6.18 behind it.
func TestShow(t *testing.T) {
	n := node(t)
	for _, line := range []string{
		"namespace add 1 data 0 wide 0", "namespace add 2 data 1 wide 1", "namespace add 3", "namespace add 4 data 0x12",
		"namespace add 5 wide 018", "namespace add 65535 data 4294967295", "namespace add 123 data 0xd1d10001 wide e1e1e1e100000001",
		"schema add 7 abc", "namespace set 3 schema 7",
	} {
		if _, text, code := run(n, line, cli.Options{}); code != 0 {
			t.Fatalf("%s: %s", line, text)
		}
	}
	out, _, _ := run(n, "namespace show", cli.Options{})
	want := `namespace 1, data 0000000000, wide 000000000000000000
namespace 2, data 0x00000001, wide 0x0000000000000001
namespace 3 [schema 7]
namespace 4, data 0x00000012
namespace 5, wide 0x0000000000000018
namespace 123, data 0xd1d10001, wide 0xe1e1e1e100000001
namespace 65535
`
	if d := cmp.Diff(want, out); d != "" {
		t.Errorf("namespaces (-want +got):\n%s", d)
	}
	out, _, _ = run(n, "namespace show", cli.Options{JSON: true})
	want = `[{"namespace":1,"data":"0","wide":"0"},{"namespace":2,"data":"1","wide":"0x1"},{"namespace":3,"schema":7},` +
		`{"namespace":4,"data":"12"},{"namespace":5,"wide":"0x18"},` +
		`{"namespace":123,"data":"d1d10001","wide":"0xe1e1e1e100000001"},{"namespace":65535}]` + "\n"
	if d := cmp.Diff(want, out); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
	if out, _, _ = run(n, "schema show", cli.Options{}); out != "schema 7 [namespace 3], data: 61 62 63 00\n" {
		t.Errorf("schemas: %q", out)
	}
	out, _, _ = run(n, "schema show", cli.Options{JSON: true})
	if !json.Valid([]byte(out)) || out != `[{"schema":7,"namespace":3,"data":[97,98,99,0]}]`+"\n" {
		t.Errorf("JSON: %s", out)
	}
}

func TestErrors(t *testing.T) {
	n := node(t)
	run(n, "namespace add 123", cli.Options{})
	run(n, "schema add 16777215 x", cli.Options{})
	for _, c := range []struct {
		line, text string
		code       int
	}{
		{"foo", `Error: argument "foo" is wrong: Unknown`, 255},
		{"namespace", `Command line is not complete. Try option "help"`, 255},
		{"namespace foo", `Error: argument "foo" is wrong: Unknown`, 255},
		{"namespace list", `Error: argument "list" is wrong: Unknown`, 255},
		{"namespace add", `Command line is not complete. Try option "help"`, 255},
		{"namespace add 5 data", `Command line is not complete. Try option "help"`, 255},
		{"namespace add 5 data zz", `Error: argument "zz" is wrong: Invalid data`, 255},
		{"namespace add 5 wide zz", `Error: argument "zz" is wrong: Invalid wide data`, 255},
		{"namespace add 5 foo", `Error: argument "foo" is wrong: Invalid argument`, 255},
		{"namespace add 5 data 1 data 2", `Error: argument "data" is wrong: Unexpected argument`, 255},
		{"namespace add 5 wide 1 data 2", `Error: argument "data" is wrong: Unexpected argument`, 255},
		{"namespace add 70000", `Error: argument "70000" is wrong: Invalid namespace ID`, 255},
		{"namespace add 123", "RTNETLINK answers: File exists", 1},
		{"namespace del 77", "RTNETLINK answers: No such file or directory", 1},
		{"namespace set 1", `Command line is not complete. Try option "help"`, 255},
		{"namespace set 1 foo", `Error: argument "foo" is wrong: Unknown`, 255},
		{"namespace set 1 schema x", `Error: argument "x" is wrong: Invalid schema ID`, 255},
		{"namespace set 123 schema 5", "RTNETLINK answers: No such file or directory", 1},
		{"namespace set 1 schema none", "RTNETLINK answers: No such file or directory", 1},
		{"schema set", `Error: argument "set" is wrong: Unknown`, 255},
		{"schema add 4294967296 x", `Error: argument "4294967296" is wrong: Invalid schema ID`, 255},
		{"schema add 16777216 x", "", 0},
		{"schema add 16777215 x", "RTNETLINK answers: File exists", 1},
		{"schema add 5", `Command line is not complete. Try option "help"`, 255},
		{"schema del 5", "RTNETLINK answers: No such file or directory", 1},
	} {
		if _, text, code := run(n, c.line, cli.Options{}); text != c.text || code != c.code {
			t.Errorf("%s: %d %q, want %d %q", c.line, code, text, c.code, c.text)
		}
	}
	long := strings.Repeat("x", 1021)
	if _, text, _ := run(n, "schema add 5 "+long, cli.Options{}); !strings.HasPrefix(text, `Error: argument "`+long) {
		t.Errorf("%q", text)
	}
	for _, help := range []string{"", "help"} {
		if _, text, code := run(n, help, cli.Options{Program: "taproom"}); code != 255 || !strings.HasPrefix(text, "Usage:\ttaproom ioam {") {
			t.Errorf("%q: %q", help, text)
		}
	}
}

// TestVectorsExtras compares with what ip printed and answered, line by line:
// ip lists in the order of a hash table.
func TestVectorsExtras(t *testing.T) {
	ok, total := 0, 0
	for _, file := range ioamtest.VectorFiles(t, "../testdata/vectors", "extras2.json") {
		var f struct {
			Namespaces []string `json:"ip  ioam namespace show"`
			Schemas    []string `json:"ip  ioam schema show"`
			JSON       []string `json:"ip -j ioam namespace show"`
		}
		ioamtest.ReadJSON(t, file, &f)
		n := node(t)
		var long []byte
		for i := range 40 {
			long = append(long, byte(i))
		}
		if err := errors.Join(
			n.AddSchema(ioam.Schema{ID: 1911, Data: []byte("schema-A")}), n.AddSchema(ioam.Schema{ID: 2184, Data: long}),
			n.AddNamespace(ioam.Namespace{ID: 123, Data: ioam.ID(0xd1d10001), Wide: ioam.ID64(0xe1e1e1e100000001), Schema: ioam.ID(1911)}),
			n.AddNamespace(ioam.Namespace{ID: 9, Data: ioam.ID(0xd1d10001), Wide: ioam.ID64(0xe1e1e1e100000001)}),
		); err != nil {
			t.Fatal(err)
		}
		for line, want := range map[string][]string{"namespace show": f.Namespaces, "schema show": f.Schemas} {
			out, _, _ := run(n, line, cli.Options{})
			got := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			slices.Sort(got)
			slices.Sort(want)
			for i := range want {
				total++
				if i < len(got) && got[i] == want[i] {
					ok++
					continue
				}
				t.Errorf("%s printed %q, want %q", line, got, want[i])
			}
		}
		out, _, _ := run(n, "namespace show", cli.Options{JSON: true})
		total++
		if sameObjects(t, out, f.JSON[0]) {
			ok++
		}
	}
	t.Logf("ioam extras: %d of %d", ok, total)
}

func sameObjects(t *testing.T, got, want string) bool {
	t.Helper()
	parse := func(s string) map[float64]any {
		var l []map[string]any
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatal(err)
		}
		m := map[float64]any{}
		for _, o := range l {
			m[o["namespace"].(float64)] = o
		}
		return m
	}
	d := cmp.Diff(parse(want), parse(got))
	if d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
	return d == ""
}

func TestRoute(t *testing.T) {
	for _, line := range []string{
		"2001:db8:b::/64  encap ioam6 freq 1/1 mode inline trace prealloc type 0xc00000 ns 123 size 24",
		"2001:db8:b::/64  encap ioam6 freq 2/5 mode auto tunsrc 2001:db8:a::2 tundst 2001:db8:c::1 trace prealloc type 0x800002 ns 5 size 48",
		"2001:db8:b::/64  encap ioam6 freq 1/1 mode encap tundst 2001:db8:c::1 trace dex type 0xc00000 ns 1 size 0 class 1:1f mark 0x5/0xff mtu skip e2e seq32,time flow 9 stripped loopback active",
	} {
		tun, err := cli.ParseRoute(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := cli.FormatRoute(tun); got != line {
			t.Errorf("came back as\n%s, want\n%s", got, line)
		}
	}
	tun, err := cli.ParseRoute(strings.Fields(
		"default via fe80::1 dev eth0 encap ioam6 trace prealloc type hop-node ns 1 size 12 via 2001:db8::1 dev out1 proto static"))
	if err != nil || tun.Prefix.String() != "::/0" || tun.Type != 0x800000 || tun.Size != 12 {
		t.Errorf("%+v, %v", tun, err)
	}
	for _, line := range []string{
		"", "10.0.0.0/8 encap ioam6", "::/0", "::/0 encap mpls 5", "::/0 encap ioam6 mode some", "::/0 encap ioam6 freq 1",
		"::/0 encap ioam6 size 256", "::/0 encap ioam6 trace", "::/0 encap ioam6 colour red", "::/0 encap ioam6 e2e seq16",
	} {
		if tun, err := cli.ParseRoute(strings.Fields(line)); err == nil {
			t.Errorf("%q: %+v, want an error", line, tun)
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add("namespace add 5 data 0x12 wide ffff")
	f.Add("::/0 encap ioam6 mode auto freq 1/3 trace prealloc type 0xc00000 ns 1 size 12")
	n, err := ioam.Attach(ioamtest.NewNode("R", time.Now), ioam.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		w := strings.Fields(line)
		cli.Run(n, w, cli.Options{}, new(bytes.Buffer))
		if tun, err := cli.ParseRoute(w); err == nil {
			if again, err := cli.ParseRoute(strings.Fields(cli.FormatRoute(tun))); err == nil && cli.FormatRoute(again) != cli.FormatRoute(tun) {
				t.Errorf("%q became %q", cli.FormatRoute(tun), cli.FormatRoute(again))
			}
		}
	})
}
