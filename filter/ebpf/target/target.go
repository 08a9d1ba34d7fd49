// Package target has the kernel types that programs are relocated against (CO-RE):
// a small BTF of exactly what taproom exposes, in place of a kernel's.
//
// uapi.btf is the .BTF section of testdata/uapi.c compiled for BPF.
package target

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"sync"

	"taproom/filter/helper"

	"github.com/cilium/ebpf/btf"
)

//go:generate clang -g -O2 -target bpf -D__x86_64__ -I/usr/include/x86_64-linux-gnu -c testdata/uapi.c -o uapi.o
//go:generate llvm-objcopy --dump-section .BTF=uapi.btf uapi.o
//go:generate rm uapi.o

//go:embed uapi.btf
var uapi []byte

// Types returns the sets of types to relocate against: the structures inside the
// kernel that programs may read, then those of the exported headers. Shared; not
// to be modified.
var Types = sync.OnceValues(func() ([]*btf.Spec, error) {
	inner, err := kernel()
	if err != nil {
		return nil, fmt.Errorf("target: kernel structures: %w", err)
	}
	outer, err := btf.LoadSpecFromReader(bytes.NewReader(uapi))
	if err != nil {
		return nil, fmt.Errorf("target: uapi.btf: %w", err)
	}
	return []*btf.Spec{inner, outer}, nil
})

// kernel builds BTF from the table of readable structures, so that what a program
// is relocated to is what the verifier lets it read.
func kernel() (*btf.Spec, error) {
	structs := map[string]*btf.Struct{
		// The context of netfilter programs.
		"bpf_nf_ctx": {Name: "bpf_nf_ctx", Size: 16},
	}
	for name, s := range helper.Structs {
		structs[name] = &btf.Struct{Name: name, Size: uint32(s.Size)}
	}
	pointer := func(to string) btf.Type {
		if s := structs[to]; s != nil {
			return &btf.Pointer{Target: s}
		}
		return &btf.Pointer{Target: &btf.Fwd{Name: to, Kind: btf.FwdStruct}}
	}
	structs["bpf_nf_ctx"].Members = []btf.Member{
		{Name: "state", Type: pointer("nf_hook_state")},
		{Name: "skb", Type: pointer("sk_buff"), Offset: 64},
	}
	var all []btf.Type
	all = append(all, structs["bpf_nf_ctx"])
	for _, name := range slices.Sorted(maps.Keys(helper.Structs)) {
		for _, f := range helper.Structs[name].Fields {
			m := btf.Member{Name: f.Name, Offset: btf.Bits(f.Off * 8)}
			if f.To != "" {
				m.Type = pointer(f.To)
			} else {
				m.Type = number(f.Size)
			}
			structs[name].Members = append(structs[name].Members, m)
		}
		all = append(all, structs[name])
	}
	b, err := btf.NewBuilder(all, nil)
	if err != nil {
		return nil, err
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		return nil, err
	}
	return btf.LoadSpecFromReader(bytes.NewReader(raw))
}

// number is an unsigned integer of size bytes, or an array of bytes.
func number(size int) btf.Type {
	names := map[int]string{1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}
	if name, ok := names[size]; ok {
		return &btf.Int{Name: name, Size: uint32(size), Encoding: btf.Unsigned}
	}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	return &btf.Array{Index: &btf.Int{Name: "unsigned int", Size: 4}, Type: char, Nelems: uint32(size)}
}
