package target

import (
	"testing"

	"taproom/filter/helper"

	"github.com/cilium/ebpf/btf"
)

func TestTypes(t *testing.T) {
	specs, err := Types()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range helper.Structs {
		var s *btf.Struct
		if err := specs[0].TypeByName(name, &s); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if int(s.Size) != want.Size || len(s.Members) != len(want.Fields) {
			t.Errorf("%s: %d bytes, %d members; want %d, %d", name, s.Size, len(s.Members), want.Size, len(want.Fields))
		}
		for i, f := range want.Fields {
			if m := s.Members[i]; m.Name != f.Name || int(m.Offset/8) != f.Off {
				t.Errorf("%s.%s: at bit %d, want byte %d", name, m.Name, m.Offset, f.Off)
			}
		}
	}
	sizes := map[string]uint32{"iphdr": 20, "ipv6hdr": 40, "tcphdr": 20, "udphdr": 8, "ethhdr": 14, "vlan_hdr": 4, "bpf_spin_lock": 4}
	for name, size := range sizes {
		var s *btf.Struct
		if err := specs[1].TypeByName(name, &s); err != nil || s.Size != size {
			t.Errorf("%s: %v, %v; want %d bytes", name, s, err, size)
		}
	}
}
