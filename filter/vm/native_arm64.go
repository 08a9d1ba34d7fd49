package vm

import (
	"taproom/filter/vm/jit"
	"taproom/filter/vm/jit/arm64"
)

func compileNative(s jit.Source) (*jit.Output, error) { return arm64.Compile(s) }
