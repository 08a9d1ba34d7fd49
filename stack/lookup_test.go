package stack

import (
	"context"
	"net/netip"
	"testing"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

func TestLookupSocket(t *testing.T) {
	n, err := New(Options{Name: "n"})
	must(t, err)
	defer n.Close()
	at := netip.MustParseAddrPort
	for _, a := range []string{"127.0.0.1:7", "[::]:9"} {
		c, err := n.ListenUDP(at(a))
		must(t, err)
		defer c.Close()
	}
	l, err := n.ListenTCP(at("127.0.0.1:80"))
	must(t, err)
	defer l.Close()
	c, err := n.DialTCP(context.Background(), netip.AddrPort{}, at("127.0.0.1:80"))
	must(t, err)
	defer c.Close()
	client := at(c.LocalAddr().String())
	for _, x := range []struct {
		name     string
		q        hook.SocketQuery
		ok       bool
		local    string
		remote   bool
		tcpState uint32
	}{
		{"UDP", hook.SocketQuery{Proto: packet.ProtoUDP, Src: at("127.0.0.9:5"), Dst: at("127.0.0.1:7"), Listen: true}, true, "127.0.0.1:7", false, 7},
		{"UDP, any address", hook.SocketQuery{Proto: packet.ProtoUDP, Src: at("[fd00::9]:5"), Dst: at("[::1]:9"), Listen: true}, true, "[::]:9", false, 7},
		{"UDP, connected ones only", hook.SocketQuery{Proto: packet.ProtoUDP, Src: at("127.0.0.9:5"), Dst: at("127.0.0.1:7")}, false, "", false, 0},
		{"UDP, another port", hook.SocketQuery{Proto: packet.ProtoUDP, Src: at("127.0.0.9:5"), Dst: at("127.0.0.1:8"), Listen: true}, false, "", false, 0},
		{"TCP, listening", hook.SocketQuery{Proto: packet.ProtoTCP, Src: at("127.0.0.9:5"), Dst: at("127.0.0.1:80"), Listen: true}, true, "127.0.0.1:80", false, 10},
		{"TCP, client", hook.SocketQuery{Proto: packet.ProtoTCP, Src: at("127.0.0.1:80"), Dst: client}, true, client.String(), true, 1},
		{"mixed", hook.SocketQuery{Proto: packet.ProtoTCP, Src: at("[::1]:80"), Dst: client}, false, "", false, 0},
		{"no such protocol", hook.SocketQuery{Proto: 1, Src: at("127.0.0.1:80"), Dst: client}, false, "", false, 0},
	} {
		s, ok := n.LookupSocket(x.q)
		if ok != x.ok {
			t.Errorf("%s: found %v: %+v", x.name, ok, s)
			continue
		}
		if ok && (s.Local.String() != x.local || s.Remote.IsValid() != x.remote || s.State != x.tcpState || s.Cookie == 0) {
			t.Errorf("%s: %+v", x.name, s)
		}
	}
}
