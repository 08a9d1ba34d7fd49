package filter_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"taproom/filter"
)

// hookCase is one recorded case; the README beside the vectors describes it.
type hookCase struct {
	ID, Desc string
	Cfg      map[string]struct {
		Verdict                              int32
		Mark, Classid, Prio, Tcindex, Rflags *uint32
		Redirect, Clone                      string
		Write                                any
	}
	Steps, After [][]json.RawMessage
	Packet       string
	Observed     *struct {
		Order     []string
		Ctx       []map[string]any
		Delivered map[string]int
		SendErrno *string        `json:"send_errno"`
		LastOctet map[string]int `json:"last_octet"`
		Lens      map[string][]int
	}
}

func TestVectorsHooks(t *testing.T) {
	root := filepath.Join(vectorRoot(), "hooks")
	object := filepath.Join(root, "hooks.o")
	passed, total, foreign := 0, 0, 0
	for _, pattern := range []string{"hook-vectors-*.json", "action-vectors-*.json"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		must(t, err)
		if len(files) == 0 {
			t.Errorf("no %s in %s", pattern, root)
		}
		for _, file := range files {
			var set struct {
				Kernel string
				Cases  []hookCase
			}
			readJSON(t, file, &set)
			for _, c := range set.Cases {
				total++
				if c.foreign() {
					foreign++
					continue
				}
				if t.Run(c.ID, func(t *testing.T) { runHookCase(t, object, set.Kernel, c) }) {
					passed++
				}
			}
		}
	}
	t.Logf("%d cases are about nft beside BPF, or about a module the recording kernel lacked", foreign)
	t.Logf("hooks: %d of %d", passed, total-foreign)
}

// foreign cases are about what the recording machine had or lacked: nftables
// on the same hooks, and a kernel built without act_gact, which taproom has.
func (c hookCase) foreign() bool {
	for _, s := range c.Steps {
		var line, answer string
		if json.Unmarshal(s[0], &line) == nil && strings.HasPrefix(line, "nft ") {
			return true
		}
		if json.Unmarshal(s[1], &answer) == nil && strings.Contains(answer, "Failed to load TC action module") {
			return true
		}
	}
	return false
}

// caseRun is a case being run.
type caseRun struct {
	*rig
	t      *testing.T
	kernel string
	tcx    map[string]*filter.TCXLink
	nf     map[string]*filter.NFLink
}

func runHookCase(t *testing.T, object, kernel string, c hookCase) {
	r := &caseRun{rig: newRig(t, object), t: t, kernel: kernel, tcx: map[string]*filter.TCXLink{}, nf: map[string]*filter.NFLink{}}
	defer r.close()
	r.configure(c)
	for _, s := range c.Steps {
		var want string
		must(t, json.Unmarshal(s[1], &want))
		if got := r.step(s[0]); !sameAnswer(got, want) {
			t.Errorf("%s\n got %q\nwant %q", s[0], got, want)
		}
	}
	if c.Observed != nil {
		r.observe(c)
	}
	for _, s := range c.After {
		var want string
		must(t, json.Unmarshal(s[1], &want))
		if got := r.step(s[0]); !sameAnswer(got, want) {
			t.Errorf("%s\n got %q\nwant %q", s[0], got, want)
		}
	}
}

var space = regexp.MustCompile(`[ \t]+\n`)

// sameAnswer compares texts but for space at the ends of lines.
func sameAnswer(got, want string) bool {
	// Whether a program is compiled depends on the machine.
	norm := func(s string) string {
		s = strings.NewReplacer(" jited", "", `,"jited":1`, "").Replace(s)
		return strings.TrimSpace(space.ReplaceAllString(s+"\n", "\n"))
	}
	return norm(got) == norm(want)
}

// progNumber is a program's index in the maps of hooks.o: t1 is 1, n11 is 11.
func progNumber(name string) uint32 {
	var n uint32
	_, _ = fmt.Sscanf(name[1:], "%d", &n)
	return n
}

