package jit

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Code is machine code that can be entered: a mapping that was writable until it
// became executable.
type Code struct {
	mem []byte
	n   int
}

// Map copies machine code into a mapping of its own and makes it executable.
func Map(b []byte) (*Code, error) {
	mem, err := unix.Mmap(-1, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("jit: map code: %w", err)
	}
	copy(mem, b)
	flushInstructions(mem)
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("jit: make code executable: %w", err)
	}
	return &Code{mem: mem, n: len(b)}, nil
}

// Addr is the address of offset off.
func (c *Code) Addr(off int) uintptr { return uintptr(unsafe.Pointer(&c.mem[off])) }

// Bytes returns the machine code, which must not be written to.
func (c *Code) Bytes() []byte { return c.mem[:c.n] }

// Free unmaps the code. Nobody may be in it.
func (c *Code) Free() {
	_ = unix.Munmap(c.mem)
	c.mem = nil
}
