package filter

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"taproom/filter/ebpf"
	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Flags of tcx attachments (BPF_F_*, uapi linux/bpf.h).
const (
	TCXReplace = 1 << 2
	TCXBefore  = 1 << 3
	TCXAfter   = 1 << 4

	maxTCX = 63 // BPF_MPROG_MAX - 1
)

// TCXOptions say where a program goes in the list. The zero value is the tail.
type TCXOptions struct {
	Flags    uint32
	Relative *TCXLink // a link that Flags refer to
	// RelativeProg is a program that Flags refer to.
	RelativeProg *Program
	// UnknownRelative says that the caller named something that is not there.
	UnknownRelative bool
	Revision        uint64 // what the list's revision must be, 0 for any
}

// TCXLink holds a program at the ingress or egress of an interface.
type TCXLink struct {
	id   uint32
	dev  *Device
	dir  Direction
	prog *Program // guarded by Filters.mu
	gone bool     // detached, or the interface has gone
	bare bool     // attached without a link (BPF_PROG_ATTACH)
}

// tcxList is the list of one direction, an mprog in Linux's terms.
type tcxList struct {
	links    []*TCXLink
	revision uint64 // 0 stands for 1, a list never used
	snap     atomic.Pointer[[]*Program]
}

func (l *tcxList) rev() uint64 { return max(l.revision, 1) }

// changed counts the revision up and publishes the list. A list that has
// become empty is forgotten, and starts with 1 again.
func (l *tcxList) changed() {
	l.revision = l.rev() + 1
	if len(l.links) == 0 {
		l.revision = 0
		l.snap.Store(nil)
		return
	}
	progs := make([]*Program, len(l.links))
	for k := range l.links {
		progs[k] = l.links[k].prog
	}
	l.snap.Store(&progs)
}

// run is tcx_run: each program until one has an opinion.
func runTCX(progs []*Program, r *vm.Run, p *hook.Packet, e *env) hook.Verdict {
	p.ClassID = 0
	ret := tcxNext
	for _, prog := range progs {
		var err error
		if ret, err = prog.run(r, p, e); err != nil {
			ret = tcxNext
		}
		e.traceTCX(prog, p, ret)
		if ret != tcxNext {
			break
		}
	}
	switch ret {
	case tcxPass:
		p.TCIndex = uint16(p.ClassID)
		return hook.Accept
	case tcxDrop:
		p.Reason = packet.ByClassifier
		return hook.Drop
	case tcxRedirect:
		return hook.Redirect
	}
	return hook.Continue
}

// AttachTCX attaches a program with a link. Errors are those of
// BPF_LINK_CREATE.
func (d *Device) AttachTCX(dir Direction, p *Program, o TCXOptions) (*TCXLink, error) {
	if o.Flags&TCXReplace != 0 {
		return nil, fail(unix.ENOENT, "").about("BPF_F_REPLACE is for programs without a link")
	}
	return d.attachTCX(dir, p, o, false)
}

