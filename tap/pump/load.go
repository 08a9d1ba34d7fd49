package pump

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
)

// Load is traffic between two namespaces, made by iperf3, for measuring what
// is between them.
type Load struct {
	From, To *netns.Namespace
	Addr     netip.Addr    // of To
	Streams  int           // 0 is 1
	Time     time.Duration // whole seconds; 0 is 3 s
	UDP      bool          // as fast as the sender can
	Size     int           // UDP payload in bytes
	Control  string        // TCP congestion control; "" is the kernel's default
	Rate     string        // UDP, as iperf3 -b writes it ("50M"); "" is as fast as possible
}

// Result is what Load.Run measured.
type Result struct {
	Gbps     float64       // received, payload, Gbit/s
	Sent     int           // UDP datagrams
	Received int           // UDP datagrams
	CPU      time.Duration // of this process, user and system
	Wall     time.Duration // that CPU was measured over
}

// CPUPerGbit is the CPU seconds this process spent on a gigabit of payload.
func (r Result) CPUPerGbit() float64 {
	if r.Gbps == 0 {
		return 0
	}
	return r.CPU.Seconds() / (r.Gbps * r.Wall.Seconds())
}

// Command is the program that Load uses.
const Command = "iperf3"

// Run starts a server in To, a client in From, and waits for both.
func (l Load) Run() (Result, error) {
	seconds := max(int(l.Time/time.Second), 0)
	if seconds == 0 {
		seconds = 3
	}
	const port = "5201"
	server := exec.Command(Command, "-s", "-1", "-p", port, "-B", l.Addr.String(), "--forceflush")
	out, err := server.StdoutPipe()
	if err != nil {
		return Result{}, fmt.Errorf("pump: %w", err)
	}
	if err := l.To.Do(server.Start); err != nil {
		return Result{}, fmt.Errorf("pump: server: %w", err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	if err := await(out, "listening"); err != nil {
		return Result{}, err
	}
	args := []string{"-c", l.Addr.String(), "-p", port, "-t", strconv.Itoa(seconds), "-J"}
	if l.Streams > 1 {
		args = append(args, "-P", strconv.Itoa(l.Streams))
	}
	if l.Control != "" {
		args = append(args, "-C", l.Control)
	}
	if l.UDP {
		rate := l.Rate
		if rate == "" {
			rate = "0"
		}
		args = append(args, "-u", "-l", strconv.Itoa(l.Size), "-b", rate)
	}
	client := exec.Command(Command, args...)
	var report strings.Builder
	client.Stdout = &report
	cpu, start := CPU(), time.Now()
	if err := l.From.Do(client.Start); err != nil {
		return Result{}, fmt.Errorf("pump: client: %w", err)
	}
	err = client.Wait()
	r := Result{CPU: CPU() - cpu, Wall: time.Since(start)}
	return parseReport(report.String(), r, err)
}

// await reads until word has appeared.
func await(out interface{ Read([]byte) (int, error) }, word string) error {
	var seen []byte
	b := make([]byte, 512)
	for !strings.Contains(string(seen), word) {
		n, err := out.Read(b)
		if err != nil {
			return fmt.Errorf("pump: server ended: %s", seen)
		}
		seen = append(seen, b[:n]...)
	}
	return nil
}

func parseReport(s string, r Result, err error) (Result, error) {
	var j struct {
		Error string
		End   struct {
			Sum         struct{ Seconds, Packets, Lost_packets, Bits_per_second float64 }
			SumReceived struct {
				Seconds       float64
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal([]byte(s), &j); jerr != nil || j.Error != "" || err != nil {
		return r, fmt.Errorf("pump: %s: %v %s", Command, err, j.Error)
	}
	if j.End.SumReceived.BitsPerSecond > 0 {
		r.Gbps = j.End.SumReceived.BitsPerSecond / 1e9
	}
	r.Sent = int(j.End.Sum.Packets)
	r.Received = r.Sent - int(j.End.Sum.Lost_packets)
	return r, nil
}

// CPU is what this process has used, user and system.
func CPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Missing is an error if Command is not there, with the remedy.
func Missing() error {
	if _, err := exec.LookPath(Command); err != nil {
		return fmt.Errorf("pump: needs %s (apt-get install %s): %w", Command, Command, os.ErrNotExist)
	}
	return nil
}
