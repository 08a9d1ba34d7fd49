package filter

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Error is a refusal as netlink and bpf(2) give it: an errno, and for some
// requests the kernel's own sentence (the extended acknowledgement).
type Error struct {
	Errno unix.Errno
	Text  string // may be empty
	Where string // what it was about: interface, program, priority; for people
}

// Error is what tc prints for it.
func (e *Error) Error() string {
	s := "Error: " + e.Text
	if e.Text == "" {
		s = "RTNETLINK answers: " + strerror(e.Errno)
	}
	if e.Where != "" {
		s += " (" + e.Where + ")"
	}
	return s
}

// Answer is the sentence alone, without taproom's addition.
func (e *Error) Answer() string {
	return (&Error{Errno: e.Errno, Text: e.Text}).Error()
}

// Is makes errors.Is(err, unix.EEXIST) work.
func (e *Error) Is(target error) bool {
	var n unix.Errno
	return errors.As(target, &n) && n == e.Errno
}

// strerror begins with a capital, as the C library's does.
func strerror(n unix.Errno) string {
	s := n.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}

func fail(n unix.Errno, text string) *Error { return &Error{Errno: n, Text: text} }

func (e *Error) about(where string) *Error {
	e.Where = where
	return e
}
