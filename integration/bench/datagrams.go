package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"taproom/tap/netns"
	"taproom/tap/pump"
)

// UDP in super-frames, which iperf3 cannot make: a sender with UDP_SEGMENT and
// a receiver with UDP_GRO (uapi linux/udp.h), each a process of its own, this
// program started again, so that what they cost is not counted here.
const (
	helperEnv    = "TAPROOM_BENCH_HELPER" // "send ADDR:PORT DURATION SIZE" or "receive ADDR:PORT"
	datagramPort = 5203
	idle         = 300 * time.Millisecond // without a datagram: it is over
)

// counts is what a helper prints when it is done.
type counts struct {
	Datagrams, Bytes int
	Seconds          float64
}

// helper does the work of a helper process and does not return from it.
func helper() {
	f := strings.Fields(os.Getenv(helperEnv))
	if len(f) == 0 {
		return
	}
	to, err := netip.ParseAddrPort(f[1])
	var c counts
	switch {
	case err != nil:
	case f[0] == "send":
		var length time.Duration
		var size int
		if length, err = time.ParseDuration(f[2]); err == nil {
			_, err = fmt.Sscan(f[3], &size)
		}
		if err == nil {
			c, err = sendSegmented(to, length, size)
		}
	default:
		c, err = receiveJoined(to)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", f[0]+":", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(c)
	os.Exit(0)
}

// sendSegmented sends datagrams of the given size as fast as it can, as many
// in one system call as fit into a super-frame.
func sendSegmented(to netip.AddrPort, length time.Duration, size int) (c counts, err error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return c, err
	}
	defer conn.Close()
	if err := setInt(conn, unix.UDP_SEGMENT, size); err != nil {
		return c, fmt.Errorf("UDP_SEGMENT: %w", err)
	}
	many := min(65000/size, 64) // UDP_MAX_SEGMENTS of older kernels
	b := make([]byte, many*size)
	start := time.Now()
	for time.Since(start) < length {
		switch _, err := conn.Write(b); {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNREFUSED):
		case err != nil:
			return c, err
		default:
			c.Datagrams, c.Bytes = c.Datagrams+many, c.Bytes+len(b)
		}
	}
	c.Seconds = time.Since(start).Seconds()
	return c, nil
}

// receiveJoined counts datagrams until none has come for a moment.
func receiveJoined(at netip.AddrPort) (c counts, err error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return c, err
	}
	defer conn.Close()
	if err := setInt(conn, unix.UDP_GRO, 1); err != nil {
		return c, fmt.Errorf("UDP_GRO: %w", err)
	}
	_ = conn.SetReadBuffer(8 << 20)
	fmt.Println("listening")
	b, oob := make([]byte, 65536), make([]byte, 128)
	var first, last time.Time
	for wait := 20 * time.Second; ; wait = idle {
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		n, oobn, _, _, err := conn.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			break
		}
		last = time.Now()
		if first.IsZero() {
			first = last
		}
		size := joinedSize(oob[:oobn], n)
		c.Datagrams, c.Bytes = c.Datagrams+(n+size-1)/size, c.Bytes+n
	}
	c.Seconds = last.Sub(first).Seconds()
	return c, nil
}

// joinedSize is the size of the datagrams that were read in one call.
func joinedSize(oob []byte, n int) int {
	m, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range m {
		if m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == unix.UDP_GRO && len(m.Data) >= 2 {
			return max(int(m.Data[0])|int(m.Data[1])<<8, 1)
		}
	}
	return max(n, 1)
}

func setInt(c *net.UDPConn, opt, v int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, opt, v) })
	return errors.Join(err, inner)
}

// datagrams measures a UDP flow in super-frames from one room to the other.
func datagrams(from, to *netns.Namespace, addr netip.Addr, length time.Duration, size int) (r pump.Result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	at := netip.AddrPortFrom(addr, datagramPort)
	rx := exec.Command(self)
	rx.Env, rx.Stderr = append(os.Environ(), helperEnv+"=receive "+at.String()), os.Stderr
	out, err := rx.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := to.Do(rx.Start); err != nil {
		return r, err
	}
	defer func() { _ = rx.Process.Kill(); _ = rx.Wait() }()
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		return r, fmt.Errorf("the receiver did not start: %w", err)
	}
	tx := exec.Command(self)
	tx.Env, tx.Stderr = append(os.Environ(), fmt.Sprintf("%s=send %v %v %d", helperEnv, at, length, size)), os.Stderr
	cpu, start := pump.CPU(), time.Now()
	var sent []byte
	err = from.Do(func() (err error) { sent, err = tx.Output(); return err })
	r.CPU, r.Wall = pump.CPU()-cpu, time.Since(start)
	if err != nil {
		return r, fmt.Errorf("sender: %w", err)
	}
	var s, g counts
	if err := errors.Join(json.Unmarshal(sent, &s), json.NewDecoder(out).Decode(&g)); err != nil {
		return r, err
	}
	r.Sent, r.Received = s.Datagrams, g.Datagrams
	if g.Seconds > 0 {
		r.Gbps = float64(g.Bytes) * 8 / 1e9 / g.Seconds
	}
	return r, nil
}
