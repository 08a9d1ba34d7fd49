package filter

import (
	"sync/atomic"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// An Action runs on a packet that a filter matched. Several run in order as
// long as each says pipe.
type Action interface {
	// run returns an action code; for a goto its low bits are the chain.
	run(p *hook.Packet, e *env) int32
	// kind is tc's name for it.
	kind() string
	meta() *actionMeta
	// Stats are its number and counters.
	Stats() ActionStats
}

// actionMeta is what every action has: its number and its counters.
type actionMeta struct {
	Index          uint32
	packets, bytes atomic.Uint64
	drops          atomic.Uint64
}

func (m *actionMeta) meta() *actionMeta { return m }

// Gact is the generic action: it only decides.
type Gact struct {
	actionMeta
	Result int32  // an action code, or
	Goto   bool   // the chain to go on in
	Chain  uint32 //
}

func (*Gact) kind() string { return "gact" }

func (a *Gact) run(*hook.Packet, *env) int32 {
	if a.Goto {
		return actGotoChain | int32(a.Chain&chainMask)
	}
	return a.Result
}

// Mirred sends the packet, or a copy of it, to an interface.
type Mirred struct {
	actionMeta
	Ifindex int
	Mirror  bool // a copy; the packet itself goes on
	Ingress bool // in at the interface instead of out of it
	Dev     string
}

func (*Mirred) kind() string { return "mirred" }

func (a *Mirred) run(p *hook.Packet, e *env) int32 {
	if a.Mirror {
		_ = e.Clone(p.Clone(), a.Ifindex, a.Ingress)
		return ActPipe
	}
	p.RedirectTo, p.RedirectFlags = a.Ifindex, 0
	if a.Ingress {
		p.RedirectFlags = packet.RedirectIngress
	}
	return ActRedirect
}

// Skbedit changes what is known about the packet.
type Skbedit struct {
	actionMeta
	Mark, MarkMask *uint32
	Priority       *uint32
	QueueMapping   *uint16
}

func (*Skbedit) kind() string { return "skbedit" }

func (a *Skbedit) run(p *hook.Packet, _ *env) int32 {
	if a.Mark != nil {
		mask := ^uint32(0)
		if a.MarkMask != nil {
			mask = *a.MarkMask
		}
		p.Mark = p.Mark&^mask | *a.Mark&mask
	}
	if a.Priority != nil {
		p.Priority = *a.Priority
	}
	if a.QueueMapping != nil {
		p.Queue = *a.QueueMapping + 1
	}
	return ActPipe
}

// runActions is tcf_action_exec. No actions accept.
func runActions(list []Action, p *hook.Packet, e *env) int32 {
	ret := ActOK
	for _, a := range list {
		m := a.meta()
		m.packets.Add(1)
		m.bytes.Add(uint64(p.Len()))
		ret = a.run(p, e)
		if ret == ActShot {
			m.drops.Add(1)
		}
		if ret != ActPipe {
			break
		}
	}
	return ret
}

// ActionStats are an action's number and counters.
type ActionStats struct {
	Index                 uint32
	Bytes, Packets, Drops uint64
}

// Stats returns the action's number and counters.
func (m *actionMeta) Stats() ActionStats {
	return ActionStats{m.Index, m.bytes.Load(), m.packets.Load(), m.drops.Load()}
}

// Word is tc's word for the result.
func (a *Gact) Word() string { return actionNames[a.Result] }