// configure writes the programs' instructions into map cfg.
func (r *caseRun) configure(c hookCase) {
	cfg := r.coll.Maps["cfg"]
	put := func(n uint32, conf [8]uint32) {
		var k [4]byte
		binary.LittleEndian.PutUint32(k[:], n)
		v := make([]byte, 32)
		for i, w := range conf {
			binary.LittleEndian.PutUint32(v[4*i:], w)
		}
		must(r.t, cfg.Update(k[:], v, 0))
	}
	for n := range uint32(32) {
		verdict := ^uint32(0)
		if n > 10 {
			verdict = 1
		}
		put(n, [8]uint32{verdict})
	}
	for name, e := range c.Cfg {
		conf := [8]uint32{uint32(e.Verdict)}
		set := func(v *uint32, flag uint32, at int) {
			if v != nil {
				conf[1] |= flag
				conf[at] = *v
			}
		}
		set(e.Mark, 1, 2)
		set(e.Classid, 2, 3)
		set(e.Prio, 4, 4)
		set(e.Tcindex, 64, 7)
		for flag, dev := range map[uint32]string{8: e.Redirect, 16: e.Clone} {
			if dev != "" {
				conf[1] |= flag
				conf[5] = map[string]uint32{"y0": 2, "y1": 3}[dev]
			}
		}
		if e.Rflags != nil {
			conf[6] = *e.Rflags
		}
		if e.Write != nil {
			conf[1] |= 32
		}
		put(progNumber(name), conf)
	}
}

// step carries out one step and says what came of it, in the words of the
// vectors.
func (r *caseRun) step(raw json.RawMessage) string {
	var line string
	if json.Unmarshal(raw, &line) == nil {
		return answer(r.tc.Run(tcWords(line)...))
	}
	var s []any
	must(r.t, json.Unmarshal(raw, &s))
	str := func(k int) string { v, _ := s[k].(string); return v }
	num := func(k int) int64 { v, _ := s[k].(float64); return int64(v) }
	switch str(0) {
	case "show":
		out, err := r.tc.Run(strings.Fields(str(1))...)
		if err != nil {
			return answer("", err)
		}
		return r.normalise(out)
	case "nf":
		pf := map[int64]uint8{4: 2, 6: 10}[num(2)]
		if pf == 0 {
			pf = uint8(num(2))
		}
		l, err := r.fs.AttachNetfilter(r.progs[str(1)], filter.NFConfig{PF: pf, Hook: uint32(num(3)), Priority: int32(num(4)), Flags: uint32(num(5))})
		if len(s) > 6 {
			r.nf[str(6)] = l
		}
		return errno(err)
	case "tcx", "tcxprog":
		return r.tcxStep(s, str, num)
	case "tcxdetach":
		d, err := r.fs.DeviceByName(str(2))
		must(r.t, err)
		return errno(d.DetachTCX(direction(str(3)), r.progs[str(1)], uint32(num(4))))
	case "update", "detach", "close":
		return r.linkStep(str(0), str(1), s)
	case "query":
		return r.query(str(1), str(2))
	case "bpftool":
		return r.normalise(filter.ShowNet(r.fs, filter.NetOptions{Dev: strings.TrimPrefix(strings.TrimPrefix(str(1), "net show dev "), "net"), TCOnly: true}))
	case "fdinfo":
		return r.fdinfo(str(1))
	}
	return "unknown step " + string(raw)
}

func (r *caseRun) tcxStep(s []any, str func(int) string, num func(int) int64) string {
	d, err := r.fs.DeviceByName(str(2))
	must(r.t, err)
	o := filter.TCXOptions{Flags: uint32(num(4))}
	if len(s) > 6 {
		o.Revision = uint64(num(6))
	}
	if rel := str(5); rel != "" {
		switch {
		case r.tcx[rel] != nil:
			o.Relative = r.tcx[rel]
		case r.progs[rel] != nil:
			o.RelativeProg = r.progs[rel]
		default:
			o.UnknownRelative = true
		}
	}
	if str(0) == "tcxprog" {
		return errno(d.AttachTCXProgram(direction(str(3)), r.progs[str(1)], o))
	}
	l, err := d.AttachTCX(direction(str(3)), r.progs[str(1)], o)
	if err == nil {
		r.tcx[str(7)] = l
	}
	return errno(err)
}