// AttachTCXProgram attaches a program without a link, as BPF_PROG_ATTACH does;
// with TCXReplace it takes the place of RelativeProg.
func (d *Device) AttachTCXProgram(dir Direction, p *Program, o TCXOptions) error {
	if o.Flags&TCXReplace == 0 {
		_, err := d.attachTCX(dir, p, o, true)
		return err
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	l := &d.tcx[dir]
	if err := l.checkAttach(p, o); err != nil {
		return err
	}
	k := l.indexOfProg(o.RelativeProg)
	if k < 0 || !l.links[k].bare {
		return fail(unix.ENOENT, "")
	}
	l.links[k].prog = p
	l.changed()
	return nil
}

func (d *Device) attachTCX(dir Direction, p *Program, o TCXOptions, bare bool) (*TCXLink, error) {
	if p == nil || p.typ != ebpf.SchedCLS {
		return nil, fail(unix.EINVAL, "")
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if d.gone {
		return nil, fail(unix.ENODEV, "")
	}
	l := &d.tcx[dir]
	if err := l.checkAttach(p, o); err != nil {
		return nil, err
	}
	at, err := l.place(o)
	if err != nil {
		return nil, err
	}
	if len(l.links) >= maxTCX {
		return nil, fail(unix.ERANGE, "").about("a direction has room for 63 programs")
	}
	d.fs.lastLink++
	k := &TCXLink{id: d.fs.lastLink, dev: d, dir: dir, prog: p, bare: bare}
	l.links = slices.Insert(l.links, at, k)
	l.changed()
	return k, d.activate(dir)
}

func (l *tcxList) checkAttach(p *Program, o TCXOptions) error {
	switch {
	case o.Revision != 0 && o.Revision != l.rev():
		return fail(unix.ESTALE, "")
	case o.UnknownRelative:
		return fail(unix.ENOENT, "")
	case l.indexOfProg(p) >= 0:
		return fail(unix.EEXIST, "")
	}
	return nil
}

// place finds the position that the flags mean (bpf_mprog_attach): before and
// after must agree if both are given, which without a relative they cannot.
func (l *tcxList) place(o TCXOptions) (int, error) {
	ref := -1
	switch {
	case o.Relative != nil:
		ref = slices.Index(l.links, o.Relative)
	case o.RelativeProg != nil:
		ref = l.indexOfProg(o.RelativeProg)
	}
	named := o.Relative != nil || o.RelativeProg != nil
	if named && ref < 0 {
		return 0, fail(unix.ENOENT, "")
	}
	before, after := o.Flags&TCXBefore != 0, o.Flags&TCXAfter != 0
	switch {
	case before && after:
		return 0, fail(unix.ERANGE, "")
	case before && named:
		return ref, nil
	case before:
		return 0, nil
	case after && named:
		return ref + 1, nil
	}
	return len(l.links), nil
}

func (l *tcxList) indexOfProg(p *Program) int {
	return slices.IndexFunc(l.links, func(k *TCXLink) bool { return k.prog == p })
}

// Update puts another program in the link's place.
func (k *TCXLink) Update(p *Program) error {
	k.dev.fs.mu.Lock()
	defer k.dev.fs.mu.Unlock()
	l := &k.dev.tcx[k.dir]
	switch {
	case k.gone:
		return fail(unix.ENOLINK, "")
	case p == k.prog:
		return nil
	case l.indexOfProg(p) >= 0:
		return fail(unix.EEXIST, "")
	}
	k.prog = p
	l.changed()
	return nil
}

// Detach takes the program away; the link stays, without effect. It does no
// harm to do it twice.
func (k *TCXLink) Detach() error {
	k.dev.fs.mu.Lock()
	defer k.dev.fs.mu.Unlock()
	k.detachLocked()
	return nil
}

// Close is Detach, for those who hold the link only to keep it.
func (k *TCXLink) Close() error { return k.Detach() }

func (k *TCXLink) detachLocked() {
	if k.gone {
		return
	}
	k.gone = true
	l := &k.dev.tcx[k.dir]
	l.links = slices.DeleteFunc(l.links, func(o *TCXLink) bool { return o == k })
	l.changed()
}

// DetachTCX takes away a program that was attached without a link, as
// BPF_PROG_DETACH does; nil takes the last or, with TCXBefore, the first one.
func (d *Device) DetachTCX(dir Direction, p *Program, flags uint32) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	l := &d.tcx[dir]
	if len(l.links) == 0 {
		return fail(unix.ENOENT, "")
	}
	k := len(l.links) - 1
	switch {
	case p != nil:
		k = l.indexOfProg(p)
	case flags&TCXBefore != 0:
		k = 0
	}
	switch {
	case k < 0:
		return fail(unix.ENOENT, "")
	case !l.links[k].bare:
		return fail(unix.EBUSY, "").about("the program is held by a link")
	}
	l.links[k].detachLocked()
	return nil
}

// TCXInfo is the answer to a query.
type TCXInfo struct {
	Revision uint64
	Links    []*TCXLink
	Programs []*Program
}

// QueryTCX lists the programs of a direction.
func (d *Device) QueryTCX(dir Direction) TCXInfo {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	l := &d.tcx[dir]
	q := TCXInfo{Revision: l.rev(), Links: slices.Clone(l.links)}
	for _, k := range l.links {
		q.Programs = append(q.Programs, k.prog)
	}
	return q
}

// ID is the link's number; 0 for a program attached without one.
func (k *TCXLink) ID() uint32 {
	if k.bare {
		return 0
	}
	return k.id
}
