package ebpf

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"taproom/filter/maps"
)

// legacyDef is the tail of struct bpf_elf_map, the map definition of iproute2's
// loader: what follows type, sizes, entries and flags.
type legacyDef struct {
	id       uint32 // for inner maps and for sections named "id/slot"
	pinning  uint32 // 0: none, 1: for this object, 2: global
	innerID  uint32
	innerIdx uint32
}

func parseLegacy(b []byte) *legacyDef {
	var word [4]uint32
	for i := range word {
		if len(b) >= 4*(i+1) {
			word[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
	}
	return &legacyDef{word[0], word[1], word[2], word[3]}
}

// linkLegacy does what iproute2's loader does with numbered maps: inner maps by
// number, and programs in sections "id/slot" put into that program array.
func (c *CollectionSpec) linkLegacy() error {
	byID := map[uint32]string{}
	for name, m := range c.Maps {
		if m.legacy != nil && m.legacy.id != 0 {
			byID[m.legacy.id] = name
		}
	}
	for name, m := range c.Maps {
		d := m.legacy
		if d == nil {
			continue
		}
		m.PinByName = d.pinning != 0
		if !m.Type.OfMaps() || m.Inner != nil {
			continue
		}
		inner, ok := byID[d.innerID]
		if !ok || c.Maps[inner] == m {
			return fmt.Errorf("ebpf: map %s: no inner map with number %d", name, d.innerID)
		}
		m.Inner = c.Maps[inner]
		key := binary.NativeEndian.AppendUint32(nil, d.innerIdx)
		if len(key) == int(m.KeySize) {
			m.Contents = append(m.Contents, Content{Key: key, Name: inner})
		}
	}
	for name, p := range c.Programs {
		p.guessType()
		id, slot, ok := sectionSlot(p.Section)
		if !ok {
			continue
		}
		arr := c.Maps[byID[id]]
		if arr == nil || arr.Type != maps.ProgArray {
			continue
		}
		if p.Type == Unspec {
			p.Type = SchedCLS
		}
		arr.Contents = append(arr.Contents, Content{Key: binary.NativeEndian.AppendUint32(nil, slot), Name: name})
	}
	return nil
}

// sectionSlot reads a section name "id/slot".
func sectionSlot(s string) (id, slot uint32, ok bool) {
	a, b, ok := strings.Cut(s, "/")
	if !ok {
		return 0, 0, false
	}
	x, err1 := strconv.ParseUint(a, 0, 32)
	y, err2 := strconv.ParseUint(b, 0, 32)
	return uint32(x), uint32(y), err1 == nil && err2 == nil
}
