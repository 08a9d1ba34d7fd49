package spec

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Names of labs, rooms, links and programs. Rooms' are used in file names and
// environment variables.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$`)

// maxInterface is IFNAMSIZ-1 (linux/if.h).
const maxInterface = 15

func (l *Lab) setDefaults() {
	if !l.Addressing.V4.IsValid() {
		l.Addressing.V4 = netip.MustParsePrefix("10.77.0.0/16")
	}
	if !l.Addressing.V6.IsValid() {
		l.Addressing.V6 = netip.MustParsePrefix("fd77::/48")
	}
	if l.Routing == "" {
		l.Routing = RoutingAuto
	}
	for i := range l.Links {
		k := &l.Links[i]
		if k.Name == "" && len(k.Ends) == 2 {
			k.Name = k.Ends[0].At.String() + "--" + k.Ends[1].At.String()
		}
		if k.MTU == 0 {
			k.MTU = 1500
		}
		if k.Cost == 0 {
			k.Cost = 1
		}
		for e := range k.Ends {
			if k.Ends[e].MTU == 0 {
				k.Ends[e].MTU = k.MTU
			}
		}
	}
	for _, r := range l.Rooms {
		for i := range r.Run {
			if p := &r.Run[i]; p.Name == "" && len(p.Command) > 0 {
				p.Name = programName(p.Command)
			}
		}
	}
}

// programName is the last part of the first word of a command.
func programName(c Command) string {
	w := c[0]
	if len(c) == 3 && c[1] == "-c" {
		w, _, _ = strings.Cut(strings.TrimSpace(c[2]), " ")
	}
	w = w[strings.LastIndexByte(w, '/')+1:]
	if !nameForm.MatchString(w) {
		return "program"
	}
	return w
}

// validate finds what the types alone do not show.
func (l *Lab) validate() {
	if l.Version != Version {
		l.errorAt("version", "version %d is not known, this taproom reads %d", l.Version, Version)
	}
	l.checkName("name", l.Name)
	for _, p := range []struct {
		key string
		p   netip.Prefix
		is4 bool
		max int
	}{{"addressing.v4", l.Addressing.V4, true, 24}, {"addressing.v6", l.Addressing.V6, false, 64}} {
		if p.p.Addr().Is4() != p.is4 || p.p.Bits() > p.max {
			l.errorAt(p.key, "%v is no pool: give one of the right IP version and at least a /%d", p.p, p.max)
		}
	}
	interfaces := l.validateLinks()
	for _, name := range slices.Sorted(maps.Keys(l.Rooms)) {
		l.validateRoom(name, interfaces[name])
	}
	for i := range l.Expect {
		l.validateExpectation(i)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Sections)) {
		l.Sections[name].Check(l, func(key, format string, args ...any) {
			if key != "" && key[0] != '[' {
				key = "." + key
			}
			l.errorAt(name+key, format, args...)
		})
	}
}

func (l *Lab) errorAt(key, format string, args ...any) {
	if l.source == nil {
		l.source = &source{file: l.Name}
	}
	l.source.errorAt(key, format, args...)
}

func (l *Lab) checkName(key, name string) {
	if !nameForm.MatchString(name) {
		l.errorAt(key, "%q is no name: use letters, digits, dots, dashes and underscores, at most 64", name)
	}
}

// CheckRoom reports a room that is not there, with a suggestion; kind "" is
// any.
func (l *Lab) CheckRoom(name string, kind Kind) error {
	r, ok := l.Rooms[name]
	if !ok {
		return fmt.Errorf("no room %q%s", name, suggest(name, slices.Sorted(maps.Keys(l.Rooms))))
	}
	if kind != "" && r.Kind != kind {
		return fmt.Errorf("room %q is a %s, not a %s", name, r.Kind, kind)
	}
	return nil
}

func (l *Lab) checkRoom(key, name string, kind Kind) bool {
	err := l.CheckRoom(name, kind)
	if err != nil {
		l.errorAt(key, "%v", err)
	}
	return err == nil
}

func (l *Lab) validateRoom(name string, interfaces []string) {
	key, r := "rooms."+name, l.Rooms[name]
	l.checkName(key, name)
	if r.Kind == Router {
		for _, f := range []struct {
			key string
			set bool
		}{{"pid", r.PID != 0}, {"path", r.Path != ""}, {"run", r.Run != nil}, {"sysctl", r.Sysctl != nil}} {
			if f.set {
				l.errorAt(key+"."+f.key, "a router has none: it lives inside taproom, and only namespaces run programs")
			}
		}
	}
	if r.PID < 0 {
		l.errorAt(key+".pid", "%d is no process", r.PID)
	}
	if r.PID > 0 && r.Path != "" {
		l.errorAt(key+".pid", "give pid or path, not both")
	}
	interfaces = append(interfaces, "lo")
	for i, rt := range r.Routes {
		l.validateRoute(fmt.Sprintf("%s.routes[%d]", key, i), rt, interfaces)
	}
	for i, n := range r.Neighbours {
		if !slices.Contains(interfaces, n.Dev) {
			l.errorAt(fmt.Sprintf("%s.neighbours[%d].dev", key, i), "room %s has no interface %q%s", name, n.Dev, suggest(n.Dev, interfaces))
		}
	}
	names := map[string]bool{}
	for i, p := range r.Run {
		pk := fmt.Sprintf("%s.run[%d]", key, i)
		l.checkName(pk+".name", p.Name)
		if names[p.Name] {
			l.errorAt(pk, "there is another program named %q in this room: give it a name", p.Name)
		}
		names[p.Name] = true
		if len(p.Command) == 0 || p.Command[0] == "" {
			l.errorAt(pk+".command", "an empty command")
		}
		if y := p.Ready; y != nil {
			l.validateReady(pk+".ready", y)
		}
	}
}

