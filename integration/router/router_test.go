package router

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"taproom/integration/room"
	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

func two(t *testing.T, a, b room.Config, need ...string) *room.Two {
	t.Helper()
	room.Need(t, append([]string{"root", "tun"}, need...)...)
	s, err := room.NewTwo(a, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("counters: %+v\nneighbours: %+v", s.Node.Counters(), s.Node.Neighbors())
		}
		s.Close()
	})
	return s
}

func TestPing(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "ping")
	for _, to := range []string{room.B4, room.B6, "10.1.0.1", "fd01::1", "10.2.0.1", "fd02::1"} {
		for _, size := range []string{"56", "8000"} {
			out := s.A.Run(t, "ping", "-c", "2", "-i", "0.01", "-W", "5", "-s", size, to)
			if !strings.Contains(out, " 0% packet loss") {
				t.Error(out)
			}
		}
	}
}

func TestTruthfulErrors(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "ping")
	for to, want := range map[string]string{
		"10.3.0.1":  "Net Unreachable",
		"fd03::1":   "No route",
		"10.2.0.77": "Host Unreachable",
		"fd02::77":  "Address unreachable",
	} {
		out, err := s.A.Output("ping", "-c", "1", "-W", "6", to)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("ping %s: want %q in\n%s", to, want, out)
		}
	}
}

func TestTraceroute(t *testing.T) {
	s := two(t, room.Config{}, room.Config{}, "traceroute")
	for _, c := range []struct{ to, hop1, hop2 string }{
		{room.B4, "10.1.0.1", room.B4}, {room.B6, "fd01::1", room.B6},
	} {
		out := s.A.Run(t, "traceroute", "-n", "-q", "1", "-w", "3", c.to)
		if !regexp.MustCompile(`(?m)^ 1  `+c.hop1+` `).MatchString(out) || !regexp.MustCompile(`(?m)^ 2  `+c.hop2+` `).MatchString(out) {
			t.Error(out)
		}
	}
}

// The path MTU is found through a smaller link behind the router.
func TestTracepath(t *testing.T) {
	s := two(t, room.Config{}, room.Config{MTU: 1400}, "tracepath")
	for _, to := range []string{room.B4, room.B6} {
		out := s.A.Run(t, "tracepath", "-n", "-m", "4", to)
		if !strings.Contains(out, "pmtu 1400") || !strings.Contains(out, "reached") {
			t.Error(out)
		}
	}
}

func TestTCP(t *testing.T) {
	s := two(t, room.Config{}, room.Config{MTU: 1400}, "iperf3")
	stop := serve(t, s.B)
	defer stop()
	for _, to := range []string{room.B4, room.B6} {
		out := s.A.Run(t, "iperf3", "-c", to, "-t", "1", "-J")
		if strings.Contains(out, `"error"`) {
			t.Error(out)
		}
	}
}
