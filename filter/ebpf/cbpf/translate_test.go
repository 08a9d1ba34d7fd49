package cbpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"taproom/filter/ebpf"

	cebpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestKernelTranslation runs translations in the kernel and the originals here.
func TestKernelTranslation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	programs, runs := 0, 0
	for programs < 300 {
		insns := make([]Insn, 2+r.IntN(20))
		for n := range insns {
			insns[n] = randomInsn(r, len(insns)-n-1)
		}
		insns[len(insns)-1] = Insn{Code: ClassRET | RetA}
		f, err := New(insns)
		if err != nil || !comparable(insns) {
			continue
		}
		p, err := f.Translate()
		if err != nil {
			t.Fatalf("%v: %v", insns, err)
		}
		kernel := loadKernel(t, p)
		programs++
		for range 4 {
			frame := make([]byte, 14+20+r.IntN(60))
			for n := range frame {
				frame[n] = byte(r.Uint32())
			}
			// TEST_RUN takes the Ethernet header off.
			want, _, err := kernel.Test(frame)
			if err != nil {
				t.Fatal(err)
			}
			runs++
			if got := f.Run(frame[14:], nil); got != want {
				t.Fatalf("%v over %x: %#x, kernel %#x", insns, frame[14:], got, want)
			}
		}
		kernel.Close()
	}
	t.Logf("%d programs, %d runs", programs, runs)
}

func loadKernel(t testing.TB, p *ebpf.Program) *cebpf.Program {
	t.Helper()
	insns, err := asm.AppendInstructions(nil, bytes.NewReader(ebpf.Encode(p.Insns)), binary.LittleEndian, "linux")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := cebpf.NewProgram(&cebpf.ProgramSpec{Type: cebpf.SocketFilter, License: p.License, Instructions: insns})
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("bpf(2) is not available: %v", err)
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return kernel
}

func TestNoTranslation(t *testing.T) {
	f, err := New([]Insn{{Code: ClassLD | SizeW | ModeAbs, K: ADOffset + ADPayOffset}, {Code: ClassRET | RetA}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Translate(); !errors.Is(err, ErrNoTranslation) {
		t.Errorf("payload offset: %v", err)
	}
}
