package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"taproom/filter"
)

// Programs come and go on a router of routers only: no privilege is needed.
func TestBPFNet(t *testing.T) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("needs clang: ", err)
	}
	s := newShell(t)
	src := s.file("p.c", `#define SEC(n) __attribute__((section(n), used))
SEC("tc") int pass(void *ctx) { return -1; }
SEC("netfilter") int accept(void *ctx) { return 1; }
`)
	object := filepath.Join(s.dir, "p.o")
	if out, err := exec.Command(clang, "-O2", "-g", "-target", "bpf", "-c", src, "-o", object).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.run("up", "-d", s.file("lab.yaml", routersOnly))
	links := func() (out []filter.LinkInfo) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.run("-j", "bpf", "link", "list", "a")), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	s.run("bpf", "net", "attach", "tcx_ingress", "p.o", "pass", "dev", "a:e0")
	s.contains(s.run("bpf", "net", "list", "a"), "tcx/ingress pass")
	if l := links(); len(l) != 0 {
		t.Errorf("a program without a link is listed as one: %v", l)
	}
	s.run("bpf", "net", "detach", "tcx_ingress", "dev", "a:e0")
	if out, err := s.try("bpf", "net", "detach", "tcx_ingress", "dev", "a:e0"); err == nil {
		t.Errorf("detached twice: %s", out)
	}
	s.run("bpf", "net", "attach", "netfilter", "p.o", "accept", "dev", "a", "--hook", "forward", "--family", "ipv6", "--priority", "-100")
	s.contains(s.run("bpf", "link", "list", "a"), "netfilter  prog", "ip6 forward prio -100")

	held := s.command("bpf", "net", "attach", "tcx_egress", "p.o", "pass", "dev", "a:e0", "--hold")
	held.Stderr = os.Stderr
	pipe, err := held.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(pipe).ReadString('\n'); err != nil || !strings.HasPrefix(line, "attached") {
		t.Fatalf("%q, %v", line, err)
	}
	l := links()
	if len(l) != 2 || l[1].Type != "tcx" || l[1].AttachType != "tcx_egress" || l[1].ProgName != "pass" || l[1].Dev != "e0" {
		t.Errorf("links: %+v", l)
	}
	_ = held.Process.Signal(syscall.SIGINT)
	_ = held.Wait()
	for end := time.Now().Add(10 * time.Second); len(links()) != 1; {
		if time.Now().After(end) {
			t.Fatal("the link outlives its owner")
		}
	}
	s.run("bpf", "link", "detach", "a", "id", "2")
	if l := links(); len(l) != 0 {
		t.Errorf("links: %+v", l)
	}
}
