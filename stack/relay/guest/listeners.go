package guest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"

	"taproom/tap/netns"
)

// What listens inside is read from the kernel's tables of sockets in /proc
// (proc_net_tcp in the kernel's documentation). A table belongs to the
// namespace of the thread that opened it, so each is opened once, inside, and
// read again and again from outside without any privilege.

const opTables = "guest.tables"

var tableNames = [...]string{"tcp", "tcp6", "udp", "udp6"}

func init() {
	netns.Register(opTables, func(json.RawMessage) (any, []*os.File, error) {
		var files []*os.File
		for _, n := range tableNames {
			f, err := os.Open("/proc/thread-self/net/" + n)
			if err != nil {
				if errors.Is(err, os.ErrNotExist) && n[3:] == "6" { // no IPv6 in this kernel
					continue
				}
				for _, f := range files {
					_ = f.Close()
				}
				return nil, nil, fmt.Errorf("guest: sockets of the namespace: %w", err)
			}
			files = append(files, f)
		}
		return nil, files, nil
	})
}

func socketTables(ns *netns.Namespace) ([]*os.File, error) { return ns.Call(opTables, nil, nil) }

// Listener is a socket inside that waits for clients.
type Listener struct {
	UDP  bool
	Addr netip.AddrPort
}

// Listeners lists what listens inside: TCP sockets that listen, and UDP
// sockets that are bound and not connected. Config.Follow must have been set.
func (g *Guest) Listeners() ([]Listener, error) {
	var out []Listener
	for k, f := range g.proc {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("guest: sockets of the namespace: %w", err)
		}
		udp := k >= 2 && len(g.proc) == 4 || k == 1 && len(g.proc) == 2
		out = parseTable(out, f, udp)
	}
	return out, nil
}

// States of sockets (net/tcp_states.h); an unconnected UDP socket is "close".
const (
	stateClose  = 0x07
	stateListen = 0x0a
)

// parseTable reads a table: a line of headings, then one for each socket, with
// local and remote address and state as its second to fourth fields.
func parseTable(out []Listener, r io.Reader, udp bool) []Listener {
	want := int64(stateListen)
	if udp {
		want = stateClose
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 4 {
			continue
		}
		if state, err := strconv.ParseInt(string(f[3]), 16, 16); err != nil || state != want {
			continue
		}
		if a, ok := parseAddress(f[1]); ok {
			out = append(out, Listener{UDP: udp, Addr: a})
		}
	}
	return out
}

// parseAddress reads "0100007F:1F90": 32-bit words in the byte order of the
// machine, which is little endian wherever this runs, and a port.
func parseAddress(b []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(b, []byte(":"))
	p, err := strconv.ParseUint(string(port), 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, false
	}
	ip := make([]byte, hex.DecodedLen(len(host)))
	if _, err := hex.Decode(ip, host); err != nil || len(ip)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for k := 0; k+4 <= len(ip); k += 4 {
		ip[k], ip[k+1], ip[k+2], ip[k+3] = ip[k+3], ip[k+2], ip[k+1], ip[k]
	}
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}

// takes reports whether a listener gets what is sent to a port of an address.
// A socket on :: takes IPv4 too, unless it says otherwise, which the table does
// not show.
func (l Listener) takes(udp bool, to netip.AddrPort) bool {
	if l.UDP != udp || l.Addr.Port() != to.Port() {
		return false
	}
	a := l.Addr.Addr()
	return a == to.Addr() || a == netip.IPv6Unspecified() || a == netip.IPv4Unspecified() && to.Addr().Is4()
}
