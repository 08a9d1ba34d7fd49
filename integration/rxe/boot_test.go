package rxe

import (
	"strings"
	"testing"
	"time"
)

// TestBoot: a guest boots, and has an rxe device with the GID table the other
// tests count on.
func TestBoot(t *testing.T) {
	g := Start(t, Options{})
	t.Logf("boot took %v, verbx: %v", g.BootTime(), g.HasVerbx())
	out := g.MustRun(t, "ibv_devinfo -v", 20*time.Second)
	for _, want := range []string{"rxe0", "PORT_ACTIVE", "active_mtu:\t\t1024", "GID[  1]:\t\t::ffff:10.9.0.1", "GID[  2]:\t\tfd09::1"} {
		if !strings.Contains(out, want) {
			t.Errorf("ibv_devinfo does not say %q:\n%s", want, out)
		}
	}
	if c, err := g.Counters(); err != nil || len(c) < 10 {
		t.Errorf("counters: %v, %v", c, err)
	}
}
