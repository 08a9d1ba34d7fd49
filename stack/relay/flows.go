package relay

import (
	"net/netip"
	"time"
)

// Flow is one flow as listings show it.
type Flow struct {
	Proto    string         `json:"proto"` // tcp, udp or icmp
	Inside   netip.AddrPort `json:"inside"`
	Outside  netip.AddrPort `json:"outside"` // as the container sees it; of echo flows the port is 0
	Sent     uint64         `json:"sent"`    // bytes from the container
	Received uint64         `json:"received"`
	Since    time.Time      `json:"since"`
}

// Stats count since the relay was made, but for the number of flows there are.
type Stats struct {
	TCP        int    `json:"tcp"` // connections there are
	UDP        int    `json:"udp"`
	Echo       int    `json:"echo"`
	TCPOpened  uint64 `json:"tcpOpened"`
	TCPRefused uint64 `json:"tcpRefused"` // by the host or its peers
	UDPOpened  uint64 `json:"udpOpened"`
	EchoOpened uint64 `json:"echoOpened"`
	Evicted    uint64 `json:"evicted"`      // flows that made room for newer ones
	LimitHit   uint64 `json:"refusedLimit"` // connections beyond the limit
}

// Stats returns the counters.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	n := len(r.tcp)
	r.mu.Unlock()
	c := &r.stats
	return Stats{TCP: n, UDP: r.udp.len(), Echo: r.echo.len(), TCPOpened: c.tcpOpened.Load(), TCPRefused: c.tcpRefused.Load(),
		UDPOpened: c.udpOpened.Load(), EchoOpened: c.echoOpened.Load(), Evicted: c.evicted.Load(), LimitHit: c.refusedLimit.Load()}
}

// Flows lists the flows there are, in no order.
func (r *Relay) Flows() []Flow {
	out := []Flow{}
	r.mu.Lock()
	for f := range r.tcp {
		v := Flow{Proto: "tcp", Inside: f.src, Outside: f.dst, Sent: f.up.Load(), Received: f.down.Load(), Since: f.since}
		if f.inbound {
			v.Inside, v.Outside = f.dst, f.src
		}
		out = append(out, v)
	}
	r.mu.Unlock()
	for proto, t := range map[string]*flowTable{"udp": &r.udp, "icmp": &r.echo} {
		for _, f := range t.list() {
			out = append(out, Flow{Proto: proto, Inside: f.key.src, Outside: f.key.dst, Sent: f.outLen.Load(), Received: f.inLen.Load(), Since: f.since})
		}
	}
	return out
}
