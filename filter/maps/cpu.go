package maps

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// NumCPU returns the number of possible CPUs: how many values an element of a
// per-CPU map has, as for the kernel on this machine.
func NumCPU() int { return numCPU() }

var numCPU = sync.OnceValue(func() int {
	b, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err == nil {
		if n := parsePossible(strings.TrimSpace(string(b))); n > 0 {
			return n
		}
	}
	return runtime.NumCPU()
})

// parsePossible reads a CPU list such as "0-3" or "0,2-5" and returns the highest
// number in it plus one, 0 if it is malformed.
func parsePossible(s string) int {
	highest := -1
	for part := range strings.SplitSeq(s, ",") {
		_, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = part
		}
		n, err := strconv.Atoi(last)
		if err != nil || n < 0 || n > 1<<16 {
			return 0
		}
		highest = max(highest, n)
	}
	return highest + 1
}
