package perftest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"taproom/rdma/roce"
)

// DefaultPort is the TCP port of the pingpong programs and of perftest.
const DefaultPort = 18515

// ErrProtocol is wrapped by errors about what the other side said.
var ErrProtocol = errors.New("perftest: the other side's message is not understood")

// PingpongAddr is what a pingpong program tells about its queue pair:
// "LID:QPN:PSN:GID" in hexadecimal and a zero byte.
type PingpongAddr struct {
	LID uint16
	QPN uint32   // 24 bits
	PSN roce.PSN // the first it sends with
	GID [16]byte
}

const (
	pingpongLen  = 52
	pingpongDone = "done\x00"
)

// Append appends the message to b.
func (a PingpongAddr) Append(b []byte) []byte {
	b = fmt.Appendf(b, "%04x:%06x:%06x:%x", a.LID, a.QPN&0xffffff, uint32(a.PSN)&roce.PSNMask, a.GID[:])
	return append(b, 0)
}

// ParsePingpongAddr reads a message.
func ParsePingpongAddr(b []byte) (a PingpongAddr, err error) {
	f := strings.Split(strings.TrimRight(string(b), "\x00"), ":")
	if len(b) != pingpongLen || len(f) != 4 || len(f[3]) != 32 {
		return a, fmt.Errorf("%w: pingpong address %q", ErrProtocol, b)
	}
	var n [3]uint64
	for i, bits := range []int{16, 24, 24} {
		if n[i], err = strconv.ParseUint(f[i], 16, bits); err != nil {
			return a, fmt.Errorf("%w: pingpong address %q: %w", ErrProtocol, b, err)
		}
	}
	a.LID, a.QPN, a.PSN = uint16(n[0]), uint32(n[1]), roce.PSN(n[2])
	if _, err := hex.Decode(a.GID[:], []byte(f[3])); err != nil {
		return a, fmt.Errorf("%w: pingpong address %q: %w", ErrProtocol, b, err)
	}
	return a, nil
}

// PingpongClient exchanges addresses as the client: receives must have been
// posted before. Afterwards the client moves its queue pair to RTS and sends
// first.
func PingpongClient(conn io.ReadWriter, local PingpongAddr) (remote PingpongAddr, err error) {
	if _, err := conn.Write(local.Append(nil)); err != nil {
		return remote, fmt.Errorf("perftest: pingpong address: %w", err)
	}
	if remote, err = readPingpong(conn); err != nil {
		return remote, err
	}
	if _, err := io.WriteString(conn, pingpongDone); err != nil {
		return remote, fmt.Errorf("perftest: pingpong end: %w", err)
	}
	return remote, nil
}

// PingpongServer exchanges addresses as the server. connect is called with the
// client's address and moves the queue pair to RTS; only then the client gets
// ours, and may send.
func PingpongServer(conn io.ReadWriter, local PingpongAddr, connect func(remote PingpongAddr) error) error {
	remote, err := readPingpong(conn)
	if err != nil {
		return err
	}
	if err := connect(remote); err != nil {
		return err
	}
	if _, err := conn.Write(local.Append(nil)); err != nil {
		return fmt.Errorf("perftest: pingpong address: %w", err)
	}
	done := make([]byte, len(pingpongDone))
	if _, err := io.ReadFull(conn, done); err != nil {
		return fmt.Errorf("perftest: pingpong end: %w", err)
	}
	return nil
}

func readPingpong(r io.Reader) (PingpongAddr, error) {
	b := make([]byte, pingpongLen)
	if _, err := io.ReadFull(r, b); err != nil {
		return PingpongAddr{}, fmt.Errorf("perftest: pingpong address: %w", err)
	}
	return ParsePingpongAddr(b)
}
