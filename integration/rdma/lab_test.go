package rdma

import (
	"context"
	"os"
	"testing"
	"time"

	"taproom/rdma"
	"taproom/rdma/perftest"
	"taproom/rdma/roce"
	"taproom/stack/lab"
	"taproom/stack/lab/spec"
	"taproom/stack/lab/verbs"
)

// TestExample runs the example, and what "taproom rdma bench" does in it: over a
// wire that loses packets, each operation comes to its end.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../examples/roce.yaml")
	must(t, err)
	file, err := spec.Parse("roce.yaml", text)
	must(t, err)
	l, err := lab.New(lab.Options{Log: t.Logf})
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(t, l.Apply(ctx, file, nil))
	l.Expect(ctx, func(r lab.Result) {
		if !r.OK {
			t.Errorf("%s: %s", r.Name, r.Error)
		}
	})
	r1, err := verbs.Of(l, "r1")
	must(t, err)
	r2, err := verbs.Of(l, "r2")
	must(t, err)
	for _, k := range kinds {
		res, err := r1.Between(ctx, "eth0", r2, "eth0", perftest.DefaultPort, perftest.Test{Kind: k.kind, Sizes: []int{64 << 10}, Iterations: 200, MTU: roce.MTU4096, GIDIndex: -1})
		if err != nil || len(res) != 1 || res[0].Report.Average <= 0 {
			t.Fatalf("%s: %v, %+v", k.name, err, res)
		}
		t.Logf("%s: %.0f MiB/s", k.name, res[0].Report.Average)
	}
	var again uint64
	for _, p := range []*verbs.Part{r1, r2} {
		for _, d := range p.Devices() {
			again += lost(d.Counters())
			if c := d.Counters(); c.ICRCErr != 0 {
				t.Errorf("%s: %d packets with a wrong ICRC", d.Interface, c.ICRCErr)
			}
		}
	}
	if again == 0 {
		t.Error("nothing was lost")
	}
}

// lost counts what a device noticed of losses.
func lost(c rdma.Counters) uint64 {
	return c.RcvdSeqErr + c.OutOfSeqRequest + c.ImpliedNaks + c.Probes + c.Timeouts
}
