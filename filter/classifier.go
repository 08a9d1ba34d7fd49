package filter

import (
	"sync/atomic"

	"taproom/filter/vm"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file is what packets run through: a snapshot of the chains of one
// block. What can change is in block.go.

// protoAll matches every EtherType (ETH_P_ALL).
const protoAll = 3

// maxReclassify is how often a packet may start anew, beside the first time.
const maxReclassify = 16

// snapshot is an immutable block: chains by number. It holds what the filters
// do as well, or a packet that found an old snapshot could be sent by a new
// goto to a chain that was not complete then.
type snapshot struct {
	chains map[uint32][]entry
	first  []entry // chain 0
}

// entry is one filter in the order in which packets meet them.
type entry struct {
	f     *Filter
	st    *filterState
	proto uint16
}

// result is where a packet has got to in a classifier.
type result struct {
	classid uint32
	bound   *class // the class of a filter's flowid, if it exists
}

// classify runs a packet through the chains (tcf_classify). It returns an
// action code; ActUnspec if no filter decided.
func (s *snapshot) classify(r *vm.Run, p *hook.Packet, e *env, res *result) int32 {
	list := s.first
	proto := p.Proto
	if p.VLAN.Present {
		proto = p.VLAN.Proto
	}
	for restarts := 0; ; restarts++ {
		again := false
		for k := range list {
			en := &list[k]
			if en.proto != protoAll && en.proto != proto {
				continue
			}
			ret := en.f.classify(en.st, r, p, e, res)
			if ret == ActReclassify {
				list, again = s.first, true
				break
			}
			if ret&^chainMask == actGotoChain {
				list, again = s.chains[uint32(ret&chainMask)], true
				break
			}
			if ret >= 0 {
				return ret
			}
		}
		if !again {
			return ActUnspec
		}
		if restarts >= maxReclassify {
			return ActShot
		}
	}
}

// Filter is one classifier: a program with what is bound to it.
type Filter struct {
	conf atomic.Pointer[filterState] // replaced as a whole
	hits atomic.Uint64
	errs atomic.Uint64 // runs that the vm had to stop
	key  filterKey
}

// filterState is what replace exchanges.
type filterState struct {
	Config
	bound *class
}

// classify is one filter's word (cls_bpf_classify).
func (f *Filter) classify(c *filterState, r *vm.Run, p *hook.Packet, e *env, res *result) int32 {
	// A program sees the minor number of its flow, whatever others wrote.
	p.ClassID = c.FlowID & 0xffff
	ret := int32(0)
	if c.SkipSW {
		if c.DirectAction {
			ret = ActUnspec
		}
	} else {
		var err error
		if ret, err = c.Program.run(r, p, e); err != nil {
			f.errs.Add(1)
			ret = ActUnspec
			if !c.DirectAction {
				ret = 0
			}
		}
		e.trace(f, c, p, ret)
	}
	f.hits.Add(1)
	if c.DirectAction {
		res.bound = nil
		res.classid = c.FlowID&0xffff0000 | p.ClassID&0xffff
		return directAction(ret)
	}
	switch ret {
	case 0:
		return ActUnspec
	case -1:
		res.classid, res.bound = c.FlowID, c.bound
	default:
		res.classid, res.bound = uint32(ret), nil
	}
	return runActions(c.Actions, p, e)
}

// act turns a classifier's result at clsact into a verdict.
func act(ret int32, p *hook.Packet, res *result) hook.Verdict {
	switch ret {
	case ActShot, ActStolen, ActQueued, ActTrap:
		p.Reason = packet.ByClassifier
		return hook.Drop
	case ActRedirect:
		return hook.Redirect
	case ActOK, ActReclassify:
		p.TCIndex = uint16(res.classid)
	}
	return hook.Continue
}
