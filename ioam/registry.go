package ioam

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"syscall"
)

// Namespaces lists the namespaces by id (IOAM6_CMD_DUMP_NAMESPACES). Data of
// all ones is reported as unset, as on Linux.
func (n *Node) Namespaces() []Namespace {
	s := n.state.Load()
	out := make([]Namespace, 0, len(s.namespaces))
	for _, id := range slices.Sorted(maps.Keys(s.namespaces)) {
		ns := s.namespaces[id]
		if ns.Data != nil && *ns.Data == unset32 {
			ns.Data = nil
		}
		if ns.Wide != nil && *ns.Wide == unset64 {
			ns.Wide = nil
		}
		out = append(out, ns)
	}
	return out
}

// Schemas lists the schemas by id (IOAM6_CMD_DUMP_SCHEMAS). Their data is not
// to be changed.
func (n *Node) Schemas() []Schema {
	s := n.state.Load()
	return slices.SortedFunc(maps.Values(s.schemas), func(a, b Schema) int { return cmp.Compare(a.ID, b.ID) })
}

// AddNamespace makes a namespace known (IOAM6_CMD_ADD_NAMESPACE): EEXIST if
// it is. If it names a schema, that must exist: ENOENT.
func (n *Node) AddNamespace(ns Namespace) error {
	op := fmt.Sprintf("namespace %d", ns.ID)
	return n.change(func(s *state) error {
		if _, ok := s.namespaces[ns.ID]; ok {
			return refuse(op, syscall.EEXIST, "")
		}
		schema := ns.Schema
		ns.Schema = nil
		s.namespaces[ns.ID] = ns
		if schema != nil {
			return s.attachSchema(op, ns.ID, *schema)
		}
		return nil
	})
}

// DelNamespace forgets a namespace (IOAM6_CMD_DEL_NAMESPACE): ENOENT if there
// is none. Its schema becomes free.
func (n *Node) DelNamespace(id uint16) error {
	return n.change(func(s *state) error {
		op := fmt.Sprintf("namespace %d", id)
		if _, ok := s.namespaces[id]; !ok {
			return refuse(op, syscall.ENOENT, "")
		}
		s.detachSchema(id)
		delete(s.namespaces, id)
		return nil
	})
}

// AddSchema makes a schema known (IOAM6_CMD_ADD_SCHEMA): EEXIST if it is,
// ERANGE if its data is longer than MaxSchemaData. Data is copied and padded
// with zeros to a multiple of 4; nil is EINVAL, empty is not.
func (n *Node) AddSchema(sc Schema) error {
	op := fmt.Sprintf("schema %d", sc.ID)
	if sc.Data == nil {
		return refuse(op, syscall.EINVAL, "")
	}
	if len(sc.Data) > MaxSchemaData {
		return refuse(op, syscall.ERANGE, textPolicy)
	}
	return n.change(func(s *state) error {
		if _, ok := s.schemas[sc.ID]; ok {
			return refuse(op, syscall.EEXIST, "")
		}
		data := make([]byte, (len(sc.Data)+3)&^3)
		copy(data, sc.Data)
		ns := sc.Namespace
		s.schemas[sc.ID] = Schema{ID: sc.ID, Data: data}
		if ns != nil {
			return s.attachSchema(op, *ns, sc.ID)
		}
		return nil
	})
}

// textPolicy is netlink's extended acknowledgement for an attribute of a
// wrong size.
const textPolicy = "Attribute failed policy validation"

// DelSchema forgets a schema (IOAM6_CMD_DEL_SCHEMA): ENOENT if there is none.
// The namespace that used it has none then.
func (n *Node) DelSchema(id uint32) error {
	return n.change(func(s *state) error {
		sc, ok := s.schemas[id]
		if !ok {
			return refuse(fmt.Sprintf("schema %d", id), syscall.ENOENT, "")
		}
		if sc.Namespace != nil {
			s.detachSchema(*sc.Namespace)
		}
		delete(s.schemas, id)
		return nil
	})
}

// SetSchema binds a schema to a namespace, or frees the namespace of its
// schema if schema is nil (IOAM6_CMD_NS_SET_SCHEMA). Each has at most one of
// the other: both former partners are left alone. ENOENT if one of them is
// not there.
func (n *Node) SetSchema(ns uint16, schema *uint32) error {
	op := fmt.Sprintf("namespace %d schema", ns)
	return n.change(func(s *state) error {
		if _, ok := s.namespaces[ns]; !ok {
			return refuse(op, syscall.ENOENT, "")
		}
		if schema == nil {
			s.detachSchema(ns)
			return nil
		}
		return s.attachSchema(op, ns, *schema)
	})
}

func (s *state) attachSchema(op string, id uint16, schema uint32) error {
	ns, okNS := s.namespaces[id]
	sc, okSC := s.schemas[schema]
	if !okNS || !okSC {
		return refuse(op, syscall.ENOENT, "")
	}
	if sc.Namespace != nil {
		s.detachSchema(*sc.Namespace)
	}
	s.detachSchema(id)
	ns.Schema, sc.Namespace = &sc.ID, &ns.ID
	s.namespaces[id], s.schemas[schema] = ns, sc
	return nil
}

// detachSchema frees a namespace and its schema of each other.
func (s *state) detachSchema(id uint16) {
	ns := s.namespaces[id]
	if ns.Schema == nil {
		return
	}
	sc := s.schemas[*ns.Schema]
	ns.Schema, sc.Namespace = nil, nil
	s.namespaces[id], s.schemas[sc.ID] = ns, sc
}
