package conformance

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Operands and results of the arithmetic and jump instructions are in testdata, worked
// out from the text of RFC 9669 sections 4.1 and 4.3 with unbounded integers. The second
// operand is one that an immediate can hold.

type aluCase struct {
	op       string
	a        uint64
	b        int32
	r64, r32 uint64
}

type jumpCase struct {
	op       string
	a        uint64
	b        int32
	j64, j32 bool
}

// table calls f with each line of a file in testdata that is not a comment.
func table(t *testing.T, name string, f func(line string) error) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			if err := f(line); err != nil {
				t.Fatalf("%s:%d: %v", name, n, err)
			}
		}
	}
}

func aluCases(t *testing.T) (all []aluCase) {
	table(t, "alu.txt", func(line string) error {
		var c aluCase
		_, err := fmt.Sscan(line, &c.op, &c.a, &c.b, &c.r64, &c.r32)
		all = append(all, c)
		return err
	})
	return all
}

func jumpCases(t *testing.T) (all []jumpCase) {
	table(t, "jump.txt", func(line string) error {
		var c jumpCase
		_, err := fmt.Sscan(line, &c.op, &c.a, &c.b, &c.j64, &c.j32)
		all = append(all, c)
		return err
	})
	return all
}
