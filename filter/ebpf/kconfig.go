package ebpf

import (
	"encoding/binary"
	"fmt"

	bpfmaps "taproom/filter/maps"

	"github.com/cilium/ebpf/btf"
)

// kconfigName names the map of kernel configuration variables.
const kconfigName = ".kconfig"

// kconfigDefaults are the kernel whose behaviour taproom follows.
var kconfigDefaults = map[string]uint64{
	"LINUX_KERNEL_VERSION":      6<<16 | 18<<8 | 44,
	"LINUX_HAS_BPF_COOKIE":      1,
	"LINUX_HAS_SYSCALL_WRAPPER": 1,
	"CONFIG_HZ":                 1000,
	"CONFIG_BPF":                tristateYes,
	"CONFIG_BPF_SYSCALL":        tristateYes,
	"CONFIG_NET":                tristateYes,
	"CONFIG_NETFILTER":          tristateYes,
	"CONFIG_IPV6":               tristateYes,
	"CONFIG_64BIT":              tristateYes,
}

const tristateYes = 1

// kconfigSection returns the BTF of the variables.
func (l *loader) kconfigSection() (*btf.Datasec, error) {
	var ds *btf.Datasec
	if l.spec.Types == nil {
		return nil, fmt.Errorf("kernel configuration without BTF")
	}
	if err := l.spec.Types.TypeByName(kconfigName, &ds); err != nil {
		return nil, err
	}
	return ds, nil
}

// kconfig returns a variable's offset.
func (l *loader) kconfig(name string) (uint32, error) {
	ds, err := l.kconfigSection()
	if err != nil {
		return 0, err
	}
	for _, v := range ds.Vars {
		if v.Type.TypeName() == name {
			return v.Offset, nil
		}
	}
	return 0, fmt.Errorf("no kernel configuration variable %s", name)
}

// kconfigMap creates the map at first use.
func (l *loader) kconfigMap() (*bpfmaps.Map, error) {
	if m := l.c.Maps[kconfigName]; m != nil {
		return m, nil
	}
	ds, err := l.kconfigSection()
	if err != nil {
		return nil, err
	}
	data := make([]byte, ds.Size)
	for _, v := range ds.Vars {
		name := v.Type.TypeName()
		value, ok := l.o.Kconfig[name]
		if !ok {
			value, ok = kconfigDefaults[name]
		}
		if !ok && !l.spec.externs.weak[name] {
			return nil, fmt.Errorf("%w: kernel configuration variable %s (give it a value in Options.Kconfig)", ErrUnsupported, name)
		}
		if uint64(v.Offset)+uint64(v.Size) > uint64(len(data)) || v.Size > 8 {
			return nil, fmt.Errorf("kernel configuration variable %s: %d bytes at %d", name, v.Size, v.Offset)
		}
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], value)
		copy(data[v.Offset:], word[:v.Size])
	}
	m, err := bpfmaps.New(bpfmaps.Spec{
		Name: kconfigName, Type: bpfmaps.Array, KeySize: 4, ValueSize: ds.Size, MaxEntries: 1,
		Flags: bpfmaps.RdOnlyProg, Budget: l.o.Budget, Frozen: true,
		Contents: []bpfmaps.KV{{Key: make([]byte, 4), Value: data}},
	})
	if err != nil {
		return nil, err
	}
	l.c.Maps[kconfigName] = m
	return m, nil
}
