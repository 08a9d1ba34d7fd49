package export

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"taproom/ioam"
	"taproom/ioam/option"
)

// Event is an ioam.Event as JSON shows it.
type Event struct {
	Time      time.Time  `json:"time,omitzero"`
	Kind      string     `json:"kind"`
	Namespace uint16     `json:"namespace"`
	NodeLen   uint8      `json:"nodelen,omitempty"`
	Type      string     `json:"type"`
	Data      string     `json:"data,omitempty"`
	Src       netip.Addr `json:"src,omitzero"`
	Dst       netip.Addr `json:"dst,omitzero"`
	Proto     uint8      `json:"proto,omitempty"`
	SrcPort   uint16     `json:"sport,omitempty"`
	DstPort   uint16     `json:"dport,omitempty"`
	FlowLabel uint32     `json:"flow_label,omitempty"`
	Interface int        `json:"ifindex,omitempty"`
	Overflow  bool       `json:"overflow,omitempty"`
	Active    bool       `json:"active,omitempty"`
	Last      bool       `json:"last,omitempty"`
	Sequence  *uint64    `json:"sequence,omitempty"`
	FlowID    uint32     `json:"flow_id,omitempty"`
	Sent      time.Time  `json:"sent,omitzero"`
	Hops      []Hop      `json:"hops,omitempty"` // newest first, as recorded
	Error     string     `json:"error,omitempty"`
}

// Hop is one node's record. Fields that the type does not have, or for which
// the node had no value, are left out.
type Hop struct {
	HopLimit     *uint8    `json:"hop_limit,omitempty"`
	NodeID       *uint64   `json:"node_id,omitempty"`
	Ingress      *uint32   `json:"ingress,omitempty"`
	Egress       *uint32   `json:"egress,omitempty"`
	Time         time.Time `json:"time,omitzero"`
	TransitDelay *uint32   `json:"transit_delay_ns,omitempty"`
	Data         string    `json:"data,omitempty"`
	DataWide     string    `json:"data_wide,omitempty"`
	QueueDepth   *uint32   `json:"queue_depth,omitempty"`
	Buffer       *uint32   `json:"buffer_occupancy,omitempty"`
	Schema       *uint32   `json:"schema,omitempty"`
	Opaque       string    `json:"opaque,omitempty"`
}

// NewEvent makes the JSON form.
func NewEvent(e *ioam.Event) Event {
	out := Event{
		Kind: e.Kind.String(), Namespace: e.Namespace, NodeLen: e.NodeLen, Type: option.Type(e.Type >> 8).String(),
		Data: hex.EncodeToString(e.Data()), Src: e.Src, Dst: e.Dst, Proto: e.Proto, SrcPort: e.SrcPort, DstPort: e.DstPort,
		FlowLabel: e.FlowLabel, Interface: e.In, Overflow: e.Overflow, Active: e.Active, Last: e.Last, FlowID: e.FlowID,
	}
	if e.Time != 0 {
		out.Time = time.Unix(0, e.Time).UTC()
	}
	if e.Sent != 0 {
		out.Sent = time.Unix(0, e.Sent).UTC()
	}
	if e.HasSequence {
		out.Sequence = &e.Sequence
	}
	hops, err := e.Hops()
	if err != nil {
		out.Error = err.Error()
	}
	for i := range hops {
		out.Hops = append(out.Hops, newHop(&hops[i]))
	}
	return out
}

func newHop(h *option.Hop) Hop {
	var out Hop
	t := h.Type
	if t&(option.HopNode|option.HopNodeWide) != 0 {
		out.HopLimit = &h.HopLimit
	}
	if id, ok := h.ID(); ok {
		out.NodeID = &id
	}
	if t&option.InterfacesWide != 0 {
		out.Ingress, out.Egress = set(true, h.IngressWide), set(true, h.EgressWide)
	} else if t&option.Interfaces != 0 {
		out.Ingress = set(h.Ingress != option.Unset16, uint32(h.Ingress))
		out.Egress = set(h.Egress != option.Unset16, uint32(h.Egress))
	}
	if ns, ok := h.Time(); ok {
		out.Time = time.Unix(0, ns).UTC()
	}
	out.TransitDelay = set(t&option.TransitDelay != 0, h.TransitDelay)
	out.QueueDepth = set(t&option.QueueDepth != 0, h.QueueDepth)
	out.Buffer = set(t&option.BufferOccupancy != 0, h.Buffer)
	if t&option.Data != 0 && h.Data != option.Unset32 {
		out.Data = hex.EncodeToString([]byte{byte(h.Data >> 24), byte(h.Data >> 16), byte(h.Data >> 8), byte(h.Data)})
	}
	if t&option.DataWide != 0 && h.DataWide != option.Unset64 {
		var b [8]byte
		for i := range b {
			b[i] = byte(h.DataWide >> (56 - 8*i))
		}
		out.DataWide = hex.EncodeToString(b[:])
	}
	if h.SchemaRecorded {
		out.Schema, out.Opaque = &h.Schema, hex.EncodeToString(h.Opaque)
	}
	return out
}

func set(ok bool, v uint32) *uint32 {
	if !ok || v == option.Unset32 {
		return nil
	}
	return &v
}

// WriteJSON writes an event as one line.
func WriteJSON(w io.Writer, e *ioam.Event) error {
	b, err := json.Marshal(NewEvent(e))
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// WriteText writes the line of ip ioam monitor.
func WriteText(w io.Writer, e *ioam.Event) error {
	_, err := io.WriteString(w, e.String()+"\n")
	return err
}
