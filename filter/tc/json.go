package tc

import (
	"encoding/json"
	"fmt"

	"taproom/filter"
)

// The shapes of tc's JSON, in its order of keys.

type filterJSON struct {
	Protocol string       `json:"protocol"`
	Pref     uint16       `json:"pref"`
	Kind     string       `json:"kind"`
	Chain    uint32       `json:"chain"`
	Options  *optionsJSON `json:"options,omitempty"`
}

type optionsJSON struct {
	Handle       string    `json:"handle"`
	FlowID       string    `json:"flowid,omitempty"`
	BPFName      string    `json:"bpf_name,omitempty"`
	DirectAction bool      `json:"direct-action,omitempty"`
	SkipHW       bool      `json:"skip_hw,omitempty"`
	NotInHW      bool      `json:"not_in_hw"`
	Bytecode     *codeJSON `json:"bytecode,omitempty"`
	Prog         *progJSON `json:"prog,omitempty"`
}

type codeJSON struct {
	Text string `json:"text"`
}

type progJSON struct {
	ID    uint32 `json:"id"`
	Name  string `json:"name"`
	Tag   string `json:"tag"`
	JITed int    `json:"jited,omitempty"`
}

func optionsOf(c filter.Config) *optionsJSON {
	o := &optionsJSON{Handle: fmt.Sprintf("%#x", c.Handle), DirectAction: c.DirectAction, SkipHW: c.SkipHW, NotInHW: true, BPFName: c.Program.Label()}
	if c.FlowID != 0 {
		o.FlowID = showHandle(c.FlowID)
	}
	if code := c.Program.Bytecode(); code != "" {
		o.Bytecode = &codeJSON{code}
		return o
	}
	o.Prog = &progJSON{ID: c.Program.ID(), Name: c.Program.Name(), Tag: c.Program.Tag()}
	if c.Program.JITed() {
		o.Prog.JITed = 1
	}
	return o
}

type qdiscJSON struct {
	Kind   string `json:"kind"`
	Handle string `json:"handle"`
	Dev    string `json:"dev"`
	Root   bool   `json:"root,omitempty"`
	Parent string `json:"parent,omitempty"`
}

func jsonQdisc(d *filter.Device, kind string) string {
	list := []qdiscJSON{}
	if q := d.Root(); q != nil && (kind == "" || kind == "htb") {
		list = append(list, qdiscJSON{Kind: "htb", Handle: fmt.Sprintf("%x:", q.Handle()), Dev: d.Name(), Root: true})
	}
	if k := d.Qdisc(); k != filter.NoQdisc && (kind == "" || kind == string(k)) {
		list = append(list, qdiscJSON{Kind: string(k), Handle: "ffff:", Dev: d.Name(), Parent: "ffff:fff1"})
	}
	b, _ := json.Marshal(list)
	return string(b)
}
