package relay

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hostResolver is the first name server of the host's resolv.conf, read again
// when the file changes.
type hostResolver struct {
	mu      sync.Mutex
	checked time.Time
	mtime   time.Time
	addr    netip.AddrPort
	err     error
}

const resolvConf = "/etc/resolv.conf"

var errNoResolver = errors.New("relay: " + resolvConf + " names no server")

func (h *hostResolver) address() (netip.AddrPort, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Sub(h.checked) < 5*time.Second && (h.addr.IsValid() || h.err != nil) {
		return h.addr, h.err
	}
	h.checked = now
	st, err := os.Stat(resolvConf)
	if err != nil {
		h.addr, h.err = netip.AddrPort{}, err
		return h.addr, h.err
	}
	if st.ModTime().Equal(h.mtime) {
		return h.addr, h.err
	}
	h.mtime = st.ModTime()
	servers, err := ReadResolvConf(resolvConf)
	switch {
	case err != nil:
		h.addr, h.err = netip.AddrPort{}, err
	case len(servers) == 0:
		h.addr, h.err = netip.AddrPort{}, errNoResolver
	default:
		h.addr, h.err = netip.AddrPortFrom(servers[0], 53), nil
	}
	return h.addr, h.err
}

// ReadResolvConf returns the name servers of a resolv.conf(5).
func ReadResolvConf(path string) ([]netip.Addr, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []netip.Addr
	in := bufio.NewScanner(f)
	for in.Scan() {
		w := strings.Fields(in.Text())
		if len(w) < 2 || w[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(w[1]); err == nil {
			out = append(out, a.WithZone(""))
		}
	}
	return out, in.Err()
}