func (l *Lab) validateReady(key string, y *Ready) {
	n := 0
	for _, set := range []bool{y.TCP != 0, y.Output != "", len(y.Command) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		l.errorAt(key, "give one of tcp, output and command")
	}
	if y.TCP < 0 || y.TCP > 65535 {
		l.errorAt(key+".tcp", "%d is no port", y.TCP)
	}
}

func (l *Lab) validateRoute(key string, r Route, interfaces []string) {
	if r.Kind != "" && r.Kind != "unicast" {
		if r.Via.IsValid() || r.Dev != "" {
			l.errorAt(key, "a %s route leads nowhere: leave out via and dev", r.Kind)
		}
		return
	}
	if !r.Via.IsValid() && r.Dev == "" {
		l.errorAt(key, "a route needs via or dev")
	}
	if r.Dev != "" && !slices.Contains(interfaces, r.Dev) {
		l.errorAt(key+".dev", "no interface %q%s", r.Dev, suggest(r.Dev, interfaces))
	}
	if p := r.To.Prefixes(r.Via); r.Via.IsValid() && len(p) == 1 && p[0].Addr().Is6() && r.Via.Is4() {
		l.errorAt(key+".via", "%v cannot be the next hop for %v", r.Via, p[0])
	}
}

// validateLinks returns the interfaces of each room.
func (l *Lab) validateLinks() map[string][]string {
	interfaces := map[string][]string{}
	names := map[string]bool{}
	for i := range l.Links {
		k := &l.Links[i]
		key := fmt.Sprintf("links[%d]", i)
		if len(k.Ends) != 2 {
			l.errorAt(key+".ends", "a link has two ends, not %d", len(k.Ends))
			continue
		}
		if names[k.Name] {
			l.errorAt(key+".name", "there is another link %q", k.Name)
		}
		names[k.Name] = true
		for e := range k.Ends {
			l.validateEnd(fmt.Sprintf("%s.ends[%d]", key, e), &k.Ends[e], interfaces)
		}
		seen := map[bool]bool{}
		for j, p := range k.Subnets {
			sk := fmt.Sprintf("%s.subnets[%d]", key, j)
			if p != p.Masked() || p.Bits() > p.Addr().BitLen()-2 {
				l.errorAt(sk, "%v is no subnet with room for two addresses", p)
			}
			if seen[p.Addr().Is4()] {
				l.errorAt(sk, "a second subnet of the same IP version")
			}
			seen[p.Addr().Is4()] = true
		}
		if k.Cost < 0 {
			l.errorAt(key+".cost", "negative")
		}
		for d, imp := range k.Impairments() {
			if err := imp.Validate(); err != nil {
				l.errorAt(key+[...]string{".forward", ".backward"}[d], "%s", cleaned(err))
			}
		}
	}
	return interfaces
}

func (l *Lab) validateEnd(key string, e *End, interfaces map[string][]string) {
	room, name := e.At.Room, e.At.Interface
	if !l.checkRoom(key, room, "") {
		return
	}
	switch {
	case len(name) > maxInterface || strings.ContainsAny(name, "/ \t\n%") || name == "." || name == "..":
		l.errorAt(key, "%q is no interface name: Linux allows %d bytes without slash, percent and blank", name, maxInterface)
	case name == "lo":
		l.errorAt(key, "every room has its own lo")
	case slices.Contains(interfaces[room], name):
		l.errorAt(key, "%v has a link already", e.At)
	}
	interfaces[room] = append(interfaces[room], name)
	if e.MTU < 68 || e.MTU > 65521 {
		l.errorAt(key+".mtu", "MTU %d is not between 68 and 65521", e.MTU)
	}
	if e.Queues < 0 || e.Queues > 256 {
		l.errorAt(key+".queues", "%d queues are not between 1 and 256", e.Queues)
	}
	for i, p := range e.Addresses {
		if p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
			l.errorAt(fmt.Sprintf("%s.addresses[%d]", key, i), "%v cannot be an interface's address", p)
		}
	}
}

func (l *Lab) validateExpectation(i int) {
	key, x := fmt.Sprintf("expect[%d]", i), &l.Expect[i]
	n := 0
	if p := x.Ping; p != nil {
		n++
		l.checkRoom(key+".ping.from", p.From, "")
		l.checkTarget(key+".ping", p.To, p.IP)
	}
	if p := x.Path; p != nil {
		n++
		l.checkRoom(key+".path.from", p.From, "")
		l.checkTarget(key+".path", p.To, p.IP)
		for j, h := range p.Hops {
			if _, err := netip.ParseAddr(h); err != nil {
				l.checkRoom(fmt.Sprintf("%s.path.hops[%d]", key, j), h, "")
			}
		}
	}
	if e := x.Exec; e != nil {
		n++
		l.checkRoom(key+".exec.room", e.Room, Namespace)
		if len(e.Command) == 0 {
			l.errorAt(key+".exec.command", "an empty command")
		}
	}
	if c := x.Counter; c != nil {
		n++
		room, _, _ := strings.Cut(c.At, ":")
		l.checkRoom(key+".counter.at", room, Router)
		if c.Min == nil && c.Max == nil {
			l.errorAt(key+".counter", "give min, max or both")
		}
	}
	if n != 1 {
		l.errorAt(key, "give one of ping, path, exec and counter")
	}
}

func (l *Lab) checkTarget(key, to string, ip int) {
	if ip != 0 && ip != 4 && ip != 6 {
		l.errorAt(key+".ip", "IP version %d: 4 or 6", ip)
	}
	if _, err := netip.ParseAddr(to); err == nil {
		return
	}
	room, _, _ := strings.Cut(to, ":")
	l.checkRoom(key+".to", room, "")
}
