package maps

import "syscall"

// noElems is the part of a store that has no elements for anybody: ring buffers.
type noElems struct{}

func (noElems) elem([]byte, int) []byte                        { return nil }
func (noElems) set(_, _ []byte, _ uint64, _ int) syscall.Errno { return ENOTSUPP }
func (noElems) unset([]byte) syscall.Errno                     { return ENOTSUPP }
func (noElems) next(_, _ []byte) syscall.Errno                 { return ENOTSUPP }
func (noElems) view(_, _ []byte) syscall.Errno                 { return ENOTSUPP }

// stackTrace is the store of StackTrace. There are no stacks to take in user
// space, so that the map stays empty; programs that declare one still load.
type stackTrace struct{ n uint32 }

func newStackTrace(m *Map) (store, error) { return stackTrace{n: pow2(m.spec.MaxEntries)}, nil }

func (stackTrace) elem([]byte, int) []byte                        { return nil }
func (stackTrace) set(_, _ []byte, _ uint64, _ int) syscall.Errno { return syscall.EINVAL }

func (s stackTrace) unset(key []byte) syscall.Errno {
	if index(key) >= s.n {
		return syscall.E2BIG
	}
	return syscall.ENOENT
}

func (stackTrace) next(_, _ []byte) syscall.Errno { return syscall.ENOENT }

func (stackTrace) take(_, _ []byte, _ uint64) syscall.Errno { return syscall.ENOENT }
