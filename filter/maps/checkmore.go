package maps

import (
	"fmt"
	"syscall"
)

func queueRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.MaxEntries == 0 || s.KeySize != 0 || s.ValueSize == 0:
		return syscall.EINVAL, "needs no key, a value size and entries"
	case s.Flags&^(NumaNode|accessFlags) != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case s.ValueSize > maxAlloc:
		return syscall.E2BIG, "value size"
	}
	return 0, ""
}

func bloomRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.KeySize != 0 || s.ValueSize == 0 || s.MaxEntries == 0:
		return syscall.EINVAL, "needs no key, a value size and entries"
	case s.Flags&^(NumaNode|ZeroSeed|accessFlags) != 0 || !progAccessOK(s.Flags):
		return syscall.EINVAL, "flags"
	case s.Extra&^0xf != 0:
		return syscall.EINVAL, "more than 15 hash functions"
	case s.ValueSize > maxAlloc:
		return syscall.E2BIG, "value size"
	}
	return 0, ""
}

func ringRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.Flags&^NumaNode != 0:
		return syscall.EINVAL, "flags"
	case s.KeySize != 0 || s.ValueSize != 0:
		return syscall.EINVAL, "has neither keys nor values"
	case s.MaxEntries == 0 || s.MaxEntries&(s.MaxEntries-1) != 0 || s.MaxEntries%pageSize != 0:
		return syscall.EINVAL, "size is not a power of two of whole pages"
	}
	return 0, ""
}

func stackRule(s *Spec) (syscall.Errno, string) {
	const buildID = 32 // sizeof(struct bpf_stack_build_id)
	unit := uint32(8)
	if s.Flags&StackBuildID != 0 {
		unit = buildID
	}
	switch {
	case s.Flags&^(NumaNode|RdOnly|WrOnly|StackBuildID) != 0:
		return syscall.EINVAL, "flags"
	case s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize < 8 || s.ValueSize%8 != 0:
		return syscall.EINVAL, "needs 4-byte keys and values of 8-byte addresses"
	case s.ValueSize%unit != 0 || s.ValueSize/unit > maxStack:
		return syscall.EINVAL, "value size"
	case s.MaxEntries > 1<<31:
		return syscall.E2BIG, "too many entries"
	}
	return 0, ""
}

func devRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize != 4 && s.ValueSize != 8:
		return syscall.EINVAL, "needs 4-byte keys, values of 4 or 8 bytes and entries"
	case s.Flags&^(NumaNode|RdOnly|WrOnly) != 0:
		return syscall.EINVAL, "flags"
	case s.Type == DevMapHash && s.MaxEntries > 1<<31:
		return syscall.EINVAL, "too many entries"
	}
	return 0, ""
}

func cpuRule(s *Spec) (syscall.Errno, string) {
	switch {
	case s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize != 4 && s.ValueSize != 8:
		return syscall.EINVAL, "needs 4-byte keys, values of 4 or 8 bytes and entries"
	case s.Flags&^NumaNode != 0:
		return syscall.EINVAL, "flags"
	case s.MaxEntries > 8192: // the most that Linux is built for
		return syscall.E2BIG, "more entries than processors"
	}
	return 0, ""
}

func xskRule(s *Spec) (syscall.Errno, string) {
	if s.MaxEntries == 0 || s.KeySize != 4 || s.ValueSize != 4 || s.Flags&^(NumaNode|RdOnly|WrOnly) != 0 {
		return syscall.EINVAL, "needs 4-byte keys and values and entries"
	}
	return 0, ""
}

// checkFields tests that special fields lie inside the value, aligned.
func (s *Spec) checkFields() error {
	field := func(name string, off, size, align uint32) error {
		if off == 0 {
			return nil
		}
		if o := off - 1; o%align != 0 || uint64(o)+uint64(size) > uint64(s.ValueSize) {
			return s.fail("create", syscall.EINVAL, name+" lies outside the value or is misaligned")
		}
		return nil
	}
	if err := field("spin lock", s.SpinLock, 4, 4); err != nil {
		return err
	}
	if err := field("timer", s.Timer, 16, 8); err != nil {
		return err
	}
	if lo, hi := s.SpinLock, s.Timer; lo != 0 && hi != 0 && lo+3 >= hi && hi+15 >= lo {
		return s.fail("create", syscall.EINVAL, "spin lock and timer overlap")
	}
	switch s.Type {
	case Hash, Array, LRUHash:
		return nil
	}
	if s.SpinLock != 0 || s.Timer != 0 {
		return s.fail("create", syscall.EOPNOTSUPP, "spin lock or timer in a map of this type")
	}
	return nil
}

// userValueSize is bpf_map_value_size: what a lookup copies.
func (s *Spec) userValueSize() uint32 {
	switch {
	case s.Type.PerCPU():
		return round8(s.ValueSize) * uint32(s.CPUs)
	case s.Type.OfMaps(), s.Type == ProgArray, s.Type == PerfEventArray:
		return 4
	}
	return s.ValueSize
}

// label names the map for messages.
func (s *Spec) label() string {
	if s.Name == "" {
		return s.Type.String()
	}
	return s.Name
}

func (s *Spec) fail(op string, err error, why string) error {
	if e, ok := err.(syscall.Errno); ok {
		return &Error{Op: op, Map: s.label(), Why: why, Errno: e}
	}
	return fmt.Errorf("maps: %s %s: %w", op, s.label(), err)
}

func sizeText(what string, have, want int) string {
	return fmt.Sprintf("%s is %d bytes, not %d", what, have, want)
}
