package object

import bpfmaps "taproom/filter/maps"

// MapInfo describes a map in bpftool's terms.
type MapInfo struct {
	ID           uint32   `json:"id"`
	Type         string   `json:"type"`
	Name         string   `json:"name,omitempty"`
	Flags        uint32   `json:"flags"`
	BytesKey     int      `json:"bytes_key"`
	BytesValue   int      `json:"bytes_value"`
	MaxEntries   int      `json:"max_entries"`
	BytesMemlock int64    `json:"bytes_memlock"`
	Frozen       int      `json:"frozen"` // 0 or 1, as bpftool prints it
	Entries      int      `json:"entries,omitempty"`
	Pinned       []string `json:"pinned,omitempty"`
}

// DescribeMap returns a map's description. Pinned is for a Dir to fill in.
func DescribeMap(m *bpfmaps.Map) MapInfo {
	i := MapInfo{
		ID: m.ID(), Type: m.Type().String(), Name: m.Name(), Flags: m.Flags(), BytesKey: m.KeySize(),
		BytesValue: m.ValueSize(), MaxEntries: m.MaxEntries(), BytesMemlock: m.Memory(),
	}
	if m.Frozen() {
		i.Frozen = 1
	}
	if n := m.Entries(); n > 0 {
		i.Entries = n
	}
	return i
}
