package maps

import (
	"sync/atomic"
	"syscall"
)

// Budget is an allowance of memory for maps, in bytes of mapped address space
// (which the system backs lazily). Safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// defaultLimit bounds all maps of a process that were given no Budget of their
// own: enough for every object seen in practice, and far from the address space.
const defaultLimit = 16 << 30

var defaultBudget = NewBudget(defaultLimit)

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns the number of bytes charged now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit returns the number of bytes that may be charged.
func (b *Budget) Limit() int64 { return b.limit }

func (b *Budget) charge(n int64) error {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return syscall.ENOMEM
	}
	return nil
}

func (b *Budget) credit(n int64) { b.used.Add(-n) }
