package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"taproom/stack/relay"
	"taproom/stack/relay/guest"
)

// slirpAPI is the socket by which ports are forwarded: one JSON request and
// one JSON answer a connection. Requests are carried out one after another.
type slirpAPI struct {
	l   *net.UnixListener
	g   *guest.Guest
	net guest.Network
}

// maxSlirpRequest is the length that a request must not reach.
const maxSlirpRequest = 4096

func listenSlirpAPI(path string, g *guest.Guest, n guest.Network) (*slirpAPI, error) {
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("api-socket: %w", err)
	}
	return &slirpAPI{l, g, n}, nil
}

func (s *slirpAPI) Close() { _ = s.l.Close() }

func (s *slirpAPI) serve() {
	for {
		c, err := s.l.AcceptUnix()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(s.answer(c))
		_ = c.Close()
	}
}

// answer reads a request, to the client's half-close or to the end of a whole
// document, and carries it out.
func (s *slirpAPI) answer(r io.Reader) []byte {
	dec := json.NewDecoder(io.LimitReader(r, maxSlirpRequest-1))
	var q struct {
		Execute   *string         `json:"execute"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if err := dec.Decode(&q); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return slirpError("bad request: no execute found")
		} else if kind != nil {
			return slirpError("bad request: json_object() failed")
		}
		return slirpError("bad request: cannot parse JSON")
	}
	if q.Execute == nil {
		return slirpError("bad request: no execute found")
	}
	var out any
	var err error
	switch *q.Execute {
	case "add_hostfwd":
		out, err = s.add(q.Arguments)
	case "list_hostfwd":
		return encode(s.list())
	case "remove_hostfwd":
		out, err = s.remove(q.Arguments)
	default:
		return slirpError("bad request: unknown execute")
	}
	if err != nil {
		return slirpError("bad request: " + err.Error())
	}
	return encode(map[string]any{"return": out})
}

func slirpError(desc string) []byte {
	return encode(map[string]any{"error": map[string]string{"desc": desc}})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{"error":{"desc":"bad request: internal error"}}`)
	}
	return b
}

// arguments reads the members of an object that it knows; others, and values
// of another kind, are left out.
func arguments(raw json.RawMessage) (text map[string]string, number map[string]int) {
	text, number = map[string]string{}, map[string]int{}
	var all map[string]json.RawMessage
	_ = json.Unmarshal(raw, &all)
	for k, v := range all {
		var s string
		var n float64
		if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
			text[k] = s
		} else if json.Unmarshal(v, &n) == nil && string(v) != "null" {
			number[k] = int(n)
		}
	}
	return text, number
}

func (s *slirpAPI) add(raw json.RawMessage) (any, error) {
	text, number := arguments(raw)
	f := relay.Forward{Proto: text["proto"], Gateway: s.net.Gateway, Shut: true}
	if f.Proto != "tcp" && f.Proto != "udp" {
		return nil, errors.New("add_hostfwd: bad arguments.proto")
	}
	address := func(name string, or netip.Addr) (netip.Addr, error) {
		if text[name] == "" {
			return or, nil
		}
		a, err := netip.ParseAddr(text[name])
		if err != nil || !a.Is4() {
			return a, fmt.Errorf("add_hostfwd: bad arguments.%s", name)
		}
		return a, nil
	}
	port := func(name string) (uint16, error) {
		if n := number[name]; n > 0 && n < 65536 {
			return uint16(n), nil
		}
		return 0, fmt.Errorf("add_hostfwd: bad arguments.%s", name)
	}
	host, err := address("host_addr", netip.IPv4Unspecified())
	if err != nil {
		return nil, err
	}
	hostPort, err := port("host_port")
	if err != nil {
		return nil, err
	}
	to, err := address("guest_addr", s.net.Guest.Addr())
	if err != nil {
		return nil, err
	}
	if to.IsUnspecified() {
		to = s.net.Guest.Addr()
	}
	toPort, err := port("guest_port")
	if err != nil {
		return nil, err
	}
	f.Host, f.Guest = netip.AddrPortFrom(host, hostPort), netip.AddrPortFrom(to, toPort)
	if f, err = s.g.Relay.AddForward(f); err != nil {
		return nil, errors.New("add_hostfwd: slirp_add_hostfwd failed")
	}
	return map[string]int{"id": f.ID}, nil
}

// slirpForward is a forward as the API lists it.
type slirpForward struct {
	ID        int    `json:"id"`
	Proto     string `json:"proto"`
	HostAddr  string `json:"host_addr"`
	HostPort  int    `json:"host_port"`
	GuestAddr string `json:"guest_addr"`
	GuestPort int    `json:"guest_port"`
}

func (s *slirpAPI) list() any {
	out := []slirpForward{}
	for _, f := range s.g.Relay.Forwards() {
		out = append(out, slirpForward{f.ID, f.Proto, f.Host.Addr().String(), int(f.Host.Port()), f.Guest.Addr().String(), int(f.Guest.Port())})
	}
	return map[string]any{"entries": out}
}

func (s *slirpAPI) remove(raw json.RawMessage) (any, error) {
	_, number := arguments(raw)
	id, ok := number["id"]
	if !ok {
		return nil, errors.New("remove_hostfwd: bad arguments.id")
	}
	if err := s.g.Relay.RemoveForward(id); err != nil {
		return nil, errors.New("remove_hostfwd: bad arguments.id")
	}
	return struct{}{}, nil
}
