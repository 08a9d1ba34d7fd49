package rxe

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// required tells whether TAPROOM_REQUIRE names a capability, or all.
func required(capability string) bool {
	list := strings.Split(os.Getenv("TAPROOM_REQUIRE"), ",")
	return slices.Contains(list, capability) || slices.Contains(list, "all")
}

// Missing skips a test for want of a capability, or fails it where
// TAPROOM_REQUIRE says that the machine has it.
func Missing(tb testing.TB, capability string, why error) {
	tb.Helper()
	if required(capability) {
		tb.Fatalf("%s is required: %v", capability, why)
	}
	tb.Skipf("%s: %v", capability, why)
}

// Start boots a guest for a test, which ends with it. It skips where QEMU, or
// what the image is made of, cannot be had, and in -short mode.
func Start(tb testing.TB, o Options) *Guest {
	tb.Helper()
	if testing.Short() && !required("rxe") {
		tb.Skip("rxe: boots a guest, left out with -short")
	}
	g, err := bootForTest(o)
	switch {
	case errors.Is(err, ErrUnavailable):
		Missing(tb, "rxe", err)
	case err != nil:
		tb.Fatal(err)
	}
	tb.Cleanup(func() { g.Close() })
	return g
}

// bootForTest installs what is missing, if it can, and boots a guest.
func bootForTest(o Options) (*Guest, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := Setup(ctx); err != nil {
		return nil, err
	}
	return Boot(ctx, o)
}

// MustRun runs a command in the guest that has to succeed, and returns what it
// printed.
func (g *Guest) MustRun(tb testing.TB, command string, timeout time.Duration) string {
	tb.Helper()
	r, err := g.Run(command, timeout)
	if err != nil {
		tb.Fatal(err)
	}
	if r.Status != 0 {
		tb.Fatalf("%q in the guest: exit status %d\n%s", command, r.Status, r.Output)
	}
	return r.Output
}

var errNoCompiler = errors.New("no C compiler for verbx")

// parseHex reads a number such as 0x11 from a line.
func parseHex(s string) (uint32, error) {
	v, err := strconv.ParseUint(strings.TrimSpace(s), 0, 32)
	return uint32(v), err
}
