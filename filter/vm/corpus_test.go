package vm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"taproom/filter/ebpf"
	"taproom/filter/maps"
)

type corpusKV struct{ K, V string }

type corpusSpec struct {
	Name, Object, Program, Pcap string
	Maps                        map[string][]corpusKV
	Volatile                    []string `json:"volatile_maps"`
	Ctx                         struct {
		Mark, Priority uint32
		CB             [5]uint32
	}
}

type corpusResult struct {
	Packets []struct {
		Name   string
		Hook   []int
		Ret    uint32
		Out    string
		Err    string
		Events []string
		Ctx    *struct {
			Mark, Priority uint32
			CB             [5]uint32
		}
	}
	Maps map[string][]corpusKV
}

func readJSON(t testing.TB, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readPcap returns the frames of a little-endian pcap file.
func readPcap(t testing.TB, file string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		out = append(out, b[16:16+n])
		b = b[16+n:]
	}
	return out
}

// object is a loaded object with runnable programs.
type object struct {
	*ebpf.Collection
	progs map[string]*Prog
}

func loadObject(t testing.TB, file string, o Options) *object {
	t.Helper()
	return loadObjectAs(t, file, func(string) Options { return o })
}

// loadObjectAs lets each program have options of its own.
func loadObjectAs(t testing.TB, file string, options func(program string) Options) *object {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := ebpf.LoadSpec(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ebpf.NewCollection(spec, ebpf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ob := &object{c, map[string]*Prog{}}
	for name, p := range c.Programs {
		if ob.progs[name], err = load(p, options(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	err = c.Link(func(name string) (maps.Prog, error) {
		if p := ob.progs[name]; p != nil {
			return p, nil
		}
		return nil, fmt.Errorf("no program %s", name)
	})
	if err != nil {
		t.Fatal(err)
	}
	return ob
}

func (o *object) close() {
	o.Close()
	for _, p := range o.progs {
		p.Release()
	}
}

// TestVectorsCorpus runs every object of the corpus over its packets, interpreted and
// compiled, and compares verdicts, packets, contexts, events and maps with the kernel's.
func TestVectorsCorpus(t *testing.T) {
	root := filepath.Join(vectors("bpf"), "corpus")
	specs, _ := filepath.Glob(filepath.Join(root, "specs", "*.json"))
	if len(specs) == 0 {
		t.Skipf("no corpus under %s", root)
	}
	for _, jit := range []bool{false, true} {
		ok, total := 0, 0
		for _, file := range specs {
			total++
			name := fmt.Sprintf("%s/jit=%v", strings.TrimSuffix(filepath.Base(file), ".json"), jit)
			if t.Run(name, func(t *testing.T) { runCorpus(t, root, file, Options{NoJIT: !jit}) }) {
				ok++
			}
		}
		t.Logf("corpus, jit %v: %d of %d", jit, ok, total)
	}
}

func runCorpus(t *testing.T, root, specFile string, o Options) {
	var spec corpusSpec
	var want corpusResult
	readJSON(t, specFile, &spec)
	readJSON(t, filepath.Join(root, "results", filepath.Base(specFile)), &want)
	packets := filepath.Join(filepath.Dir(root), "packets")
	var names []string
	readJSON(t, filepath.Join(packets, spec.Pcap+".json"), &names)
	frames := map[string][]byte{}
	for i, f := range readPcap(t, filepath.Join(packets, spec.Pcap+".pcap")) {
		frames[names[i]] = f
	}
	ob := loadObject(t, filepath.Join(root, "obj", spec.Object), o)
	defer ob.close()
	for name, kvs := range spec.Maps {
		for _, kv := range kvs {
			k, v := unhex(t, kv.K), unhex(t, kv.V)
			m := ob.Maps[name]
			if n := m.UserValueSize(); n != len(v) {
				all := make([]byte, n)
				for i := 0; i < n; i += (len(v) + 7) &^ 7 {
					copy(all[i:], v)
				}
				v = all
			}
			if err := m.Update(k, v, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	ev := newEvents(t, ob)
	p := ob.progs[spec.Program]
	if p == nil {
		t.Fatalf("no program %s", spec.Program)
	}
	if !o.NoJIT && !p.Compiled() {
		t.Skip("no compiler for this machine")
	}
	for _, w := range want.Packets {
		if w.Err != "" {
			continue
		}
		in := frames[w.Name]
		if in == nil {
			t.Fatalf("no packet %s", w.Name)
		}
		opt := TestOptions{Data: in}
		opt.SKB.Mark, opt.SKB.Priority, opt.SKB.CB = spec.Ctx.Mark, spec.Ctx.Priority, spec.Ctx.CB
		if len(w.Hook) == 2 {
			opt.At = NFHook{PF: uint8(w.Hook[0]), Hook: uint8(w.Hook[1])}
			if opt.At.Hook != NFLocalOut {
				opt.Data = append(make([]byte, 14), in...)
			}
		}
		got, err := p.TestRun(opt)
		if err != nil {
			t.Errorf("%s: %v", w.Name, err)
			continue
		}
		if got.Return != w.Ret {
			t.Errorf("%s: returned %#x, kernel %#x", w.Name, got.Return, w.Ret)
		}
		out := opt.Data
		if w.Out != "same" {
			out = unhex(t, w.Out)
		}
		if !bytes.Equal(got.Data, out) {
			t.Errorf("%s: packet is\n%x, kernel\n%x", w.Name, got.Data, out)
		}
		if c := w.Ctx; c != nil && (got.SKB.Mark != c.Mark || got.SKB.Priority != c.Priority || got.SKB.CB != c.CB) {
			t.Errorf("%s: context is %d %d %v, kernel %+v", w.Name, got.SKB.Mark, got.SKB.Priority, got.SKB.CB, *c)
		}
		ev.compare(t, w.Name, w.Events)
	}
	for name, kvs := range want.Maps {
		if slices.Contains(spec.Volatile, name) {
			continue
		}
		compareMap(t, ob.Maps[name], kvs)
	}
}

// events collects the records of all ring buffers and perf event arrays of an object.
type events struct {
	rings []*maps.RingReader
	perfs []*maps.PerfReader
}

func newEvents(t *testing.T, ob *object) *events {
	e := &events{}
	for _, m := range ob.Maps {
		switch m.Type() {
		case maps.RingBuf:
			r, err := m.NewRingReader()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			e.rings = append(e.rings, r)
		case maps.PerfEventArray:
			r, err := m.NewPerfReader(1 << 16)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			e.perfs = append(e.perfs, r)
		}
	}
	return e
}

func (e *events) compare(t *testing.T, packet string, want []string) {
	var got []string
	for _, r := range e.rings {
		for {
			b, ok := r.TryRead(nil)
			if !ok {
				break
			}
			got = append(got, hex.EncodeToString(b))
		}
	}
	for _, r := range e.perfs {
		for {
			rec, ok := r.TryRead(nil)
			if !ok {
				break
			}
			got = append(got, hex.EncodeToString(rec.Data))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d events, kernel %d", packet, len(got), len(want))
		return
	}
	for i, g := range got {
		if g != want[i] && !(strings.HasPrefix(want[i], g) && len(want[i])-len(g) <= 14) {
			t.Errorf("%s: event %d is\n%s, kernel\n%s", packet, i, g, want[i])
		}
	}
}

// compareMap compares a map with the recorded contents: zero slots of arrays left out,
// per-CPU values summed.
func compareMap(t *testing.T, m *maps.Map, want []corpusKV) {
	got := map[string]string{}
	add := func(k, v []byte) {
		if m.Type().PerCPU() {
			v = sumCPUs(v, m.CPUs())
		}
		if (m.Type() == maps.Array || m.Type() == maps.PerCPUArray) && len(bytes.Trim(v, "\x00")) == 0 {
			return
		}
		got[hex.EncodeToString(k)] = hex.EncodeToString(v)
	}
	if m.Type().Keyless() {
		for i := 0; ; i++ {
			v, err := m.LookupAndDelete(nil, 0)
			if err != nil {
				break
			}
			if i < len(want) && hex.EncodeToString(v) != want[i].V {
				t.Errorf("map %s: value %d is %x, kernel %s", m.Name(), i, v, want[i].V)
			}
		}
		return
	}
	for k, err := m.NextKey(nil); err == nil; k, err = m.NextKey(k) {
		k = slices.Clone(k)
		v, err := m.Lookup(k, 0)
		if err == nil {
			add(k, v)
		}
	}
	for _, kv := range want {
		if got[kv.K] != kv.V {
			t.Errorf("map %s: %s is %s, kernel %s", m.Name(), kv.K, got[kv.K], kv.V)
		}
		delete(got, kv.K)
	}
	for k, v := range got {
		t.Errorf("map %s: %s is %s, which the kernel has not", m.Name(), k, v)
	}
}

func sumCPUs(v []byte, cpus int) []byte {
	n := len(v) / cpus
	out := slices.Clone(v[:n])
	for c := 1; c < cpus; c++ {
		for i := 0; i+8 <= n; i += 8 {
			s := binary.LittleEndian.Uint64(out[i:]) + binary.LittleEndian.Uint64(v[c*n+i:])
			binary.LittleEndian.PutUint64(out[i:], s)
		}
	}
	return out
}