func (r *caseRun) linkStep(verb, name string, s []any) string {
	if l := r.nf[name]; l != nil {
		if verb == "update" {
			return errno(l.Update(r.progs[s[2].(string)]))
		}
		return errno(l.Detach())
	}
	l := r.tcx[name]
	if l == nil {
		return "no link " + name
	}
	if verb == "update" {
		return errno(l.Update(r.progs[s[2].(string)]))
	}
	return errno(l.Detach())
}

func (r *caseRun) query(dev, dir string) string {
	d, err := r.fs.DeviceByName(dev)
	must(r.t, err)
	q := d.QueryTCX(direction(dir))
	names := make([]string, len(q.Programs))
	for k, p := range q.Programs {
		names[k] = "'" + p.Name() + "'"
	}
	return fmt.Sprintf("OK count=%d rev=%d order=[%s]", len(q.Programs), q.Revision, strings.Join(names, ", "))
}

// fdinfo adds what a file in /proc has in front, which is the kernel's own.
func (r *caseRun) fdinfo(name string) string {
	var body string
	if l := r.nf[name]; l != nil {
		body = l.Info()
	} else if l := r.tcx[name]; l != nil {
		body = l.Info()
	}
	body = regexp.MustCompile(`(?m)^((?:link|prog)_id):\s.*$`).ReplaceAllString(body, "$1: N")
	body = regexp.MustCompile(`(?m)^prog_tag:\s.*$`).ReplaceAllString(body, "prog_tag: T")
	return "pos: 0\nflags: 02000000\nmnt_id: 17\nino: N\n" + strings.ReplaceAll(body, "\t", " ")
}

func direction(s string) filter.Direction {
	if s == "egress" {
		return filter.Egress
	}
	return filter.Ingress
}

// tcWords splits a command line; CB marks one with a braced argument.
func tcWords(line string) []string {
	line = strings.TrimPrefix(line, "CB")
	var out []string
	for line != "" {
		line = strings.TrimLeft(line, " ")
		if strings.HasPrefix(line, "{") {
			k := strings.Index(line, "}")
			out, line = append(out, line[1:k]), line[k+1:]
			continue
		}
		w, rest, _ := strings.Cut(line, " ")
		out, line = append(out, w), rest
	}
	return out
}

func answer(_ string, err error) string {
	var e *filter.Error
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &e):
		return e.Answer()
	}
	return err.Error()
}

func errno(err error) string {
	var e *filter.Error
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &e):
		if e.Errno == unix.EOPNOTSUPP {
			return "ENOTSUP"
		}
		return unix.ErrnoName(e.Errno)
	}
	return err.Error()
}

// normalise takes out what differs from run to run, as the recorder did.
func (r *caseRun) normalise(s string) string {
	s = regexp.MustCompile(`\bid \d+`).ReplaceAllString(s, "id N")
	s = regexp.MustCompile(`\btag [0-9a-f]{16}`).ReplaceAllString(s, "tag T")
	s = regexp.MustCompile(`"id":\d+`).ReplaceAllString(s, `"id":0`)
	s = regexp.MustCompile(`"tag":"[0-9a-f]{16}"`).ReplaceAllString(s, `"tag":"T"`)
	return s
}

