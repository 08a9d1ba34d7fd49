package router

import (
	"bufio"
	"context"
	"strings"
	"testing"

	"taproom/integration/room"
)

// serve runs an iperf3 server in a room until stop is called.
func serve(t *testing.T, r *room.Room) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := r.Command(ctx, "iperf3", "-s", "--forceflush")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for in.Scan() && !strings.Contains(in.Text(), "Server listening") {
	}
	go func() {
		for in.Scan() {
		}
	}()
	return func() {
		cancel()
		_ = c.Wait()
	}
}
