package helper

// Field is one member of a kernel structure that programs may read.
type Field struct {
	Name string
	Off  int
	Size int    // bytes, whole arrays included
	To   string // structure that a pointer member points to; "" for numbers
}

// Struct is a kernel structure as far as programs may read it. Offsets are
// those of Linux 6.18 on x86-64, so that programs compiled without CO-RE, or
// relocated against a kernel's own BTF, read the same members.
type Struct struct {
	Name   string
	Size   int
	Fields []Field // by offset
}

// At returns the field that holds size bytes at off, nil if no readable field
// does. Pointers can only be read whole.
func (s *Struct) At(off, size int) *Field {
	for i := range s.Fields {
		f := &s.Fields[i]
		if off >= f.Off && off+size <= f.Off+f.Size {
			if f.To != "" && (off != f.Off || size != f.Size) {
				return nil
			}
			return f
		}
	}
	return nil
}

// Structs are the structures of netfilter programs, and struct bpf_map.
var Structs = map[string]*Struct{
	"nf_hook_state": {"nf_hook_state", 48, []Field{
		{Name: "hook", Off: 0, Size: 1},
		{Name: "pf", Off: 1, Size: 1},
		{Name: "in", Off: 8, Size: 8, To: "net_device"},
		{Name: "out", Off: 16, Size: 8, To: "net_device"},
	}},
	"sk_buff": {"sk_buff", 224, []Field{
		{Name: "dev", Off: 16, Size: 8, To: "net_device"},
		{Name: "tstamp", Off: 32, Size: 8},
		{Name: "cb", Off: 40, Size: 48},
		{Name: "len", Off: 112, Size: 4},
		{Name: "data_len", Off: 116, Size: 4},
		{Name: "mac_len", Off: 120, Size: 2},
		{Name: "hdr_len", Off: 122, Size: 2},
		{Name: "queue_mapping", Off: 124, Size: 2},
		{Name: "__pkt_type_offset", Off: 128, Size: 4},
		{Name: "tc_index", Off: 132, Size: 2},
		{Name: "csum", Off: 136, Size: 4},
		{Name: "priority", Off: 140, Size: 4},
		{Name: "skb_iif", Off: 144, Size: 4},
		{Name: "hash", Off: 148, Size: 4},
		{Name: "vlan_proto", Off: 152, Size: 2},
		{Name: "vlan_tci", Off: 154, Size: 2},
		{Name: "napi_id", Off: 156, Size: 4},
		{Name: "secmark", Off: 160, Size: 4},
		{Name: "mark", Off: 164, Size: 4},
		{Name: "protocol", Off: 176, Size: 2},
		{Name: "transport_header", Off: 178, Size: 2},
		{Name: "network_header", Off: 180, Size: 2},
		{Name: "mac_header", Off: 182, Size: 2},
		{Name: "truesize", Off: 208, Size: 4},
	}},
	"net_device": {"net_device", 2496, []Field{
		{Name: "mtu", Off: 56, Size: 4},
		{Name: "flags", Off: 176, Size: 4},
		{Name: "hard_header_len", Off: 180, Size: 2},
		{Name: "ifindex", Off: 224, Size: 4},
		{Name: "name", Off: 280, Size: 16},
		{Name: "type", Off: 536, Size: 2},
	}},
	// What a program reads through a map pointer. The first field is what 6.18
	// keeps there; it holds no address.
	"bpf_map": {"bpf_map", 296, []Field{
		{Name: "sha", Off: 0, Size: 32},
		{Name: "map_type", Off: 64, Size: 4},
		{Name: "key_size", Off: 68, Size: 4},
		{Name: "value_size", Off: 72, Size: 4},
		{Name: "max_entries", Off: 76, Size: 4},
		{Name: "map_extra", Off: 80, Size: 8},
		{Name: "map_flags", Off: 88, Size: 4},
		{Name: "id", Off: 92, Size: 4},
	}},
}
