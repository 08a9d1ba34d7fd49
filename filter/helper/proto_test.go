package helper

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The golden file holds what a 6.18 kernel said about each helper number:
// number, name, bit mask of program kinds, GPL if restricted.
func TestAvailabilityIsTheKernels(t *testing.T) {
	f, err := os.Open("testdata/linux-6.18.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[ID][2]uint64{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		w := strings.Fields(sc.Text())
		id, _ := strconv.Atoi(w[0])
		mask, _ := strconv.ParseUint(w[1], 16, 8)
		gpl := uint64(0)
		if len(w) > 2 {
			gpl = 1
		}
		want[ID(id)] = [2]uint64{mask, gpl}
	}
	for id := ID(1); id < numIDs; id++ {
		p := Lookup(id)
		w := want[id]
		if uint64(p.Progs) != w[0] {
			t.Errorf("%v: program kinds %04b, kernel %04b", id, p.Progs, w[0])
		}
		if p.Offered && p.Is(GPL) != (w[1] == 1) {
			t.Errorf("%v: GPL only %v, kernel %v", id, p.Is(GPL), w[1] == 1)
		}
	}
}

// A size argument must follow the memory that it measures.
func TestSizesFollowMemory(t *testing.T) {
	for id := ID(1); id < numIDs; id++ {
		for i, a := range Lookup(id).Args {
			if a.Kind == Size || a.Kind == SizeOrZero {
				if i == 0 || Lookup(id).Args[i-1].Kind != Mem {
					t.Errorf("%v: argument %d is a size without memory", id, i+1)
				}
			}
		}
	}
}

func TestLookupBounds(t *testing.T) {
	for _, id := range []ID{-1, 0, numIDs, 1 << 30} {
		if Lookup(id) != nil {
			t.Errorf("Lookup(%d) found something", id)
		}
	}
	if ByName("bpf_map_lookup_elem") != MapLookupElem || ByName("map_lookup_elem") != MapLookupElem || ByName("nope") != 0 {
		t.Error("ByName")
	}
}
