//go:build !amd64 && !arm64

package vm

import (
	"errors"

	"taproom/filter/vm/jit"
)

func compileNative(jit.Source) (*jit.Output, error) {
	return nil, errors.New("vm: no compiler for this machine")
}
