package ioam

import (
	"encoding/binary"
	"maps"
	"slices"

	"taproom/ioam/option"
)

// state is one immutable snapshot of everything a packet needs to know. A
// change copies it, edits the copy and publishes that (Node.change).
type state struct {
	nodeID     uint32 // 24 bits
	nodeIDWide uint64 // 56 bits
	maxOptions int    // 0 is none at all, see Config.MaxOptions for signs
	maxHeader  int
	extras     Extras
	decap      bool
	stripLocal bool

	// Namespaces by the two octets of their id: a transit lookup is two loads.
	// A nil page has none.
	pages [256]*page
	// interfaces is indexed by interface index.
	interfaces []ifState
	byName     map[string]int
	defaults   Interface // of interfaces nobody configured: conf/default
	anyEdge    bool

	// The books from which pages are made; never touched by packets.
	namespaces map[uint16]Namespace
	schemas    map[uint32]Schema
	config     map[int]Interface
	tunnels    *tunnels
}

type page [256]*namespace

// namespace holds a namespace as it goes into traces.
type namespace struct {
	id     uint16
	data   uint32
	wide   uint64
	schema uint32 // length in 4-octet units << 24 | id
	opaque []byte // nil without a schema; a multiple of 4 octets
	// opaqueLen is the size of the snapshot in 4-octet units, its first word
	// included.
	opaqueLen int
}

// ifState holds an interface as packets need it. The zero value is one that
// nobody knows: disabled, ids unset.
type ifState struct {
	known    bool
	enabled  bool
	loopback bool
	edge     Edge
	id       uint16
	txQueues int
	mtu      int
	idWide   uint32
}

var noInterface = ifState{id: unset16, idWide: unset32}

func (s *state) iface(index int) *ifState {
	if uint(index) < uint(len(s.interfaces)) {
		return &s.interfaces[index]
	}
	return &noInterface
}

func (s *state) namespace(id uint16) *namespace {
	p := s.pages[id>>8]
	if p == nil {
		return nil
	}
	return p[id&0xff]
}

// clone copies the snapshot so that the copy's books can be edited.
func (s *state) clone() *state {
	c := *s
	c.namespaces = maps.Clone(s.namespaces)
	c.schemas = maps.Clone(s.schemas)
	c.config = maps.Clone(s.config)
	return &c
}

// index rebuilds the tables that packets use from the books.
func (s *state) index(ifs []hostInterface) {
	s.pages = [256]*page{}
	for id, ns := range s.namespaces {
		p := s.pages[id>>8]
		if p == nil {
			p = new(page)
			s.pages[id>>8] = p
		}
		p[id&0xff] = s.compile(ns)
	}
	top := 0
	for _, i := range ifs {
		top = max(top, i.Index)
	}
	for i := range s.config {
		top = max(top, i)
	}
	s.interfaces = slices.Repeat([]ifState{noInterface}, top+1)
	s.byName = make(map[string]int, len(ifs))
	s.anyEdge = false
	for i, c := range s.config {
		s.interfaces[i].configure(c)
		s.anyEdge = s.anyEdge || c.Edge != Inside
	}
	for _, i := range ifs {
		if i.Index <= 0 {
			continue
		}
		st := &s.interfaces[i.Index]
		if _, ok := s.config[i.Index]; !ok {
			st.configure(s.defaults)
		}
		st.known, st.loopback, st.txQueues, st.mtu = true, i.Loopback, max(i.TxQueues, 1), i.MTU
		s.byName[i.Name] = i.Index
	}
}

func (i *ifState) configure(c Interface) {
	i.enabled, i.edge, i.id, i.idWide = c.Enabled, c.Edge, unset16, unset32
	if c.ID != nil {
		i.id = *c.ID
	}
	if c.IDWide != nil {
		i.idWide = *c.IDWide
	}
}

func (s *state) compile(ns Namespace) *namespace {
	n := &namespace{id: ns.ID, data: unset32, wide: unset64, schema: maxNodeID, opaqueLen: 1}
	if ns.Data != nil {
		n.data = *ns.Data
	}
	if ns.Wide != nil {
		n.wide = *ns.Wide
	}
	if ns.Schema != nil {
		sc := s.schemas[*ns.Schema]
		words := len(sc.Data) / 4
		// An id of more than 24 bits runs into the length octet, as on Linux.
		n.schema = uint32(words)<<24 | sc.ID
		n.opaque, n.opaqueLen = sc.Data, 1+words
	}
	return n
}

// need is how many 4-octet units a node writes for a type in a namespace.
func (n *namespace) need(t option.Type) int {
	w := t.NodeLen()
	if t&option.Opaque != 0 {
		w += n.opaqueLen
	}
	return w
}

func (n *namespace) putOpaque(b []byte) {
	binary.BigEndian.PutUint32(b, n.schema)
	copy(b[4:], n.opaque)
}
