package filter

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// LinkInfo is a link in a listing, with the names of bpftool's JSON.
type LinkInfo struct {
	ID         uint32 `json:"id"`
	Type       string `json:"type"` // tcx or netfilter
	ProgID     uint32 `json:"prog_id"`
	ProgName   string `json:"prog_name"`
	ProgTag    string `json:"prog_tag,omitempty"`
	Dev        string `json:"devname,omitempty"`
	Ifindex    int    `json:"ifindex,omitempty"`
	AttachType string `json:"attach_type,omitempty"`
	Family     string `json:"pf,omitempty"`
	Hook       string `json:"hook,omitempty"`
	Priority   int32  `json:"prio,omitempty"`
	Flags      uint32 `json:"flags,omitempty"`
}

// String is how bpftool shows it.
func (l LinkInfo) String() string {
	s := fmt.Sprintf("%d: %s  prog %d\n\t", l.ID, l.Type, l.ProgID)
	if l.Type == "tcx" {
		return s + fmt.Sprintf("ifindex %s(%d)  attach_type %s", l.Dev, l.Ifindex, l.AttachType)
	}
	return s + fmt.Sprintf("%s %s prio %d", l.Family, l.Hook, l.Priority)
}

// Links lists the links by number. Programs attached without one are not
// among them.
func (fs *Filters) Links() []LinkInfo {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var out []LinkInfo
	for _, d := range fs.devs {
		for dir := range d.tcx {
			for _, k := range d.tcx[dir].links {
				if !k.bare {
					out = append(out, LinkInfo{
						ID: k.id, Type: "tcx", ProgID: k.prog.id, ProgName: k.prog.name, ProgTag: k.prog.tag,
						Dev: d.name, Ifindex: d.index, AttachType: "tcx_" + k.dir.String(),
					})
				}
			}
		}
	}
	for _, l := range fs.nf {
		out = append(out, LinkInfo{
			ID: l.id, Type: "netfilter", ProgID: l.prog.id, ProgName: l.prog.name, ProgTag: l.prog.tag,
			Family: nfFamily(l.conf.PF), Hook: nfHookNames[l.conf.Hook], Priority: l.conf.Priority, Flags: l.conf.Flags,
		})
	}
	slices.SortFunc(out, func(a, b LinkInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// DetachLink takes away the link of a number, whoever holds it.
func (fs *Filters) DetachLink(id uint32) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, d := range fs.devs {
		for dir := range d.tcx {
			for _, k := range d.tcx[dir].links {
				if k.id == id && !k.bare {
					k.detachLocked()
					return nil
				}
			}
		}
	}
	for _, l := range fs.nf {
		if l.id == id {
			l.detachLocked()
			return nil
		}
	}
	return fail(unix.ENOENT, "")
}
