package filter

import (
	"errors"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/filter/ebpf"
	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// NFConfig describes a netfilter link (struct bpf_link_create, netfilter).
type NFConfig struct {
	PF        uint8  // vm.NFProtoIPv4 or vm.NFProtoIPv6
	Hook      uint32 // NF_INET_*: 0 prerouting to 4 postrouting
	Priority  int32  // ascending; each family and hook has one link of a priority
	Flags     uint32 // NFDefrag
	LinkFlags uint32 // none are known
}

// NFDefrag asks that the program sees whole packets (BPF_F_NETFILTER_IP_DEFRAG).
const NFDefrag = 1

// defragPriority is where reassembly happens (NF_IP_PRI_CONNTRACK_DEFRAG).
const defragPriority = -400

// maxNFLinks is how many entries a netfilter hook takes (MAX_HOOK_COUNT).
const maxNFLinks = 1024

// nfPoints are the hook points in the order of NF_INET_*.
var nfPoints = [...]hook.Point{hook.Prerouting, hook.Input, hook.Forward, hook.Output, hook.Postrouting}

// NFLink holds a program at a netfilter point.
type NFLink struct {
	id     uint32
	fs     *Filters
	conf   NFConfig
	prog   *Program
	link   *hook.Link
	run    *nfHandler
	defrag bool
}

// AttachNetfilter attaches a program. The errors are those of Linux, in its
// order.
func (fs *Filters) AttachNetfilter(p *Program, c NFConfig) (*NFLink, error) {
	if p == nil || p.typ != ebpf.Netfilter || c.LinkFlags != 0 {
		return nil, fail(unix.EINVAL, "")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, fail(unix.ENODEV, "")
	}
	if fs.countNF(c) >= maxNFLinks {
		return nil, fail(unix.E2BIG, "")
	}
	l := &NFLink{fs: fs, conf: c, prog: p}
	family := hook.IPv4
	if c.PF == vm.NFProtoIPv6 {
		family = hook.IPv6
	}
	var err error
	if c.Flags&NFDefrag != 0 {
		if err = fs.defrag(family, +1); err != nil {
			return nil, err
		}
		l.defrag = true
	}
	l.run = &nfHandler{fs: fs, prog: p, at: vm.NFHook{Hook: uint8(c.Hook), PF: c.PF}}
	l.link, err = fs.host.Attach(nfPoints[c.Hook], l.run, hook.Options{
		Name: "bpf:" + p.name, Priority: c.Priority, Exclusive: true, Family: family,
	})
	if err != nil {
		if l.defrag {
			_ = fs.defrag(family, -1)
		}
		if errors.Is(err, hook.ErrBusy) {
			return nil, fail(unix.EBUSY, "")
		}
		return nil, err
	}
	fs.lastLink++
	l.id = fs.lastLink
	fs.nf = append(fs.nf, l)
	return l, nil
}

func (c NFConfig) check() error {
	switch {
	case c.PF != vm.NFProtoIPv4 && c.PF != vm.NFProtoIPv6:
		return fail(unix.EAFNOSUPPORT, "")
	case c.Hook >= uint32(len(nfPoints)):
		return fail(unix.EPROTO, "")
	case c.Flags&^NFDefrag != 0:
		return fail(unix.EOPNOTSUPP, "")
	case c.Priority == math.MinInt32 || c.Priority == math.MaxInt32:
		return fail(unix.ERANGE, "")
	case c.Flags&NFDefrag != 0 && c.Priority <= defragPriority:
		return fail(unix.ERANGE, "")
	}
	return nil
}

func (fs *Filters) countNF(c NFConfig) int {
	n := 0
	for _, l := range fs.nf {
		if l.conf.PF == c.PF && l.conf.Hook == c.Hook {
			n++
		}
	}
	return n
}

// Update is not possible for netfilter links: EOPNOTSUPP.
func (l *NFLink) Update(*Program) error { return fail(unix.EOPNOTSUPP, "") }

// Detach takes the program away. It does no harm to do it twice.
func (l *NFLink) Detach() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	l.detachLocked()
	return nil
}

// Close is Detach, for those who hold the link only to keep it.
func (l *NFLink) Close() error { return l.Detach() }

func (l *NFLink) detachLocked() {
	if l.link == nil {
		return
	}
	l.run.gone.Store(true)
	_ = l.link.Close()
	l.link = nil
	if l.defrag {
		family := hook.IPv4
		if l.conf.PF == vm.NFProtoIPv6 {
			family = hook.IPv6
		}
		_ = l.fs.defrag(family, -1)
	}
	for k, o := range l.fs.nf {
		if o == l {
			l.fs.nf = append(l.fs.nf[:k:k], l.fs.nf[k+1:]...)
			break
		}
	}
}

// ID is the link's number.
func (l *NFLink) ID() uint32 { return l.id }

// Config is what the link was made with.
func (l *NFLink) Config() NFConfig { return l.conf }

// Program is what it holds.
func (l *NFLink) Program() *Program { return l.prog }

// nfHandler runs a netfilter program.
type nfHandler struct {
	fs   *Filters
	prog *Program
	at   vm.NFHook
	gone atomic.Bool // detached: the program may be let go of
}

// Handle implements hook.Handler.
func (h *nfHandler) Handle(_ hook.Point, p *hook.Packet) hook.Verdict {
	r := vm.Acquire()
	if h.gone.Load() { // since this packet found the handler
		r.Release()
		return hook.Continue
	}
	ret, err := r.Netfilter(h.prog.bpf, p, h.at, &h.fs.env)
	r.Release()
	if err == nil && ret == nfAccept {
		return hook.Continue
	}
	p.Reason = packet.ByNetfilter
	return hook.Drop
}

// defrag counts who needs whole packets of a family, and keeps the reassembly
// at work as long as somebody does. fs.mu is held.
func (fs *Filters) defrag(f hook.Family, delta int) error {
	fs.defragUsers[f] += delta
	switch {
	case delta > 0 && fs.defragUsers[f] == 1:
		for k, pt := range [...]hook.Point{hook.Prerouting, hook.Output} {
			l, err := fs.host.Attach(pt, hook.HandlerFunc(fs.reassemble), hook.Options{
				Name: "defrag", Priority: defragPriority, Family: f,
			})
			if err != nil {
				return err
			}
			fs.defragLinks[f][k] = l
		}
	case delta < 0 && fs.defragUsers[f] == 0:
		for _, l := range fs.defragLinks[f] {
			_ = l.Close()
		}
	}
	return nil
}

func (fs *Filters) reassemble(_ hook.Point, p *hook.Packet) hook.Verdict {
	return fs.host.Reassemble(p)
}