// observe sends the packet and compares what programs saw and where it went.
func (r *caseRun) observe(c hookCase) {
	var sendErr error
	payload := []byte("taproom-hook")
	if strings.HasPrefix(c.Packet, "frag") {
		for i := range 2000 {
			payload = append(payload, byte(i))
		}
	}
	const x4, x6 = "10.9.0.1", "fd09::1"
	switch c.Packet {
	case "local4":
		r.y0.recvFrame(ether(datagram(x4, "10.9.0.2", payload)))
	case "local6":
		r.y0.recvFrame(ether(datagram(x6, "fd09::2", payload)))
	case "fwd4":
		r.y0.recvFrame(ether(datagram(x4, "10.9.1.3", payload)))
	case "fwd6":
		r.y0.recvFrame(ether(datagram(x6, "fd09:0:0:1::3", payload)))
	case "frag4", "frag6":
		src, dst := x4, "10.9.0.2"
		if c.Packet == "frag6" {
			src, dst = x6, "fd09::2"
		}
		for _, f := range fragments(datagram(src, dst, payload), 1024) {
			r.y0.recvFrame(ether(f))
		}
	case "out4":
		_, sendErr = r.udp[0].WriteTo(payload, udpAddr("10.9.0.1:4000"))
	case "out6":
		_, sendErr = r.udp[1].WriteTo(payload, udpAddr("[fd09::1]:4000"))
	default:
		r.t.Fatalf("unknown packet %q", c.Packet)
	}
	o := c.Observed
	order, ctx := r.events()
	if !slices.Equal(order, o.Order) {
		r.t.Errorf("ran %v, want %v", order, o.Order)
	} else {
		for k := range ctx {
			if !reflect.DeepEqual(ctx[k], o.Ctx[k]) {
				r.t.Errorf("context %d:\n got %v\nwant %v", k, ctx[k], o.Ctx[k])
			}
		}
	}
	if (sendErr != nil) != (o.SendErrno != nil) {
		r.t.Errorf("send: %v, want %v", sendErr, o.SendErrno)
	}
	r.deliveries(c)
}

func (r *caseRun) deliveries(c hookCase) {
	o := c.Observed
	delivered, last, lens := map[string]int{}, map[string]int{}, map[string][]int{}
	note := func(where string, n, octet int) {
		if delivered[where]++; delivered[where] == 1 {
			last[where] = octet
		}
		lens[where] = append(lens[where], n)
	}
	l, octets := r.received()
	for k := range l {
		note("Y_udp", l[k], octets[k])
	}
	for where, p := range map[string]*port{"X_rx": r.y0, "Z_rx": r.y1} {
		for _, f := range p.out() {
			if !bytes.Contains(f, []byte("taproom")) {
				continue // a membership report of the node's own
			}
			note(where, len(f), int(f[len(f)-1]))
		}
	}
	if !reflect.DeepEqual(delivered, orEmpty(o.Delivered)) || !reflect.DeepEqual(last, orEmpty(o.LastOctet)) {
		r.t.Errorf("delivered %v last %v, want %v %v; drops %v", delivered, last, o.Delivered, o.LastOctet, r.y.Counters().Drops)
	}
	for w := range o.Lens {
		if !slices.Equal(lens[w], o.Lens[w]) {
			r.t.Errorf("lengths at %s: %v, want %v", w, lens[w], o.Lens[w])
		}
	}
}

func orEmpty(m map[string]int) map[string]int {
	if m == nil {
		return map[string]int{}
	}
	return m
}

var nfHooks = []string{"PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"}

// events reads what the programs recorded in maps pos and evs.
func (r *caseRun) events() (order []string, ctx []map[string]any) {
	pos, err := r.coll.Maps["pos"].Lookup(make([]byte, 4), 0)
	must(r.t, err)
	for i := range binary.LittleEndian.Uint64(pos) {
		var k [4]byte
		binary.LittleEndian.PutUint32(k[:], uint32(i))
		v, err := r.coll.Maps["evs"].Lookup(k[:], 0)
		must(r.t, err)
		w := func(n int) uint32 { return binary.LittleEndian.Uint32(v[4*n:]) }
		name := fmt.Sprintf("t%d", w(0))
		e := map[string]any{
			"mark": float64(w(1)), "len": float64(w(3)), "proto": fmt.Sprintf("%04x", w(5)), "tc_index": float64(w(7)),
		}
		if w(0) > 10 {
			name = fmt.Sprintf("n%d", w(0))
			e["hook"], e["pf"] = nfHooks[w(9)], float64(w(11))
		} else {
			e["tc_classid"], e["priority"] = fmt.Sprintf("%x", w(2)), fmt.Sprintf("%x", w(4))
			e["first4"] = fmt.Sprintf("%08x", w(10))
			e["ifindex"], e["ingress_ifindex"] = r.devName(w(6)), r.devName(w(8))
		}
		e["prog"] = name
		order, ctx = append(order, name), append(ctx, e)
	}
	return order, ctx
}

func (r *caseRun) devName(index uint32) any {
	if i, ok := r.y.Interface(int(index)); ok {
		return i.Name
	}
	return nil
}
