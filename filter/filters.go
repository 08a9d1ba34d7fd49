package filter

import (
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"taproom/stack/hook"
)

// Options configure Filters. The zero value is usable.
type Options struct {
	// TracePipe receives what programs print with bpf_trace_printk, a line a
	// time; nil forgets it. Writes must not block.
	TracePipe io.Writer
	// Random is the source of bpf_get_prandom_u32; nil is the system's.
	Random func() uint32
}

// Filters are the BPF attachments of one node.
type Filters struct {
	host hook.Router
	opts Options
	env  env

	mu          sync.Mutex // guards what follows, and all changes
	closed      bool
	devs        map[int]*Device
	nf          []*NFLink
	lastLink    uint32
	actions     map[string]uint32 // the last index given, by kind
	defragUsers [3]int            // by hook.Family
	defragLinks [3][2]*hook.Link
	cancel      func()
}

// New makes the attachments of a node, none at first.
func New(h hook.Router, o Options) *Filters {
	fs := &Filters{host: h, opts: o, devs: make(map[int]*Device), actions: make(map[string]uint32)}
	fs.env.init(fs)
	fs.cancel = h.OnChange(fs.forgetGone)
	return fs
}

// Close detaches everything.
func (fs *Filters) Close() {
	fs.cancel()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.closed = true
	for _, d := range fs.devs {
		d.removeLocked()
	}
	for _, l := range slices.Clone(fs.nf) {
		l.detachLocked()
	}
}

// forgetGone removes what belonged to interfaces that are no longer there.
func (fs *Filters) forgetGone() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, d := range fs.devs {
		if _, ok := fs.host.Interface(d.index); !ok {
			d.removeLocked()
		}
	}
}

// Device returns the attachments of an interface.
func (fs *Filters) Device(index int) (*Device, error) {
	i, ok := fs.host.Interface(index)
	if !ok {
		return nil, fail(unix.ENODEV, "")
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, fail(unix.ENODEV, "")
	}
	d := fs.devs[index]
	if d == nil {
		d = &Device{fs: fs, index: index, name: i.Name}
		fs.devs[index] = d
	}
	return d, nil
}

// DeviceByName is Device, by the interface's name.
func (fs *Filters) DeviceByName(name string) (*Device, error) {
	for _, i := range fs.host.Interfaces() {
		if i.Name == name {
			return fs.Device(i.Index)
		}
	}
	return nil, fail(unix.ENODEV, "").about("no interface " + name)
}

// Devices lists the interfaces that have had attachments, by index.
func (fs *Filters) Devices() []*Device {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := make([]*Device, 0, len(fs.devs))
	for _, d := range fs.devs {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Device) int { return a.index - b.index })
	return out
}

// NetfilterLinks lists the netfilter links in the order they were made.
func (fs *Filters) NetfilterLinks() []*NFLink {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.Clone(fs.nf)
}

// number gives a new action its index.
func (fs *Filters) number(a Action) {
	if m := a.meta(); m.Index == 0 {
		fs.actions[a.kind()]++
		m.Index = fs.actions[a.kind()]
	}
}
