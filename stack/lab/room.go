package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"taproom/stack"
	"taproom/stack/hook"
	"taproom/stack/lab/plan"
	"taproom/stack/lab/spec"
	"taproom/tap/netns"
)

// room is a namespace (ns) or a router (node).
type room struct {
	name string
	kind spec.Kind
	ns   *netns.Namespace
	node *stack.Node
	env  []string // of what runs in it

	mu        sync.Mutex
	programs  map[string]*program
	processes map[*Process]struct{}
	parts     map[string]io.Closer // of subsystems, by kind
	closed    bool
}

func (l *Lab) addRoom(r plan.Room, labName string) (err error) {
	m := &room{name: r.Name, kind: r.Kind, programs: map[string]*program{}, processes: map[*Process]struct{}{}}
	m.env = []string{"TAPROOM_LAB=" + labName, "TAPROOM_ROOM=" + r.Name, "PS1=" + r.Name + "# "}
	m.env = append(m.env, l.env...)
	switch {
	case r.Kind == spec.Router:
		m.node, err = stack.New(stack.Options{Name: r.Name, OnLog: func(msg string, args ...any) {
			l.log("%s: %s %v", r.Name, msg, args)
		}})
	case r.PID > 0:
		m.ns, err = netns.OpenPID(r.PID)
	case r.Path != "":
		m.ns, err = netns.Open(r.Path)
	default:
		m.ns, err = newNamespace()
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rooms[r.Name] = m
	return nil
}

// newNamespace makes a namespace that is quiet and ready at once: loopback is
// up, and IPv6 addresses need no duplicate detection in a lab.
func newNamespace() (*netns.Namespace, error) {
	ns, err := netns.New(netns.Options{})
	if err != nil {
		return nil, err
	}
	if err := ns.Configure(netns.Config{Loopback: true}); err != nil {
		ns.Close()
		return nil, err
	}
	quiet := map[string]string{}
	for _, scope := range []string{"all", "default"} {
		quiet["net.ipv6.conf."+scope+".accept_dad"] = "0"
		quiet["net.ipv6.conf."+scope+".router_solicitations"] = "0"
	}
	// A kernel without IPv6 does not have them; the addresses will tell.
	if err := ns.Configure(netns.Config{Sysctls: quiet}); err != nil && !errors.Is(err, os.ErrNotExist) {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

func (l *Lab) removeRoom(name string) error {
	l.mu.Lock()
	m := l.rooms[name]
	delete(l.rooms, name)
	l.mu.Unlock()
	if m == nil {
		return nil
	}
	m.killAll()
	m.closeParts()
	if m.node != nil {
		m.node.Close()
		return nil
	}
	return m.ns.Close()
}

// nodeRoute is a route as a node takes it.
func nodeRoute(r plan.Route) stack.Route {
	kinds := map[string]hook.RouteKind{"blackhole": hook.Blackhole, "unreachable": hook.Unreachable, "prohibit": hook.Prohibit}
	return stack.Route{
		Prefix: r.Prefix, Kind: kinds[r.Kind], Via: r.Via, Interface: r.Dev, Metric: uint32(r.Metric), MTU: r.MTU,
	}
}

// configureNode sets or removes a resource of a router.
func configureNode(n *stack.Node, r plan.Resource, remove bool) error {
	switch r := r.(type) {
	case plan.Forwarding:
		n.SetForwarding(r.On)
		return nil
	case plan.Address:
		i := n.InterfaceByName(r.At.Interface)
		if i == nil {
			return fmt.Errorf("%w: interface %v", ErrNoSuch, r.At)
		}
		if remove {
			return i.DelAddress(r.Prefix.Addr())
		}
		return i.AddAddress(r.Prefix)
	case plan.Neighbour:
		if remove {
			return n.DelNeighbor(r.At.Interface, r.Address)
		}
		return n.AddNeighbor(r.At.Interface, r.Address, r.MAC.HardwareAddr())
	case plan.Route:
		if remove {
			return n.DelRoute(nodeRoute(r))
		}
		return n.AddRoute(nodeRoute(r))
	}
	return fmt.Errorf("a router has no %T", r)
}
